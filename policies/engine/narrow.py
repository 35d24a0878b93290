"""The forward of a very small draft model on the CPU, in numpy: its calls cost a fraction of what torch's cost.

At a width of 64 a level of guesses for eight rows is some fifty products and sums of a few thousand numbers; what they
take is calls. The weights are laid out for few of them: norms are folded into the matrices behind them, and a rotated
copy of queries and keys comes out of the same product. Numbers are float32; a guess needs no more.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch

from policies.engine.drafters import KEPT
from policies.engine.lean import Lean
from policies.engine.load import Model

WIDEST = 1 << 15  # numbers in the largest matrix; beyond, torch's operators are worth their calls
AT_ONCE = 1 << 18  # multiplications in one product: up to here OpenBLAS keeps to one thread


class Layer(NamedTuple):
    """Matrices [in, out]: queries, keys, values, then queries and keys rotated; the way back; gate and up; down."""

    qkv: np.ndarray
    bias: np.ndarray
    out: np.ndarray
    out_bias: np.ndarray | None
    gate_up: np.ndarray
    down: np.ndarray


def suits(model: Model) -> bool:
    """Whether the model is small enough, and one whose forward is known here."""
    backbone: Any = model.backbone
    if model.device != "cpu" or not isinstance(backbone, Lean) or any(layer.window for layer in backbone._layers):
        return False
    shapes = [w.shape for layer in backbone._layers for w in (layer.qkv, layer.gate_up)]
    return max(rows * columns for rows, columns in (*shapes, _head(model).weight.shape)) <= WIDEST


def _head(model: Model) -> Any:
    return model.whole.get_output_embeddings()


class Narrow:
    """Keys and values in lines, [layers, lines, 2 * heads, context + 1, width]; see `shadow.Lines`."""

    def __init__(self, model: Model, lines: int, context: int):
        backbone: Any = model.backbone
        self._heads, self._width = model.heads, model.width
        self._queries, self._columns = backbone._queries, context + 1
        self._embed = _numbers(backbone._embed)
        size = self._embed.shape[1]
        self._least, scale = np.float32(size * backbone._eps), math.sqrt(size)  # of a sum of squares, not their mean
        self._layers = [_layer(w, self._queries, model.heads, model.width, scale) for w in backbone._layers]
        head = _head(model)
        self._head = np.ascontiguousarray((_numbers(head.weight) * _numbers(backbone._norm) * scale).T)
        self._head_bias = _numbers(head.bias) if head.bias is not None else None
        self.data = np.zeros((model.layers, lines, 2 * model.heads, context + 1, model.width), np.float32)
        self._at = np.arange(context + 1)
        cos, sin = (table[0].float().numpy() for table in self._angles(backbone, context + 1))
        turned = self._queries + model.heads
        # a value is not turned: it follows the turned numbers as it is
        self._cos, self._sin = (np.tile(table, (1, turned)).astype(np.float32) for table in (cos, sin))

    def _angles(self, backbone: Any, span: int) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            found: tuple[torch.Tensor, torch.Tensor] = backbone._rotary(backbone._embed[:1], torch.arange(span)[None])
            return found

    def copy(self, source: int, line: int, size: int) -> None:
        """The first `size` tokens of one line into another."""
        self.data[:, line, :, :size] = self.data[:, source, :, :size]

    def run(self, lines: np.ndarray, tokens: np.ndarray, positions: np.ndarray, span: int) -> np.ndarray:
        """Tokens [R, T] at positions [R, T] of `lines` [R]: the last ones' states [R, H], normed but for the weight.

        `span` is above all positions but those of the last column.
        """
        (rows, new), heads, width = tokens.shape, self._heads, self._width
        share, turned = self._queries // heads, (self._queries + heads) * width
        flat, size = positions.ravel(), rows * new
        x, cos, sin = self._embed[tokens.ravel()], self._cos[flat], self._sin[flat]
        hidden = np.where(self._at[:span] <= positions[..., None], np.float32(0), np.float32(-1e30))[:, None]
        if new > 1:
            hidden = np.tile(hidden, (1, 1, share, 1))
        neighbours = int(lines[-1]) - int(lines[0]) == rows - 1 and (rows == 1 or bool((np.diff(lines) == 1).all()))
        some: Any = slice(int(lines[0]), int(lines[0]) + rows) if neighbours else lines
        place = lines[:, None]
        for data, w in zip(self.data, self._layers, strict=True):
            parts = _times(self._normed(x), w.qkv)
            parts += w.bias
            parts[:, :turned] *= cos
            parts[:, :turned] += parts[:, turned + heads * width :] * sin
            split = parts[:, : turned + heads * width].reshape(rows, new, -1, width)
            data[place, :, positions] = split[:, :, self._queries :]
            asked = split[:, :, : self._queries].reshape(rows, new, heads, share, width)
            asked = asked.transpose(0, 2, 3, 1, 4).reshape(rows, heads, share * new, width)
            context = data[some, :, :span]
            seen = asked @ context[:, :heads].swapaxes(-1, -2)
            seen += hidden
            seen -= seen.max(-1, keepdims=True)
            np.exp(seen, out=seen)
            mixed = seen @ context[:, heads:]
            mixed /= seen.sum(-1, keepdims=True)
            mixed = mixed.reshape(rows, heads, share, new, width).transpose(0, 3, 1, 2, 4)
            x += _times(mixed.reshape(size, -1), w.out)
            if w.out_bias is not None:
                x += w.out_bias
            both = _times(self._normed(x), w.gate_up)
            gate, up = both[:, : len(w.down)], both[:, len(w.down) :]
            # the gate comes halved: SiLU of it is half (1 + tanh half)
            up *= gate
            np.tanh(gate, out=gate)
            gate += 1
            up *= gate
            x += _times(up, w.down)
        return self._normed(x[new - 1 :: new])

    def _normed(self, x: np.ndarray) -> np.ndarray:
        found: np.ndarray = x / np.sqrt(np.einsum("ij,ij->i", x, x) + self._least)[:, None]
        return found

    def best(self, states: np.ndarray, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest next tokens [R, K], likeliest first, and their log-probabilities but for a constant."""
        logits = _times(states, self._head)
        if self._head_bias is not None:
            logits += self._head_bias
        top = torch.from_numpy(logits[:, :vocabulary]).topk(min(KEPT, vocabulary))
        return top.indices.numpy(), top.values.numpy().astype(np.float64)


