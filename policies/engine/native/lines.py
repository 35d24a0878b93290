"""A draft model's keys and values in lines, one per row, read by the kernels where they lie."""

from __future__ import annotations

import numpy as np
import torch

from policies.engine.drafters import KEPT
from policies.engine.load import Model
from policies.engine.native.backbone import Native


class NativeLines:
    """What `policies.engine.shadow.Lines` does, by the kernels.

    Attributes:
        data: [layers, lines, context + 1, 2, heads, width]; the last column takes the writes of what nobody asked for.
    """

    def __init__(self, model: Model, lines: int, context: int):
        assert isinstance(model.backbone, Native)
        self._backbone, self._head, self._context = model.backbone, model.head, context
        self.data = torch.zeros(model.layers, lines, context + 1, 2, model.heads, model.width, dtype=model.dtype)
        self._pool = self.data.view(model.layers, lines * (context + 1), 2, model.heads, model.width)
        self._slots = np.arange(lines * (context + 1))

    def copy(self, source: int, line: int, size: int) -> None:
        """The first `size` tokens of one line into another."""
        self.data[:, line, :size] = self.data[:, source, :size]

    def run(self, lines: np.ndarray, tokens: np.ndarray, positions: np.ndarray, span: int) -> torch.Tensor:
        """Tokens [R, T] at positions [R, T] of `lines` [R]: the last ones' final states [R, H].

        `span` is above all positions but those of the last column.
        """
        begins = np.repeat(lines * (self._context + 1), tokens.shape[1])
        flat = positions.ravel()
        wanted = flat < self._context  # in the last column a token sees what lies there, at a position like any other
        contexts = np.empty((len(flat), 2), np.int64)
        contexts[:, 0] = self._slots.ctypes.data + 8 * begins
        contexts[:, 1] = np.where(wanted, flat, 0) + 1
        ids = torch.from_numpy(np.ascontiguousarray(tokens))
        at, write = torch.from_numpy(np.where(wanted, flat, 0)), torch.from_numpy(begins + flat)
        states = self._backbone.compute(ids, at, write, contexts, self._pool)
        return states[tokens.shape[1] - 1 :: tokens.shape[1]]

    def best(self, states: torch.Tensor, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest next tokens [R, K], likeliest first, and their log-probabilities but for a constant."""
        top = self._head(states)[:, :vocabulary].topk(min(KEPT, vocabulary))
        return top.indices.numpy(), top.values.double().numpy()
