"""phi-decoding: its weights and pruning against tables worked out by hand, its rules of ending, its invariants."""

import math
from collections import Counter
from dataclasses import dataclass, field, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.toy import Toy
from search.algorithms.phi import Path, Phi
from search.cluster import characters
from search.errors import ConfigError
from search.events import Added, Charged
from search.run import run
from search.select import Majority
from search.session import gather
from search.steps import Tokens
from search.tree import Tree
from search.types import Cost, Finish, Reply, Sampling, Segment

MANY = Toy("".join(map(chr, range(0x4E00, 0x4E00 + 1000))), length=6)  # draws rarely meet
PLAIN = {"step_temperature": None, "ahead_temperature": None}


@dataclass
class Script:
    """A policy that answers from tables: by path text a list of (text, mean log-probability, finish), in turn.

    Segments have two tokens. What follows a path of no table is the end.
    """

    steps: dict
    ahead: dict
    used: Counter = field(default_factory=Counter)

    async def sample(self, requests):
        return [self._reply(request) for request in requests]

    def _reply(self, request):
        table = "ahead" if request.sampling.until is None else "steps"
        path = request.prefix.text
        rows = getattr(self, table).get(path, [("", -0.25, Finish.EMPTY)])
        segments = []
        for _ in request.seeds:
            text, logprob, *finish = rows[self.used[table, path] % len(rows)]
            self.used[table, path] += 1
            end = finish[0] if finish else Finish.END if table == "ahead" else Finish.STEP
            segments.append(Segment((len(text), hash(text) % 997), text, (logprob - 0.1, logprob + 0.1), end))
        return Reply(tuple(segments), Cost(generated=2 * len(segments), policy_calls=1))


@dataclass(frozen=True)
class Spy(Phi):
    """Keeps what was pruned and weighed in each round."""

    seen: list = field(default_factory=list, compare=False)

    def thin(self, s, steps, places):
        kept = super().thin(s, steps, places)
        self.seen.append({"steps": steps, "kept": kept, "places": places})
        return kept

    def weigh(self, steps, frozen, places):
        weights, agreed = super().weigh(steps, frozen, places)
        self.seen[-1] |= {"ahead": steps, "weights": weights, "agreed": agreed, "frozen": list(frozen)}
        return weights, agreed


# One round of four steps. Confidence: mean -0.65, deviation 0.782624, so "d" is pruned at one deviation.
STEPS = {"": [("a ", -0.1), ("b ", -0.2), ("c ", -0.3), ("d ", -2.0)]}
AHEAD = {"a ": [("x x", -0.5)], "b ": [("x x", -0.7)], "c ": [("y", -0.6)], "d ": [("y", -0.1)]}
TABLE = Phi(beams=2, width=2, rounds=1, least=1, clusters=2, adv_above0=False)


def by_hand(values, shares, tau1, tau2):
    """The paper's weights, written out."""
    a, c = [math.exp(v / tau1) for v in values], [math.exp(v / tau2) for v in shares]
    w = [math.exp(x / sum(a) + y / sum(c)) for x, y in zip(a, c, strict=True)]
    return [x / sum(w) for x in w]


# softmax(A / tau1) is .665241 .090031 .244728; shares are 2/3 2/3 1/3, and their softmax .368117 .368117 .263767
WEIGHTS = {
    "avg": (TABLE, [0.516679, 0.229074, 0.254248]),
    "boltzmann": (
        replace(TABLE, combine="boltzmann", temperature=0.6, cluster_temperature=0.6),
        by_hand([-0.5, -0.7, -0.6], [2 / 3, 2 / 3, 1 / 3], 0.6, 0.6),
    ),
    "no clusters": (replace(TABLE, clusters=None), [0.665241, 0.090031, 0.244728]),
    "masked": (replace(TABLE, adv_above0=True), [0.665241, 0.090031, 0.244728]),  # A = F < 0: none is left to cluster
    "one cluster": (replace(TABLE, clusters=1), [(w + 1 / 3) / 2 for w in (0.665241, 0.090031, 0.244728)]),
}


async def weighed(session, search):
    """Weights by the text of the step, after one round of the table."""
    s = session(Script(STEPS, AHEAD), None)
    await search(s)
    return {node.segment.text.strip(): node.notes["weight"] for node in s.tree if "weight" in node.notes}


@pytest.mark.parametrize("name", WEIGHTS)
async def test_weights_by_hand(session, name):
    search, wanted = WEIGHTS[name]
    assert await weighed(session, search) == pytest.approx(dict(zip("abc", wanted, strict=True)), abs=2e-6)


