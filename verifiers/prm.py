"""A process reward model in this process: how likely each step of a solution is right, read as it grows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch

from policies.engine import load
from policies.engine.calls import Outputs
from search.errors import ConfigError, VerifierError
from search.types import Cost, Prefix, Verdict
from verifiers.combine import HOW
from verifiers.reading import ENDED, Layout, Reading


class Line(NamedTuple):
    """What was read of one line: the head's logit of right over wrong; regret and log-probability of its tokens.

    Both in nats, summed, at most 0.
    """

    logit: float
    regret: float
    logprob: float


@dataclass(frozen=True)
class Ending:
    """P(right) of a line that ends the answer: its log-probability counts, for what it has to say is settled by then.

    Attributes:
        score, regret, logprob, bias: the weights of a logistic regression on the head's logit, the regret of the lines
            before, and the log-probability of the line under the verifier's own language-model head.
    """

    score: float
    regret: float
    logprob: float
    bias: float


@dataclass(frozen=True)
class Calibration:
    """P(right so far) = sigmoid(score * logit + regret * (summed regret of the answer so far) + bias).

    The regret of a token is its log-probability under the verifier's own language-model head less that of the
    likeliest token: what the model would not have written is suspect, also where its score head has not learnt to
    look. A folder with calibration.json has one, fitted on labelled samples (`experiments/train/calibrate.py`).

    Attributes:
        score, regret, bias: the weights of a logistic regression.
        ending: those of a line that ends the answer; None for the same.
    """

    score: float = 1.0
    regret: float = 0.0
    bias: float = 0.0
    ending: Ending | None = None

    def probability(self, line: Line, before: float, ends: bool) -> float:
        """In [0, 1]; `before` is the regret of the lines before, `ends` whether the answer ends with this one."""
        x = self.score * line.logit + self.regret * (before + line.regret) + self.bias
        if ends and (e := self.ending):
            x = e.score * line.logit + e.regret * before + e.logprob * line.logprob + e.bias
        return 1 / (1 + math.exp(-x)) if x > -700 else 0.0

    @classmethod
    def of(cls, folder: Path) -> Calibration:
        """The folder's; the head as it is where it has none. Raises ConfigError for a file that is not one."""
        if not (path := folder / "calibration.json").is_file():
            return cls()
        try:
            told = dict(json.loads(path.read_text(encoding="utf-8")))
            ending = told.pop("ending", None)
            last = Ending(**{name: float(x) for name, x in ending.items()}) if ending else None
            return cls(**{name: float(x) for name, x in told.items()}, ending=last)
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError("model", str(path), f"it is not score, regret and bias ({error})") from error

    @property
    def reads(self) -> bool:
        """Whether it weighs what the language-model head says."""
        return bool(self.regret or self.ending)


@dataclass(frozen=True)
class Both:
    """The score head's two logits and, behind them, those of a language-model head."""

    score: Callable[[torch.Tensor], torch.Tensor]
    words: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """[N, H] to [N, 2 + V]."""
        return torch.cat((self.score(hidden), self.words(hidden)), -1)


@dataclass(frozen=True)
class PRM(Reading):
    """A model with a two-label head, read where steps end; value of a step = probability of label 1, "right so far".

    For folders laid out as `Qwen2ForProcessRewardModel` (Zhang et al. 2025, "The Lessons of Developing Process Reward
    Models in Mathematical Reasoning") or `Qwen2ForTokenClassification`, over any backbone that `transformers` loads.
    A verdict's value is its last step's; `verifiers.combine.Aggregate` makes others. A folder with calibration.json
    also weighs token regret, see `Calibration`. See `Reading` for the other settings and for where a step ends.

    Attributes:
        within: a segment that holds several lines (a completion sampled in one piece) is read at the end of each; how
            these become the value of the segment: last, min, mean or prod.

    Raises:
        ConfigError: on entry, if the folder has no such head; when built, if a setting is unknown.
        VerifierError: from `score`, for a prefix without steps (no step end, no score) and as `Reading.score`.
    """

    within: str = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.within not in HOW:
            raise ConfigError("within", self.within, f"give one of {', '.join(HOW)}")

    @cached_property
    def calibration(self) -> Calibration:
        """The folder's."""
        return Calibration.of(Path(self.model))

    def _shaping(self) -> tuple[object, ...]:
        return (*super()._shaping(), self.within)

    def _weights(self, path: Path) -> load.Model:
        model = load.scoring_model(path, self.dtype, self.device)
        if not self.calibration.reads:
            return model
        if not load.settings(path).get("tie_word_embeddings"):
            raise ConfigError("model", str(path), "its calibration weighs regret, which needs tied word embeddings")
        words = load.product(model.whole, model.whole.get_input_embeddings().weight)  # the head is tied to them
        return replace(model, head=Both(model.head, words))

    async def _values(self, layout: Layout, known: int) -> tuple[tuple[tuple[Line, ...], ...], Outputs | None]:
        # a segment without ids (cut at once) is read where the one before it ended
        start = min(layout.bounds[known], *(marks[0] for marks in layout.marks[known:]))
        first = start - 1 if self.calibration.reads else start  # what the model expected of the first new token
        outputs = await self.engine.read(layout.ids, first, owner=layout.owner)
        logits = (outputs.values[:, 1] - outputs.values[:, 0]).tolist()
        regrets = logprobs = [0.0] * (len(layout.ids) - first)
        if self.calibration.reads:
            expected = outputs.values[:-1, 2:]
            said = expected.gather(-1, torch.tensor(layout.ids[start:])[:, None])[:, 0]
            regrets = [0.0, *(said - expected.amax(-1)).tolist()]
            logprobs = [0.0, *(said - expected.logsumexp(-1)).tolist()]
        lines, begin = [], layout.bounds[known]
        for marks in layout.marks[known:]:
            read = []
            for mark in marks:
                line = slice(begin - first, mark + 1 - first)
                read.append(Line(logits[mark - first], math.fsum(regrets[line]), math.fsum(logprobs[line])))
                begin = max(begin, mark + 1)
            lines.append(tuple(read))
        return tuple(lines), outputs

    def _verdict(self, prefix: Prefix, values: tuple[tuple[Line, ...], ...], cost: Cost) -> Verdict:
        if not values:
            raise VerifierError("a prefix without steps has no step end at which to read a score")
        regret, steps = 0.0, []
        for step, lines in zip(prefix.reply, values, strict=True):
            right = []
            for i, line in enumerate(lines, start=1):
                ends = step.finish in ENDED and i == len(lines)
                right.append(self.calibration.probability(line, regret, ends))
                regret += line.regret
            steps.append(HOW[self.within](right))
        return Verdict(steps[-1], tuple(steps), cost)
