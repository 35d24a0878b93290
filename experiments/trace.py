"""What happened in a search, as a file: one event per line, and the tree again from it."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from search.errors import ConfigError
from search.events import Event, Finished, from_json, to_json
from search.tree import Tree


class Trace:
    """A sink of events that appends each to a file, begun anew. Closed, it is complete."""

    def __init__(self, path: Path):
        self.path = path
        self._file = path.open("w", encoding="utf-8")

    def __call__(self, event: Event) -> None:
        self._file.write(json.dumps(to_json(event), allow_nan=False, separators=(",", ":")) + "\n")

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


def read_events(path: Path) -> list[Event]:
    """The events of a trace, in order; a torn last line is left out.

    Raises:
        ConfigError: there is no such file, or a line is not an event.
    """
    if not path.is_file():
        raise ConfigError("trace", str(path), "there is no such file")
    *lines, _torn = path.read_text(encoding="utf-8").split("\n")
    events = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError("trace", str(path), f"line {number} is not an event ({error})") from None
    return events


def read_tree(path: Path) -> Tree:
    """The tree a trace tells of, as far as it goes. Raises ConfigError for a file that is not a trace."""
    events = read_events(path)
    if not events:
        raise ConfigError("trace", str(path), "the file holds no event")
    return Tree.from_events(events)


def answer_text(path: Path) -> str:
    """The whole text of the answer a finished trace chose; "" if it chose none. Raises ConfigError as `read_tree`."""
    chosen = [event.answer for event in read_events(path) if isinstance(event, Finished)]
    return read_tree(path).nodes[chosen[-1]].prefix.text if chosen and chosen[-1] is not None else ""