class Stepless(Phi):
    """Broken: steps are weighed by their own likelihood and not by what comes after."""

    async def look_ahead(self, s, steps):
        ahead = await super().look_ahead(s, steps)
        return [replace(path, advantage=path.node.segment.mean_logprob) for path in ahead]


class Unpruned(Phi):
    """Broken: no step is dropped."""

    def thin(self, s, steps, places):
        return list(steps)


class Sizes(Phi):
    """Broken: all look-aheads are one cluster."""

    def weigh(self, steps, frozen, places):
        return super().weigh([replace(path, ahead="same") for path in steps], frozen, places)


@pytest.mark.parametrize("broken", [Stepless, Unpruned, Sizes])
async def test_broken_copies_do_not_have_these_weights(session, broken):
    settings = {field.name: getattr(TABLE, field.name) for field in fields(TABLE)}
    found = await weighed(session, broken(**settings))
    wanted = dict(zip("abc", WEIGHTS["avg"][1], strict=True))
    assert found != pytest.approx(wanted, abs=1e-3)


def candidates(*rows):
    """Paths with these pairs of A and look-ahead text; their nodes do not matter."""
    return [Path(Tree(Segment((i,), "q")).root, a, a, ahead) for i, (a, ahead) in enumerate(rows)]


@given(
    st.lists(
        st.tuples(st.floats(-2, 0), st.sampled_from(["2 + 2", "whales sing", "so be it"])), min_size=2, max_size=9
    ),
    st.randoms(use_true_random=False),
    st.sampled_from(["avg", "boltzmann"]),
)
def test_weights_move_with_their_candidates_and_equal_texts_align_equally(rows, rng, combine):
    search = Phi(beams=2, adv_above0=False, combine=combine)
    weights, agreed = search.weigh(candidates(*rows), [], 2)
    assert math.fsum(weights) == pytest.approx(1)
    order = rng.sample(range(len(rows)), len(rows))
    moved, also = search.weigh(candidates(*(rows[i] for i in order)), [], 2)
    assert (moved, also) == (pytest.approx([weights[i] for i in order]), agreed)
    flat, _ = search.weigh(candidates(*((-1.0, text) for _, text in rows)), [], 2)
    assert len({(text, round(weight, 9)) for (_, text), weight in zip(rows, flat, strict=True)}) == len(
        {text for _, text in rows}
    )
    shifted, _ = search.weigh(candidates(*((a - 0.5, text) for a, text in rows)), [], 2)
    assert shifted == pytest.approx(weights)  # one beam's F, wrong by a constant
    lifted, _ = search.weigh(candidates((rows[0][0] + 0.1, rows[0][1]), *rows[1:]), [], 2)
    assert lifted[0] > weights[0]


async def test_look_ahead_leaves_the_step_out_and_is_held_against_the_beam(session):
    """Second round: A = F - F of the parent, for each of two beams by its own."""
    steps = {"": [("a ", -0.1), ("b ", -0.1)], "a ": [("c ", -0.3)], "b ": [("d ", -0.2)]}
    ahead = {"a ": [("x", -0.9)], "b ": [("y", -0.4)], "a c ": [("x", -0.8)], "b d ": [("y", -0.5)]}
    s = session(Script(steps, ahead), None)
    await replace(TABLE, width=1, rounds=2, least=2, agree=2.0)(s)
    notes = {node.prefix.text: node.notes for node in s.tree if "weight" in node.notes}
    assert notes["a c "]["foresight"] == pytest.approx(-0.8)
    assert notes["a c "]["advantage"] == pytest.approx(0.1)
    assert notes["b d "]["advantage"] == pytest.approx(-0.1)
    # A of 0.1 and -0.1 over 0.1: 0.880797 and 0.119203; shares of one half each
    assert notes["a c "]["weight"] == pytest.approx((0.880797 + 0.5) / 2, abs=1e-6)


async def test_only_steps_that_gain_stand_where_enough_do(session):
    steps = {"": [("a ", -0.1)], "a ": [("b ", -0.1), ("c ", -0.1), ("d ", -0.1)]}
    ahead = {"a ": [("x", -0.5)], "a b ": [("x", -0.4)], "a c ": [("x x", -0.6)], "a d ": [("y", -0.3)]}
    s = session(Script(steps, ahead), None)
    await Phi(beams=1, width=3, rounds=2, least=2, clusters=3)(s)
    weights = {node.segment.text: node.notes["weight"] for node in s.tree if node.depth == 2 and node.notes}
    assert weights["c "] == 0.0
    # A of 0.1 and 0.2: 0.268941 and 0.731059; shares of one half
    assert weights["b "] == pytest.approx((0.268941 + 0.5) / 2, abs=1e-6)


