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
from policies.engine.native.backbone import Native
from policies.engine.native.lines import NativeLines
from policies.engine.schedule import Row, Scheduler


class Lines(Lean):
    """The forward of `Lean` over keys and values in lines: [layers, lines, context + 1, 2 * heads, width].

    The last column takes the writes of what nobody asked for.
    """

    def __init__(self, model: Model, lines: int, context: int):
        super().__init__(model.whole.base_model)
        self._heads, self._columns, self._head = model.heads, context + 1, model.head
        shape = (model.layers, lines, context + 1, 2 * model.heads, model.width)
        self.data = torch.zeros(shape, dtype=model.dtype, device=model.device)
        self._at = torch.arange(context + 1, device=model.device)
        cos, sin = self._turns(self.data, self._at[None])
        # values are not turned; in the same tables, so that one operation serves queries, keys and values
        turned, still = (1, self._queries + model.heads, 1), (1, model.heads, 1)
        self._cos = torch.cat((cos.repeat(turned), torch.ones_like(cos).repeat(still)), 1)
        self._sin = torch.cat((sin.repeat(turned), torch.zeros_like(sin).repeat(still)), 1)

    def copy(self, source: int, line: int, size: int) -> None:
        """The first `size` tokens of one line into another."""
        self.data[:, line, :size] = self.data[:, source, :size]

    def run(self, lines: np.ndarray, tokens: np.ndarray, positions: np.ndarray, span: int) -> torch.Tensor:
        """Tokens [R, T] at positions [R, T] of `lines` [R]: the last ones' final states [R, H].

        `span` is above all positions but those of the last column.
        """
        new, top = tokens.shape[1], int(lines.max()) + 1
        if new > 2 or top > 2 * len(lines):
            return self._forward(self._tensor(lines), tokens, positions, span)[:, -1]
        if top == len(lines) and (lines[1:] > lines[:-1]).all():
            return self._forward(None, tokens, positions, span)[:, -1]
        # idle lines between them compute what goes to the last column: no gathering
        wide, at = np.zeros((top, new), np.int64), np.full((top, new), self._columns - 1)
        wide[lines], at[lines] = tokens, positions
        return self._forward(None, wide, at, span)[self._tensor(lines), -1]

    def best(self, states: torch.Tensor, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest next tokens [R, K], likeliest first, and their log-probabilities."""
        logits = self._head(states)[:, :vocabulary]
        top = torch.log_softmax(logits.float(), -1).topk(min(KEPT, vocabulary))
        return top.indices.cpu().numpy(), top.values.double().cpu().numpy()

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.data.device)

    def _forward(self, lines: torch.Tensor | None, ids: np.ndarray, places: np.ndarray, span: int) -> torch.Tensor:
        """As `run`, of the first R lines without `lines`; final states [R, T, H]."""
        tokens, positions = self._tensor(ids), self._tensor(places)
        rows, new = tokens.shape
        x = embedding(self._embed, tokens.reshape(-1))
        flat = positions.reshape(-1)
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
        self.model, self._vocabulary = model, min(vocabulary, model.vocabulary)
        self._context = context
        native = isinstance(model.backbone, Native)
        self._lines: Lines | NativeLines = (NativeLines if native else Lines)(model, lines, context)
        self._known = np.full((lines, context), -1, np.int64)  # the tokens of each line
        self._valid = np.zeros(lines, np.int64)  # how many of them have their keys and values
        self._size = np.zeros(lines, np.int64)  # tokens of the row, drawn ones included
        self._line: dict[Row, int] = {}
        self._paths: dict[Row, tuple[int, ...]] = {}  # in this pass: the guesses that a row's line follows

    def begin(self, schedule: Scheduler, rows: Sequence[Row]) -> list[bool]:
        """Rows that run have their line and its prompt computed; those that have ended leave theirs."""
        running = set(rows)
        for row in [row for row in self._line if row not in running]:
            del self._line[row]
        free = set(range(len(self._valid))) - set(self._line.values())
        fresh, known = [], []
        for row in rows:
            i, prompt = row.index, len(row.call.ids)
            if prompt + int(schedule.count[i]) + DEPTH > self._context:
                self._line.pop(row, None)
            elif row in self._line:
                known.append(row)
            elif free:
                ids = np.concatenate((row.call.ids, schedule.tokens[i, : schedule.count[i]]))
                self._line[row] = self._adopt(ids, free)
                fresh.append(self._line[row])
        if known:
            self._write(schedule, known)
        if fresh:
            self._prefill(fresh)
        self._paths.clear()
        return [row in self._line for row in rows]

    def _write(self, schedule: Scheduler, rows: Sequence[Row]) -> None:
        """What `rows` have drawn since the last pass; what was guessed right is computed already (mutates)."""
        lines = np.array([self._line[row] for row in rows])
        prompts = np.array([len(row.call.ids) for row in rows])
        index = np.array([row.index for row in rows])
        begins, ends = self._size[lines], prompts + schedule.count[index]
        columns = begins[:, None] + np.arange(int((ends - begins).max()))
        inside = columns < ends[:, None]
        drawn = schedule.tokens[index[:, None], np.minimum(columns, ends[:, None] - 1) - prompts[:, None]]
        wrong = (self._known[lines[:, None], np.minimum(columns, self._context - 1)] != drawn) & inside
        first = begins + np.where(wrong.any(1), wrong.argmax(1), columns.shape[1])
        self._valid[lines] = np.minimum(self._valid[lines], first)
        at = np.nonzero(inside)
        self._known[lines[at[0]], columns[at]] = drawn[at]
        self._size[lines] = ends

    def _adopt(self, ids: np.ndarray, free: set[int]) -> int:
        """A free line for `ids`, with what any line has in common with it (mutates)."""
        same = (self._known[:, : len(ids)] == ids).cumprod(-1).sum(-1)
        same = np.minimum(same, self._valid)
        source = int(same.argmax())
        line = source if source in free else min(free)
        free.discard(line)
        shared = int(same[source])
        if line != source and shared:
            self._lines.copy(source, line, shared)
        self._known[line, : len(ids)] = ids
        self._valid[line], self._size[line] = shared, len(ids)
        return line

    def _prefill(self, lines: Sequence[int]) -> None:
        """All but the last token of each of `lines`."""
        some = np.array([line for line in lines if self._valid[line] < self._size[line] - 1], np.int64)
        if len(some):
            self._run(some, self._size[some] - 1)

    def _run(self, lines: np.ndarray, ends: np.ndarray) -> Any:
        """Compute what is missing of `lines` before positions `ends`; final states at the last ones."""
        new = int((ends - self._valid[lines]).max())
        # what is known already of a line that lacks less is computed again: padding
        positions = ends[:, None] + np.arange(-new, 0)
        tokens = self._known[lines[:, None], np.maximum(positions, 0)]
        if new > 1:
            positions = np.where(positions < 0, self._context, positions)
        self._valid[lines] = ends
        return self._lines.run(lines, tokens, positions, int(ends.max()))

    def guess(self, contexts: Sequence[Context]) -> Guesses:
        """The model's likeliest next tokens; `contexts` are of one depth, a path being the one asked for before and
        one token more."""
        count, depth, paths = len(contexts), len(contexts[0].path), self._paths
        lines = np.array([self._line[row] for row, _ in contexts])
        ends = self._size[lines] + depth
        if depth and all(paths.get(row) == path[:-1] for row, path in contexts):
            self._known[lines, ends - 1] = [path[-1] for _, path in contexts]
        else:
            self._follow(contexts, lines, ends)
        paths.update(contexts)
        tokens, logprobs = self._lines.best(self._run(lines, ends), self._vocabulary)
        return Guesses(tokens, logprobs, np.zeros(count, np.int64))

    def _follow(self, contexts: Sequence[Context], lines: np.ndarray, ends: np.ndarray) -> None:
        """Put the contexts' paths into their lines; what was computed of others is computed again (mutates)."""
        depth = len(contexts[0].path)
        valid = np.minimum(self._valid[lines], ends - 1)
        if depth:
            at = ends[:, None] + np.arange(-depth, 0)
            found = np.array([path for _, path in contexts], np.int64)
            same = (self._known[lines[:, None], at] == found).cumprod(-1).sum(-1)
            self._known[lines[:, None], at] = found
            valid = np.minimum(valid, ends - depth + same)
        self._valid[lines] = np.minimum(valid, ends - 1)

    def learn(self, before: Sequence[Sequence[int]], tokens: np.ndarray, logprobs: np.ndarray) -> None:
        """It has learnt before."""

    def forget(self) -> None:
        """Lines keep what they know."""
        self._line.clear()


def fits(model: Model) -> bool:
    """Whether the draft model's forward is one that `Lines` computes: no sliding windows."""
    backbone: Any = model.backbone
    return isinstance(backbone, Lean) and not any(layer.window for layer in backbone._layers)
