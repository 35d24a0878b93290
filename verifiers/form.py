"""How a question and the steps of its answer are put before a reward model: templates as data.

A form turns a question and steps into token ids, and says at which token each step is read. It never guesses: where a
separator is merged into a neighbour, split, dropped by a template or written by a step itself, there is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

from policies.vocabulary import Vocabulary
from search.errors import ConfigError, VerifierError
from verifiers.alignment import Aligned, aligned, normal


class Rendered(NamedTuple):
    """What the model reads.

    Attributes:
        ids: up to the last token at which something is read.
        marks: positions in `ids`, rising: where each step is read, or one for the whole answer.
    """

    ids: tuple[int, ...]
    marks: tuple[int, ...]


class Form(Protocol):
    """Renders; `whole` tells that the answer is read once and not step by step."""

    @property
    def whole(self) -> bool: ...

    def render(self, vocabulary: Vocabulary, question: str, steps: Sequence[str]) -> Rendered:
        """Raises VerifierError where not exactly one token can be found for each step."""
        ...


@dataclass(frozen=True)
class Plain:
    """Plain text: the opening, then each step, its separator, and what stands between two steps.

    Attributes:
        opening: before the first step; "{question}" stands for the question.
        label: put before a step that does not begin with it; "{number}" stands for the step's number, from 1.
        step: what is written of a step; "{step}" stands for it.
        separator: after each step; the step is read at this token.
        between: after the separator, where another step follows.
        begin: whether the beginning-of-sequence token comes first.
        apart: whether opening, steps and separators are tokenised one by one, so that nothing can merge.
    """

    opening: str = "{question}\n"
    label: str = ""
    step: str = "{step}"
    separator: str = "\n"
    between: str = ""
    begin: bool = False
    apart: bool = False

    whole: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_fields(self.separator, (("opening", self.opening, "{question}"), ("step", self.step, "{step}")))

    def render(self, vocabulary: Vocabulary, question: str, steps: Sequence[str]) -> Rendered:
        opening = filled(self.opening, question=normal(vocabulary, question))
        texts = [
            filled(self.step, step=labelled(self.label, number, normal(vocabulary, step)))
            for number, step in enumerate(steps, 1)
        ]
        _refuse_inside(self.separator, steps)
        first = (_begin(vocabulary),) if self.begin else ()
        if self.apart:
            return self._apart(vocabulary, first, opening, texts)
        text, spans = _joined(opening, texts, self.separator, self.between)
        return _read(aligned(vocabulary, text), spans, first)

    def _apart(self, vocabulary: Vocabulary, first: tuple[int, ...], opening: str, texts: Sequence[str]) -> Rendered:
        separator = vocabulary.encode(self.separator)
        if len(separator) != 1:
            raise VerifierError(f"separator {self.separator!r} is {len(separator)} tokens of this model, not one")
        ids, marks = [*first, *vocabulary.encode(opening)], []
        for number, text in enumerate(texts):
            ids += vocabulary.encode(self.between) if number and self.between else ()
            ids += (*vocabulary.encode(text), *separator)
            marks.append(len(ids) - 1)
        return Rendered(tuple(ids), tuple(marks))


@dataclass(frozen=True)
class Chat:
    """The model's chat template; the steps and their separators are the assistant's one message.

    Attributes:
        system: the system message; None writes none (templates may have one of their own).
        user: the user's message; "{question}" stands for the question.
        separator, between: as in `Plain`.
    """

    system: str | None = None
    user: str = "{question}"
    separator: str = "<extra_0>"
    between: str = ""

    whole: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_fields(self.separator, (("user", self.user, "{question}"),))

    def render(self, vocabulary: Vocabulary, question: str, steps: Sequence[str]) -> Rendered:
        steps = [normal(vocabulary, step) for step in steps]
        _refuse_inside(self.separator, steps)
        answer, spans = _joined("", steps, self.separator, self.between)
        asked = _asked(self.system, filled(self.user, question=normal(vocabulary, question)))
        text = _templated(vocabulary, [*asked, {"role": "assistant", "content": answer}])
        if (at := text.rfind(answer)) < 0:
            raise VerifierError("the chat template does not write the steps and their separators as they are")
        return _read(aligned(vocabulary, text), [(at + begin, at + end) for begin, end in spans])


@dataclass(frozen=True)
class Turns:
    """A chat in which the user gives one step a turn and the assistant answers with a label.

    A step is read where the model is about to write its label; the label that stands there does not matter.

    Attributes:
        system: the system message; None writes none.
        first: the first turn; "{question}" and "{step}" stand for the question and the first step.
        label: what the assistant is made to say of every step.
    """

    system: str | None = None
    first: str = "{question} {step}"
    label: str = "+"

    whole: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_fields(self.label, (("first", self.first, "{question}"), ("first", self.first, "{step}")), "label")

    def render(self, vocabulary: Vocabulary, question: str, steps: Sequence[str]) -> Rendered:
        question, steps = normal(vocabulary, question), [normal(vocabulary, step) for step in steps]
        chat: list[Mapping[str, str]] = _system(self.system)
        ends: list[str] = []
        for number, step in enumerate(steps):
            turn = step if number else filled(self.first, question=question, step=step)
            chat.append({"role": "user", "content": turn})
            ends.append(_templated(vocabulary, chat, answer=True))
            chat.append({"role": "assistant", "content": self.label})
        text = ends[-1]
        for end, following in zip(ends, ends[1:], strict=False):
            if not following.startswith(end + self.label):
                raise VerifierError("the chat template rewrites earlier turns: no label stands where it is read")
        tokens = aligned(vocabulary, text)
        marks = [tokens.at(len(end.encode()), f"the end of turn {n}") for n, end in enumerate(ends, 1)]
        return Rendered(tokens.ids, tuple(marks))


@dataclass(frozen=True)
class Answer:
    """The whole answer, read once, at the last token of what is written: for outcome reward and value models.

    Attributes:
        text: plain text with "{question}" and "{answer}"; None takes the chat template, its end of turn included.
        system: the system message of the chat; None writes none.
        joint: between two steps of the answer.
        begin: whether the beginning-of-sequence token comes before plain text.
    """

    text: str | None = None
    system: str | None = None
    joint: str = "\n\n"
    begin: bool = False

    whole: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.text is not None and not ("{question}" in self.text and "{answer}" in self.text):
            raise ConfigError("text", self.text, "it needs {question} and {answer}, or give null for the chat template")

    def render(self, vocabulary: Vocabulary, question: str, steps: Sequence[str]) -> Rendered:
        question, answer = normal(vocabulary, question), normal(vocabulary, self.joint.join(steps))
        first = (_begin(vocabulary),) if self.begin and self.text is not None else ()
        if self.text is not None:
            text = filled(self.text, question=question, answer=answer)
        else:
            chat = [*_asked(self.system, question), {"role": "assistant", "content": answer}]
            text = _templated(vocabulary, chat)
            if answer not in text:
                raise VerifierError("the chat template does not write the answer as it is")
        ids = (*first, *aligned(vocabulary, text).ids)
        return Rendered(ids, (len(ids) - 1,))


def labelled(label: str, number: int, step: str) -> str:
    """`step` with the label of its number before it, unless it begins with that."""
    label = label.replace("{number}", str(number))
    return step if step.startswith(label.strip()) else label + step


def filled(template: str, **parts: str) -> str:
    """The template with its {fields} replaced in one pass: what a part holds is never taken for a field."""
    return re.sub(r"\{(\w+)\}", lambda found: parts.get(found[1], found[0]), template)


def _joined(opening: str, steps: Sequence[str], separator: str, between: str) -> tuple[str, list[tuple[int, int]]]:
    """The text, and from where to where in it each step's separator stands."""
    text, spans = opening, []
    for number, step in enumerate(steps):
        text += (between if number else "") + step
        spans.append((len(text), len(text) + len(separator)))
        text += separator
    return text, spans


