"""Frames over a pipe: eight bytes of length, then the content, a pickled list of messages.

What is sent at the same time travels in one frame, so that it also arrives at the same time: an engine that batches
what it gets in one turn would otherwise begin with the first few requests of a wave.
"""

from __future__ import annotations

import pickle
from queue import SimpleQueue
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


def together(queue: SimpleQueue[bytes | None]) -> list[bytes]:
    """What waits in `queue`, up to a None; at least one message, unless the None comes first."""
    messages: list[bytes] = []
    message = queue.get()
    while message is not None:
        messages.append(message)
        if queue.empty():
            return messages
        message = queue.get()
    if messages:
        queue.put(None)  # for the next time
    return messages


def portable(error: BaseException) -> BaseException:
    """`error`, or where it cannot be pickled one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does when copied
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
