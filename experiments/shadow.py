"""Says clearly when a foreign package stands where one of ours should be.

Our packages have common names, and at least one of them (`verifiers`) is also published by others. Whoever has both
gets an ImportError from the middle of nowhere; this check, which imports only the standard library, comes first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

NAMES = ("search", "policies", "verifiers")


def foreign(names: Sequence[str] = NAMES, root: Path | None = None) -> dict[str, str]:
    """Which of `names` would be imported from outside `root`, and from where ("nowhere" if not at all).

    Args:
        names: top-level packages.
        root: the folder that should hold them; by default the one that holds this package.
    """
    root = (root or Path(__file__).resolve().parent.parent).resolve()
    found = {}
    for name in names:
        spec = find_spec(name)
        places = [*(spec.submodule_search_locations or ()), spec.origin] if spec else []
        place = next((Path(p).resolve() for p in places if p), None)
        if place is None or root / name not in (place, *place.parents):
            found[name] = str(place or "nowhere")
    return found


def check() -> None:
    """Ends the program with status 2 and one sentence if a foreign package shadows one of ours."""
    for name, place in foreign().items():
        sys.stderr.write(
            f"the package {name!r} is taken from {place} and not from this project: "
            "run treewise in a virtual environment of its own (`make demo` makes .venv)\n"
        )
        raise SystemExit(2)
