"""Particle filter and particle Gibbs: evidence and posterior against a language small enough to enumerate."""

import math
import random
from collections import Counter
from dataclasses import dataclass, replace

import pytest
from scipy.stats import chi2

from policies.toy import Toy
from search.algorithms.particles import Particle, ParticleFilter, ParticleGibbs
from search.errors import ConfigError
from search.events import Noted, Pruned
from search.resample import residual, stratified, systematic
from search.run import run
from search.select import Majority
from search.steps import Tokens
from search.types import Sampling, Verdict

LANGUAGE = Toy(
    "ab",
    length=3,
    chain={"": {"a": 0.7, "b": 0.3}, "a": {"a": 0.2, "b": 0.6, ".": 0.2}, "b": {"a": 0.2, "b": 0.2, ".": 0.6}},
)
SHORT = replace(LANGUAGE, length=2)


def score(text, complete):
    """A fixed number in [0.1, 0.9] for each prefix and each word, which has nothing to do with any other."""
    return 0.1 + 0.8 * random.Random(f"{text} {complete} 5").random()


class Table:
    """Knows `score`."""

    async def score(self, prefixes):
        return [Verdict(score(p.text, p.steps[-1].finish in ("end", "empty"))) for p in prefixes]


class Constant:
    """Likes everything as much."""

    async def score(self, prefixes):
        return [Verdict(0.6) for _ in prefixes]


def exact(tau=1.0, language=LANGUAGE):
    """Z, the mean of G over the words of the language, and the probabilities of the words, weighted by G."""
    joint = {}
    for word, p in language.probabilities().items():
        r = score(word, True)
        joint[word] = p * (r / (1 - r)) ** (1 / tau)
    Z = sum(joint.values())
    return Z, {word: x / Z for word, x in joint.items()}


def filtered(**fields):
    return ParticleFilter(**({"particles": 6, "weights": "incremental", "answer": "sample"} | fields))


SETTINGS = {
    "multinomial": filtered(),
    "stratified": filtered(resample=stratified),
    "systematic": filtered(resample=systematic),
    "residual": filtered(resample=residual),
    "threshold": filtered(threshold=0.6),
    "active": filtered(pool="active"),
    "its_hub": filtered(order="propagate-resample"),
    "cut short": filtered(depth=2),
    "hot": filtered(temperature=2.0),
}


async def z_score(session, search, runs=1000, tau=1.0):
    """Of the mean of the evidence against Z, in standard errors."""
    Z, estimates = exact(tau)[0], []
    for seed in range(10**6, 10**6 + runs):
        s = session(LANGUAGE, Table(), seed=seed)
        await search(s)
        estimates.append(math.exp(s.root.notes["log_evidence"]))
    mean = math.fsum(estimates) / runs
    return (mean - Z) / math.sqrt(math.fsum((x - mean) ** 2 for x in estimates) / (runs - 1) / runs)


@pytest.mark.parametrize("name", SETTINGS)
async def test_the_evidence_is_unbiased(session, name):
    search = SETTINGS[name]
    assert abs(await z_score(session, search, tau=search.temperature)) < 3.3  # 0.999 of a normal distribution


@dataclass(frozen=True)
class Forgetful(ParticleFilter):
    """Broken: after resampling each particle keeps the weight of the one it is a copy of."""

    def resampled(self, s, particles, references):
        weights = [math.exp(p.log_weight) for p in particles]
        return [particles[i] for i in self.resample(weights, len(weights), s.rng)]


@dataclass(frozen=True)
class Levelling(ParticleFilter):
    """Broken: after resampling among the open paths each of these weighs 1/N, whatever their share was."""

    def resampled(self, s, particles, references):
        after = super().resampled(s, particles, references)
        even = -math.log(len(after))
        return [p if p.node.terminal else p._replace(log_weight=even) for p in after]


@pytest.mark.parametrize("broken", [Forgetful, Levelling])
async def test_a_broken_filter_is_biased(session, broken):
    assert abs(await z_score(session, broken(particles=6, weights="incremental", pool="active"))) > 5


async def test_the_published_weights_are_not_those_of_the_evidence(session):
    assert abs(await z_score(session, filtered(weights="current"))) > 5


def variation(found, wanted):
    """Total variation distance of counts to probabilities."""
    n = sum(found.values())
    return sum(abs(found[word] / n - wanted.get(word, 0.0)) for word in {*found, *wanted}) / 2