def _times(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The product, in parts small enough for one thread."""
    rows = AT_ONCE // w.size
    if len(x) <= rows:
        found: np.ndarray = x @ w
        return found
    out = np.empty((len(x), w.shape[1]), np.float32)
    for at in range(0, len(x), rows):
        np.matmul(x[at : at + rows], w, out=out[at : at + rows])
    return out


def _numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().numpy()


def _layer(w: Any, queries: int, heads: int, width: int, scale: float) -> Layer:
    qkv = (_numbers(w.qkv) * _numbers(w.norm) * scale).T
    bias = np.zeros(qkv.shape[1], np.float32) if w.qkv_bias is None else _numbers(w.qkv_bias).copy()
    for part in (qkv, bias[None]):
        part[:, : queries * width] *= w.scale or 1 / math.sqrt(width)
    # rotating by halves: the second half, negated, comes first
    at = np.arange((queries + heads) * width).reshape(-1, 2, width // 2)[:, ::-1].ravel()
    sign = np.tile(np.repeat(np.array([-1, 1], np.float32), width // 2), queries + heads)
    gate_up = (_numbers(w.gate_up) * _numbers(w.norm2) * scale).T
    gate_up[:, : gate_up.shape[1] // 2] /= 2
    return Layer(
        np.ascontiguousarray(np.concatenate((qkv, qkv[:, at] * sign), 1)),
        np.concatenate((bias, bias[at] * sign)),
        np.ascontiguousarray(_numbers(w.out).T),
        None if w.out_bias is None else _numbers(w.out_bias),
        np.ascontiguousarray(gate_up),
        np.ascontiguousarray(_numbers(w.down).T),
    )