def _read(tokens: Aligned, spans: Sequence[tuple[int, int]], first: tuple[int, ...] = ()) -> Rendered:
    marks = [tokens.closing(begin, end, f"the separator of step {n}") for n, (begin, end) in enumerate(spans, 1)]
    if len({tokens.ids[mark] for mark in marks}) > 1:
        raise VerifierError(f"the separators are different tokens: {sorted({tokens.ids[mark] for mark in marks})}")
    ids = (*first, *tokens.ids[: marks[-1] + 1])
    return Rendered(ids, tuple(len(first) + mark for mark in marks))


def _refuse_inside(separator: str, steps: Sequence[str]) -> None:
    for number, step in enumerate(steps, 1):
        if (separator.strip() or separator) in step:
            raise VerifierError(f"step {number} has the separator {separator!r} in its own text: {step[:40]!r}")


def _begin(vocabulary: Vocabulary) -> int:
    if vocabulary.tokenizer.bos_token_id is None:
        raise VerifierError("the tokenizer names no beginning-of-sequence token: set begin to false")
    return int(vocabulary.tokenizer.bos_token_id)


def _asked(system: str | None, question: str) -> list[Mapping[str, str]]:
    return [*_system(system), {"role": "user", "content": question}]


def _system(system: str | None) -> list[Mapping[str, str]]:
    return [] if system is None else [{"role": "system", "content": system}]


def _templated(vocabulary: Vocabulary, chat: Sequence[Mapping[str, str]], answer: bool = False) -> str:
    if vocabulary.tokenizer.chat_template is None:
        raise VerifierError("its tokenizer has no chat template: add chat_template.jinja")
    return str(vocabulary.tokenizer.apply_chat_template(list(chat), add_generation_prompt=answer, tokenize=False))


def _check_fields(separator: str, wanted: Sequence[tuple[str, str, str]], name: str = "separator") -> None:
    if not separator:
        raise ConfigError(name, separator, "give the text of one token")
    for field, template, part in wanted:
        if part not in template:
            raise ConfigError(field, template, f"it needs {part}")
