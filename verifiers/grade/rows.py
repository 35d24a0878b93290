"""What the graders' command lines share: rows are read ahead, and errors become a sentence and an exit status."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

from search.errors import ConfigError, VerifierError

T = TypeVar("T")


def ahead(lines: Iterable[str], start: Callable[[str, int], T], most: int) -> Iterator[T]:
    """What `start` makes of each line and its number, in order, at most so many before they are taken; blank lines
    count for nothing. An error is raised after what was started before it.
    """
    started: queue.Queue[tuple[T] | Exception | None] = queue.Queue(most)

    def read() -> None:  # in a thread of its own: a source that is slow to give the next row delays nothing finished
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    started.put((start(line, number),))
            started.put(None)
        except (ConfigError, VerifierError, OSError, UnicodeDecodeError) as error:
            started.put(error)

    threading.Thread(target=read, name="rows", daemon=True).start()
    while (head := started.get()) is not None:
        if isinstance(head, Exception):
            raise head
        yield head[0]


def status(file: str, work: Callable[[TextIO], None]) -> int:
    """Does `work` on the lines of `file`, - for standard input; the exit status: 0, or 2 where the input is malformed
    and 1 where grading fails, with a sentence.
    """
    try:
        with contextlib.ExitStack() as stack:
            work(sys.stdin if file == "-" else stack.enter_context(open(file, encoding="utf-8")))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except VerifierError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, UnicodeDecodeError) as error:
        print(f"error: file={file!r} cannot be read: {error}", file=sys.stderr)
    else:
        return 0
    return 2