async def weighted_words(session, search):
    """The weight of each word, in ten runs."""
    found = Counter()
    for seed in range(10):
        for p in await search.sweep(session(SHORT, Table(), seed=seed), ()):
            found[p.node.prefix.text] += math.exp(p.log_weight)
    return found


@pytest.mark.parametrize("name", ["multinomial", "systematic", "threshold", "active"])
async def test_the_posterior_is_the_exact_one(session, name):
    found = await weighted_words(session, replace(SETTINGS[name], particles=800))
    assert variation(found, exact(language=SHORT)[1]) < 0.03
    assert variation(Counter(SHORT.probabilities()), exact(language=SHORT)[1]) > 0.1  # not that of plain sampling


async def test_the_published_weights_target_something_else(session):
    found = await weighted_words(session, filtered(particles=400, weights="current"))
    assert variation(found, exact(language=SHORT)[1]) > 0.05


@pytest.mark.parametrize("order", ["resample-propagate", "propagate-resample"])
@pytest.mark.parametrize("weights", ["current", "incremental"])
async def test_one_particle_is_plain_sampling(session, weights, order):
    """The same words as an expansion of width 1 draws, and no others."""
    for seed in range(20):
        s = session(LANGUAGE, Table(), seed=seed)
        outcome = await run(ParticleFilter(particles=1, weights=weights, order=order), s)
        node = (plain := session(LANGUAGE, Table(), seed=seed)).root
        while not node.terminal:
            (node,) = await plain.expand(node, 1)
        assert [n.prefix for n in outcome.tree] == [n.prefix for n in plain.tree]
        assert outcome.answer.prefix == node.prefix


async def test_equal_scores_resample_evenly(session):
    """Copies of a particle are binomial with mean 1 and variance 1 - 1/N."""
    copies = []
    for seed in range(1000):
        s = session(Toy("abcdefgh"), Constant(), seed=seed)
        nodes = (await s.expand(s.root, 40))[:5]
        await s.score(nodes)
        particles, _ = ParticleFilter(particles=5).weigh([Particle(s.root, -math.log(5), 0.0)] * 5, nodes, 1.0)
        assert [p.log_weight for p in particles] == pytest.approx([-math.log(5)] * 5)
        kept = Counter(p.node for p in ParticleFilter(particles=5).resampled(s, particles, 0))
        copies.append(kept[nodes[0]])
    mean = sum(copies) / 1000
    assert mean == pytest.approx(1.0, abs=3.3 * math.sqrt(0.8 / 1000))
    assert sum((x - mean) ** 2 for x in copies) / 1000 == pytest.approx(0.8, rel=0.15)
    outcome = await run(ParticleFilter(particles=5), session(Toy(length=5), Constant()))
    assert outcome.tree.root.notes["ess"] == pytest.approx(5)


async def test_the_weights_are_the_softmax_of_the_logits_over_tau(session):
    s = session(LANGUAGE, Table())
    nodes = await s.expand(s.root, 12) + await s.expand((await s.expand(s.root, 1))[0], 9)
    await s.score(nodes)
    start = [Particle(s.root, math.log(i + 1), 0.0) for i in range(len(nodes))]  # forgotten
    odds = [node.score / (1 - node.score) for node in nodes]
    for tau in (0.5, 1.0, 3.0):
        particles, mean = ParticleFilter(particles=len(nodes)).weigh(start, nodes, tau)
        wanted = [x ** (1 / tau) for x in odds]
        assert [math.exp(p.log_weight) for p in particles] == pytest.approx([x / sum(wanted) for x in wanted])
        assert math.exp(mean) == pytest.approx(sum(wanted) / len(wanted))


async def test_certain_scores_are_clipped(session):
    class Sure:
        async def score(self, prefixes):
            return [Verdict(float(prefix.text[0] == "a")) for prefix in prefixes]

    s = session(LANGUAGE, Sure())
    nodes = sorted(await s.expand(s.root, 30), key=lambda node: node.segment.text)
    await s.score(nodes)
    particles, _ = ParticleFilter(particles=2).weigh([Particle(s.root, 0.0, 0.0)] * 2, nodes, 1.0)
    assert particles[1].log_weight - particles[0].log_weight == pytest.approx(2 * math.log(1e-7), rel=1e-6)


def test_tau_anneals_on_a_straight_line():
    search = ParticleFilter(temperature=1.0, start=5.0, annealing=4)
    assert [search.tau(t) for t in range(1, 8)] == [5, 4, 3, 2, 1, 1, 1]
    assert [ParticleFilter(temperature=0.7).tau(t) for t in (1, 9)] == [0.7, 0.7]


