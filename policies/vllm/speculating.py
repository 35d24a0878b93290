"""Speculation in vLLM: its settings by name, and what makes sure that no guess changes what is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policies.vllm.host import EXTENSION, Host
from search.errors import ConfigError

STORE = "policies.vllm.store.SearchStore"
NAMES: Mapping[str, Mapping[str, Any]] = {
    "search": {"method": "custom_class", "model": STORE},
    "ngram": {"method": "ngram", "prompt_lookup_min": 2, "prompt_lookup_max": 5},
    "suffix": {"method": "suffix"},
}
LOSSY = {"rejection_sample_method": ("synthetic",)}  # settings under which answers are those of the guesses


def check(speculate: str | Mapping[str, Any] | None) -> None:
    """Raises ConfigError for a name there is not, and for a setting that changes what is drawn."""
    if speculate is None:
        return
    if isinstance(speculate, str):
        if speculate not in NAMES:
            raise ConfigError("speculate", speculate, f"give {', '.join(NAMES)}, vLLM's speculative_config, or null")
        return
    if "method" not in speculate and "model" not in speculate:
        raise ConfigError("speculate", dict(speculate), "vLLM's speculative_config has a method or a model")
    for name, values in LOSSY.items():
        if speculate.get(name) in values:
            raise ConfigError(f"speculate.{name}", speculate[name], "it changes what is drawn: leave it out")


def config(speculate: str | Mapping[str, Any] | None, ahead: int) -> dict[str, Any] | None:
    """vLLM's `speculative_config`; None without speculation."""
    if speculate is None:
        return None
    if isinstance(speculate, str):
        return {**NAMES[speculate], "num_speculative_tokens": ahead}
    return dict(speculate)


def arguments(speculation: Mapping[str, Any]) -> dict[str, Any]:
    """Engine arguments for it."""
    return {
        "speculative_config": dict(speculation),
        "worker_extension_cls": EXTENSION,
        "per_request_spec_decode_metrics": "summary",
    }


async def made_sure(host: Host) -> str:
    """What was found out, in a sentence; raises ConfigError if guesses would change what is drawn."""
    if all(await host.told("treewise_expands")):
        return "speculation changes no distribution"
    if all(await host.told("treewise_repair")):
        return "speculation would change what is drawn above temperature 0 (expand_batch_to_tokens); repaired"
    remedy = "this build of vLLM draws from other distributions when it guesses, and could not be repaired: give null"
    raise ConfigError("speculate", True, remedy)
