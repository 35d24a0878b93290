"""Frames over a pipe: eight bytes of length, then the content."""

from __future__ import annotations

import pickle
from typing import IO


def write(pipe: IO[bytes], content: bytes) -> None:
    """Sends one frame."""
    pipe.write(len(content).to_bytes(8, "big"))
    pipe.write(content)
    pipe.flush()


def read(pipe: IO[bytes]) -> bytes | None:
    """The next frame; None at the end, also in the middle of one."""
    head = pipe.read(8)
    if len(head) < 8:
        return None
    size = int.from_bytes(head, "big")
    content = pipe.read(size)
    return content if len(content) == size else None


def portable(error: BaseException) -> BaseException:
    """`error`, or where it cannot be pickled one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does when copied
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
