"""Plain JSON forms of the values: what trees, traces and journals write. nan is null; a zero cost is left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
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
    by = {} if segment.by == "policy" else {"by": segment.by}
    return {
        "tokens": list(segment.tokens),
        "text": segment.text,
        "logprobs": list(segment.logprobs),
        "finish": segment.finish.value,
        **by,
    }


def segment_from_json(data: Mapping[str, Any]) -> Segment:
    """The segment behind its JSON form."""
    finish, by = Finish(data["finish"]), data.get("by", "policy")
    return Segment(tuple(data["tokens"]), data["text"], tuple(data["logprobs"]), finish, by)


def cost_to_json(cost: Cost) -> dict[str, float]:
    """The fields that are not 0, as a JSON object."""
    return {f.name: spent for f in fields(cost) if (spent := getattr(cost, f.name))}


def cost_from_json(data: Mapping[str, Any]) -> Cost:
    """The cost behind its JSON form."""
    return Cost(**data)