async def test_pruned_steps_are_not_looked_at_and_come_back_where_too_few_are_left(session):
    s = session(Script(STEPS, AHEAD), None)
    await TABLE(s)
    pruned = s.root.children[3]
    assert (pruned.segment.text, pruned.pruned, pruned.children) == ("d ", True, [])
    s = session(Script(STEPS, AHEAD), None)
    spy = Spy(beams=4, width=1, rounds=1, least=1)  # places for four
    await spy(s)
    assert len(spy.seen[0]["kept"]) == 4


@pytest.mark.parametrize("seed", range(6))
async def test_invariants(session, seed):
    spy = Spy(beams=3, width=4, rounds=6, least=2, adv_above0=bool(seed % 2), **PLAIN)
    policy = (Toy("abcd", length=7, end=0.15), MANY, Toy("ab", length=9, end=0.05))[seed % 3]
    outcome = await run(spy, session(policy, seed=seed), Majority())
    rounds = [entry for entry in spy.seen if entry["kept"]]
    assert len(rounds) <= 6
    for number, entry in enumerate(rounds):
        drawn, kept, places = len(entry["steps"]), len(entry["kept"]), entry["places"]
        assert drawn == places * 4
        assert places <= kept <= drawn
        assert math.fsum(entry["weights"]) == pytest.approx(1)
        scores = [path.node.segment.mean_logprob for path in entry["steps"]]
        mean = sum(scores) / drawn
        bound = mean - math.sqrt(sum((x - mean) ** 2 for x in scores) / drawn)
        assert all(path in entry["kept"] for path, x in zip(entry["steps"], scores, strict=True) if x > bound + 1e-6)
        assert all(path.node.depth == number + 1 for path in entry["kept"])
        assert all(path.node.complete and not path.node.children for path in entry["frozen"])
    assert outcome.answer.complete and outcome.stopped == "done"
    assert outcome.spent.generated == sum(node.times * len(node.segment.tokens) for node in list(outcome.tree)[1:])


async def test_tokens_and_sequences_are_those_of_three_phases(session):
    seen = []
    spy = Spy(beams=3, width=4, rounds=3, least=3, agree=2.0, **PLAIN)
    outcome = await run(spy, session(MANY, sinks=[seen.append]), Majority())
    steps = sum(event.draws for event in seen if isinstance(event, Added) and not event.whole)
    whole = sum(event.draws for event in seen if isinstance(event, Added) and event.whole)
    assert steps == 3 * 12
    assert whole == sum(len(entry["kept"]) for entry in spy.seen) + 3
    assert outcome.spent.generated == sum(e.cost.generated for e in seen if isinstance(e, Charged))
    assert outcome.spent.generated == steps + sum(
        event.draws * len(outcome.tree.nodes[event.node].segment.tokens)
        for event in seen
        if isinstance(event, Added) and event.whole
    )


async def test_of_one_beam_and_width_one_it_is_plain_sampling(session):
    for seed in range(8):
        s = session(Toy(length=9, end=0.1), seed=seed)
        outcome = await run(Phi(beams=1, width=1, rounds=12, least=12, sigma=None, clusters=None, **PLAIN), s)
        plain = session(Toy(length=9, end=0.1), seed=seed)
        node = plain.root
        while not node.terminal:
            (node,) = await plain.expand(node, 1)
        assert outcome.answer.prefix.text == node.prefix.text
        assert outcome.answer.depth == node.depth


@pytest.mark.parametrize(("least", "rounds"), [(0, 1), (1, 1), (3, 3), (5, 5)])
async def test_one_cluster_ends_the_look_ahead_as_soon_as_it_may(session, least, rounds):
    spy = Spy(beams=2, width=3, rounds=5, least=least, clusters=1, adv_above0=False, **PLAIN)
    await run(spy, session(MANY))
    assert len(spy.seen) == rounds
    assert spy.seen[-1]["agreed"]


async def test_a_share_above_one_never_ends_it(session):
    spy = Spy(beams=2, width=3, rounds=5, least=0, clusters=1, agree=1.01, adv_above0=False, **PLAIN)
    await run(spy, session(MANY))
    assert len(spy.seen) == 5


