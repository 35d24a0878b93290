"""Frames over a pipe or a socket: eight bytes of length, then the content, a pickled list of numbered messages.

What is sent at the same time travels in one frame, so that it also arrives at the same time: an engine that batches
what it gets in one turn would otherwise begin with the first few requests of a wave. A message is pickled by itself, so
that one that cannot be read spoils no other.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from queue import SimpleQueue
from typing import IO

Message = tuple[int, bytes]  # its number, the same for question and answer, and its content, pickled


def write(pipe: IO[bytes], messages: Sequence[Message]) -> None:
    """Sends one frame."""
    content = pickle.dumps(messages)
    pipe.write(len(content).to_bytes(8, "big"))
    pipe.write(content)
    pipe.flush()


def read(pipe: IO[bytes]) -> Sequence[Message] | None:
    """The messages of the next frame; None at the end, also in the middle of one."""
    head = pipe.read(8)
    if len(head) < 8:
        return None
    size = int.from_bytes(head, "big")
    content = pipe.read(size)
    return pickle.loads(content) if len(content) == size else None


def together(queue: SimpleQueue[Message | None]) -> list[Message]:
    """What waits in `queue`, up to a None; at least one message, unless the None comes first."""
    messages: list[Message] = []
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
