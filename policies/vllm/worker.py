"""What runs inside vLLM's processes: their end with ours, a loader that leaves heads out, a check of its sampler.

vLLM imports `Extension` there, by its engine argument `worker_extension_cls`, before it loads weights. A process that
vLLM started does not notice that its parent was killed; from here on these do.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Generator
from typing import Any

import torch
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.v1.sample import rejection_sampler

BACKBONE = "treewise_backbone"  # the load format of `Backbone`


@register_model_loader(BACKBONE)
class Backbone(DefaultModelLoader):
    """Loads a language model without some of the folder's weights: heads that vLLM's class for it does not know.

    `model_loader_extra_config`: {"without": [beginnings of names]}.
    """

    def __init__(self, load_config: Any):
        settings = dict(load_config.model_loader_extra_config)
        self._without = tuple(settings.pop("without"))
        load_config.model_loader_extra_config, load_config.load_format = settings, "auto"
        super().__init__(load_config)

    def get_all_weights(self, model_config: Any, model: Any) -> Generator[tuple[str, torch.Tensor], None, None]:
        """Those that are wanted."""
        for name, weight in super().get_all_weights(model_config, model):
            if not name.startswith(self._without):
                yield name, weight


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if (_parent := multiprocessing.parent_process()) is not None and _parent.pid is not None:
    threading.Thread(target=_end_with, args=(_parent.pid,), name="treewise-parent", daemon=True).start()


class Extension:
    """Methods of vLLM's workers, called from the engine's owner by `collective_rpc`."""

    def treewise_expands(self) -> bool:
        """Whether temperature, top-k and top-p reach the tokens that guesses are checked with.

        In the CPU build of 0.32 they do not: `expand_batch_to_tokens` gives memory that nobody wrote to for anything
        but 64-bit integers, so that guesses are checked against another distribution than the one asked for.
        """
        return all(_expands(values) for values in _SAMPLES)

    def treewise_repair(self) -> bool:
        """Puts plain torch in its place; whether it is right now."""
        rejection_sampler.expand_batch_to_tokens = _expand
        return all(_expands(values) for values in _SAMPLES)


_SAMPLES = (
    torch.tensor([0.9, 0.5, 1.3]),
    torch.tensor([0.25, 1.0, 0.75], dtype=torch.float32),
    torch.tensor([5, 40, 7], dtype=torch.int32),
)


def _expands(values: torch.Tensor) -> bool:
    counts = torch.tensor([2, 3, 1])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    values, ends = values.to(device), counts.cumsum(0).to(device=device, dtype=torch.int32)
    found = rejection_sampler.expand_batch_to_tokens(values, ends, 6)
    return torch.equal(found, values.repeat_interleave(counts.to(device)))


def _expand(
    x: torch.Tensor, cu_num_tokens: torch.Tensor, num_tokens: int, replace_from: int = 0, replace_to: int = 0
) -> torch.Tensor:
    counts = torch.diff(cu_num_tokens, prepend=cu_num_tokens.new_zeros(1)).long()
    values = torch.where(x == replace_from, torch.full_like(x, replace_to), x)
    return values.repeat_interleave(counts, output_size=num_tokens)
