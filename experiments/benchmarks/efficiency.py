"""What a search saves: the papers' claims as ratios, measured on the reference models; accuracies in the notes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from experiments.benchmarks.figure import Figure, measured
from experiments.item import Item, cut
from experiments.tasks.reference import Arithmetic, Game24
from experiments.trials import Trial, trial
from policies.embedded import Embedded
from search.algorithms.astar import AStar
from search.algorithms.flat import Flat
from search.algorithms.particles import ParticleFilter
from search.algorithms.phi import Phi
from search.algorithms.treepo import TreePO
from search.resample import systematic
from search.select import Majority
from verifiers.checked import Checked
from verifiers.prm import PRM

ITEMS, SEEDS = 100, (0, 1, 2)
PARTICLES = (4, 8, 12, 16, 24, 32)


@dataclass(frozen=True)
class Case:
    """Items of a task; the settings of A* were chosen on other items of the same kind.

    Attributes:
        checked: whether complete answers are judged by the exact checker in place of the PRM.
    """

    name: str
    task: Game24 | Arithmetic
    offset: int
    search: AStar
    checked: bool = False

    @property
    def items(self) -> list[Item]:
        return cut(self.task.items(), ITEMS, self.offset)


def cases() -> list[Case]:
    """The hundred hard puzzles where the public list is at hand, else the well-known ones; and arithmetic."""
    hard = 900 if os.environ.get("TREEWISE_DATA") else 0
    narrow = AStar(4, expansions=8, revisit=0.4)
    return [
        Case("game24", Game24(), hard, narrow),
        Case("game24_checked", Game24(), hard, narrow, checked=True),
        Case("arithmetic", Arithmetic(), 0, AStar(3, expansions=20, revisit=0.07)),
    ]


def figures() -> Iterator[Figure]:
    """The figures of A* (over all cases and seeds, then for each case), TreePO, phi-decoding and particle filtering."""
    yield from asyncio.run(_all())


async def _all() -> list[Figure]:
    async with Embedded("models/policy", memory="2GB") as policy, PRM("models/prm", memory="2GB") as prm:
        plain = [case for case in cases() if not case.checked]
        return [
            *await astar(policy, prm),
            await treepo(plain, policy),
            await phi(plain, policy),
            await particles(plain, policy, prm),
        ]


async def astar(policy: Embedded, prm: PRM) -> list[Figure]:
    """Tokens and verifier passes of A*-decoding over those of best-of-32."""
    rows: list[tuple[str, Trial, Trial]] = []
    for case in cases():
        judge: PRM | Checked = Checked(prm) if case.checked else prm
        items = case.items
        for seed in SEEDS:
            flat = await trial(Flat(32), case.task, items, policy, judge, seed)
            rows.append((case.name, flat, await trial(case.search, case.task, items, policy, judge, seed)))
    names, found = list(dict.fromkeys(name for name, *_ in rows)), []
    for name in ["", *names]:
        some = [(flat, star) for case, flat, star in rows if name in ("", case)]
        accuracy = f"accuracy {fmean(s.accuracy for _, s in some):.3f} against {fmean(f.accuracy for f, _ in some):.3f}"
        note = f"A* over best-of-32, {name or ', '.join(names)}, {len(some)} runs of up to {ITEMS} items; {accuracy}"
        tail = f".{name}" if name else ""
        found += [
            measured(f"efficiency.astar_tokens{tail}", "ratio", note, [s.tokens / f.tokens for f, s in some]),
            measured(f"efficiency.astar_passes{tail}", "ratio", note, [s.passes / f.passes for f, s in some]),
        ]
    return found


async def treepo(plain: list[Case], policy: Embedded) -> Figure:
    """Tokens of 16 trajectories that share prefixes over those of 16 independent samples; both vote."""
    ratios: list[float] = []
    ours: list[float] = []
    theirs: list[float] = []
    for case in plain:
        for seed in SEEDS:
            flat = await trial(Flat(16), case.task, case.items, policy, None, seed, select=Majority())
            tree = TreePO(16, segment=10, depth=24, first=None, fallback="none")
            grown = await trial(tree, case.task, case.items, policy, None, seed, select=Majority())
            ratios.append(grown.tokens / flat.tokens)
            ours.append(grown.accuracy)
            theirs.append(flat.accuracy)
    note = f"TreePO over independent sampling, 16 trajectories; accuracy {fmean(ours):.3f} against {fmean(theirs):.3f}"
    return measured("efficiency.treepo_tokens", "ratio", note, ratios)


async def phi(plain: list[Case], policy: Embedded) -> Figure:
    """Accuracy points of phi-decoding over self-consistency with as many tokens on each item; no verifier.

    Look-aheads at temperature 0.6 in place of the published 1.0, at which this policy errs more often.
    """
    gains, spent = [], []
    for case in plain:
        for seed in SEEDS:
            ours = await trial(Phi(ahead_temperature=0.6), case.task, case.items, policy, None, seed)
            limits = [cost.generated for cost in ours.costs]
            vote = await trial(
                Flat(512, parallel=4), case.task, case.items, policy, None, seed,
                select=Majority(), limits=limits, strict=True,
            )  # fmt: skip
            gains.append(100 * (ours.accuracy - vote.accuracy))
            spent.append(ours.tokens)
    note = f"phi-decoding over self-consistency at equal tokens ({fmean(spent):.0f} per item)"
    return measured("efficiency.phi_gain", "points", note, gains)


async def particles(plain: list[Case], policy: Embedded, prm: PRM) -> Figure:
    """The fewest particles that reach the accuracy of best-of-32, over 32; 2 where none of the numbers tried does."""
    ratios, said = [], []
    for case in plain:
        for seed in SEEDS:
            goal = (await trial(Flat(32), case.task, case.items, policy, prm, seed)).accuracy
            for count in PARTICLES:
                search = ParticleFilter(count, resample=systematic, threshold=0.5)
                found = await trial(search, case.task, case.items, policy, prm, seed)
                if found.accuracy >= goal:
                    break
            else:
                count = 64
            ratios.append(count / 32)
            said.append(f"{case.name} {count}")
    note = f"fewest of {PARTICLES} particles at the accuracy of best-of-32 (64: none): {', '.join(said)}"
    return measured("efficiency.particles", "ratio", note, ratios)
