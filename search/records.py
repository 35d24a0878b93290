"""Plain JSON forms of the values: what trees, traces and journals write. nan is null; a zero cost is left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from search.types import Cost, Finish, Segment


def number_to_json(x: float) -> float | None:
    """null for nan ("not known"); infinities have no place in JSON and are refused."""
    if math.isinf(x):
        raise ValueError(f"{x} cannot be written as JSON")
    return None if math.isnan(x) else x


def number_from_json(x: float | None) -> float:
    """The number behind its JSON form."""
    return math.nan if x is None else x


def segment_to_json(segment: Segment) -> dict[str, Any]:
    """All of a segment, as a JSON object."""
    return {
        "tokens": list(segment.tokens),
        "text": segment.text,
        "logprobs": list(segment.logprobs),
        "finish": segment.finish.value,
    }


def segment_from_json(data: Mapping[str, Any]) -> Segment:
    """The segment behind its JSON form."""
    return Segment(tuple(data["tokens"]), data["text"], tuple(data["logprobs"]), Finish(data["finish"]))


def cost_to_json(cost: Cost) -> dict[str, float]:
    """The fields that are not 0, as a JSON object."""
    return {name: spent for name, spent in asdict(cost).items() if spent}


def cost_from_json(data: Mapping[str, Any]) -> Cost:
    """The cost behind its JSON form."""
    return Cost(**data)
