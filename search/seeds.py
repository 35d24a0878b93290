"""Seeds, not dice: what a draw depends on."""

from __future__ import annotations

from hashlib import blake2b

from search.types import Prefix, Sampling


def seed_of(seed: int, prefix: Prefix, sampling: Sampling, draw: int) -> int:
    """The seed, in [0, 2**63), of draw number `draw` after `prefix`: a function of content, not of schedule."""
    content = prefix.digest + draw.to_bytes(8, "little") + repr(sampling).encode()
    return int.from_bytes(blake2b(content, digest_size=8, key=seed.to_bytes(8, "little")).digest(), "little") >> 1
