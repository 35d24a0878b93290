"""What servers answer, read into one shape: their dialects end here.

Token ids come as `token_ids` of a choice (vLLM), as `id` beside each log-probability (llama.cpp), or as texts
"token_id:42" (vLLM and SGLang, if asked). Log-probabilities come as two lists (completions) or as a list of records
(chat, llama.cpp). End-of-sequence tokens may or may not be among the ids; their text is never part of the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from search.types import Cost

_ID = "token_id:"


class Piece(NamedTuple):
    """What one choice of an answer, or of an event of a stream, adds.

    Attributes:
        place: of the choice among those of the answer.
        text: as the server gives it.
        tokens: ids, () where it does not say.
        logprobs: nats, one per token, () where it does not say.
        texts: one per token, () where it does not say.
        finish: "stop", "length", ..., None while it goes on.
        stop: the stop string or token met, None for the end of sequence or where the server does not say.
    """

    place: int
    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()
    finish: str | None = None
    stop: str | int | None = None


def pieces(answer: Mapping[str, Any]) -> list[Piece]:
    """The choices of an answer or an event, in the order of their indices."""
    return sorted(map(_piece, answer.get("choices") or ()), key=lambda piece: piece.place)


def _piece(choice: Mapping[str, Any]) -> Piece:
    said = choice.get("delta") or choice.get("message") or {}
    text = choice.get("text") or said.get("content") or ""
    weighed = choice.get("logprobs") or {}
    records = weighed.get("content") or ()
    texts = [record["token"] for record in records] or weighed.get("tokens") or []
    logprobs = [record["logprob"] for record in records] or weighed.get("token_logprobs") or []
    tokens = choice.get("token_ids") or [record["id"] for record in records if "id" in record]
    if texts and all(str(word).startswith(_ID) for word in texts):
        tokens, texts = tokens or [int(word.removeprefix(_ID)) for word in texts], []
    if weighed and len(logprobs) == len(tokens) - 1 and choice.get("finish_reason") == "stop":
        tokens = tokens[:-1]  # an end of sequence that the server does not weigh: it has no text, so nothing is lost
    return Piece(
        choice.get("index", 0),
        text,
        tuple(tokens),
        tuple(map(float, (x for x in logprobs if x is not None))),
        tuple(texts) if len(texts) == len(tokens or logprobs) else (),
        choice.get("finish_reason"),
        choice.get("stop_reason") or choice.get("stopping_word") or choice.get("matched_stop"),
    )


def end_of(piece: Piece) -> tuple[int, ...]:
    """The id of the end of sequence, where the piece ends with it: a token that has no part in the text."""
    if piece.finish != "stop" or piece.stop is not None or not piece.tokens:
        return ()
    texts = piece.texts
    silent = (not texts and not piece.text) or (texts and (not texts[-1] or "".join(texts[:-1]) == piece.text))
    return piece.tokens[-1:] if silent else ()


class Listed(NamedTuple):
    """One of the likeliest next tokens: its id (None where the server does not say), text, and log-probability."""

    token: int | None
    text: str
    logprob: float


def listed(answer: Mapping[str, Any]) -> list[Listed]:
    """The likeliest tokens at the first place of the first choice, likeliest first."""
    for choice in answer.get("choices") or ():
        weighed = choice.get("logprobs") or {}
        if weighed.get("content"):
            found = [(r.get("id"), r["token"], r["logprob"]) for r in weighed["content"][0].get("top_logprobs") or ()]
        else:
            places = weighed.get("top_logprobs") or ()
            found = [(None, word, logprob) for word, logprob in (places[0] or {}).items()] if places else []
        rows = [Listed(_id(token, word), word, float(logprob)) for token, word, logprob in found]
        return sorted(rows, key=lambda row: (-row.logprob, row.token or 0))
    return []


def _id(token: int | None, word: str) -> int | None:
    return int(word.removeprefix(_ID)) if token is None and word.startswith(_ID) else token


class Usage(NamedTuple):
    """Tokens, as the server counts them; None where it does not say."""

    prompt: int | None = None
    reused: int = 0
    completion: int | None = None

    def cost(self, prompt: int, generated: int) -> Cost:
        """Of one request, with counts of our own where the server has none."""
        read = prompt if self.prompt is None else self.prompt
        return Cost(generated=generated, prefilled=max(read - self.reused, 0), reused=min(self.reused, read))


def usage(answer: Mapping[str, Any]) -> Usage:
    """Of an answer, or of an event that has it."""
    found = answer.get("usage") or {}
    details = found.get("prompt_tokens_details") or {}
    return Usage(found.get("prompt_tokens"), details.get("cached_tokens") or 0, found.get("completion_tokens"))
