"""Which replica an item goes to: rendezvous hashing with bounded load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b


@lru_cache(maxsize=1 << 14)
def ranked(key: bytes, slots: tuple[int, ...]) -> tuple[int, ...]:
    """`slots` in the order in which `key` prefers them.

    Rendezvous hashing (Thaler and Ravishankar 1998): each pair of key and slot has a hash, the highest comes first. A
    slot that comes or goes moves only the keys that prefer it: 1/n of all.
    """
    return tuple(
        sorted(slots, key=lambda slot: blake2b(f"{slot} ".encode() + key, digest_size=8).digest(), reverse=True)
    )


def choose(key: bytes, loads: Mapping[int, int], spill: int) -> int:
    """The slot `key` likes best of those whose load is at most `spill` above the least (loads: draws by slot).

    So what spills over from a busy slot goes to the same second one, and finds its prefix there the next time.
    """
    least = min(loads.values())
    order: Sequence[int] = ranked(key, tuple(sorted(loads)))
    return next(slot for slot in order if loads[slot] <= least + spill)
