"""The toy task: guess a word. For trying things out and for tests, with `policy=toy` and `verifier=toy`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.item import Grade, Item
from search.errors import ConfigError
from search.select import SameText
from verifiers.grade import mark


@dataclass(frozen=True)
class Words:
    """Asks for the same word `count` times, in other words each time.

    Attributes:
        word: the answer to every question; what `verifier=toy` knows too.
        count: how many items, at least 1.
    """

    word: str = "abcab"
    count: int = 20
    name: str = "toy"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError("count", self.count, "give a number of at least 1")

    def items(self) -> list[Item]:
        """Question 1, question 2 and so on."""
        return [Item(f"toy-{i}", self.name, f"Word {i}?", self.word) for i in range(1, self.count + 1)]

    def messages(self, item: Item) -> list[Mapping[str, str]]:
        """The question as it stands."""
        return [{"role": "user", "content": item.question}]

    async def classes(self, texts: Sequence[str]) -> list[int | None]:
        """Words are equal when their letters are."""
        return await SameText().classes(texts)

    async def grade(self, item: Item, text: str) -> Grade:
        """Right is the word itself; unknown where the item does not say which."""
        answer = text.strip() or None
        if item.answer is None:
            return Grade("unknown", answer)
        return Grade("unparsable" if answer is None else mark(answer == item.answer), answer)
