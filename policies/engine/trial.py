"""Forwards at start-up, before anything is asked: that the engine computes what the model does, and how long it takes.

No architecture is trusted on its name, and no machine on its speed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from policies.engine.attention import NAME, Group, Plan
from policies.engine.kv import KV
from policies.engine.load import Model
from search.errors import ConfigError

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}  # of the largest logit
SIZES = (1, 8, 64)  # tokens in the forwards that are timed
PATIENCE = 0.5  # seconds for timing them


def agree(model: Model, name: str) -> None:
    """Compare the head's output at 12 positions, computed in two parts through the cache, with the model's own.

    Raises:
        ConfigError: they differ, so the model has something the engine does not know (other attention, scaled logits).
    """
    size = min(12, model.context)
    ids = torch.arange(1, size + 1, device=model.device) * 7919 % model.vocabulary
    with torch.inference_mode():
        model.whole.set_attn_implementation("eager")
        try:
            told = model.whole(input_ids=ids[None], use_cache=False)
        finally:
            model.whole.set_attn_implementation(NAME)
        expected = (told.logits[0] if "logits" in told else model.head(told.last_hidden_state[0])).float()
        kv = KV(model.layers, model.heads, model.width, size, model.dtype, model.device)
        found = [_part(model, kv, ids, 0, size // 2), _part(model, kv, ids, size // 2, size)]
    worst = float((torch.cat(found) - expected).abs().max())
    if not worst <= TOLERANCE[model.dtype] * max(1.0, float(expected.abs().max())):
        remedy = f"its output in the embedded engine differs by {worst:.2g} from the model's own; use another back end"
        raise ConfigError("model", name, remedy)


def paces(model: Model, clock: Callable[[], float]) -> list[tuple[int, float]]:
    """How long forwards of some sizes take: (tokens, seconds), the best of three, as far as that is known soon."""
    ids = torch.arange(SIZES[-1], device=model.device) % model.vocabulary
    found: list[tuple[int, float]] = []
    began = clock()
    with torch.inference_mode():
        for size in SIZES:
            if size > model.context or (found and clock() - began > PATIENCE):
                break
            kv = KV(model.layers, model.heads, model.width, size, model.dtype, model.device)
            times = [clock()]
            for _ in range(4):  # the first is cold
                _part(model, kv, ids, 0, size).cpu()
                times.append(clock())
            found.append((size, min(b - a for a, b in zip(times[1:], times[2:], strict=False))))
    return found


def _part(model: Model, kv: KV, ids: torch.Tensor, begin: int, end: int) -> torch.Tensor:
    table = torch.arange(1, end + 1, device=model.device)
    seen = torch.arange(begin, end, device=model.device)
    group = Group(seen - begin, table, seen[None], (1, end - begin, end), 0)
    plan = Plan(kv.data, table[begin:end], [group])
    state = model.backbone(input_ids=ids[None, begin:end], position_ids=seen[None], use_cache=False, plan=plan)
    return model.head(state.last_hidden_state[0]).float()
