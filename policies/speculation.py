"""Who guesses ahead for an embedded model, by name: "ngram" (contexts seen before), "draft" (a smaller model),
"recycle" (a token's latest successors) and "told" (what comes with the request); see `policies.engine.speculate`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from policies.engine import load
from policies.engine.drafters import Drafter, NGram, Recycle
from policies.engine.load import Model
from policies.engine.shadow import DraftModel, fits
from policies.engine.speculate import Speculation
from policies.engine.told import Told
from search.errors import ConfigError
from search.types import Request

NAMES = ("draft", "ngram", "recycle", "told")
LINES = 16  # rows that a draft model guesses for at once; where more run, its forwards cost more than they save


def names(speculate: str | Sequence[str] | None, draft: str | None) -> tuple[str, ...]:
    """The drafters asked for, in order of priority.

    Raises:
        ConfigError: there is no such drafter, one comes twice, or "draft" comes without a model.
    """
    found = () if speculate is None else (speculate,) if isinstance(speculate, str) else tuple(speculate)
    if unknown := [name for name in found if name not in NAMES]:
        raise ConfigError("speculate", unknown[0], f"give null, one of {', '.join(NAMES)}, or a list of them")
    if len(set(found)) < len(found):
        raise ConfigError("speculate", list(found), "give each drafter once")
    if "draft" in found and draft is None:
        raise ConfigError("draft", draft, "give the folder of the model that guesses, or speculate=ngram")
    return found


def build(
    speculate: str | Sequence[str] | None, draft: str | None, model: Model, tokenizer: Any, threads: int | None
) -> Speculation | None:
    """The drafters of `names`, for `model`; None if there are none.

    Raises:
        ConfigError: as `names`; or the draft model cannot be used.
    """
    ways: dict[str, Callable[[], Drafter]] = {
        "draft": lambda: _draft(str(draft), model, tokenizer),
        "ngram": NGram,
        "recycle": lambda: Recycle(model.vocabulary),
        "told": lambda: Told(model.vocabulary),
    }
    made = [ways[name]() for name in names(speculate, draft)]
    if not made:
        return None
    # one thread on the CPU: its own time, which other processes do not stretch
    alone = model.device == "cpu" and (threads or torch.get_num_threads()) == 1
    return Speculation(made, clock=time.thread_time if alone else time.perf_counter)


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
