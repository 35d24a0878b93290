"""Drives treequest's MCTS in an environment of its own: a JSON line in for each run, one out.

Imports nothing of this project. The model is a script: a state is its path, and its score follows from that.
"""

from __future__ import annotations

import json
import sys
import time
from hashlib import blake2b
from typing import Any

from treequest import StandardMCTS


def score(path: bytes) -> float:
    """In [0, 1)."""
    return int.from_bytes(blake2b(path, digest_size=4).digest(), "little") / 2**32


def grown(run: dict[str, Any]) -> dict[str, Any]:
    """Seconds of processor time in which a tree of so many nodes was grown, by steps in place (its fastest way)."""
    drawn: dict[bytes, int] = {}

    def generate(state: bytes | None) -> tuple[bytes, float]:
        before = state or b""
        drawn[before] = number = drawn.get(before, -1) + 1
        path = before + bytes([number])
        return path, score(path)

    search: Any = StandardMCTS(samples_per_action=run["width"])
    tree, actions = search.init_tree(), {"step": generate}
    began = time.process_time()
    for _ in range(run["nodes"]):
        tree = search.step(tree, actions, inplace=True)
    return {"seconds": time.process_time() - began, "nodes": len(search.get_state_score_pairs(tree))}


def main() -> None:
    """A line for each line."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(grown(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