@pytest.mark.parametrize(("least", "rounds"), [(0, 1), (2, 3), (5, 6)])
async def test_equal_steps_end_it_one_round_later(session, least, rounds):
    spy = Spy(beams=2, width=2, rounds=8, least=least, agree=2.0, **PLAIN)
    await run(spy, session(Toy("a", length=20)))
    assert len(spy.seen) == rounds


async def test_of_one_beam_equal_steps_mean_nothing(session):
    spy = Spy(beams=1, width=2, rounds=5, least=0, agree=2.0, **PLAIN)
    await run(spy, session(Toy("a", length=20)))
    assert len(spy.seen) == 5


async def test_a_cluster_just_large_enough_ends_it(session):
    """Two of three look-aheads agree: a share of 2/3."""
    for agree, ends in ((0.6, True), (2 / 3, True), (0.67, False)):
        s = session(Script(STEPS | {"a ": [("e ", -1)], "b ": [("e ", -1)], "c ": [("e ", -1)]}, AHEAD), None)
        await replace(TABLE, rounds=2, agree=agree)(s)
        assert (s.tree.depth == 2) == ends  # completions of the first round's steps, or steps of the second and theirs


async def test_what_has_ended_is_frozen_and_keeps_its_place(session):
    steps = {"": [("a.", -0.1, Finish.END), ("b ", -0.1)], "b ": [("c ", -0.1)], "b c ": [("d ", -0.1)]}
    ahead = {"b ": [("x", -0.5)], "b c ": [("x", -0.5)], "b c d ": [("x", -0.5)]}
    spy = Spy(beams=2, width=1, rounds=3, least=3, agree=2.0, sigma=None)
    s = session(Script(steps, ahead), None)
    await spy(s)
    ended = s.root.children[0]
    assert ended.complete and not ended.children and not ended.pruned
    assert ended.notes["foresight"] == pytest.approx(-0.1)  # of its last step
    assert [[path.node for path in entry["frozen"]] for entry in spy.seen] == [[], [ended], [ended]]
    assert [entry["places"] for entry in spy.seen] == [2, 1, 1]
    assert spy.seen[1]["frozen"][0].ahead == "a."


async def test_an_end_without_text_is_known_by_what_it_said_last(session):
    steps = {"": [("a ", -0.1)], "a ": [("", -0.2, Finish.EMPTY)]}
    spy = Spy(beams=1, width=1, rounds=2, least=2)
    s = session(Script(steps, {"a ": [("x", -0.5)]}), None)
    answer = await spy(s)
    assert spy.seen[1]["ahead"][0].ahead == "a "
    assert answer.prefix.text == "a "


async def test_when_all_have_ended_so_does_it(session):
    spy = Spy(beams=2, width=2, rounds=8, least=8, **PLAIN)
    s = session(Toy(length=2))
    outcome = await run(spy, s)
    assert len([entry for entry in spy.seen if entry["kept"]]) == 3  # two letters and the end
    assert outcome.answer.complete


async def test_steps_that_were_cut_are_dead(session):
    steps = {"": [("a ", -0.1, Finish.LENGTH), ("b ", -0.1)]}
    spy = Spy(beams=2, width=1, rounds=1, least=1)
    s = session(Script(steps, {"b ": [("x", -0.5)]}), None)
    answer = await spy(s)
    assert [path.node.segment.text for path in spy.seen[0]["steps"]] == ["b "]
    assert answer.prefix.text == "b x"


async def test_the_answer_is_drawn_from_the_larger_cluster(session):
    steps = {"": [("a ", -0.1), ("b ", -0.1), ("c ", -0.1)]}
    ahead = {"a ": [("x x", -0.5), ("x x x", -0.9)], "b ": [("x x", -0.5)], "c ": [("y y", -0.5), ("y", -0.1)]}
    for seed in range(10):
        for clusters, wanted in ((3, "b x x"), (None, "c y")):  # "c" gains most, but stands alone
            s = session(Script(steps, ahead), None, seed=seed)
            search = Phi(beams=3, width=1, rounds=1, least=1, clusters=clusters, temperature=0.01)
            assert (await search(s)).prefix.text == wanted


async def test_blank_completions_are_drawn_only_where_all_are(session):
    steps = {"": [("a ", -0.1), ("b ", -0.1)]}
    blank = ("", -0.1, Finish.EMPTY)
    s = session(Script(steps, {"a ": [("x", -0.5), blank], "b ": [("x", -0.5)]}), None)
    assert (await Phi(beams=2, width=1, rounds=1, least=1)(s)).prefix.text == "b x"
    s = session(Script(steps, {"a ": [("x", -0.5), blank], "b ": [("x", -0.5), ("", -0.4, Finish.EMPTY)]}), None)
    # A is 0.4 and 0.1: the smaller wins
    assert (await Phi(beams=2, width=1, rounds=1, least=1, temperature=0.01)(s)).prefix.text == "b "


