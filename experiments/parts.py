"""From plain settings to objects: the one place where `_target_` becomes a class.

Settings come in as a plain dict, and plain values go into the constructors: nothing behind this file knows OmegaConf.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from experiments.item import Task
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
        Budget(budget, strict=strict)  # refuses wrong limits at the door
        return cls(
            task=build("task", settings["task"]),
            policy=build("policy", settings["policy"]),
            verifier=build("verifier", settings["verifier"]) if settings["verifier"] else None,
            roles={role: build(f"roles.{role}", fields) for role, fields in settings["roles"].items()},
            search=build("search", settings["search"]),
            select=build("select", settings["select"]),
            step=step,
            whole=step.to_the_end(max_whole),
            limits=budget,
            strict=strict,
            seeds=seeds(settings["seed"]),
            keep=make("trace", Keep, settings["trace"]),
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


def build(name: str, settings: Mapping[str, Any]) -> Any:
    """The object `settings` describe by `_target_`; raises ConfigError naming the field under `name`."""
    if "_target_" not in settings:
        raise ConfigError(name, dict(settings), "the settings have no _target_, the class to build")
    module, _, attribute = settings["_target_"].rpartition(".")
    try:
        target = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{name}._target_", settings["_target_"], f"it cannot be imported ({error})") from error
    if isinstance(target, type) and is_dataclass(target):
        check_types(name, target, settings)
    try:
        return instantiate(dict(settings), _convert_="all")
    except InstantiationException as error:
        raise _clear(name, settings, error) from error


def make(name: str, target: type, fields: Mapping[str, Any]) -> Any:
    """A dataclass from fields that are objects already; raises ConfigError naming the field under `name`."""
    check_types(name, target, fields)
    try:
        return target(**fields)
    except ConfigError as error:
        raise under(name, error) from error


def under(name: str, error: ConfigError) -> ConfigError:
    """The same error with the full name of its field."""
    inside = error.field == name or error.field.startswith(f"{name}.")
    return error if inside else ConfigError(f"{name}.{error.field}", error.value, error.remedy)


def _clear(name: str, settings: Mapping[str, Any], error: InstantiationException) -> ConfigError:
    """The ConfigError behind hydra's, or one that says what hydra says in a line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigError):
            return under(name, cause)
        last, cause = cause, cause.__cause__ or cause.__context__
    said = str(last).splitlines()[0] if str(last) else type(last).__name__
    if (place := re.search(r"full_key: (\S+)", str(error))) and isinstance(settings.get(place[1]), Mapping):
        name, settings = f"{name}.{place[1]}", settings[place[1]]
    return ConfigError(name, dict(settings), f"it cannot be built ({said})")


def check_types(name: str, target: type, fields: Mapping[str, Any]) -> None:
    """Raises ConfigError for a text where a dataclass wants a number, and the like; knows plain types only."""
    wanted = typing.get_type_hints(target)
    for field, value in fields.items():
        if field == "_target_" or isinstance(value, Mapping):
            continue
        if field not in inspect.signature(target).parameters:
            raise ConfigError(f"{name}.{field}", value, f"{target.__name__} has no such field")
        if field in wanted and not _fits(value, wanted[field]):
            raise ConfigError(f"{name}.{field}", value, f"give {_spelled(wanted[field])}")


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}


def _alternatives(wanted: Any) -> tuple[Any, ...]:
    return typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)


def _fits(value: Any, wanted: Any) -> bool:
    kinds = _alternatives(wanted)
    if not all(kind in _NAMES for kind in kinds):
        return True  # not a plain type: the class knows best
    return type(value) in kinds or (type(value) is int and float in kinds)


def _spelled(wanted: Any) -> str:
    return " or ".join(_NAMES[kind] for kind in _alternatives(wanted))
