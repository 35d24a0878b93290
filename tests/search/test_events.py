"""Events: a closed union that goes through JSON and back."""

import json
import math
from dataclasses import fields
from typing import get_args

import pytest

from search import events
from search.types import Cost, Finish, Segment

SEGMENT = Segment((1, 2), "é\n", (-0.5, -0.25), Finish.END)
SAMPLES = {
    "prompt": SEGMENT,
    "question": "?",
    "segment": SEGMENT,
    "segments": (SEGMENT, SEGMENT),
    "steps": (0.5, 1.0),
    "path": (0, 1),
    "numbers": {"f": 0.5, "g": math.nan},
    "cost": Cost(generated=3, seconds=0.5),
    "spent": Cost(),
    "stopped": "done",
    "answer": None,
    "whole": True,
    "by": "judge",
    "answers": (SEGMENT, Segment((3,), "c", by="user")),
}
KINDS = get_args(events.Event)


@pytest.mark.parametrize("cls", KINDS, ids=lambda cls: cls.kind)
def test_json_keeps_every_field(cls):
    event = cls(**{field.name: SAMPLES.get(field.name, 1) for field in fields(cls)})
    data = events.to_json(event)
    assert data["kind"] == cls.kind
    again = events.from_json(json.loads(json.dumps(data, allow_nan=False)))
    assert type(again) is cls
    assert repr(again) == repr(event)  # nan is not equal to itself, and prints the same


def test_the_union_is_closed():
    assert {cls.kind for cls in KINDS} == {
        *("started", "added", "scored", "simulated", "asked", "backed", "noted", "pruned", "charged", "finished")
    }
    with pytest.raises(KeyError, match="unheard"):
        events.from_json({"kind": "unheard"})


def test_a_known_node_comes_without_its_segment():
    event = events.Added(seq=1, seconds=0.0, node=1, parent=0, draws=2, whole=False, segment=None)
    assert events.from_json(events.to_json(event)) == event


def test_infinity_has_no_place_in_json():
    with pytest.raises(ValueError, match="inf"):
        events.to_json(events.Backed(seq=1, seconds=0.0, path=(0,), value=math.inf))
