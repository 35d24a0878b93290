"""Linear layers whose weights are also held in the layout that oneDNN multiplies fastest.

On CPUs where torch's own matrix product does not use the widest instructions (MKL on AMD), products of float32 with 16
rows and more take half the time this way, with few rows more; so the number of rows decides. Measured on an AMD EPYC
with 128 x 384 weights: 64 rows 0.55, 256 rows 0.47, 8 rows 1.2 times the time. Numbers agree up to rounding.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.nn.functional import linear

FEW = 16  # rows below which a call of oneDNN costs more than it saves
MOST = 256 << 20  # bytes of weights that may be held twice


def pays(model: torch.nn.Module) -> bool:
    """Whether a model's weights are to be packed: float32 on the CPU, and not so many that memory becomes scarce."""
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    float32 = all(p.dtype == torch.float32 and p.device.type == "cpu" for p in model.parameters())
    return float32 and size <= MOST and torch.backends.mkldnn.is_available() and _operators()


@cache
def _operators() -> bool:
    """Whether this build of torch has the operators; its compiler uses them, they are not part of its interface."""
    if not (hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")):
        return False
    try:
        Matrix(torch.ones(8, 8), None, packed=True)(torch.ones(FEW, 8))
    except (RuntimeError, NotImplementedError):  # built without oneDNN for this processor
        return False
    return True


class Matrix:
    """x [N, in] to weight x + bias [N, out], as `torch.nn.functional.linear`."""

    __slots__ = ("_bias", "_multiply", "_packed", "_weight")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, packed: bool):
        self._weight, self._bias, self._packed = weight, bias, None
        self._multiply: Any = None
        if packed:
            with torch.no_grad():
                self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), 4 * FEW)
            self._multiply = torch.ops.mkldnn._linear_pointwise.default

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._packed is None or x.shape[0] < FEW:
            return linear(x, self._weight, self._bias)
        return self._multiply(x, self._packed, self._bias, "none", [], "")
