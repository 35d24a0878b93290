"""What happens in a search, as a closed union of frozen records. The session is their only emitter.

Each has a literal `kind`, its number `seq` (0, 1, 2 ...) and `seconds` since the session began; nodes are named by id.
`Tree.from_events` rebuilds the tree from them. A sink is any callable that takes one event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

from search.records import (
    cost_from_json,
    cost_to_json,
    number_from_json,
    number_to_json,
    segment_from_json,
    segment_to_json,
)
from search.types import Cost, Segment


@dataclass(frozen=True, slots=True)
class Started:
    """A session began."""

    kind: ClassVar[Literal["started"]] = "started"
    seq: int
    seconds: float
    prompt: Segment
    question: str
    seed: int


@dataclass(frozen=True, slots=True)
class Added:
    """Draws after `parent` gave `node`, a new one or one more time one that was there; or it was put there."""

    kind: ClassVar[Literal["added"]] = "added"
    seq: int
    seconds: float
    node: int
    parent: int
    draws: int  # how many of the draws of this call gave it; 0 for a node that was listed or written, not drawn
    whole: bool  # True: drawn to the end of sequence; False: drawn as a step
    segment: Segment | None  # None for a node that was there


@dataclass(frozen=True, slots=True)
class Scored:
    """The verifier judged a node."""

    kind: ClassVar[Literal["scored"]] = "scored"
    seq: int
    seconds: float
    node: int
    value: float
    steps: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Simulated:
    """Completions were drawn after a node without growing the tree."""

    kind: ClassVar[Literal["simulated"]] = "simulated"
    seq: int
    seconds: float
    node: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A policy was asked something outside the tree."""

    kind: ClassVar[Literal["asked"]] = "asked"
    seq: int
    seconds: float
    by: str  # the role of the policy
    prompt: Segment
    answers: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Backed:
    """A value was backed up along a path."""

    kind: ClassVar[Literal["backed"]] = "backed"
    seq: int
    seconds: float
    path: tuple[int, ...]
    value: float


@dataclass(frozen=True, slots=True)
class Noted:
    """An algorithm noted numbers worth showing."""

    kind: ClassVar[Literal["noted"]] = "noted"
    seq: int
    seconds: float
    node: int
    numbers: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Pruned:
    """An algorithm gave a node up."""

    kind: ClassVar[Literal["pruned"]] = "pruned"
    seq: int
    seconds: float
    node: int


@dataclass(frozen=True, slots=True)
class Charged:
    """The budget was charged for drawing after a node, or for judging it."""

    kind: ClassVar[Literal["charged"]] = "charged"
    seq: int
    seconds: float
    node: int
    cost: Cost


@dataclass(frozen=True, slots=True)
class Finished:
    """The search and the selection ended."""

    kind: ClassVar[Literal["finished"]] = "finished"
    seq: int
    seconds: float
    stopped: str  # "done", or the kind of limit reached
    answer: int | None
    spent: Cost


Event = Started | Added | Scored | Simulated | Asked | Backed | Noted | Pruned | Charged | Finished
Sink = Callable[[Event], None]

_CLASSES: dict[str, Any] = {cls.kind: cls for cls in get_args(Event)}


def to_json(event: Event) -> dict[str, Any]:
    """A dict that `json.dumps(..., allow_nan=False)` takes."""
    return {"kind": event.kind} | {f.name: _encode(getattr(event, f.name)) for f in fields(event)}


def from_json(data: Mapping[str, Any]) -> Event:
    """The event `to_json` was given; KeyError for a kind there is not."""
    cls = _CLASSES[data["kind"]]
    event: Event = cls(**{f.name: _decode(f.type, data[f.name]) for f in fields(cls)})
    return event


def _encode(value: Any) -> Any:
    match value:
        case float():
            return number_to_json(value)
        case Segment():
            return segment_to_json(value)
        case Cost():
            return cost_to_json(value)
        case tuple():
            return [_encode(item) for item in value]
        case Mapping():
            return {name: _encode(item) for name, item in value.items()}
    return value


_DECODERS: dict[str, Callable[[Any], Any]] = {  # by the annotation of the field
    "float": number_from_json,
    "Segment": segment_from_json,
    "Segment | None": lambda data: None if data is None else segment_from_json(data),
    "Cost": cost_from_json,
    "tuple[int, ...]": tuple,
    "tuple[float, ...]": tuple,
    "tuple[Segment, ...]": lambda data: tuple(segment_from_json(item) for item in data),
    "Mapping[str, float]": lambda data: {name: number_from_json(x) for name, x in data.items()},
}


def _decode(annotation: Any, data: Any) -> Any:
    return _DECODERS[annotation](data) if annotation in _DECODERS else data