async def test_annealing_keeps_more_particles_alive(session):
    cold, warm = [], []
    for seed in range(30):
        for fields, found in (({}, cold), ({"start": 20.0, "annealing": 50}, warm)):
            seen = []
            await run(filtered(temperature=0.3, **fields), session(LANGUAGE, Table(), seed=seed, sinks=[seen.append]))
            found += [e.numbers["ess"] for e in seen if isinstance(e, Noted) and "ess" in e.numbers]
    assert sum(warm) / len(warm) > sum(cold) / len(cold) + 1


async def test_particles_keep_their_number_and_their_weights_sum_to_1(session):
    @dataclass(frozen=True)
    class Watched(ParticleFilter):
        def resampled(self, s, particles, references):
            after = super().resampled(s, particles, references)
            for each in (particles, after):
                assert len(each) == self.particles
                assert math.fsum(math.exp(p.log_weight) for p in each) == pytest.approx(1)
            ended = [p.node for p in particles if p.node.terminal]
            if self.pool == "active":
                assert [p.node for p in after if p.node.terminal] == ended
            return after

    for fields in ({}, {"weights": "incremental"}, {"pool": "active"}, {"threshold": 0.5, "weights": "incremental"}):
        outcome = await run(Watched(particles=7, **fields), session(LANGUAGE, Table()))
        assert outcome.answer.complete


async def test_the_pool_decides_whether_ended_paths_compete(session):
    lost = {"all": 0, "active": 0}
    for pool in lost:
        for seed in range(40):
            s = session(LANGUAGE, Table(), seed=seed)
            particles = await ParticleFilter(particles=6, pool=pool).sweep(s, ())
            held = {p.node for p in particles}
            lost[pool] += sum(node not in held for node in s.tree.answers())
    assert lost["active"] == 0 < lost["all"]


async def test_the_best_answer_seen_is_remembered(session):
    """Resampling may lose it; what was published takes the best of what is left."""
    lost = 0
    for seed in range(60):
        found = {}
        for answer in ("best", "last"):
            search = ParticleFilter(particles=3, answer=answer, order="propagate-resample")
            outcome = await run(search, session(LANGUAGE, Table(), seed=seed))
            found[answer] = outcome.answer.score
            if answer == "best":
                assert outcome.answer.score == max(node.score for node in outcome.tree.answers())
        lost += found["last"] < found["best"]
    assert lost > 0


async def test_the_choice_may_be_left_to_the_selection(session):
    search = ParticleFilter(particles=9, answer="select")
    assert await search(session(LANGUAGE, Table())) is None
    outcome = await run(search, session(LANGUAGE, Table()), Majority())
    votes = Counter({node: node.times for node in outcome.tree.answers()})
    assert votes[outcome.answer] == max(votes.values())


async def test_a_step_and_a_pass_per_particle_and_round(session):
    outcome = await run(ParticleFilter(particles=5), session(Toy("abcdefghij", length=6), Constant()))
    assert outcome.spent.generated == 5 * 7  # six letters and the end
    assert outcome.spent.passes == len(outcome.tree) - 1


async def test_particles_without_copies_are_given_up_and_never_grow_again(session):
    seen = []
    outcome = await run(ParticleFilter(particles=6), session(LANGUAGE, Table(), sinks=[seen.append]))
    pruned = {event.node for event in seen if isinstance(event, Pruned)}
    assert pruned and pruned == {node.id for node in outcome.tree if node.pruned}
    assert not any(node.terminal or node.children for node in outcome.tree if node.pruned)


async def test_paths_that_were_cut_have_no_weight(session):
    s = session(Toy("ab", length=9, end=0.3), Constant(), step=Sampling(until=Tokens(9), max_tokens=2))
    particles = await ParticleFilter(particles=20).sweep(s, ())
    assert {p.node.complete for p in particles if p.log_weight > -math.inf} == {True}
    assert {p.node.complete for p in particles} == {True, False}
    outcome = await run(ParticleFilter(), session(step=Sampling(until=Tokens(9), max_tokens=2)))
    assert outcome.answer is None and "ess" not in outcome.tree.root.notes


# particle Gibbs


def gibbs(**fields):
    return ParticleGibbs(**({"particles": 4, "weights": "incremental", "answer": "sample"} | fields))


