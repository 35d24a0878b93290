"""Values and messages that cross the wall of the sandbox, as JSON: nothing that comes out of it is ever executed."""

from __future__ import annotations

import json
import math
import os
import struct
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

EXACT = 1 << 53
HEADER = struct.Struct(">II")
LARGEST_HEAD = 64 << 20  # bytes


class Unspeakable(ValueError):
    """A value is none of the plain ones."""


def _refuse(value: Any) -> Any:
    raise Unspeakable(f"a {type(value).__name__} is no plain value")


def encode(value: Any, other: Callable[[Any], Any] = _refuse) -> Any:
    """A plain value as JSON data; `other` is asked about what is not plain. Subclasses count as what they extend."""
    if value is None or isinstance(value, (bool, str)):
        return value if value is None or isinstance(value, bool) else str(value)
    if isinstance(value, int):
        return int(value) if -EXACT < value < EXACT else {"int": hex(value)}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, complex):
        return {"complex": [encode(value.real), encode(value.imag)]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, list):
        return [encode(item, other) for item in value]
    if isinstance(value, dict):
        return {"dict": [[encode(key, other), encode(item, other)] for key, item in value.items()]}
    for name, kind in (("tuple", tuple), ("set", set), ("frozenset", frozenset), ("deque", deque)):
        if isinstance(value, kind):
            return {name: [encode(item, other) for item in value]}
    if type(value).__module__ == "numpy" and hasattr(value, "dtype") and getattr(value, "shape", None) == ():
        return encode(value.item(), other)
    return other(value)


MAKERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "float": float,
    "complex": lambda parts: complex(*parts),
    "bytes": bytes.fromhex,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": deque,
    "dict": dict,
}


def decode(data: Any, makers: Mapping[str, Callable[[Any], Any]] = MAKERS) -> Any:
    """The value `encode` wrote; raises ValueError or TypeError for anything else."""
    if isinstance(data, list):
        return [decode(item, makers) for item in data]
    if not isinstance(data, dict):
        return data
    if len(data) != 1 or (name := next(iter(data))) not in makers:
        raise ValueError("no value")
    return makers[name](decode(data[name], makers))


def send(fd: int, head: Any, payload: bytes = b"") -> None:
    """Write a message: JSON and bytes. Raises OSError where nobody listens."""
    text = json.dumps(head).encode()
    view = memoryview(HEADER.pack(len(text), len(payload)) + text + payload)
    while view:
        view = view[os.write(fd, view) :]


def receive(fd: int, most: int = 1 << 31) -> tuple[Any, bytes] | None:
    """The next message; None at the end. Raises ValueError for one that is malformed or over `most` bytes."""
    start = _read(fd, HEADER.size)
    if start is None:
        return None
    head, payload = HEADER.unpack(start)
    if head > LARGEST_HEAD or payload > most:
        raise ValueError("too long a message")
    text, rest = _read(fd, head), _read(fd, payload)
    if text is None or rest is None:
        return None
    try:
        return json.loads(text), rest
    except RecursionError:
        raise ValueError("too deep a message") from None


def _read(fd: int, count: int) -> bytes | None:
    parts = []
    while count:
        part = os.read(fd, min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
