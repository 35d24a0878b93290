"""From chat messages and texts to what a server is sent: by a tokenizer here, by the server's own, or as messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from policies.http.client import Refused
from search.errors import ConfigError, PolicyError
from search.types import Prefix, Segment

Messages = Sequence[Mapping[str, str]]
ASKED = ({"role": "user", "content": "?"},)


class Rendering(Protocol):
    """Turns what a search holds into what a server takes.

    Attributes:
        ends: end-of-sequence ids, as far as they are known.
        vocabulary: what every id decodes to (`policies.vocabulary.Vocabulary`), or None.
    """

    ends: set[int]
    vocabulary: Any

    def prompt(self, messages: Messages) -> Segment: ...

    def write(self, text: str) -> Segment: ...

    def turn(self, text: str) -> Segment: ...

    def text(self, tokens: Sequence[int]) -> str: ...


class Local:
    """A tokenizer folder on this machine, the same as the server's; `ids`: whether segments are to have tokens."""

    def __init__(self, folder: str, ids: bool = True):
        from policies.engine import load
        from policies.vocabulary import Vocabulary

        self.folder, self.ids = folder, ids
        self.tokenizer = load.tokenizer(Path(folder))
        self.vocabulary = Vocabulary(self.tokenizer, folder)
        self.ends = {self.tokenizer.eos_token_id} - {None}
        generation = Path(folder) / "generation_config.json"
        if generation.is_file():
            told = json.loads(generation.read_text(encoding="utf-8")).get("eos_token_id")
            self.ends |= set(told if isinstance(told, list) else [told]) - {None}

    def rendered(self, messages: Messages) -> str:
        """The text of the prompt."""
        if self.tokenizer.chat_template is None:
            raise ConfigError("tokenizer", self.folder, "it has no chat template: add chat_template.jinja")
        return str(self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False))

    def prompt(self, messages: Messages) -> Segment:
        return self.write(self.rendered(messages))

    def write(self, text: str) -> Segment:
        return Segment(self.vocabulary.encode(text) if self.ids else (), text)

    def turn(self, text: str) -> Segment:
        before, whole = f"{self.rendered(ASKED)}!", self.rendered(_said(text))
        if not whole.startswith(before):
            raise ConfigError("tokenizer", self.folder, "its template rewrites earlier turns: give no further turns")
        rest = whole.removeprefix(before)
        if not self.ids:
            return Segment((), rest)
        ends = [self.tokenizer.convert_ids_to_tokens(i) for i in sorted(self.ends)]
        end = next((end for end in ends if rest.startswith(end)), "")
        return Segment(self.vocabulary.encode(rest.removeprefix(end)), text)

    def text(self, tokens: Sequence[int]) -> str:
        return self.vocabulary.text(token for token in tokens if token not in self.ends)


class Remote:
    """The server's own tokenizer, in vLLM's dialect ("prompt", "messages") or llama.cpp's ("content").

    Every call is a round trip in which this process waits: one per problem, and one per text that others write.
    """

    def __init__(self, ask: Callable[[str, Mapping[str, Any]], dict[str, Any]], model: str):
        self._ask, self._model = ask, model
        self.ends: set[int] = set()
        self.vocabulary = None
        plain = {"model": model, "prompt": "1 + 1", "add_special_tokens": False, "content": "1 + 1"}
        self._llama = "count" not in ask("/tokenize", {**plain, "add_special": False})

    def prompt(self, messages: Messages) -> Segment:
        if self._llama:
            return self.write(self._ask("/apply-template", {"messages": list(messages)})["prompt"])
        body = {"model": self._model, "messages": list(messages), "add_generation_prompt": True}
        tokens = tuple(self._ask("/tokenize", body)["tokens"])
        return Segment(tokens, self._detokenized(tokens))

    def write(self, text: str) -> Segment:
        plain = {"content": text, "add_special": False, "parse_special": True}
        body = plain if self._llama else {"model": self._model, "prompt": text, "add_special_tokens": False}
        return Segment(tuple(self._ask("/tokenize", body)["tokens"]), text)

    def turn(self, text: str) -> Segment:
        before = (*self.prompt(ASKED).tokens, *self.write("!").tokens)
        whole = self.prompt(_said(text)).tokens
        if whole[: len(before)] != before:
            raise ConfigError("model", self._model, "its chat template rewrites earlier turns: give no further turns")
        rest = whole[len(before) :]
        return Segment(rest[1:] if rest and rest[0] in self.ends else rest, text)

    def text(self, tokens: Sequence[int]) -> str:
        return self._detokenized([token for token in tokens if token not in self.ends])

    def _detokenized(self, tokens: Sequence[int]) -> str:
        if not tokens:
            return ""
        answer = self._ask("/detokenize", {"model": self._model, "tokens": list(tokens)})
        return str(answer["content" if self._llama else "prompt"])


class Chat:
    """Messages as they are: the server renders them. A prompt's text is their JSON."""

    vocabulary = None

    def __init__(self) -> None:
        self.ends: set[int] = set()

    def prompt(self, messages: Messages) -> Segment:
        return Segment((), json.dumps(list(messages), ensure_ascii=False))

    def write(self, text: str) -> Segment:
        return Segment((), text)

    def turn(self, text: str) -> Segment:
        return Segment((), text)

    def text(self, tokens: Sequence[int]) -> str:
        raise PolicyError("a chat without token ids has no tokens to read")


class Plain(Chat):
    """No template, for models that were never taught one: the contents of the messages, a line each."""

    def prompt(self, messages: Messages) -> Segment:
        return Segment((), "\n".join(message["content"] for message in messages))

    def turn(self, text: str) -> Segment:
        return Segment((), f"\n{text}\n")


def messages(prefix: Prefix) -> list[dict[str, str]]:
    """The chat behind a prefix whose prompt `Chat` made; its last message is the answer so far, if there is one."""
    try:
        chat: list[dict[str, str]] = json.loads(prefix.prompt.text)
    except ValueError:
        raise PolicyError("a chat's prompt is messages, made by `prompt`: nothing can be written there") from None
    answer = ""
    for step in prefix.steps:
        if step.by == "user":
            chat += [{"role": "assistant", "content": answer}, {"role": "user", "content": step.text}]
            answer = ""
        else:
            answer += step.text
    return [*chat, {"role": "assistant", "content": answer}] if answer else chat


def remote(ask: Callable[[str, Mapping[str, Any]], dict[str, Any]], model: str) -> Remote | None:
    """The server's tokenizer; None if it lends it to nobody."""
    try:
        return Remote(ask, model)
    except (Refused, PolicyError, KeyError):
        return None


def _said(text: str) -> Messages:
    return [*ASKED, {"role": "assistant", "content": "!"}, {"role": "user", "content": text}]
