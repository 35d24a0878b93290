"""Policies and verifiers from their settings: in this process, or replicas of them in a pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from experiments.build import build
from experiments.graded import PooledTask
from experiments.item import Task
from policies.pool.drafted import DraftedPolicy
from policies.pool.fronts import Pooled
from policies.pool.hosting import Hosting
from policies.pool.rules import Counters
from search.errors import ConfigError
from search.ports import Policy, Verifier

POOLED = ("policy", "verifier", "roles", "task")
USUAL = ("policy", "verifier", "roles")  # where `parts` says nothing


class Made(Protocol):
    """What holds the models of a run."""

    @property
    def policy(self) -> Policy: ...

    @property
    def verifier(self) -> Verifier | None: ...

    @property
    def roles(self) -> Mapping[str, Policy]: ...


def happened(models: Made) -> dict[str, Counters]:
    """What the pools among the models counted, by role; those that answered nothing are left out."""
    named: dict[str, Any] = {"policy": models.policy, "verifier": models.verifier, **models.roles}
    named |= {"task": getattr(models, "task", None), "draft": getattr(models.policy, "drafts", None)}
    pools = {name: part.counters for name, part in named.items() if isinstance(part, Pooled | PooledTask)}
    return {name: counters for name, counters in pools.items() if counters.calls}


@dataclass(frozen=True)
class Blueprint:
    """How a part is built, wherever that is: its name in the configuration, and its settings.

    Attributes:
        settings: a plain dict with a `_target_`.
    """

    name: str
    settings: Mapping[str, Any]

    def __call__(self) -> Any:
        return build(self.name, self.settings)


@dataclass(frozen=True)
class Models:
    """Makes policies and verifiers.

    Attributes:
        pools: what hosts the replicas, by "policy", "verifier", "roles" and "task" (its graders); what is not named
            stays in this process; "draft" hosts those of the drafter.
        drafter: settings in which a policy that guesses for the policy differs from it; None for none.
    """

    pools: Mapping[str, Hosting] = field(default_factory=dict)
    drafter: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> Models:
        """From the group `pool`; raises ConfigError for a setting that is wrong.

        `parts` names what is pooled; under the name of a part are the fields in which its pool differs.
        """
        if not settings:
            return cls()
        fields = dict(settings)
        parts, drafter = fields.pop("parts", USUAL), fields.pop("drafter", None)
        own = {name: fields.pop(name, None) or {} for name in (*POOLED, "draft")}
        for name in parts:
            if name not in POOLED:
                raise ConfigError("pool.parts", name, f"choose from {', '.join(POOLED)}")
        if drafter is not None and not isinstance(drafter, Mapping):
            raise ConfigError("pool.drafter", drafter, "give the settings in which it differs from policy, or null")
        hosted = [*parts, "draft"] if drafter else parts
        return cls({name: build("pool", {**fields, **own[name]}) for name in hosted}, drafter)

    def policy(self, name: str, settings: Mapping[str, Any]) -> Policy:
        """The policy `settings` describe, under its name in the configuration."""
        made: Policy
        if (hosting := self.pools.get(name.partition(".")[0])) is None:
            made = build(name, settings)
        elif self.drafter and name == "policy":
            made = self._drafted(hosting, settings)
        else:
            made = hosting.policy(Blueprint(name, settings))
        return made

    def _drafted(self, hosting: Hosting, settings: Mapping[str, Any]) -> Policy:
        """The policy, and beside it replicas of the one that guesses; neither guesses in another way first."""
        before = settings.get("speculate")
        others = [] if before is None else [before] if isinstance(before, str) else list(before)
        target = Blueprint("policy", {**settings, "speculate": ["told", *(name for name in others if name != "told")]})
        smaller = Blueprint("pool.drafter", {**settings, "speculate": None, **(self.drafter or {})})
        return DraftedPolicy(hosting, target, self.pools["draft"].policy(smaller))

    def verifier(self, name: str, settings: Mapping[str, Any]) -> Verifier:
        """The verifier `settings` describe."""
        made: Verifier
        if (hosting := self.pools.get(name)) is None:
            made = build(name, settings)
        else:
            made = hosting.verifier(Blueprint(name, settings))
        return made

    def task(self, settings: Mapping[str, Any]) -> Task:
        """The task `settings` describe; its items are here, whoever grades."""
        made: Task = build("task", settings)
        hosting = self.pools.get("task")
        return made if hosting is None else PooledTask(made, hosting, Blueprint("task", settings))
