"""Where in a text its tokens end: what is asked of a tokenizer before a score is read at one of its tokens."""

from __future__ import annotations

import json
import unicodedata
from typing import NamedTuple

from policies.vocabulary import Vocabulary
from search.errors import VerifierError


class Aligned(NamedTuple):
    """A text in tokens.

    Attributes:
        ids: of the text, no special tokens around it.
        ends: bytes of the text up to each token's end.
        text: as UTF-8.
    """

    ids: tuple[int, ...]
    ends: tuple[int, ...]
    text: bytes

    def closing(self, begin: int, end: int, name: str) -> int:
        """Index of the one token that holds characters `begin` to `end` and nothing else but spaces before them.

        Raises:
            VerifierError: no token does: they are merged with their neighbours, or split.
        """
        first, last = (len(self.text.decode()[:at].encode()) for at in (begin, end))
        index = self.at(last, name)
        start = self.ends[index - 1] if index else 0
        if start > first:
            raise VerifierError(f"{name} {self.text[first:last].decode()!r} is not one token of this model")
        if self.text[start:first].strip(b" "):
            raise VerifierError(f"{name} is merged with its neighbour into {self.text[start:last].decode()!r}")
        return index

    def at(self, end: int, name: str) -> int:
        """Index of the token that ends after `end` bytes."""
        try:
            return self.ends.index(end)
        except ValueError:
            index = next((i for i, other in enumerate(self.ends) if other > end), len(self.ends) - 1)
            start = self.ends[index - 1] if index else 0
            token = self.text[start : self.ends[index]].decode(errors="replace")
            raise VerifierError(f"{name} is merged with its neighbour into {token!r}") from None


def normal(vocabulary: Vocabulary, text: str) -> str:
    """The text as the tokenizer composes its characters, where it does (NFC: Qwen)."""
    backend = json.loads(vocabulary.tokenizer.backend_tokenizer.to_str())
    return unicodedata.normalize("NFC", text) if "NFC" in json.dumps(backend.get("normalizer")) else text


def aligned(vocabulary: Vocabulary, text: str) -> Aligned:
    """The tokens of `text` and where they end.

    Raises:
        VerifierError: the tokens do not stand for the text, apart from spaces that some tokenizers put before a text.
    """
    ids, raw = vocabulary.encode(text), text.encode()
    at, ends = 0, []
    for i in ids:
        piece = vocabulary.pieces[i]
        if not raw.startswith(piece, at) and piece.startswith(b" "):
            piece = piece[1:]  # SentencePiece begins a text, and what follows a special token, with a space of its own
        if not raw.startswith(piece, at):
            found = piece.decode(errors="replace")
            raise VerifierError(f"this model's tokenizer makes {found!r} of {text[len(raw[:at].decode()) :][:20]!r}")
        at += len(piece)
        ends.append(at)
    if at != len(raw):
        raise VerifierError(f"this model's tokenizer leaves out {raw[at:].decode(errors='replace')[:20]!r}")
    return Aligned(ids, tuple(ends), raw)
