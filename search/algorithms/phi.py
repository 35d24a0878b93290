"""phi-decoding: adaptive foresight sampling (Xu et al. 2025, arXiv:2503.13288); also predictive decoding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any, ClassVar, Literal

from search.cluster import Embedding, kmeans, words
from search.draws import each_draw
from search.errors import ConfigError
from search.session import Session, gather
from search.tree import Node
from search.weights import draw_distinct, joint, softmax, within_sigma

CHOICES = {"value": ("advantage", "foresight"), "combine": ("avg", "boltzmann"), "final": ("cluster", "select")}
REFILL = 0.1  # temperature at which dropped steps come back


@dataclass(frozen=True)
class Path:
    """A step beam or a candidate for one.

    Attributes:
        node: where it is.
        foresight: F, nats per token of one continuation of it; 0 for the prompt.
        advantage: A, F less the F of the beam it comes from.
        ahead: the text of that continuation.
    """

    node: Node
    foresight: float = 0.0
    advantage: float = 0.0
    ahead: str = ""

    def seen(self, end: Node) -> Path:
        """This path, which carries the F of its beam, once it is known how it goes on: to `end`, or ends there."""
        foresight, text = end.segment.mean_logprob, end.segment.text
        if end is self.node and not text.strip():  # it ended without a word: what it said last is its answer
            text = next((step.text for step in reversed(end.prefix.steps) if step.text.strip()), "")
        return Path(self.node, foresight, foresight - self.foresight, text)


@dataclass(frozen=True)
class Phi:
    """Of M * N candidate steps keeps the M whose look-ahead gains likelihood and agrees with the others'.

    Per round: (1) each beam draws N steps; (2) in-width pruning: steps with mean log-probability s below
    mean(s) - sigma * deviation(s), over all candidates, are dropped, and if fewer than M are left some come back by
    softmax(s / 0.1); (3) each step is continued to the end once, F is the mean log-probability of the continuation;
    (4) A = F - F of its beam; (5) C = the share of its k-means cluster of look-ahead texts (TF-IDF); (6) weights from
    softmax(A / tau1) and softmax(C / tau2); (7) M are drawn by weight without replacement; (8) in-depth pruning: once
    a cluster holds the share `agree`, or all chosen steps are equal, look-ahead ends. Then each beam is completed and
    one of the completions drawn by A from the larger of two clusters.

    Paper and published code differ; the defaults are those of the original script, which made the reported numbers.
    Weights: the mean of both softmaxes with 0.1 and 1.0 (`combine="avg"`); the paper has exp(their sum) with 0.6 and
    0.6: `combine="boltzmann", temperature=0.6, cluster_temperature=0.6`. Steps with A <= 0 are left out of clusters
    and choice (`adv_above0`); the paper and the refactored script do not say so. In the first round A = F < 0, so that
    round goes by A alone; so does every round in which fewer than M steps are left to cluster. A cluster stops the
    look-ahead at a share >= `agree`, as in the paper, and from round T_min on; equal steps from the next. The chosen
    steps are adopted before the look-ahead ends.

    Where we differ from both: a path that has ended is frozen: it keeps its place, nothing more is drawn from it, its
    F is that of its last step, and its cluster is found by the text of that step (the code sees a blank look-ahead of
    F = 0, the best there is). Among final completions those with A <= 0 stand, and of clusters equally large the one
    drawn first is taken. Look-aheads stay in the tree as answers, which the selection finds if the budget ends early,
    or always under `final="select"`. Log-probabilities are those at the temperature drawn at; a last step that a
    look-ahead has drawn before keeps those it had there.

    Predictive decoding (Ma et al. 2024, arXiv:2410.17195) is this with one beam of width 8, `value="foresight"` and
    neither pruning (`sigma=None`) nor clusters (`clusters=None`).

    Attributes:
        beams: M, step beams.
        width: N, steps drawn per beam and round.
        rounds: T_max, rounds of look-ahead.
        least: T_min, rounds before it may end early; 0 to `rounds`.
        sigma: k, deviations below the mean at which steps are dropped; None drops none.
        clusters: K; None for no alignment and no early end by it.
        agree: delta, in (0, ...); above 1 it never ends the look-ahead.
        value: what weighs a step: its "advantage" A or its "foresight" F.
        combine: "avg" or "boltzmann".
        adv_above0: whether steps with A <= 0 are left out.
        temperature: tau1, of A (of F).
        cluster_temperature: tau2, of C.
        distinct: whether a step drawn twice is one candidate instead of two; saves look-aheads.
        step_temperature: of steps; None for that of the session.
        ahead_temperature: of look-aheads and completions; None for that of the session.
        ahead_tokens: most tokens of a look-ahead; None for those of a completion.
        embed: vectors of texts.
        final: "cluster" draws the answer as above, "select" leaves all complete paths to the selection.
    """

    beams: int = 4
    width: int = 4
    rounds: int = 8
    least: int = 4
    sigma: float | None = 1.0
    clusters: int | None = 3
    agree: float = 0.7
    value: Literal["advantage", "foresight"] = "advantage"
    combine: Literal["avg", "boltzmann"] = "avg"
    adv_above0: bool = True
    temperature: float = 0.1
    cluster_temperature: float = 1.0
    distinct: bool = False
    step_temperature: float | None = 0.6
    ahead_temperature: float | None = 1.0
    ahead_tokens: int | None = None
    embed: Embedding = words
    final: Literal["cluster", "select"] = "cluster"
    needs: ClassVar[tuple[str, ...]] = ("logprobs",)

    def __post_init__(self) -> None:
        for name in ("beams", "width", "rounds", "clusters", "ahead_tokens"):
            if (count := getattr(self, name)) is not None and count < 1:
                raise ConfigError(name, count, "give a number of at least 1")
        if not 0 <= self.least <= self.rounds:
            raise ConfigError("least", self.least, f"give a number from 0 to rounds={self.rounds}")
        for name in ("agree", "temperature", "cluster_temperature"):
            if not getattr(self, name) > 0:
                raise ConfigError(name, getattr(self, name), "give a number above 0")
        for name in ("sigma", "step_temperature", "ahead_temperature"):
            if (number := getattr(self, name)) is not None and not number >= 0:
                raise ConfigError(name, number, "give a number of at least 0, or null")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(name, getattr(self, name), f"choose from {', '.join(choices)}")

    async def __call__(self, s: Session) -> Node | None:
        beam = [Path(s.root)] * self.beams
        for t in range(self.rounds):
            frozen = [path for path in beam if path.node.complete]
            active = [path for path in beam if not path.node.complete]
            active = list(islice(cycle(active), self.beams - len(frozen)))  # places left are filled in turn
            steps = self.thin(s, await self.roll_out(s, active), len(active))
            if not steps:
                break
            steps = await self.look_ahead(s, steps)
            weights, agreed = self.weigh(steps, frozen, len(active))
            chosen = [steps[i] for i in draw_distinct(s.rng, weights, len(active))]
            self.record(s, steps, weights, chosen)
            beam = frozen + chosen
            alike = self.beams > 1 and not frozen and len({path.node.segment.text for path in chosen}) == 1
            if (alike and t >= self.least) or (agreed and t + 1 >= self.least):
                break
        return await self.finish(s, beam)

    async def roll_out(self, s: Session, beam: Sequence[Path]) -> list[Path]:
        """N next steps of each; until `look_ahead` a candidate carries the F of its beam. What was cut is dead."""
        drawn = await each_draw(s, [path.node for path in beam], self.width, **_how(self.step_temperature))
        steps = [replace(path, node=node) for path, nodes in zip(beam, drawn, strict=True) for node in nodes]
        if self.distinct:
            steps = [path for i, path in enumerate(steps) if path.node not in {each.node for each in steps[:i]}]
        return [path for path in steps if path.node.complete or not path.node.terminal]

    def thin(self, s: Session, steps: list[Path], places: int) -> list[Path]:
        """In-width pruning by the confidence s of each step, in order; at least `places` are left if there are."""
        if self.sigma is None:
            return steps
        confidence = [path.node.segment.mean_logprob for path in steps]
        kept = within_sigma(confidence, self.sigma)
        out = [i for i in range(len(steps)) if i not in set(kept)]
        odds = softmax([confidence[i] for i in out], REFILL)
        kept += [out[i] for i in draw_distinct(s.rng, odds, places - len(kept))]
        dropped = {steps[i].node for i in out if i not in kept} - {steps[i].node for i in kept}
        for node in sorted(dropped, key=lambda node: node.id):
            s.prune(node)
        return [steps[i] for i in sorted(kept)]

    async def look_ahead(self, s: Session, steps: Sequence[Path]) -> list[Path]:
        """F, A and text of one continuation each; a step that has ended is its own."""
        how = _how(self.ahead_temperature, self.ahead_tokens)
        leaves = iter(await gather(s.complete(path.node, **how) for path in steps if not path.node.complete))
        return [path.seen(path.node if path.node.complete else next(leaves)) for path in steps]

    def weigh(self, steps: Sequence[Path], frozen: Sequence[Path], places: int) -> tuple[list[float], bool]:
        """One weight per step, and whether the look-aheads agree."""
        values = [path.advantage if self.value == "advantage" else path.foresight for path in steps]
        voters = [
            i for i, path in enumerate(steps) if path.ahead.strip() and (path.advantage > 0 or not self.adv_above0)
        ]
        if self.clusters is None or len(voters) < places:
            return softmax(values, self.temperature), False
        labels = kmeans(self.embed([path.ahead for path in [*(steps[i] for i in voters), *frozen]]), self.clusters)
        size = Counter(labels)
        share = [size[label] / len(labels) for label in labels]
        weights = [0.0] * len(steps)
        value = softmax([values[i] for i in voters], self.temperature)
        alignment = softmax(share[: len(voters)], self.cluster_temperature)
        for i, weight in zip(voters, joint(value, alignment, self.combine), strict=True):
            weights[i] = weight
        return weights, max(share) >= self.agree

    def record(self, s: Session, steps: Sequence[Path], weights: Sequence[float], chosen: Sequence[Path]) -> None:
        """Notes what was weighed (of a step drawn twice, what was chosen) and gives up what was not chosen."""
        kept = {path.node for path in chosen}
        for path, weight in sorted(zip(steps, weights, strict=True), key=lambda weighed: weighed[0] in chosen):
            s.note(path.node, foresight=path.foresight, advantage=path.advantage, weight=weight)
        for node in dict.fromkeys(path.node for path in steps):
            if node not in kept:
                s.prune(node)

    async def finish(self, s: Session, beam: Sequence[Path]) -> Node | None:
        """Completes each beam and draws the answer: by A, from the larger of two clusters of completions."""
        open_ = [path for path in beam if not path.node.complete]
        leaves = await gather(s.complete(path.node, **_how(self.ahead_temperature)) for path in open_)
        ends = [path for path in beam if path.node.complete]
        ends += [replace(path.seen(leaf), node=leaf) for path, leaf in zip(open_, leaves, strict=True) if leaf.complete]
        if self.final == "select" or not ends:
            return None
        texts = [path for path in ends if path.ahead.strip()]
        if not texts:  # the prefixes hold the answers already: the less likely an end, the more it had to say
            odds = softmax([-path.advantage for path in ends], self.temperature)
            return ends[draw_distinct(s.rng, odds, 1)[0]].node
        if self.clusters is not None:
            labels = kmeans(self.embed([path.ahead for path in texts]), 2)
            ((largest, _),) = Counter(labels).most_common(1)
            texts = [path for path, label in zip(texts, labels, strict=True) if label == largest]
        odds = softmax([path.advantage for path in texts], self.temperature)
        return texts[draw_distinct(s.rng, odds, 1)[0]].node


def _how(temperature: float | None, max_tokens: int | None = None) -> dict[str, Any]:
    """The fields of Sampling that differ from the session's."""
    fields = {"temperature": temperature, "max_tokens": max_tokens}
    return {name: value for name, value in fields.items() if value is not None}
