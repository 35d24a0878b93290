"""Llama-like backbones and linear heads through the kernels: the numbers of `Lean` up to rounding, in less time.

Beside speed there is one thing that torch's operators do not have: what is computed for a token depends on the token,
its context and its position alone, to the last bit. Other batches, other parts of a prompt, evicted and recomputed
prefixes, guesses and threads change nothing.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from policies.engine.attention import Group, Plan
from policies.engine.growth import Branching
from policies.engine.lean import Lean
from policies.engine.native.build import library

LETTERS = {torch.float32: "f", torch.float64: "d"}
VECTORS = (1, 2, 4, 8, 16)  # in a head's width
MOST = 4 << 30  # bytes of weights that may be held twice: as torch has them, and as the kernels read them


class Kernels:
    """The functions of the library for one type of numbers."""

    def __init__(self, dtype: torch.dtype):
        found = library()
        if found is None:
            raise RuntimeError("there are no kernels")
        self.dtype, letter = dtype, LETTERS[dtype]
        whole, number, address = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
        kinds: dict[str, tuple[list[Any], Any]] = {
            "model": ([whole] * 7 + [number] + [address] * 4, address),
            "layer": ([address] * 9 + [whole, number], None),
            "free": ([address], None),
            "forward": ([address, whole] + [address] * 5 + [whole, whole, address], ctypes.c_bool),
            "matrix": ([address, address, whole, whole], address),
            "unmatrix": ([address], None),
            "multiply": ([address, address, whole, whole, address], None),
            "lanes": ([], whole),
        }
        for name, (arguments, result) in kinds.items():
            function = getattr(found, f"{name}_{letter}")
            function.argtypes, function.restype = arguments, result
            setattr(self, name, function)

    model: Any
    layer: Any
    free: Any
    forward: Any
    matrix: Any
    unmatrix: Any
    multiply: Any
    lanes: Any


def kernels(model: torch.nn.Module) -> Kernels | None:
    """The kernels for a model's numbers; None where they do not suit it, or there are none."""
    parameters = list(model.parameters())
    dtype = parameters[0].dtype
    size = sum(p.numel() * p.element_size() for p in parameters)
    here = all(p.dtype == dtype and p.device.type == "cpu" for p in parameters)
    if not here or dtype not in LETTERS or size > MOST or library() is None:
        return None
    return Kernels(dtype)


def _address(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


class Product:
    """x [N, in] to weight x + bias [N, out], as `torch.nn.functional.linear`, each row for itself."""

    def __init__(self, kernels: Kernels, weight: torch.Tensor, bias: torch.Tensor | None):
        self._kernels, self._size, self._bias = kernels, len(weight), bias  # the kernel reads the bias where it is
        weight = weight.detach().contiguous()
        self._handle = kernels.matrix(_address(weight), _address(bias), *weight.shape)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x, out = x.contiguous(), x.new_empty(len(x), self._size)
        self._kernels.multiply(self._handle, _address(x), len(x), torch.get_num_threads(), _address(out))
        return out

    def __del__(self) -> None:
        if handle := getattr(self, "_handle", None):
            self._kernels.unmatrix(handle)


def suits(lean: Lean, kernels: Kernels) -> bool:
    """Whether the kernels compute what `lean` does: shapes in whole vectors, positions from a table."""
    lanes, layers = kernels.lanes(), lean._layers
    sizes = (lean._width, lean._embed.shape[1], *(w.down.shape[1] for w in layers))
    whole = all(size % lanes == 0 for size in sizes) and lean._width // lanes in VECTORS
    return whole and lean._table is not None and len({w.down.shape[1] for w in layers}) == 1


class Native(Lean):
    """Stands in for a backbone, as `Lean` does, whose weights it shares; with as many threads as torch's operators."""

    def __init__(self, lean: Lean, kernels: Kernels):
        self.__dict__.update(lean.__dict__)
        assert lean._table is not None
        self._kernels = kernels
        self._size = self._embed.shape[1]
        self._shared = self._layers[0].qkv.shape[0] // self._width - self._queries >> 1
        cos, sin = self._kept = tuple(table.reshape(len(table), -1).contiguous() for table in lean._table)
        sizes = (self._size, self._queries, self._shared, self._width, self._layers[0].down.shape[1])
        pointers = map(_address, (self._embed, self._norm, cos, sin))
        self._handle = kernels.model(*sizes, len(self._embed), len(cos), self._eps, *pointers)
        for w in self._layers:
            weights = (w.norm, w.norm2, w.qkv, w.qkv_bias, w.out, w.out_bias, w.gate_up, w.down)
            kernels.layer(self._handle, *map(_address, weights), w.window, w.scale)

    def __del__(self) -> None:
        if handle := self.__dict__.get("_handle"):
            self._kernels.free(handle)

    def __call__(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, use_cache: bool, plan: Plan
    ) -> SimpleNamespace:
        """As the backbone."""
        contexts, kept = _contexts(plan.groups, input_ids.shape[1])
        hidden = self.compute(input_ids.contiguous(), position_ids.contiguous(), plan.write, contexts, plan.pool)
        del kept  # until here, for the kernel reads it
        return SimpleNamespace(last_hidden_state=hidden[None])

    def compute(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        write: torch.Tensor,
        contexts: np.ndarray,
        pool: torch.Tensor,
    ) -> torch.Tensor:
        """Final states [N, H] of N packed tokens.

        Args:
            ids, positions, write: int64, N numbers each; `write` are the slots of the tokens' keys and values.
            contexts: int64 [N, 2], where in memory the slots lie that a token sees, and how many.
            pool: [layers, slots, ...], a slot being keys, then values, by head.

        Raises:
            IndexError: an id, a position or a slot is none that there is.
        """
        hidden = torch.empty(len(contexts), self._size, dtype=self._kernels.dtype)
        numbers = (*map(_address, (ids, positions, write)), contexts.ctypes.data, _address(pool), pool.shape[1])
        if not self._kernels.forward(self._handle, len(contexts), *numbers, torch.get_num_threads(), _address(hidden)):
            raise IndexError(
                f"ids up to {int(ids.max())}, positions up to {int(positions.max())}: more than the model has"
            )
        return hidden


def _contexts(groups: list[Group], count: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """What each of the packed tokens sees, int64 [N, 2]: where its slots lie, in the order of their positions, and how
    many there are; and what must be kept as long as these addresses are used."""
    contexts, kept = np.empty((count, 2), np.int64), []
    for group in groups:
        rows, new, span = group.shape
        tokens, table = group.tokens.numpy(), group.table.numpy()
        if isinstance(group, Branching):
            visible = ~group.hidden.numpy()
            table = np.broadcast_to(table.reshape(rows, 1, span), visible.shape)[visible]
            sizes = visible.sum(-1).ravel()
            begins = np.cumsum(sizes) - sizes
        else:
            sizes = group.seen.numpy().ravel() + 1
            begins = np.repeat(np.arange(0, rows * span, span), new)
        contexts[tokens, 0] = table.ctypes.data + 8 * begins
        contexts[tokens, 1] = sizes
        kept.append(table)
    return contexts, kept
