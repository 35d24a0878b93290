"""A draft: for each running row a small tree of guessed tokens, and how it is laid out for one forward.

Node 0 of a row is its last drawn token, which is computed in any case; the others are guesses, parents first. A row
without guesses is a tree of one node, so one forward serves both.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from policies.engine.attention import Group
from policies.engine.sampler import Sampled
from policies.engine.schedule import Row, Scheduler

DEPTH = 12  # guesses after one another, at most
BLOCK = 64  # rows that attend together


def tail(schedule: Scheduler, row: Row, size: int) -> tuple[int, ...]:
    """The last `size` tokens of a row's sequence, drawn ones included; fewer if it has fewer."""
    i, ids, count = row.index, row.call.ids, int(schedule.count[row.index])
    drawn = tuple(schedule.tokens[i, max(count - size, 0) : count].tolist())
    return drawn if len(drawn) == size else ids[max(len(ids) - size + len(drawn), 0) :] + drawn


@dataclass(slots=True)
class Branching(Group):
    """A group whose new tokens are trees: besides the context before it, a token sees its ancestors and itself.

    Attributes:
        hidden: bool [R, T, S], what a token may not see, sliding windows left out.
        place: int64 [R, S], position of each column of the table; `seen` holds those of the tokens.
    """

    hidden: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    place: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    def mask(self, window: int, share: int, dtype: torch.dtype) -> torch.Tensor:
        """As in a plain group."""
        if (window, share) not in self.masks:
            hidden = self.hidden
            if window:
                hidden = hidden | (self.place[:, None] <= self.seen[..., None] - window)
            mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)
            self.masks[window, share] = mask[:, None] if self.shape[1] == 1 else mask[:, None].repeat(1, 1, share, 1)
        return self.masks[window, share]


@dataclass(slots=True)
class Twig:
    """The guesses for one row; lists of equal length, node 0 (the row's last token) included.

    Attributes:
        tokens: node 0's is not used.
        parents: index of each node's parent; -1 for node 0.
        depths: 0 for node 0.
        tags: what the drafter wants to hear back about each guess; see `speculate`.
    """

    tokens: list[int] = field(default_factory=lambda: [-1])
    parents: list[int] = field(default_factory=lambda: [-1])
    depths: list[int] = field(default_factory=lambda: [0])
    tags: list[int] = field(default_factory=lambda: [-1])

    def add(self, token: int, parent: int, tag: int) -> int:
        """A guess that `token` follows node `parent`; returns its index."""
        self.tokens.append(token)
        self.parents.append(parent)
        self.depths.append(self.depths[parent] + 1)
        self.tags.append(tag)
        return len(self.tokens) - 1

    @property
    def chain(self) -> bool:
        """Whether each node follows the one before it."""
        return all(parent == i - 1 for i, parent in enumerate(self.parents))

    def walk(self, drawn: list[int]) -> list[int]:
        """The nodes whose tokens the target itself draws, node 0 first; `drawn[i]` is its token after node i."""
        path, children = [0], {(p, t): i for i, (p, t) in enumerate(zip(self.parents, self.tokens, strict=True)) if i}
        while (child := children.get((path[-1], drawn[path[-1]]))) is not None:
            path.append(child)
        return path


