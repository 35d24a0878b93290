"""Compiles the kernels once for this processor and loads them.

There is nothing to install: a C++ compiler (`CXX`, else g++ or c++) is called when a model that they suit is
first loaded, for some ten seconds, and the library is kept under the user's cache folder (`XDG_CACHE_HOME`, else
~/.cache), named after what made it. Without a compiler models run by torch's operators, and that is logged.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.cpp")
SOURCES = (SOURCE, *sorted(SOURCE.parent.glob("*.h")))
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread")
LIMIT = 300.0  # seconds for the compiler

_log = logging.getLogger("treewise")


@cache
def library() -> ctypes.CDLL | None:
    """The kernels; None where there is no compiler, or it fails, which is logged once."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "g++", "c++"))), None)
    if compiler is None:
        _log.warning("no C++ compiler (CXX, g++, c++): models run by torch's operators, which is slower")
        return None
    try:
        return ctypes.CDLL(str(_built(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        _log.warning("the kernels were not compiled, and models run by torch's operators, which is slower: %s", said)
        return None


def _built(compiler: str) -> Path:
    """The library's file; made if it is not there.

    Raises:
        OSError, subprocess.SubprocessError: it cannot be made.
    """
    told = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=LIMIT).stdout
    made_of = (*(file.read_bytes() for file in SOURCES), told.encode(), repr(FLAGS).encode(), _processor().encode())
    name = f"kernels-{blake2b(b''.join(made_of), digest_size=12).hexdigest()}.so"
    for folder in _folders():
        found = folder / name
        if _ours(found):
            return found
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            door = (folder / "lock").open("w")
        except OSError:  # cannot be written: the next
            continue
        with door:
            with suppress(OSError):  # some file systems have no locks; then several compile the same
                fcntl.flock(door, fcntl.LOCK_EX)
            if not _ours(found):  # nobody else was at it meanwhile
                _compile(compiler, found)
        return found
    raise OSError("no folder for it can be written: set XDG_CACHE_HOME")


def _compile(compiler: str, to: Path) -> None:
    handle, draft = tempfile.mkstemp(dir=to.parent, suffix=".so")
    os.close(handle)
    try:
        _log.info("compiling the engine's kernels for this processor, once")
        command = [compiler, *FLAGS, str(SOURCE), "-o", draft]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT)
        os.replace(draft, to)  # whole or not at all
    finally:
        Path(draft).unlink(missing_ok=True)


def _ours(file: Path) -> bool:
    """Whether it is there and nobody else's."""
    return file.is_file() and file.stat().st_uid == os.getuid()


def _folders() -> tuple[Path, ...]:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "treewise", Path(tempfile.gettempdir()) / f"treewise-{os.getuid()}"


def _processor() -> str:
    """What this processor can do: a folder may be shared by machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return "\n".join((platform.machine(), platform.processor(), *named))
