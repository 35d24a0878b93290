"""Where a reward model's probability comes from, at a token: label tokens, a classifier's classes, or a value head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from policies.engine.load import Model, headed_model, language_model, product
from policies.vocabulary import Vocabulary
from search.errors import ConfigError, VerifierError


class Readout(Protocol):
    """Loads the weights it needs, says which numbers are computed at a token, and makes a probability of them."""

    def load(self, path: Path, dtype: str, device: str) -> Model:
        """The model; `transformers` can check that the engine computes what it computes."""
        ...

    def head(self, model: Model, vocabulary: Vocabulary) -> Model:
        """The model with a head that gives what `probabilities` reads."""
        ...

    def probabilities(self, outputs: torch.Tensor) -> list[float]:
        """In [0, 1], from the head's output [n, C]."""
        ...


@dataclass(frozen=True)
class Labels:
    """A language model that is about to write a label: its probability of a good label among all labels.

    Only the labels' rows of the output layer are computed.

    Attributes:
        good, bad: texts of one token each, such as "+" and "-"; at least one of each.
    """

    good: tuple[str, ...] = ("+",)
    bad: tuple[str, ...] = ("-",)

    def __post_init__(self) -> None:
        for name in ("good", "bad"):
            value = getattr(self, name)
            texts = (value,) if isinstance(value, str) else tuple(value)
            if not texts or not all(texts):
                raise ConfigError(name, value, "give the text of one token, or several")
            object.__setattr__(self, name, texts)
        if set(self.good) & set(self.bad):
            raise ConfigError("good", self.good, "a label is either good or bad")

    def load(self, path: Path, dtype: str, device: str) -> Model:
        return language_model(path, dtype, device)

    def ids(self, vocabulary: Vocabulary) -> list[int]:
        """Of the good labels, then of the bad ones; raises ConfigError for a label that is not one token."""
        ids = [_token(vocabulary, name, text) for name in ("good", "bad") for text in getattr(self, name)]
        if len(set(ids)) < len(ids):
            raise ConfigError("good", self.good, f"two labels are the same token of this model: {ids}")
        return ids

    def head(self, model: Model, vocabulary: Vocabulary) -> Model:
        """Raises ConfigError for a label that is not one token of this model."""
        ids = self.ids(vocabulary)
        whole = model.whole.get_output_embeddings()
        bias = getattr(whole, "bias", None)
        return replace(model, head=product(model.whole, whole.weight[ids], None if bias is None else bias[ids]))

    def probabilities(self, outputs: torch.Tensor) -> list[float]:
        found: list[float] = outputs.double().softmax(-1)[:, : len(self.good)].sum(-1).clamp(0, 1).tolist()
        return found


@dataclass(frozen=True)
class Classes:
    """A token classifier: the probability of its good classes.

    Attributes:
        name: of the head among the weights.
        good: numbers of the classes that mean right.
        classes: how many there are.
    """

    name: str = "score"
    good: tuple[int, ...] = (1,)
    classes: int = 2

    def __post_init__(self) -> None:
        good = (self.good,) if isinstance(self.good, int) else tuple(self.good)
        object.__setattr__(self, "good", good)
        if not good or not set(good) < set(range(self.classes)):
            raise ConfigError("good", self.good, f"give some, but not all, of 0 to {self.classes - 1}")

    def load(self, path: Path, dtype: str, device: str) -> Model:
        return _headed(path, self.name, self.classes, dtype, device)

    def head(self, model: Model, vocabulary: Vocabulary) -> Model:
        return model

    def probabilities(self, outputs: torch.Tensor) -> list[float]:
        found: list[float] = outputs.double().softmax(-1)[:, list(self.good)].sum(-1).clamp(0, 1).tolist()
        return found


SQUASH = ("sigmoid", "unit", "symmetric")


@dataclass(frozen=True)
class Value:
    """A head of one number: a value, a reward, or the logit of being right.

    Attributes:
        name: of the head among the weights, such as "v_head.summary" (trl) or "score" (sequence classifiers).
        squash: how the number becomes a value in [0, 1]: "sigmoid"; "unit": it is one, anything else is an error;
            "symmetric": (x + 1) / 2 of a number cut to [-1, 1] (FETCH, Wang et al. 2025).
        scale: what the number is multiplied with before a sigmoid.
    """

    name: str = "v_head.summary"
    squash: str = "sigmoid"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.squash not in SQUASH:
            raise ConfigError("squash", self.squash, f"give one of {', '.join(SQUASH)}")

    def load(self, path: Path, dtype: str, device: str) -> Model:
        return _headed(path, self.name, 1, dtype, device)

    def head(self, model: Model, vocabulary: Vocabulary) -> Model:
        return model

    def probabilities(self, outputs: torch.Tensor) -> list[float]:
        """Raises VerifierError for a number outside [0, 1] where `squash` is "unit"."""
        x = outputs[:, 0].double()
        if self.squash == "sigmoid":
            return list((x * self.scale).sigmoid().tolist())
        if self.squash == "symmetric":
            return list(((x.clamp(-1, 1) + 1) / 2).tolist())
        values: list[float] = x.tolist()
        if any(not 0 <= value <= 1 for value in values):
            raise VerifierError(f"the value head gave {min(values):.4g} to {max(values):.4g}: set squash to sigmoid")
        return values


def _headed(path: Path, name: str, size: int, dtype: str, device: str) -> Model:
    model, found = headed_model(path, name, dtype, device)
    if found != size:
        raise ConfigError("model", str(path), f"its head `{name}` gives {found} numbers, not {size}")
    return model


def _token(vocabulary: Vocabulary, name: str, text: str) -> int:
    ids: Sequence[int] = vocabulary.encode(text)
    if len(ids) != 1:
        raise ConfigError(name, text, f"it is {len(ids)} tokens of this model: give a label of one")
    return ids[0]
