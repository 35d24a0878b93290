"""From plain settings to the parts of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.build import build, check_types, make, under
from experiments.item import Task
from experiments.models import Models
from search.budget import Budget
from search.errors import ConfigError
from search.ports import Policy, Verifier
from search.run import Search
from search.select import Selector
from search.types import Sampling


@dataclass(frozen=True)
class Keep:
    """What stays of an item when it is finished, besides its row.

    Attributes:
        events: its trace.
        journal: what the models answered.
    """

    events: bool
    journal: bool


@dataclass(frozen=True)
class Parts:
    """What a run is made of. Weights are not loaded yet: that is done when policy and verifier are entered.

    Attributes:
        verifier: None for searches and selections that need no scores.
        roles: other policies the search asks, by role.
        step: how a step is drawn.
        whole: how a completion is drawn.
        limits: of the budget of one item under one seed, by name; None is no limit.
        strict: whether draws are capped by what is left of `generated`, see `search.budget.Budget`.
        seeds: every item is run once with each.
        keep: what stays of finished items.
        read_ahead: whether draws are scored as soon as they are there, see `verifiers.ahead`.
    """

    task: Task
    policy: Policy
    verifier: Verifier | None
    roles: Mapping[str, Policy]
    search: Search
    select: Selector
    step: Sampling
    whole: Sampling
    limits: Mapping[str, float | None]
    strict: bool
    seeds: tuple[int, ...]
    keep: Keep
    read_ahead: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Parts:
        """Builds every part of a whole configuration; raises ConfigError naming the setting that is wrong."""
        steps, budget = dict(settings["steps"]), dict(settings["budget"])
        until, max_whole = build("steps.until", steps.pop("until")), steps.pop("max_whole")
        step = make("steps", Sampling, {**steps, "until": until})
        if type(max_whole) is not int or max_whole < 1:
            raise ConfigError("steps.max_whole", max_whole, "give a whole number of at least 1")
        strict = budget.pop("strict")
        if type(strict) is not bool:
            raise ConfigError("budget.strict", strict, "give true or false")
        if type(read_ahead := settings.get("read_ahead", False)) is not bool:
            raise ConfigError("read_ahead", read_ahead, "give true or false")
        Budget(budget, strict=strict)  # refuses wrong limits at the door
        models = Models.of(settings.get("pool"))
        return cls(
            task=models.task(settings["task"]),
            policy=models.policy("policy", settings["policy"]),
            verifier=models.verifier("verifier", settings["verifier"]) if settings["verifier"] else None,
            roles={role: models.policy(f"roles.{role}", fields) for role, fields in settings["roles"].items()},
            search=build("search", settings["search"]),
            select=build("select", settings["select"]),
            step=step,
            whole=step.to_the_end(max_whole),
            limits=budget,
            strict=strict,
            seeds=seeds(settings["seed"]),
            keep=make("trace", Keep, settings["trace"]),
            read_ahead=read_ahead,
        )

    def budget(self) -> Budget:
        """A new budget for one item under one seed."""
        return Budget(self.limits, strict=self.strict)


def seeds(value: Any) -> tuple[int, ...]:
    """One whole number or a list of different ones, each in [0, 2**63); raises ConfigError."""
    several = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not several or len(set(several)) < len(several):
        raise ConfigError("seed", value, "give one number, or a list of different ones")
    for seed in several:
        if type(seed) is not int or not 0 <= seed < 2**63:
            raise ConfigError("seed", seed, "give a whole number from 0 to 2**63 - 1")
    return several


__all__ = ["Keep", "Parts", "build", "check_types", "make", "seeds", "under"]
