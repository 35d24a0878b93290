"""Particle filtering and particle Gibbs over steps (Puri et al. 2025, "Rollout Roulette", arXiv:2502.01618)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, Literal, NamedTuple

from search.draws import advance
from search.errors import ConfigError
from search.resample import Resampling, effective_sample_size, multinomial
from search.rules import log_odds
from search.session import Session
from search.tree import Node
from search.waves import gather


class Particle(NamedTuple):
    """A node that carries weight. `log_weight` is normalised over all particles; both logs are -inf on a dead path."""

    node: Node
    log_weight: float
    log_potential: float  # log G of the round before


@dataclass(frozen=True)
class ParticleFilter:
    """N prefixes that take a step each, are weighted by their score, and are resampled by weight (algorithm 1).

    The potential of a prefix is G = exp(logit(r) / tau), r its score. As published ("current") a particle's weight is
    the G of its present prefix: a softmax of the logits, with no memory. That is no sampler of any distribution over
    answers that could be named without its number of rounds. The textbook form of sequential Monte Carlo (Del Moral,
    Doucet and Jasra 2006) is "incremental": the weight is multiplied by G now over G before, so that the particles
    target p(answer) * G(answer), and exp(log_evidence) is an unbiased estimate of the mean of G over the policy's
    answers (with pool "all" or "active", any scheme of `search.resample`, any threshold; G at the last temperature).

    Choices: ended paths compete for places (pool "all", the published runs; the code's default is "active", where
    they keep theirs). The authors weigh and, unless all have ended, resample before each step ("resample-propagate");
    its_hub resamples after each step, and so once more at the end ("propagate-resample"), which may lose the best
    particle. Ours: a path cut by a token limit has G = 0; the best answer ever seen is remembered ("best"; as
    published it is that of the last particles, "last"); paths open after `depth` steps are completed at one go.

    Notes: `weight` of a node when it last held particles; at the root `ess`, the effective number of particles before
    the last resampling, in [1, N], and `log_evidence` in nats ("current": the sum of the logs of the mean weights).

    Attributes:
        particles: N, at least 1.
        temperature: tau, above 0; large values keep more of the particles.
        start: tau of the first round, from which it goes to `temperature` on a straight line; None: no annealing.
        annealing: rounds that takes, at least 1.
        weights: "current" or "incremental".
        resample: scheme, of `search.resample`.
        threshold: in [0, 1]; resamples where the effective sample size is at most this share of N; 1 is always.
        order: "resample-propagate" or "propagate-resample".
        pool: "all" or "active".
        potential: log G of a node at tau = 1, in nats.
        answer: "best", "last" (highest score), "sample" (of the last particles by weight), or "select" to leave the
            choice to the selection.
        depth: steps, at least 1.
    """

    particles: int = 8
    temperature: float = 1.0
    start: float | None = None
    annealing: int = 10
    weights: Literal["current", "incremental"] = "current"
    resample: Resampling = multinomial
    threshold: float = 1.0
    order: Literal["resample-propagate", "propagate-resample"] = "resample-propagate"
    pool: Literal["all", "active"] = "all"
    potential: Callable[[Node], float] = log_odds
    answer: Literal["best", "last", "sample", "select"] = "best"
    depth: int = 40

    prunes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("particles", "annealing", "depth"):
            if (count := getattr(self, name)) < 1:
                raise ConfigError(name, count, "give a number of at least 1")
        for name in ("temperature", "start"):
            if (tau := getattr(self, name)) is not None and not 0 < tau < math.inf:
                raise ConfigError(name, tau, "give a number above 0")
        if not 0 <= self.threshold <= 1:
            raise ConfigError("threshold", self.threshold, "give a share in [0, 1]")
        for name, words in _WORDS.items():
            if (word := getattr(self, name)) not in words:
                raise ConfigError(name, word, f"give one of {', '.join(words)}")

    async def __call__(self, s: Session) -> Node | None:
        return self.pick(s, await self.sweep(s, ()))

    async def sweep(self, s: Session, references: Sequence[list[Node]]) -> list[Particle]:
        """One pass from the prompt to the ends; the first particles follow the paths of `references`, if any."""
        particles = [Particle(s.root, -math.log(self.particles), 0.0)] * self.particles
        evidence = 0.0
        for t in range(1, self.depth + 1):
            nodes = [path[min(t, len(path) - 1)] for path in references]
            nodes += await self.propagate(s, [p.node for p in particles[len(references) :]], last=t == self.depth)
            await s.score([node for node in nodes if not _dead(node)])
            particles, gain = self.weigh(particles, nodes, self.tau(t))
            evidence += gain
            if evidence == -math.inf:
                break  # every path was cut
            self.show(s, particles, evidence)
            if _ended(particles) and self.order == "resample-propagate":
                break
            particles = self.resampled(s, particles, len(references))
            if _ended(particles):
                break
        return particles

    async def propagate(self, s: Session, nodes: list[Node], last: bool) -> list[Node]:
        """One step for each node that is open; to the end of sequence in the `last` round."""
        open_ = [node for node in nodes if not node.terminal]
        steps = iter(await gather(map(s.complete, open_)) if last else await advance(s, open_))
        return [node if node.terminal else next(steps) for node in nodes]

    def weigh(self, particles: list[Particle], nodes: list[Node], tau: float) -> tuple[list[Particle], float]:
        """The particles where they stand now, and the log of the mean of their weights."""
        G = [-math.inf if _dead(node) else self.potential(node) / tau for node in nodes]
        if self.weights == "incremental":
            logs = [p.log_weight + _gain(p.log_potential, g) for p, g in zip(particles, G, strict=True)]
        else:
            logs = [g - math.log(len(G)) for g in G]
        mean = _log_sum(logs)
        share = [x - mean if x > -math.inf else x for x in logs]
        return [Particle(*each) for each in zip(nodes, share, G, strict=True)], mean

    def resampled(self, s: Session, particles: list[Particle], references: int) -> list[Particle]:
        """As many particles, drawn by weight; the pool's weight is shared out evenly. References keep their places."""
        pool = [i for i, p in enumerate(particles) if self.pool == "all" or not p.node.terminal]
        weights = [math.exp(particles[i].log_weight) for i in pool]
        if not any(weights) or (self.threshold < 1 and effective_sample_size(weights) > self.threshold * len(weights)):
            return particles
        after, free = list(particles), [i for i in pool if i >= references]
        for i, drawn in zip(free, self.resample(weights, len(free), s.rng), strict=True):
            after[i] = particles[pool[drawn]]
        for i in pool:
            after[i] = after[i]._replace(log_weight=math.log(math.fsum(weights) / len(pool)))
        if self.prunes:
            kept = {p.node for p in after}
            for node in dict.fromkeys(p.node for p in particles):
                if node not in kept and not node.terminal:
                    s.prune(node)
        return after

    def tau(self, t: int) -> float:
        """The temperature of round t = 1, 2 ..."""
        if self.start is None:
            return self.temperature
        return self.start + (self.temperature - self.start) * min((t - 1) / self.annealing, 1.0)

    def show(self, s: Session, particles: list[Particle], evidence: float) -> None:
        """Writes the notes."""
        weights: dict[Node, list[float]] = defaultdict(list)
        for p in particles:
            weights[p.node].append(math.exp(p.log_weight))
        for node, held in weights.items():
            s.note(node, weight=math.fsum(held))
        s.note(s.root, ess=effective_sample_size(list(chain.from_iterable(weights.values()))), log_evidence=evidence)

    def pick(self, s: Session, particles: list[Particle]) -> Node | None:
        """The answer."""
        complete = [p for p in particles if p.node.complete]
        if self.answer == "select":
            return None
        if self.answer == "best" or not complete:
            return self.nominate(s)
        if self.answer == "last":
            return max((p.node for p in complete), key=lambda node: node.score)
        (drawn,) = s.rng.choices(complete, [math.exp(p.log_weight) for p in complete])
        return drawn.node

    def nominate(self, s: Session) -> Node | None:
        """The best answer seen so far; what is nominated when the budget ends."""
        answers = [node for node in s.tree.answers() if node.scored]
        return max(answers, key=lambda node: node.score, default=None)


