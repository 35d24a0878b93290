"""From token ids to text, a token at a time: what each id stands for in bytes, and text that grows.

Text of a run of ids is the UTF-8 decoding of their bytes put together; bytes that form no character (a character cut
by the end of the run included) show as U+FFFD. End tokens are left out, other special tokens show as they are written.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from search.errors import ConfigError


class Vocabulary:
    """The bytes of every id of a `transformers` tokenizer.

    Knows byte-level vocabularies (GPT-2's alphabet: Qwen, Llama 3, ...) and SentencePiece-like ones (U+2581 for a
    space, <0x..> for a byte: Llama 2, Gemma, ...).

    Attributes:
        pieces: bytes by id; b"" for ids without a token.
        texts: the same as text where the bytes are whole characters, else None.

    Raises:
        ConfigError: the tokenizer is of another kind.
    """

    def __init__(self, tokenizer: Any, name: str):
        self.tokenizer = tokenizer
        backend = json.loads(tokenizer.backend_tokenizer.to_str())
        decoder = backend.get("decoder") or {}
        kinds = {decoder.get("type"), *(part.get("type") for part in decoder.get("decoders", ()))}
        added = {entry["id"]: entry["content"] for entry in backend.get("added_tokens", ())}
        if "ByteLevel" in kinds:
            convert = _byte_level
        elif kinds & {"Metaspace", "ByteFallback"}:
            convert = _sentence_piece
        else:
            raise ConfigError("model", name, f"its tokenizer decodes by {decoder.get('type')}; use a byte-level one")
        words: dict[str, int] = tokenizer.get_vocab()
        self.pieces = [b""] * (max(words.values()) + 1)
        for word, i in words.items():
            self.pieces[i] = added[i].encode() if i in added else convert(word)
        self.texts = [_whole(piece) for piece in self.pieces]
        self._known = dict(enumerate(self.pieces))

    def __len__(self) -> int:
        return len(self.pieces)

    def text(self, ids: Iterable[int]) -> str:
        """The text of `ids`; ids beyond the vocabulary (padding of the embedding) have none."""
        return b"".join(filter(None, map(self._known.get, ids))).decode(errors="replace")

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of plain text: no special tokens around it."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))


class Growing:
    """Text of a growing run of ids; holds back bytes of a character that is not complete yet."""

    __slots__ = ("_decoder", "_held", "_vocabulary", "text", "tokens")

    def __init__(self, vocabulary: Vocabulary):
        self._vocabulary = vocabulary
        self._decoder: codecs.IncrementalDecoder | None = None
        self._held = False
        self.text = ""
        self.tokens = 0

    @property
    def cut(self) -> bool:
        """Whether it ends inside a character."""
        return self._held

    def add(self, token: int) -> None:
        self.tokens += 1
        texts = self._vocabulary.texts
        if token >= len(texts):
            return
        whole = texts[token]
        if whole is not None and not self._held:
            self.text += whole
            return
        if self._decoder is None:
            self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.text += self._decoder.decode(self._vocabulary.pieces[token])
        self._held = bool(self._decoder.getstate()[0])


def added(vocabulary: Vocabulary, before: Sequence[int], token: int) -> str:
    """What `token` adds to the text of `before`."""
    growing = Growing(vocabulary)
    for known in before[-4:]:  # a character has four bytes at most
        growing.add(known)
    held = len(growing.text)
    growing.add(token)
    return growing.text[held:]


def _whole(piece: bytes) -> str | None:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return None


def _alphabet() -> dict[str, int]:
    # GPT-2's byte alphabet: printable Latin-1 bytes are themselves, the other bytes follow from U+0100 on
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + i): byte for i, byte in enumerate(rest)}


_BYTES = _alphabet()


def _byte_level(word: str) -> bytes:
    if all(letter in _BYTES for letter in word):
        return bytes(_BYTES[letter] for letter in word)
    return word.encode()


def _sentence_piece(word: str) -> bytes:
    if found := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", word):
        return bytes([int(found[1], 16)])
    return word.replace("\u2581", " ").encode()
