"""Rules of comparison, and values that cross the wall."""

import json
import math
from collections import Counter, OrderedDict, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.errors import ConfigError
from verifiers.grade.code import wire
from verifiers.grade.code.compare import Compare, arguments, expected_value


@pytest.mark.parametrize(
    ("expected", "output", "right"),
    [
        ("1 2\n3\n", "1 2\n3", True),
        ("1 2\n3", "1  2 \r\n 3\n\n", True),
        ("1 2\n3", "1 2 3", False),
        ("1\n2", "1\n\n2", False),
        ("", "\n", True),
        ("", "0", False),
        ("YES", "yes", False),
        ("1.5", "1.50", True),
        ("2", "2.0", True),
        ("100", "1e2", True),
        ("0.333333333", "0.3333334", True),
        ("0.333333333", "0.334", False),
        ("1000000000.0", "1000000001.0", True),
        ("1000000000", "1000000001", False),
        ("123456789012345678901", "123456789012345678902", False),
        ("nan", "nan", True),
        ("1.0", "nan", False),
        ("1", "1_0", False),
        ("1.0", "1" * 500, False),
        ("1.0", "1e999999999", False),
        ("01", "1", True),
        ("5.82842712474619009753", "5.8284271247", True),
        ("3.14159265358979323846264338327950", "3.14159265358979311599796346854419", False),
        ("abc", "abd", False),
    ],
)
def test_texts(expected, output, right):
    assert Compare().texts(expected, output) is right


def test_words_without_lines():
    assert Compare(lines=False).texts("1 2\n3", "1\n2 3")


def test_no_tolerance_is_exact():
    assert not Compare(0.0).texts("0.333333333", "0.3333333331") and Compare(0.0).texts("0.50", "0.5")
    with pytest.raises(ConfigError):
        Compare(1.0)


@pytest.mark.parametrize(
    ("expected", "value", "right"),
    [
        ([1, 2], (1, 2), True),
        ([1, 2], [2, 1], False),
        ([1, [2.0, "x"]], [1, (2.0000001, "x")], True),
        (3, 3.0000001, True),
        (3, 3.1, False),
        (True, 1, True),
        ("1", 1, False),
        (None, None, True),
        (None, 0, False),
        ({"a": 1.0}, {"a": 1}, True),
        ({"a": 1}, {"b": 1}, False),
        ([1], deque([1]), False),
        ([1], {1}, False),
        (math.inf, math.inf, True),
        (1.0, math.nan, False),
        (10**400, 1.0, False),
    ],
)
def test_values(expected, value, right):
    assert Compare().values(expected, value) is right


def test_what_tests_give():
    assert arguments('[1, 2]\n"x"\n') == [[1, 2], "x"] and arguments([1, 2]) == [1, 2] and arguments("") == []
    assert expected_value("[1]") == [1] and expected_value("abc") == "abc" and expected_value([1]) == [1]
    with pytest.raises(ValueError):
        arguments("{")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
)


@given(plain)
@settings(max_examples=20)
def test_plain_values_cross_the_wall(value):
    assert wire.decode(json.loads(json.dumps(wire.encode(value)))) == value


def test_subclasses_cross_as_what_they_extend():
    for value in (Counter("aab"), OrderedDict(a=1), {1, 2}, frozenset("a"), deque([1]), 1j, {(1, 2): 10**30}):
        assert wire.decode(json.loads(json.dumps(wire.encode(value)))) == value
    assert math.isnan(wire.decode(wire.encode(math.nan)))


def test_nothing_else_does():
    with pytest.raises(wire.Unspeakable):
        wire.encode(object())
    for data in ({"kept": 0}, {"tuple": [1], "list": []}, {}, {"eval": "1"}, {"int": "x"}, {"dict": [1]}):
        with pytest.raises((ValueError, TypeError)):
            wire.decode(data)
