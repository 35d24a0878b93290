"""What a run would be: every part built, no weights loaded, nothing written."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from experiments.parts import Parts
from search.needs import check


def announce(parts: Parts, settings: Mapping[str, Any], items: int | None) -> int:
    """Prints a line per part to standard output; the exit status 0.

    Args:
        items: how many would be run; None where the task's data is not here.

    Raises ConfigError if the search needs what is not given.
    """
    check(parts.search, parts.policy, parts.verifier, parts.roles)
    rows = "its data is not here" if items is None else f"{items} items, {items * len(parts.seeds)} rows"
    limits = {kind: limit for kind, limit in parts.limits.items() if limit is not None}
    lines = {
        "task": f"{parts.task!r}: {rows}",
        "search": repr(parts.search),
        "select": repr(parts.select),
        "policy": repr(parts.policy),
        "verifier": repr(parts.verifier),
        **{f"roles.{role}": repr(policy) for role, policy in parts.roles.items()},
        "step": repr(parts.step),
        "budget": f"{limits or 'no limit'}{', strict' if parts.strict else ''}",
        "seeds": ", ".join(map(str, parts.seeds)),
        "out": str(settings["out"] or "runs/..."),
    }
    width = max(map(len, lines))
    sys.stdout.write("".join(f"{name:<{width}}  {said}\n" for name, said in lines.items()))
    return 0
