"""One object from its settings: the one place where `_target_` becomes a class.

Settings come in as a plain dict, and plain values go into the constructors: nothing behind this file knows OmegaConf.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from search.errors import ConfigError


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
