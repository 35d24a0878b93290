"""What users type: texts made safe for hydra's grammar, hydra's errors made one sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

CONF = Path(__file__).resolve().parent.parent / "conf"
TEXTS = ("question", "out", "data", "task.path", "labels")  # taken as they stand, whatever signs they hold


def quoted(arguments: Sequence[str]) -> list[str]:
    """The arguments with free texts quoted, so that brackets, commas and "=" in them mean nothing to hydra."""
    result = []
    # settings may stand on both sides of -m; hydra wants it first
    for argument in sorted(arguments, key=lambda each: each not in ("-m", "--multirun")):
        name, equals, value = argument.partition("=")
        plain = equals and name in TEXTS and value not in ("", "null") and value[0] not in "'\""
        if plain and name == "question":
            value = value.replace("${", "\\${")  # LaTeX, not an interpolation
        result.append(f"{name}={QuotedString(value, Quote.single).with_quotes()}" if plain else argument)
    return result


def unknown_flags(arguments: Sequence[str]) -> list[str]:
    """Arguments with a dash that hydra does not know; left to itself it would print its usage."""
    _, others = get_args_parser().parse_known_args([a for a in arguments if a.startswith("-")])
    return list(others)


def explained(error: Exception, arguments: Sequence[str], config: str = "config") -> str:
    """One sentence naming the setting, its value and the remedy."""
    said = str(error)
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} cannot be read as name=value: {said.splitlines()[0]}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        names = ", ".join(error.options) if error.options else "nothing"
        return f"{group}={choice!r} is not valid: choose from {names}"
    if isinstance(error, ConfigCompositionException):
        if found := re.search(r"Could not override '([^']+)'", said):
            return _unknown(found[1], arguments, config)
        if found := re.search(r"Ambiguous value for argument '([^=]+)=(.*)'", said):
            name, value = found.groups()
            return (
                f"{name}={value!r} is not valid: write {name}=[{value}] for a list in one run, "
                f"\"{name}='{value}'\" for a text, or add -m for one run with each"
            )
    if isinstance(error, OmegaConfBaseException):
        where = getattr(error, "full_key", None) or "the configuration"
        return f"{where} is not valid: {said.splitlines()[0]}"
    return " ".join(said.split())


def _unknown(name: str, arguments: Sequence[str], config: str) -> str:
    """What to say about an option that does not exist: those that do, beside it."""
    above, _, last = name.rpartition(".")
    value = next((a.partition("=")[2] for a in arguments if a.partition("=")[0].lstrip("+~") == name), "")
    whole = _groups(arguments, config)
    known = OmegaConf.select(whole, above) if above else whole
    if isinstance(known, DictConfig) and last in known:
        return f"{name}={value!r} is not valid: it does not fit here; give fields one by one, as {name}.FIELD=VALUE"
    if isinstance(known, DictConfig):
        names = ", ".join(sorted(str(key) for key in known if not str(key).startswith("_")))
        remedy = f"choose from {names}" if names else f"{above} has no options"
    else:
        remedy = f"{above} has no options"
    return f"{name}={value!r} is not valid: there is no option {last!r} here, {remedy}"


def _groups(arguments: Sequence[str], config: str) -> DictConfig:
    """The configuration with only the group choices of `arguments`: what their fields could have been."""
    choices = [a for a in arguments if re.fullmatch(r"[\w/]+=[\w/]+", a)]
    groups = [a for a in choices if (CONF / a.partition("=")[0]).is_dir()]
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return compose(config, overrides=groups)