async def test_the_selection_may_choose(session):
    s = session(MANY)
    assert await Phi(beams=2, width=2, rounds=2, final="select", **PLAIN, least=2)(s) is None
    assert len(s.tree.answers()) == 2 * 4 + 2 - len([n for n in s.tree if n.pruned and not n.children])


async def test_equal_steps_are_one_candidate_if_asked(session):
    for distinct, looks in ((False, 6), (True, 1)):
        s = session(Script({"": [("a ", -0.1)]}, {"a ": [("x", -0.5)]}), None)
        spy = Spy(beams=2, width=3, rounds=1, least=1, distinct=distinct)
        await spy(s)
        assert len(spy.seen[0]["kept"]) == looks
        (leaf,) = s.root.children[0].children
        assert leaf.times == looks + (1 if distinct else 2)


async def test_places_are_filled_again_when_candidates_were_few(session):
    steps = {"": [("a ", -0.1)], "a ": [("b ", -0.1), ("c ", -0.1)]}
    spy = Spy(beams=2, width=1, rounds=2, least=2, distinct=True, agree=2.0, adv_above0=False)
    await spy(session(Script(steps, {"a ": [("x", -1)], "a b ": [("x", -1)], "a c ": [("x", -1)]}), None))
    assert [entry["places"] for entry in spy.seen] == [2, 2]


async def test_predictive_goes_to_the_step_of_the_likeliest_look_ahead(session):
    """At a temperature near 0, for every round and against the tree itself."""
    search = Phi(
        beams=1, width=6, rounds=6, least=6, sigma=None, clusters=None, value="foresight", temperature=1e-4, **PLAIN
    )
    language = Toy(MANY.letters[:200], length=6, end=0.2)
    for seed in range(5):
        s = session(language, seed=seed)
        answer = await search(s)
        node = s.root
        for _ in range(6):
            steps = [child for child in node.children if "foresight" in child.notes]
            if not steps:
                break
            chosen = [child for child in steps if not child.pruned]
            assert len(chosen) == 1
            assert chosen[0].notes["foresight"] >= max(child.notes["foresight"] for child in steps) - 1e-3
            node = chosen[0]
        assert node in answer.path()


async def test_a_longer_sight_finds_what_the_next_step_hides(session):
    """One letter in two leads to sure words, though it looks no likelier than the other."""
    chain = {"": {"a": 0.5, "b": 0.5}, "a": {"c": 1.0}, "b": {x: 0.25 for x in "abde"}, "c": {"c": 1.0}}
    chain |= {"d": {x: 0.25 for x in "abde"}, "e": {x: 0.25 for x in "abde"}}
    language = Toy("abcde", length=6, chain=chain)
    search = Phi(beams=2, width=4, rounds=3, least=3, **PLAIN)
    found = await gather(run(search, session(language, seed=seed), Majority()) for seed in range(40))
    assert sum("c" in outcome.answer.prefix.text[:2] for outcome in found) >= 34  # of 40, where sampling has 20


async def test_other_vectors_may_be_given(session):
    s = session(MANY)
    assert (await Phi(beams=2, width=2, rounds=2, least=1, embed=characters, **PLAIN)(s)).complete


async def test_temperatures_and_limits_are_those_asked_for(session):
    asked = []

    class Listening(Toy):
        async def sample(self, requests):
            asked.extend(requests)
            return await super().sample(requests)

    step = Sampling(until=Tokens(1), temperature=0.9)
    await run(Phi(beams=1, width=1, rounds=1, least=1, ahead_tokens=2), session(Listening(), step=step), Majority())
    drawn = [(request.sampling.temperature, request.sampling.max_tokens) for request in asked]
    assert drawn == [(0.6, 512), (1.0, 2), (1.0, 512)]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"beams": 0}, "beams"),
        ({"width": 0}, "width"),
        ({"rounds": 0}, "rounds"),
        ({"clusters": 0}, "clusters"),
        ({"least": 9}, "least"),
        ({"sigma": -1.0}, "sigma"),
        ({"agree": 0.0}, "agree"),
        ({"temperature": 0.0}, "temperature"),
        ({"value": "likelihood"}, "value"),
        ({"combine": "sum"}, "combine"),
        ({"final": "best"}, "final"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, name):
    with pytest.raises(ConfigError) as caught:
        Phi(**fields)
    assert caught.value.field == name
