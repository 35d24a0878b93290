"""Draws from logits by the kernels: the rule of `policies.engine.sampler`, in one pass over the numbers."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
import torch

from policies.engine.native.build import library


@cache
def _function() -> Any:
    found = library()
    if found is not None:
        address, whole = ctypes.c_void_p, ctypes.c_int64
        function: Any = found.draw
        function.argtypes, function.restype = [address, whole, whole] + [address] * 5, None
        return function
    return None


def draw(
    logits: torch.Tensor, seeds: np.ndarray, positions: np.ndarray, heat: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Tokens int64 [R] and their log-probabilities float64 [R], not finite where a row's logits are not.

    Args:
        logits: float32 [R, V].
        seeds, positions: int64 [R].
        heat: temperatures [R]; 0 takes the likeliest.

    Returns:
        None where there are no kernels, or the logits are not on the CPU.
    """
    if logits.device.type != "cpu" or (function := _function()) is None:
        return None
    logits = logits.contiguous()
    rows, size = logits.shape
    tokens, logprobs = np.empty(rows, np.int64), np.empty(rows)
    whole = [np.ascontiguousarray(numbers, np.int64) for numbers in (seeds, positions)]
    heat = np.ascontiguousarray(heat, np.float32)
    where = [numbers.ctypes.data for numbers in (*whole, heat, tokens, logprobs)]
    function(logits.data_ptr(), rows, size, *where)
    return tokens, logprobs