async def after_one_pass(session, search, runs):
    """The words referred to after one pass, when the reference before it was an exact draw."""
    words, found = exact()[1], Counter()
    for seed in range(runs):
        s = session(LANGUAGE, Table(), seed=seed)
        (word,) = random.Random(seed).choices(list(words), list(words.values()))
        path = [s.root]
        for letter in [*word, ""]:
            path.append(next(n for n in await s.branch(path[-1], 3) if n.segment.text == letter))
        particles = await search.sweep(s, [path])
        (drawn,) = s.rng.choices(particles, [math.exp(p.log_weight) for p in particles])
        found[drawn.node.prefix.text] += 1
    return found


def misfit(found, wanted):
    """Chi-square of counts against probabilities over its 0.999 quantile; words expected less than 5 times as one."""
    n, rare, statistic, cells = sum(found.values()), [0.0, 0.0], 0.0, 0
    for word, p in wanted.items():
        if n * p < 5:
            rare = [rare[0] + found[word], rare[1] + n * p]
        else:
            statistic, cells = statistic + (found[word] - n * p) ** 2 / (n * p), cells + 1
    if rare[1]:
        statistic, cells = statistic + (rare[0] - rare[1]) ** 2 / rare[1], cells + 1
    return statistic / chi2.ppf(0.999, cells - 1)


@pytest.mark.parametrize("fields", [{}, {"threshold": 0.7}, {"particles": 2}, {"order": "propagate-resample"}])
async def test_a_pass_leaves_the_exact_posterior_as_it_is(session, fields):
    assert misfit(await after_one_pass(session, gibbs(**fields), 2000), exact()[1]) < 1


@dataclass(frozen=True)
class Loose(ParticleGibbs):
    """Broken: the reference takes part in the resampling like any other."""

    def resampled(self, s, particles, references):
        return super().resampled(s, particles, 0)


@pytest.mark.parametrize("broken", [Loose(particles=2, weights="incremental"), gibbs(weights="current")])
async def test_a_broken_pass_does_not_nor_does_the_published_one(session, broken):
    assert misfit(await after_one_pass(session, broken, 2000), exact()[1]) > 1.5


async def test_a_long_chain_visits_words_as_often_as_their_posterior(session):
    s = session(SHORT, Table())
    assert (await gibbs(particles=4, iterations=2500)(s)).complete
    visits = Counter({node.prefix.text: node.notes.get("reference", 0.0) for node in s.tree.answers()})
    assert sum(visits.values()) == 2500
    assert variation(visits, exact(language=SHORT)[1]) < 0.04


async def test_references_stay_on_their_paths(session):
    kept = []

    @dataclass(frozen=True)
    class Watched(ParticleGibbs):
        async def sweep(self, s, references):
            particles = await super().sweep(s, references)
            kept.append(references)
            assert [p.node for p in particles[: len(references)]] == [path[-1] for path in references]
            return particles

    outcome = await run(Watched(particles=5, iterations=5, references=2), session(LANGUAGE, Table()))
    assert [len(references) for references in kept] == [0, 2, 2, 2, 2]
    assert outcome.answer.score == max(node.score for node in outcome.tree.answers())
    assert not any(node.pruned for node in outcome.tree)


async def test_a_reference_costs_nothing(session):
    letters = Toy("abcdefghij", length=6)
    outcome = await run(ParticleGibbs(particles=5, iterations=3, references=2), session(letters, Constant()))
    assert outcome.spent.generated == (5 + 3 + 3) * 7


@pytest.mark.parametrize(
    ("search", "field", "value"),
    [
        (ParticleFilter, "particles", 0),
        (ParticleFilter, "depth", 0),
        (ParticleFilter, "annealing", 0),
        (ParticleFilter, "temperature", 0.0),
        (ParticleFilter, "start", -1.0),
        (ParticleFilter, "threshold", 1.1),
        (ParticleFilter, "weights", "past"),
        (ParticleFilter, "order", "first"),
        (ParticleFilter, "pool", "none"),
        (ParticleFilter, "answer", "worst"),
        (ParticleGibbs, "iterations", 0),
        (ParticleGibbs, "references", 0),
        (ParticleGibbs, "references", 8),
        (ParticleGibbs, "resample", systematic),
    ],
)
def test_settings_that_make_no_sense_are_refused(search, field, value):
    with pytest.raises(ConfigError) as caught:
        search(**{field: value})
    assert caught.value.field == field
