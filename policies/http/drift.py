"""Where text is all there is: how often a server read what it wrote as other tokens than it had written."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

KEPT = 100_000  # prefixes whose length is remembered


@dataclass
class Drift:
    """Prefixes whose number of tokens was known, and those the server counted otherwise when it got them back.

    A prefix sent as text is tokenised again, and need not become the tokens that were drawn: the model then goes on
    from something it did not write. Equal numbers do not prove equal tokens, so this is the least there is of it.

    Attributes:
        checked: prefixes sent back whose number of tokens was known.
        drifted: of these, the ones that came to another number.
        tokens: by how much, in all.
    """

    checked: int = 0
    drifted: int = 0
    tokens: int = 0
    _known: OrderedDict[bytes, int] = field(default_factory=OrderedDict, repr=False)

    def expect(self, digest: bytes, tokens: int) -> None:
        """A prefix was drawn that has `tokens` tokens, prompt and template included."""
        self._known[digest] = tokens
        if len(self._known) > KEPT:
            self._known.popitem(last=False)

    def seen(self, digest: bytes, tokens: int) -> None:
        """The server read a prefix as `tokens` tokens."""
        if (wanted := self._known.pop(digest, None)) is not None:
            self.checked += 1
            self.drifted += tokens != wanted
            self.tokens += abs(tokens - wanted)

    def __str__(self) -> str:
        return f"{self.drifted} of {self.checked} prefixes were read as other tokens than drawn ({self.tokens} tokens)"
