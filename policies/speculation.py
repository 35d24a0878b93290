"""Who guesses ahead for an embedded model, by name: "ngram" (contexts seen before), "draft" (a smaller model),
"recycle" (a token's latest successors) and "told" (what comes with the request); and how many guesses there are; see
`policies.engine.speculate`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import torch

from policies.engine import load
from policies.engine.bandit import Bandit
from policies.engine.drafters import Drafter, NGram, Recycle
from policies.engine.governor import Cost, Governor
from policies.engine.growth import DEPTH
from policies.engine.load import Model
from policies.engine.shadow import DraftModel, fits
from policies.engine.shape import optimal
from policies.engine.speculate import Speculation
from policies.engine.told import Told
from policies.engine.trial import paces
from search.errors import ConfigError
from search.types import Request

NAMES = ("draft", "ngram", "recycle", "told")
LINES = 16  # rows that a draft model guesses for at once; where more run, its forwards cost more than they save

Wanted = str | Sequence[str] | Mapping[str, Any] | None


@dataclass(frozen=True)
class Settings:
    """What speculation a policy has.

    Attributes:
        by: the drafters, in order of priority: the next is asked where one knows nothing or is not sure.
        length: who decides how many guesses there are: "goodput" (a model of costs, and what was measured with guesses
            and without), "bandit" (depths tried, by tokens per second), "always" (for tests: as many as may be right).
        profile: how often the first and the second guess at a place are right; guesses then have the best shape for
            these (Sequoia) in place of growing by what is expected of each.
        guesses: in that shape, per row.
    """

    by: tuple[str, ...] = ()
    length: str = "goodput"
    profile: tuple[float, ...] = ()
    guesses: int = 8

    LENGTHS: ClassVar[tuple[str, ...]] = ("goodput", "bandit", "always")

    def __post_init__(self) -> None:
        if unknown := [name for name in self.by if name not in NAMES]:
            raise ConfigError("speculate", unknown[0], f"give null, one of {', '.join(NAMES)}, or a list of them")
        if len(set(self.by)) < len(self.by):
            raise ConfigError("speculate", list(self.by), "give each drafter once")
        if self.length not in self.LENGTHS:
            raise ConfigError("speculate.length", self.length, f"give one of {', '.join(self.LENGTHS)}")
        falling = list(self.profile) == sorted(self.profile, reverse=True)
        if self.profile and not (falling and 0 < min(self.profile) <= sum(self.profile) <= 1 and len(self.profile) < 3):
            raise ConfigError("speculate.profile", list(self.profile), "give one or two chances, the larger one first")
        if not 1 <= self.guesses <= 64:
            raise ConfigError("speculate.guesses", self.guesses, "give a number from 1 to 64")


def settings(speculate: Wanted, draft: str | None) -> Settings:
    """What is asked for: a name, several, or a mapping with the fields of `Settings`.

    Raises:
        ConfigError: a setting is unknown, a number is out of range, or "draft" comes without a model.
    """
    told: dict[str, Any] = dict(speculate) if isinstance(speculate, Mapping) else {"by": speculate}
    if unknown := told.keys() - {f.name for f in fields(Settings)}:
        raise ConfigError(f"speculate.{min(unknown)}", told[min(unknown)], "there is no such setting of speculation")
    by = told.pop("by", None)
    told["by"] = () if by is None else (by,) if isinstance(by, str) else tuple(by)
    if (profile := told.get("profile")) is not None:
        told["profile"] = tuple(map(float, profile))
    found = Settings(**{name: value for name, value in told.items() if value is not None})
    if "draft" in found.by and draft is None:
        raise ConfigError("draft", draft, "give the folder of the model that guesses, or speculate=ngram")
    return found


def build(
    speculate: Wanted, draft: str | None, model: Model, tokenizer: Any, threads: int | None
) -> Speculation | None:
    """The speculation of `settings`, for `model`; None if nobody guesses.

    Raises:
        ConfigError: as `settings`; or the draft model cannot be used.
    """
    ways: dict[str, Callable[[], Drafter]] = {
        "draft": lambda: _draft(str(draft), model, tokenizer),
        "ngram": NGram,
        "recycle": lambda: Recycle(model.vocabulary),
        "told": lambda: Told(model.vocabulary),
    }
    wanted = settings(speculate, draft)
    made = [ways[name]() for name in wanted.by]
    if not made:
        return None
    governor = Bandit() if wanted.length == "bandit" else Governor(forced=wanted.length == "always")
    shape = optimal(wanted.profile, wanted.guesses, DEPTH) if wanted.profile else None
    # one thread on the CPU: its own time, which other processes do not stretch
    alone = model.device == "cpu" and (threads or torch.get_num_threads()) == 1
    clock = time.thread_time if alone else time.perf_counter
    governor.cost.begin(paces(model, clock))
    if len(made) == 1 and isinstance(made[0], DraftModel):
        small = Cost()
        small.begin(paces(made[0].model, clock))
        governor.guess = small.fixed, small.token
    return Speculation(made, governor, clock=clock, shape=shape)


def tell(guessing: Speculation | None, request: Request, guesses: Sequence[Sequence[int]]) -> None:
    """Hands guesses for the draws of `request` to the drafter "told"; without it they are of no use."""
    for drafter in guessing.drafters if guessing else ():
        if isinstance(drafter, Told):
            drafter.tell(request.prefix.tokens, request.seeds, guesses)


def _draft(folder: str, model: Model, tokenizer: Any) -> DraftModel:
    path = Path(folder)
    load.settings(path, "draft")
    small = load.language_model(path, str(model.dtype).removeprefix("torch."), model.device)
    if not fits(small):
        raise ConfigError("draft", folder, "give a Llama, Qwen2 or Mistral model without sliding windows")
    if load.tokenizer(path).get_vocab() != tokenizer.get_vocab():
        raise ConfigError("draft", folder, "its tokens are not this model's: give a model with the same tokenizer")
    return DraftModel(small, LINES, min(small.context, model.context), model.vocabulary)
