"""Speculation that changes no result: guess what each row will draw, compute the target for all guesses at once, keep
the guesses that are what the target itself draws.

The sampler's noise is a function of (seed, position, token), so the target's draw at any position is known as soon as
its logits are: a guess is right when it equals that draw, and what is kept is by construction what would have been
drawn without guesses (Daliri, Musco and Suresh 2024, "Coupling without Communication and Drafter-Invariant
Speculative Decoding"). Guesses decide how many forwards are needed, and nothing else. Rounding is the one
reservation, where the kernels do not compute: a forward of another shape makes the last bits of logits differ, as any
other batch does (see `sampler`).

Trees grow level by level, a guess being added while what it may bring is worth what it costs to compute (DySpec: Xiong
et al. 2024; OPT-Tree: Wang et al. 2024; their greedy growth with a threshold, in batches), or have a fixed shape. All
rows that draft share each forward of the one draft model, so the drafts of several branches of a search are interleaved
by level (SEED: Wang et al. 2024, "SEED: Accelerating Reasoning Tree Construction via Scheduled Speculative Decoding",
which lets branches take turns, first come, first served; here no branch waits for another). How likely a guess is right
is read from how guesses of its sort fared: by drafter, by what the drafter knows there, and by how far the first
candidate leads the second once the draw's noise is added.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from policies.engine.drafters import KEPT, Context, Drafter, coupled
from policies.engine.governor import Governor
from policies.engine.growth import DEPTH, Draft, Twig, tail
from policies.engine.sampler import Sampled
from policies.engine.schedule import Row, Scheduler
from policies.engine.shape import Shape

LEADS = np.array([0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0])  # nats; bounds of the classes of leads
SURE = 0.6  # a guess this likely is not asked of the next drafter


# row, node, guesses that lead there, chance to get there, node of a fixed shape
Place = tuple[int, int, tuple[int, ...], float, int]


@dataclass(slots=True)
class Counters:
    """What speculation did since the engine was started.

    Attributes:
        passes: forwards of running rows, counted once per row; those with a draft are `drafted_passes`.
        tokens: drawn in the drafted passes, the target's own last one included.
        drafted, accepted: guesses by drafter.
        by_depth: by depth from 1, (guesses, accepted).
    """

    passes: int = 0
    drafted_passes: int = 0
    tokens: int = 0
    drafted: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    by_depth: list[list[int]] = field(default_factory=lambda: [[0, 0] for _ in range(DEPTH)])


class Fortunes:
    """How often guesses came true, by class: hits and tries, the old ones fading. Index: [class, rank]."""

    def __init__(self, classes: int):
        self._hits = np.tile([1.4, 0.2], (classes, 1)).ravel()  # a belief worth two tries: 0.7 and 0.1
        self._tries = np.full(2 * classes, 2.0)

    @property
    def table(self) -> np.ndarray:
        """Rates [classes, 2]."""
        return (self._hits / self._tries).reshape(-1, 2)

    def observe(self, tags: Sequence[int], hits: Sequence[bool]) -> None:
        """Outcomes of guesses; a tag is 2 * class + rank (mutates)."""
        np.add.at(self._hits, tags, hits)
        np.add.at(self._tries, tags, 1.0)
        old = self._tries > 400
        self._hits[old] /= 2
        self._tries[old] /= 2


class Speculation:
    """Drafts for the running rows, and what is learnt from how they fared.

    Args:
        drafters: in order of priority: the next is asked where one knows nothing or is not sure.
        governor: decides when, and what a guess costs.
        most: guesses in one forward.
        clock: seconds; of the thread where nothing else works for it, so that other processes do not disturb.
        shape: of every row's draft; None lets drafts grow by what is expected of each guess.
    """

    def __init__(
        self,
        drafters: Sequence[Drafter],
        governor: Governor | None = None,
        most: int = 512,
        clock: Callable[[], float] = time.perf_counter,
        shape: Shape | None = None,
    ):
        self._shape = shape
        self.drafters, self.governor, self.clock, self.most = list(drafters), governor or Governor(), clock, most
        # classes: by drafter, greedy or not, kind, lead
        widths = [2 * d.kinds * (len(LEADS) + 1) for d in self.drafters]
        self._bases = np.concatenate(([0], np.cumsum(widths)[:-1])).astype(np.int64)
        self._fortunes = Fortunes(sum(widths))
        self._names = [d.name for d, width in zip(self.drafters, widths, strict=True) for _ in range(width)]  # by class
        self.counters = Counters()
        self._active = False  # whether this pass has a draft
        self._stops: Counter[int] = Counter()  # by token: how often a rule ended a draw there
        self._met: Counter[int] = Counter()  # by token: how often it was drawn under a rule
        self.guessing = 0.0  # seconds of this pass that went into guesses
        for drafter in self.drafters:
            self.counters.drafted[drafter.name] = self.counters.accepted[drafter.name] = 0

    # ---- before the forward ----

    def propose(self, schedule: Scheduler) -> Draft | None:
        """Guesses for the running rows; None where there are none, or where they would not pay (mutates)."""
        rows, self.guessing, self._active = schedule.running, 0.0, False
        if not rows:
            return None
        self.counters.passes += len(rows)
        if not self.governor.wanted(len(rows)):
            return None
        self._active = True
        began = self.clock()
        twigs = self._grow(schedule, rows)
        self.guessing = self.clock() - began
        return Draft(rows, twigs)

    def _grow(self, schedule: Scheduler, rows: Sequence[Row]) -> list[Twig]:
        twigs = [Twig() for _ in rows]
        lines = np.fromiter((row.index for row in rows), np.int64, len(rows))
        room = np.minimum(schedule.limit[lines] - schedule.count[lines] - 1, self.governor.deepest).tolist()
        left = min(self.most, schedule.kv.available - schedule.promised)
        able = [drafter.begin(schedule, rows) for drafter in self.drafters]
        children = self._shape.children if self._shape else ()
        cost, rates = self.governor.cost, self._fortunes.table
        forced = self.governor.forced or bool(children)  # of a fixed shape no guess is weighed
        brings, takes = float(len(rows)), cost.fixed + cost.token * len(rows)
        frontier: list[Place] = [(r, 0, (), 1.0, 0) for r in range(len(rows))]
        for depth in range(1, self.governor.deepest + 1):
            bound = 0.0 if forced else cost.token * brings / takes  # a guess must be right this often
            frontier = [place for place in frontier if room[place[0]] >= depth and place[3] > bound][: max(left, 0)]
            if not frontier:
                break
            price = self.governor.level(self.drafters[0].name, len(frontier))
            hope = sum(place[3] for place in frontier)
            if not forced and hope * takes < brings * (price + cost.token * len(frontier)):
                break
            contexts = [Context(rows[r], path) for r, _, path, *_ in frontier]
            tokens, classes, spent = self._guess(schedule, able, lines, frontier, contexts, rates)
            takes += spent
            following: list[Place] = []
            for (r, at, path, reach, spot), pair, kind in zip(frontier, tokens.tolist(), classes.tolist(), strict=True):
                spots = children[spot] if children else (0, 0)
                for rank, (token, below) in enumerate(zip(pair, spots, strict=False)):
                    chance = reach * float(rates[kind, rank])
                    if token < 0 or left < 1 or (chance <= bound and not (forced and (children or rank == 0))):
                        continue
                    node = twigs[r].add(token, at, 2 * kind + rank)
                    left -= 1
                    brings, takes = brings + chance, takes + cost.token
                    if not self._final(rows[r], token):
                        following.append((r, node, (*path, token), chance, below))
            frontier = following
        return twigs

    def _final(self, row: Row, token: int) -> bool:
        """Whether a draw hardly goes on after `token`: guesses beyond would be for nothing."""
        return token in row.call.ends or (row.watch is not None and 2 * self._stops[token] > self._met[token])

    def stopped(self, token: int) -> None:
        """The rule of a draw has ended it at `token`, in the pass of the latest `propose` (mutates)."""
        self._stops[token] += self._active

    def _guess(
        self,
        schedule: Scheduler,
        able: list[list[bool]],
        lines: np.ndarray,
        frontier: Sequence[Place],
        contexts: Sequence[Context],
        rates: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """For each context two tokens [C, 2] (-1 for none) and their class [C]; and the seconds it took."""
        size = len(contexts)
        tokens, classes, best = np.full((size, 2), -1, np.int64), np.zeros(size, np.int64), np.full(size, -1.0)
        s, at, depth = schedule, lines[[r for r, *_ in frontier]], len(contexts[0].path)
        spent = 0.0
        for base, drafter, can in zip(self._bases.tolist(), self.drafters, able, strict=True):
            unsure = (best < SURE).tolist()
            asked = [c for c in range(size) if unsure[c] and can[frontier[c][0]]]
            if not drafter.wide:  # one context a row: the likeliest, which comes first
                asked = list({frontier[c][0]: c for c in reversed(asked)}.values())[::-1]
            if not asked:
                continue
            began = self.clock()
            i = at[asked]
            guesses, heat = drafter.guess([contexts[c] for c in asked]), s.temperature[i]
            first, second, lead = coupled(guesses, s.seed[i], s.count[i] + depth, heat, s.top_k[i], s.top_p[i])
            sort = (heat == 0) * drafter.kinds + guesses.kind
            kinds = base + sort * (len(LEADS) + 1) + np.searchsorted(LEADS, lead)
            chance = np.where(first >= 0, rates[kinds, 0], -1.0)
            better = np.flatnonzero(chance > best[asked])
            won = np.array(asked)[better]
            tokens[won, 0], tokens[won, 1] = first[better], second[better]
            classes[won], best[won] = kinds[better], chance[better]
            took = self.clock() - began
            self.governor.took(drafter.name, len(asked), took)
            spent += took
        return tokens, classes, spent

    # ---- after the forward ----

    def settle(self, schedule: Scheduler, draft: Draft, sampled: Sampled, logits: torch.Tensor) -> None:
        """Keep what is right, learn from it (mutates).

        Args:
            sampled: the target's draw after each node of the draft.
            logits: the target's [N, V].
        """
        tails = [tail(schedule, row, 8) for row in draft.rows] if self._learners else []
        paths = draft.settle(schedule, sampled)
        counters, names, tags, hits = self.counters, self._names, [], []
        drafted, accepted, by_depth = counters.drafted, counters.accepted, counters.by_depth
        counters.drafted_passes += len(paths)
        for row, twig, path in zip(draft.rows, draft.twigs, paths, strict=True):
            counters.tokens += len(path)
            if row.watch is not None:
                self._met.update(twig.tokens[i] for i in path[1:])
                self._met[int(schedule.tokens[row.index, schedule.count[row.index] - 1])] += 1
            row.call.tally.drafted += len(twig.tokens) - 1
            on = set(path)
            for i in range(1, len(twig.tokens)):
                hit, tag, level = i in on, twig.tags[i], by_depth[twig.depths[i] - 1]
                name = names[tag // 2]
                drafted[name] += 1
                level[0] += 1
                if hit:
                    accepted[name] += 1
                    level[1] += 1
                if twig.parents[i] in on:
                    tags.append(tag)
                    hits.append(hit)
        self._fortunes.observe(tags, hits)
        if self._learners:
            self._teach(draft, paths, tails, logits)

    @property
    def _learners(self) -> list[Drafter]:
        return [drafter for drafter in self.drafters if drafter.learns != "none"]

    def _teach(
        self, draft: Draft, paths: Sequence[Sequence[int]], tails: Sequence[tuple[int, ...]], logits: torch.Tensor
    ) -> None:
        # rejected guesses first, so that what was really drawn overwrites them
        every = any(drafter.learns == "all" for drafter in self._learners)
        nodes, before = [], []
        drawn = sum(map(len, paths))
        for chosen in (False, True):
            for r, (twig, path) in enumerate(zip(draft.twigs, paths, strict=True)):
                contexts = [tails[r]]
                for token, parent in zip(twig.tokens[1:], twig.parents[1:], strict=True):
                    contexts.append((*contexts[parent], token))
                on = set(path)
                wanted = [i for i in range(len(contexts)) if (i in on) == chosen and (chosen or every)]
                nodes += [int(draft.starts[r]) + i for i in wanted]
                before += [contexts[i] for i in wanted]
        top = torch.log_softmax(logits[torch.tensor(nodes, device=logits.device)].float(), -1).topk(KEPT)
        tokens, logprobs = top.indices.cpu().numpy(), top.values.double().cpu().numpy()
        for drafter in self._learners:
            skip = 0 if drafter.learns == "all" else len(nodes) - drawn
            drafter.learn(before[skip:], tokens[skip:], logprobs[skip:])

    def forget(self) -> None:
        """The engine starts anew: no row that was known runs any more."""
        for drafter in self.drafters:
            drafter.forget()