@dataclass(frozen=True)
class ParticleGibbs(ParticleFilter):
    """Particle filters in a row, each holding on to particles of the one before (section 3.3).

    A pass is a conditional filter (Andrieu, Doucet and Holenstein 2010): its first particles follow the reference
    paths, whatever their weight, and others may start from any point of these. The next references are drawn from the
    last particles by weight. With one reference and "incremental" weights each pass leaves the distribution
    p(answer) * G(answer) as it is; as published the weights are "current", and then it does not.

    Attributes:
        iterations: passes of N particles each, at least 1.
        references: particles held on to, at least 1 and below N.
    """

    iterations: int = 4
    references: int = 1

    prunes: ClassVar[bool] = False  # a later pass may come back

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations < 1:
            raise ConfigError("iterations", self.iterations, "give a number of at least 1")
        if not 1 <= self.references < self.particles:
            raise ConfigError("references", self.references, "give at least 1 and less than there are particles")
        if self.resample is not multinomial:
            raise ConfigError("resample", self.resample, "a conditional filter draws independently: give multinomial")

    async def __call__(self, s: Session) -> Node | None:
        references: list[list[Node]] = []
        particles: list[Particle] = []
        for _ in range(self.iterations):
            particles = await self.sweep(s, references)
            weights = [math.exp(p.log_weight) for p in particles]
            if any(weights):
                drawn = s.rng.choices(particles, weights, k=self.references)
                references = [p.node.path() for p in drawn]
                for p in drawn:
                    s.note(p.node, reference=p.node.notes.get("reference", 0.0) + 1)
        return self.pick(s, particles)


_WORDS = {
    "weights": ("current", "incremental"),
    "order": ("resample-propagate", "propagate-resample"),
    "pool": ("all", "active"),
    "answer": ("best", "last", "sample", "select"),
}


def _dead(node: Node) -> bool:
    return node.terminal and not node.complete


def _gain(before: float, now: float) -> float:
    """log(G now / G before); what was impossible stays so."""
    return now - before if min(before, now) > -math.inf else -math.inf


def _ended(particles: Sequence[Particle]) -> bool:
    return all(p.node.terminal for p in particles)


def _log_sum(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(math.fsum(math.exp(x - top) for x in logs)) if top > -math.inf else top