@dataclass(slots=True)
class Draft:
    """The trees of all running rows, in their order, and where they lie while they are computed.

    Attributes:
        lines: int64 [N], the scheduler's line of each node; `ahead`: its depth.
        starts: where each row's nodes begin in the packed row, and the end.
        slots: of the nodes; the rejected ones are given back by `settle`.
    """

    rows: list[Row]
    twigs: list[Twig]
    lines: np.ndarray = field(init=False)
    ahead: np.ndarray = field(init=False)
    starts: np.ndarray = field(init=False)
    slots: np.ndarray = field(init=False)

    def lay(
        self,
        schedule: Scheduler,
        ids: list[np.ndarray],
        positions: list[np.ndarray],
        write: list[np.ndarray],
        groups: list[Group],
    ) -> int:
        """Lend slots and add the nodes to a forward that is being planned; returns how many there are (mutates)."""
        rows, last, roots = schedule.feed()
        sizes = np.array([len(twig.tokens) for twig in self.twigs])
        self.starts = np.concatenate(([0], np.cumsum(sizes)))
        total = int(self.starts[-1])
        tokens = np.fromiter((t for twig in self.twigs for t in twig.tokens), np.int64, total)
        self.ahead = np.fromiter((d for twig in self.twigs for d in twig.depths), np.int64, total)
        self.lines = np.repeat(rows, sizes)
        tokens[self.starts[:-1]] = last
        root = np.zeros(total, bool)
        root[self.starts[:-1]] = True
        self.slots = np.empty(total, np.int64)
        self.slots[root] = roots
        self.slots[~root] = schedule.kv.take(total - len(rows))
        schedule.kv.ready[self.slots] = True
        base = schedule.length[rows] - 1  # position of node 0
        ids.append(tokens)
        positions.append(schedule.length[self.lines] - 1 + self.ahead)
        write.append(self.slots)
        for begin in range(0, len(rows), BLOCK):
            groups.append(self._group(schedule, rows, base, begin, min(begin + BLOCK, len(rows))))
        return total

    def _group(self, schedule: Scheduler, rows: np.ndarray, base: np.ndarray, begin: int, end: int) -> Group:
        starts, device = self.starts, schedule.kv.data.device
        some, sizes = base[begin:end], np.diff(starts[begin : end + 1])
        new, span = int(sizes.max()), int((some + sizes).max())
        first = int(some.max())
        table = np.zeros((end - begin, span), np.int64)
        table[:, :first] = schedule.table[rows[begin:end], :first]
        step = np.minimum(np.arange(new), sizes[:, None] - 1)  # padding repeats the row's last node
        where = starts[begin:end, None] + step
        columns = some[:, None] + np.arange(new)
        inside = np.arange(new) < sizes[:, None]
        table[np.nonzero(inside)[0], columns[inside]] = self.slots[where[inside]]
        seen = some[:, None] + self.ahead[where]
        plain = int(starts[begin]) if (sizes == new).all() else -1
        numbers = (where.ravel(), table.ravel(), seen)
        shape = (end - begin, new, span)
        twigs = self.twigs[begin:end]
        packed, context, places = (torch.from_numpy(np.ascontiguousarray(n)).to(device) for n in numbers)
        if all(twig.chain for twig in twigs):
            return Group(packed, context, places, shape, plain)
        hidden = np.arange(span) >= some[:, None]
        hidden = np.repeat(hidden[:, None], new, 1)
        place = np.repeat(np.arange(span)[None], end - begin, 0)
        for r, twig in enumerate(twigs):
            size, at = len(twig.tokens), int(some[r])
            blind = np.ones((size, size), bool)
            for i, parent in enumerate(twig.parents):
                if parent >= 0:
                    blind[i] = blind[parent]
                blind[i, i] = False
            hidden[r, :, at : at + size] = blind[step[r]]
            place[r, at : at + size] = at + np.array(twig.depths)
        blinds, at_ = torch.from_numpy(hidden).to(device), torch.from_numpy(place).to(device)
        return Branching(packed, context, places, shape, plain, {}, blinds, at_)

    def settle(self, schedule: Scheduler, sampled: Sampled) -> list[list[int]]:
        """Keep what the target draws itself, `sampled` being its draw after each node; returns each row's path.

        Tokens and log-probabilities of the path enter the scheduler's tables, its slots the slot table; the other
        slots are given back (mutates).
        """
        drawn, paths = sampled.tokens.tolist(), []
        keep = np.zeros(len(self.slots), bool)
        for r, (row, twig) in enumerate(zip(self.rows, self.twigs, strict=True)):
            at, i = int(self.starts[r]), row.index
            path = twig.walk(drawn[at : at + len(twig.tokens)])
            nodes = at + np.array(path)
            keep[nodes] = True
            count, length, more = int(schedule.count[i]), int(schedule.length[i]), len(path) - 1
            schedule.tokens[i, count : count + more + 1] = sampled.tokens[nodes]
            schedule.logprobs[i, count : count + more + 1] = sampled.logprobs[nodes]
            schedule.table[i, length : length + more] = self.slots[nodes[1:]]
            schedule.count[i] += more + 1
            schedule.length[i] += more
            schedule.promised -= more
            paths.append(path)
        schedule.kv.give(self.slots[~keep])
        return paths
