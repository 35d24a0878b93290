"""A draft model that guesses for running rows, with a small cache of its own: one line of keys and values per row.

It runs many tiny forwards, so what counts is the number of operations: lines lie side by side in one tensor that the
attention reads without gathering, and a pass computes one token per line, idle lines included. What a row has in
common with any line, running or past, is copied from there and not computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import embedding
from torch.nn.functional import linear, scaled_dot_product_attention, silu

from policies.engine.drafters import KEPT, Context, Guesses
from policies.engine.growth import DEPTH
from policies.engine.lean import Lean, _normed
from policies.engine.load import Model
from policies.engine.schedule import Row, Scheduler


class Lines(Lean):
    """The forward of `Lean` over keys and values in lines: [layers, lines, context + 1, 2 * heads, width].

    The last column takes the writes of what nobody asked for.
    """

    def __init__(self, model: Model, lines: int, context: int):
        super().__init__(model.whole.base_model)
        self._heads, self._columns = model.heads, context + 1
        shape = (model.layers, lines, context + 1, 2 * model.heads, model.width)
        self.data = torch.zeros(shape, dtype=model.dtype, device=model.device)
        self._at = torch.arange(context + 1, device=model.device)
        cos, sin = self._turns(self.data, self._at[None])
        # values are not turned; in the same tables, so that one operation serves queries, keys and values
        turned, still = (1, self._queries + model.heads, 1), (1, model.heads, 1)
        self._cos = torch.cat((cos.repeat(turned), torch.ones_like(cos).repeat(still)), 1)
        self._sin = torch.cat((sin.repeat(turned), torch.zeros_like(sin).repeat(still)), 1)

    def run(self, lines: torch.Tensor | None, tokens: torch.Tensor, positions: torch.Tensor, span: int) -> torch.Tensor:
        """Tokens [R, T] at positions [R, T] of `lines` [R] (None: the first R): final hidden states [R, T, H].

        `span` is above all positions but those of the last column.
        """
        rows, new = tokens.shape
        x = embedding(self._embed, tokens.view(-1))
        flat = positions.view(-1)
        cos, sin = self._cos[flat], self._sin[flat]
        half, queries, width, heads = self._width // 2, self._queries, self._width, self._heads
        share = queries // heads
        mask = (self._at[:span] <= positions[..., None])[:, None]
        if new > 1:
            mask = mask.repeat(1, 1, share, 1)
        which = self._at[:rows] if lines is None else lines
        slots = (which[:, None] * self._columns + positions).view(-1)
        for i, w in enumerate(self._layers):
            parts = linear(_normed(x, w.norm, self._eps), w.qkv, w.qkv_bias).view(len(x), -1, width)
            parts = torch.addcmul(parts * cos, torch.roll(parts, half, -1), sin)
            data = self.data[i]
            data.view(-1, 2 * heads, width).index_copy_(0, slots, parts[:, queries:])
            asked = parts[:, :queries].reshape(rows, new, heads, share, width)
            asked = asked[:, 0] if new == 1 else asked.permute(0, 2, 3, 1, 4).reshape(rows, heads, share * new, width)
            context = (data[:rows, :span] if lines is None else data[:, :span][lines]).transpose(1, 2)
            seen = scaled_dot_product_attention(
                asked, context[:, :heads], context[:, heads:], attn_mask=mask, scale=w.scale
            )
            if new > 1:
                seen = seen.view(rows, heads, share, new, width).permute(0, 3, 1, 2, 4)
            x = x + linear(seen.reshape(len(x), -1), w.out, w.out_bias)
            gate, up = linear(_normed(x, w.norm2, self._eps), w.gate_up).chunk(2, -1)
            x = torch.addmm(x, silu(gate) * up, w.down.T)
        return _normed(x, self._norm, self._eps).view(rows, new, -1)


class DraftModel:
    """Guesses of a smaller model with the same vocabulary; it follows one path per row.

    Args:
        model: loaded with the lean forward.
        lines: rows it guesses for at once; others get no guess from it.
        context: tokens in a line; longer rows get no guess.
        vocabulary: of the target; ids beyond are never guessed.
    """

    name: str = "draft"
    kinds = 1
    wide = False
    learns: Literal["none", "path", "all"] = "none"

    def __init__(self, model: Model, lines: int, context: int, vocabulary: int):
        self._head, self._device, self._vocabulary = model.head, model.device, min(vocabulary, model.vocabulary)
        self._context, self._lines = context, Lines(model, lines, context)
        self._known = np.full((lines, context), -1, np.int64)  # the tokens of each line
        self._valid = np.zeros(lines, np.int64)  # how many of them have their keys and values
        self._size = np.zeros(lines, np.int64)  # tokens of the row, drawn ones included
        self._line: dict[Row, int] = {}

    def begin(self, schedule: Scheduler, rows: Sequence[Row]) -> list[bool]:
        """Rows that run have their line and its prompt computed; those that have ended leave theirs."""
        running = set(rows)
        for row in [row for row in self._line if row not in running]:
            del self._line[row]
        free = set(range(len(self._valid))) - set(self._line.values())
        fresh = []
        for row in rows:
            i, prompt = row.index, len(row.call.ids)
            count = int(schedule.count[i])
            size = prompt + count
            line = self._line.get(row)
            if line is not None:
                if size + DEPTH > self._context:
                    del self._line[row]
                    continue
                begin = int(self._size[line])
                self._write(line, begin, schedule.tokens[i, begin - prompt : count])
            elif free and size + DEPTH <= self._context:
                ids = np.concatenate((row.call.ids, schedule.tokens[i, :count]))
                fresh.append((row, ids))
                self._line[row] = self._adopt(ids, free)
        if fresh:
            self._prefill([self._line[row] for row, _ in fresh])
        return [row in self._line for row in rows]

    def _write(self, line: int, begin: int, tokens: np.ndarray) -> None:
        end = begin + len(tokens)
        wrong = np.flatnonzero(self._known[line, begin:end] != tokens)
        if len(wrong):
            self._known[line, begin:end] = tokens
            self._valid[line] = min(self._valid[line], begin + int(wrong[0]))
        self._size[line] = end

    def _adopt(self, ids: np.ndarray, free: set[int]) -> int:
        """A free line for `ids`, with what any line has in common with it (mutates)."""
        same = (self._known[:, : len(ids)] == ids).cumprod(-1).sum(-1)
        same = np.minimum(same, self._valid)
        source = int(same.argmax())
        line = source if source in free else min(free)
        free.discard(line)
        shared = int(same[source])
        if line != source and shared:
            self._lines.data[:, line, :shared] = self._lines.data[:, source, :shared]
        self._known[line, : len(ids)] = ids
        self._valid[line], self._size[line] = shared, len(ids)
        return line

    def _prefill(self, lines: Sequence[int]) -> None:
        """All but the last token of each of `lines`."""
        some = np.array([line for line in lines if self._valid[line] < self._size[line] - 1], np.int64)
        if len(some):
            self._run(some, self._size[some] - 1)

    def _run(self, lines: np.ndarray, ends: np.ndarray) -> torch.Tensor:
        """Compute what is missing of `lines` before positions `ends`; final states at the last ones [R, H]."""
        new = int((ends - self._valid[lines]).max())
        # what is known already of a line that lacks less is computed again: padding
        positions = ends[:, None] + np.arange(-new, 0)
        tokens = self._known[lines[:, None], np.maximum(positions, 0)]
        if new > 1:
            positions = np.where(positions < 0, self._context, positions)
        span, top = int(ends.max()), int(lines.max()) + 1
        self._valid[lines] = ends
        if new > 2 or top > 2 * len(lines):
            return self._lines.run(self._tensor(lines), self._tensor(tokens), self._tensor(positions), span)[:, -1]
        if top == len(lines) and (lines[1:] > lines[:-1]).all():
            return self._lines.run(None, self._tensor(tokens), self._tensor(positions), span)[:, -1]
        # idle lines between them compute what goes to the last column: no gathering
        wide, at = np.zeros((top, new), np.int64), np.full((top, new), self._context)
        wide[lines], at[lines] = tokens, positions
        return self._lines.run(None, self._tensor(wide), self._tensor(at), span)[self._tensor(lines), -1]

    def guess(self, contexts: Sequence[Context]) -> Guesses:
        """The model's likeliest next tokens; `contexts` are of one depth, a path being the one asked for before and
        one token more."""
        count, depth = len(contexts), len(contexts[0].path)
        lines = np.fromiter((self._line[row] for row, _ in contexts), np.int64, count)
        ends = self._size[lines] + depth
        valid = np.minimum(self._valid[lines], ends - 1)
        if depth:
            at = ends[:, None] + np.arange(-depth, 0)
            paths = np.array([path for _, path in contexts], np.int64)
            same = (self._known[lines[:, None], at] == paths).cumprod(-1).sum(-1)
            self._known[lines[:, None], at] = paths
            valid = np.minimum(valid, ends - depth + same)
        self._valid[lines] = valid
        logits = self._head(self._run(lines, ends))[:, : self._vocabulary]
        top = torch.log_softmax(logits.float(), -1).topk(min(KEPT, self._vocabulary))
        return Guesses(top.indices.cpu().numpy(), top.values.double().cpu().numpy(), np.zeros(count, np.int64))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)

    def learn(self, before: Sequence[Sequence[int]], tokens: np.ndarray, logprobs: np.ndarray) -> None:
        """It has learnt before."""

    def forget(self) -> None:
        """Lines keep what they know."""
        self._line.clear()


def fits(model: Model) -> bool:
    """Whether the draft model's forward is one that `Lines` computes: no sliding windows."""
    backbone: Any = model.backbone
    return isinstance(backbone, Lean) and not any(layer.window for layer in backbone._layers)
