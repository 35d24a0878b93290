"""Probes: small fitted models that say from a prompt alone how likely one sample of a policy is to be right.

Fitted by `python -m experiments.probe RUN... --out FILE`; a file is plain JSON.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from search import allocate
from search.errors import ConfigError
from search.types import Prefix

VERSION = 1
FEATURES = ("text", "state")
PER_FEATURE = ("centre", "scale", "low", "high", "weights")
SIGNS = ("+", "-", "*", "/", "^", "=", "(", "?", "\\", "\n")


def text_features(question: str) -> tuple[float, ...]:
    """Plain lengths and counts: characters, words, digits, numbers, their sizes, and signs; logarithms of 1 + each."""
    numbers = [min(float(n), 1e300) for n in re.findall(r"\d+(?:\.\d+)?", question)]
    counts = (
        len(question),
        len(question.split()),
        sum(letter.isdigit() for letter in question),
        len(numbers),
        max(numbers, default=0.0),
        min(numbers, default=0.0),
        *(question.count(sign) for sign in SIGNS),
    )
    return (*map(math.log1p, counts), math.fsum(map(math.log1p, numbers)))


@dataclass(frozen=True)
class Fitted:
    """What a probe's file holds: P(success) = sigmoid(bias + sum of weight * (feature - centre) / scale).

    A feature outside the range it was fitted on counts as the end of that range, and no prediction goes beyond those
    for the problems it was fitted on: nothing is extrapolated. Of questions of another kind a probe knows nothing.

    Attributes:
        features: "text": `text_features` of the question; "state": the policy's last hidden state at the prompt's end.
        model: fingerprint of the folder whose states these are; None for text.
        centre, scale, low, high, weights: one number per feature.
        predictions: out-of-fold predictions for the problems it was fitted on, in ascending order: what a price is
            found on.
    """

    features: str
    model: str | None
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    predictions: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.features not in FEATURES:
            raise ConfigError("features", self.features, f"give one of {', '.join(FEATURES)}")
        if len({len(getattr(self, name)) for name in PER_FEATURE}) > 1 or not self.weights:
            raise ConfigError("weights", len(self.weights), f"give as many {', '.join(PER_FEATURE)}, at least one each")
        if not self.predictions or list(self.predictions) != sorted(self.predictions):
            raise ConfigError("predictions", len(self.predictions), "give at least one, in ascending order")

    def success(self, features: Sequence[float]) -> float:
        """P(one sample is right), in [0, 1]. Raises ConfigError for features of another number."""
        if len(features) != len(self.weights):
            raise ConfigError("file", len(features), f"the probe was fitted on {len(self.weights)} features")
        inside = (min(max(f, a), b) for f, a, b in zip(features, self.low, self.high, strict=True))
        terms = zip(self.weights, inside, self.centre, self.scale, strict=True)
        x = self.bias + math.fsum(w * (f - c) / s for w, f, c, s in terms)
        p = 1 / (1 + math.exp(-x)) if x > -700 else 0.0
        return min(max(p, self.predictions[0]), self.predictions[-1])

    @classmethod
    def read(cls, file: str) -> Fitted:
        """The probe in a file. Raises ConfigError for one that is missing or no probe."""
        path = Path(file).expanduser()
        if not path.is_file():
            raise ConfigError("file", file, "there is no such probe; fit one with `python -m experiments.probe`")
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if record["version"] != VERSION:
                raise ConfigError("file", file, f"it has version {record['version']}, this program reads {VERSION}")
            return cls(
                features=record["features"],
                model=record["model"],
                bias=float(record["bias"]),
                **{name: tuple(map(float, record[name])) for name in (*PER_FEATURE, "predictions")},
            )
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, ConfigError):
                raise ConfigError("file", file, str(error)) from error
            raise ConfigError("file", file, f"it is not a probe ({type(error).__name__}: {error})") from error


@dataclass(frozen=True)
class Probe:
    """Predicts from the text of the question; for `search.algorithms.adaptive.AdaptiveBestOfK.predict`.

    Attributes:
        file: what `python -m experiments.probe --features text` wrote.

    Raises:
        ConfigError: when built, if there is no such file, or it reads hidden states (see `verifiers.prospect`).
    """

    file: str

    def __post_init__(self) -> None:
        if self.fitted.features != "text":
            raise ConfigError("file", self.file, "it reads hidden states: use it by verifier=prospect")

    @cached_property
    def fitted(self) -> Fitted:
        """The file's."""
        return Fitted.read(self.file)

    def __call__(self, prefix: Prefix) -> float:
        """P(one sample is right), in [0, 1]."""
        return self.fitted.success(text_features(prefix.question or prefix.prompt.text))


def price(file: str, average: float, least: int, most: int) -> float:
    """What a draw must gain so that problems like those of the probe get `average` draws each; see `search.allocate`.

    Raises ConfigError for an average outside [least, most] or a file that is no probe.
    """
    if not least <= average <= most:
        raise ConfigError("average", average, f"give a number from least={least} to most={most}")
    predictions = Fitted.read(file).predictions
    rows = [allocate.binary(success, most) for success in predictions]
    return allocate.price(rows, round(average * len(rows)), least)
