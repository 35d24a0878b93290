"""TreePO: independent sampling where it must be, every ending rule, budgets, allocations and fallbacks."""

from collections import Counter
from dataclasses import dataclass

import pytest
from scipy.stats import chi2

from policies.toy import Toy
from search.advantage import trajectories
from search.algorithms.treepo import TreePO
from search.endings import Ending
from search.errors import ConfigError
from search.run import run
from search.select import Majority, PrefixWeighted, SameText
from search.types import Finish, Segment

LANGUAGE = Toy(
    "ab",
    length=4,
    chain={"": {"a": 0.7, "b": 0.3}, "a": {"a": 0.2, "b": 0.6, ".": 0.2}, "b": {"a": 0.2, "b": 0.2, ".": 0.6}},
)
LONG = Toy("abc", length=12, end=0.1)


def sampler(**fields):
    """Settings of few tokens."""
    return TreePO(**({"segment": 2, "depth": 6, "width": 8, "first": None} | fields))


def tokens(leaf):
    return sum(len(step.tokens) for step in leaf.prefix.steps)


async def misfit(session, search):
    """Chi-square of 3000 words against the language, over its 0.999 quantile."""
    outcome = await run(search, session(LANGUAGE), Majority())
    words, counts = LANGUAGE.probabilities(), Counter(leaf.prefix.text for leaf in trajectories(outcome.tree))
    n = sum(counts.values())
    assert n == 3000 and set(counts) <= set(words)
    return sum((counts[word] - n * p) ** 2 / (n * p) for word, p in words.items()) / chi2.ppf(0.999, len(words) - 1)


@pytest.mark.parametrize("segment", [1, 2, 3])
async def test_without_forks_it_is_independent_sampling(session, segment):
    search = sampler(width=3000, segment=segment, divergence=1, first=(3000, 3000), fallback="none")
    assert await misfit(session, search) < 1


async def test_with_forks_words_are_not_independent(session):
    search = sampler(width=3000, segment=1, divergence=2000, first=(2, 2), fallback="none")
    assert await misfit(session, search) > 2


@pytest.mark.parametrize("seed", range(6))
async def test_tokens_of_the_tree_are_at_most_those_of_its_trajectories(session, seed):
    for divergence, first in ((1, (8, 8)), (2, (2, 2)), (3, (1, 4))):
        search = sampler(divergence=divergence, first=first, fallback="none")
        outcome = await run(search, session(LONG, seed=seed), Majority())
        sums = sum(tokens(leaf) for leaf in trajectories(outcome.tree))
        assert outcome.spent.generated <= sums
        assert (outcome.spent.generated == sums) == (divergence == 1)


async def test_shared_prefixes_save_tokens(session):
    """Six segments of two tokens: 2, 4, 8, 16, 16, 16 of them in place of 16 each time; a random start saves less."""
    endless, spent = Toy("abc", length=20), Counter()
    for first in (None, (2, 8), (16, 16)):
        for seed in range(10):
            outcome = await run(sampler(width=16, first=first), session(endless, seed=seed), Majority())
            assert len(trajectories(outcome.tree)) == 16
            spent[first] += outcome.spent.generated
    assert spent[None] == 10 * 2 * (2 + 4 + 8 + 16 + 16 + 16)
    assert spent[16, 16] == 10 * 2 * (16 * 6)
    assert spent[None] < spent[2, 8] < 0.9 * spent[16, 16]


@dataclass(frozen=True)
class Watched(TreePO):
    """Checks each round."""

    def diverge(self, s, active, missing, ended):
        after = super().diverge(s, active, missing, ended)
        assert set(after) == set(active)
        assert len(active) <= len(after) <= max(missing, len(active))
        if self.divergence_by == "fixed":
            assert len(after) == max(min(missing, self.divergence * (len(active) + ended)), len(active))
        counts = Counter(after)
        assert all(counts[node] >= n for node, n in Counter(active).items())
        s.note(s.root, copies=max(len(after), s.root.notes.get("copies", 0)))
        return after

    def fall_back(self, s, finished, missing):
        after = super().fall_back(s, finished, missing)
        assert 1 <= len(after) <= missing and not any(node.terminal or node.depth >= self.depth for node in after)
        s.note(s.root, fallbacks=s.root.notes.get("fallbacks", 0) + 1)
        return after


FORMS = {
    "fixed": {},
    "random": {"divergence_by": "random", "divergence": 1, "divergence_max": 4},
    "tokens": {"divergence_by": "tokens", "divergence": 9},
    "last": {"remainder": "last"},
    "logprob": {"allocation": "logprob"},
    "node": {"allocation": "inverse_node_logprob"},
    "norm": {"allocation": "norm_logprob", "temperature": 0.1},
}


@pytest.mark.parametrize("form", FORMS)
async def test_what_holds_in_every_round(session, form):
    for seed in range(8):
        search = Watched(width=9, segment=2, depth=5, first=(1, 4), **FORMS[form])
        outcome = await run(search, session(LONG, seed=seed), Majority())
        leaves = trajectories(outcome.tree)
        assert len(leaves) >= 9
        for leaf in leaves:
            steps = [step for step in leaf.prefix.steps if step.tokens]
            assert len(steps) <= 5 and tokens(leaf) <= 10
            assert all(len(step.tokens) == 2 for step in steps[:-1]) and len(steps[-1].tokens) <= 2


async def test_the_first_round_forks_within_its_range(session):
    found = Counter()
    for seed in range(400):
        s = session(Toy(length=1), seed=seed)
        await run(sampler(first=(2, 5), width=5, fallback="none"), s, Majority())
        found[sum(child.times for child in s.root.children)] += 1
    assert set(found) == {2, 3, 4, 5} and all(abs(count - 100) < 35 for count in found.values())
    s = session(LONG)
    await run(sampler(first=None, divergence=3, fallback="none"), s, Majority())
    assert sum(child.times for child in s.root.children) == 3


async def test_a_round_of_so_many_tokens_is_so_many_segments(session):
    search = Watched(width=50, segment=2, depth=6, first=(2, 2), divergence_by="tokens", divergence=9, fallback="none")
    s = session(Toy("abc", length=12))
    await run(search, s, Majority())
    assert s.root.notes["copies"] == 4


async def test_a_width_in_tokens_is_what_they_will_do_for(session):
    """What is left over the length the active paths will have in a segment's time, beside those finished."""
    s, search = session(), sampler(width_by="tokens", width_tokens=60, min_width=3)
    short, long = node_of(s, "abcd"), node_of(s, "ab", "cdefgh")
    done = search.finish(s, node_of(s, "abcdefghijkl", finish=Finish.END), Ending.END)
    assert search.wanted([], [short]) == 8  # 60 // 6 is 10, but 8 are wanted
    assert search.wanted([done], [short, long]) == 48 // 8 + 1
    assert search.wanted([done] * 4, [short, long]) == 12 // 8 + 4
    assert search.wanted([done] * 2, [node_of(s, "a" * 50)]) == 3  # the least
    assert sampler().wanted([done] * 99, [short]) == 8
    few = await run(sampler(width=30, width_by="tokens", width_tokens=60), session(LONG), Majority())
    many = await run(sampler(width=30, width_by="tokens", width_tokens=600), session(LONG), Majority())
    assert len(trajectories(few.tree)) < len(trajectories(many.tree))


# why a trajectory ends


def node_of(s, *texts, finish=Finish.STEP):
    node = s.root
    for i, content in enumerate(texts):
        last = i == len(texts) - 1
        tokens = tuple(map(ord, content))
        segment = Segment(tokens, content, (-0.1,) * len(tokens), finish if last else Finish.STEP)
        node = s.put(node, segment, draws=1)
    return node


BOX = r"so \boxed{3}"
LOOP = "round and round it goes and where it stops " * 8
RULES = [
    # settings, segments, finish, ending
    ({}, ["so"], Finish.STEP, None),
    ({}, [BOX], Finish.STEP, Ending.ANSWERED),
    ({}, [BOX], Finish.END, Ending.ANSWERED),
    ({}, ["so"], Finish.END, Ending.END),
    ({}, ["so", ""], Finish.EMPTY, Ending.END),
    ({}, ["so"], Finish.LENGTH, Ending.UNFINISHED),
    ({}, [r"so \box", "ed{3}"], Finish.STEP, Ending.ANSWERED),  # over two segments
    ({"look": "segment"}, [r"so \box", "ed{3}"], Finish.STEP, None),
    ({"look": "segment"}, ["so", BOX], Finish.STEP, Ending.ANSWERED),
    ({"box": "and_eos"}, [BOX], Finish.STEP, None),
    ({"box": "and_eos"}, [BOX], Finish.END, Ending.ANSWERED),
    ({"box": "and_eos"}, ["so"], Finish.END, Ending.END),
    ({"box": "and_eos", "look": "segment"}, [BOX, "."], Finish.END, Ending.END),
    ({"box": "ignored"}, [BOX], Finish.STEP, None),
    ({"box": "ignored"}, [BOX], Finish.END, Ending.END),
    ({"max_tokens": 2}, ["so"], Finish.STEP, Ending.TOKENS),
    ({"max_tokens": 3}, ["so"], Finish.STEP, None),
    ({"max_tokens": 2}, ["so"], Finish.END, Ending.END),  # the end comes before the limit
    ({"max_tokens": 12}, [BOX], Finish.STEP, Ending.ANSWERED),  # so does the box
    ({"depth": 2}, ["s", "o"], Finish.STEP, Ending.DEPTH),
    ({"depth": 3}, ["s", "o"], Finish.STEP, None),
    ({"depth": 2, "max_tokens": 2}, ["s", "o"], Finish.STEP, Ending.TOKENS),  # tokens before depth
    ({}, [LOOP], Finish.STEP, Ending.REPETITION),
    ({"repetition": "ignored"}, [LOOP], Finish.STEP, None),
    ({}, [LOOP, "so"], Finish.STEP, None),  # only the new segment
    ({"depth": 1}, [LOOP], Finish.STEP, Ending.DEPTH),  # least prioritised: last
    ({"depth": 1, "repetition": "most"}, [LOOP], Finish.STEP, Ending.REPETITION),
    ({}, [LOOP + BOX], Finish.END, Ending.ANSWERED),
    ({"repetition": "most"}, [LOOP + BOX], Finish.END, Ending.REPETITION),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_ending_rule(session, rule):
    fields, texts, finish, ending = rule
    assert TreePO(**fields).ending(node_of(session(), *texts, finish=finish)) == ending


@pytest.mark.parametrize(
    ("text", "finish", "complete"),
    [(BOX, Finish.STEP, True), (BOX, Finish.END, True), (LOOP, Finish.STEP, False)],
)
def test_what_ends_is_closed_as_what_it_is(session, text, finish, complete):
    s, search = session(), TreePO()
    node = node_of(s, text, finish=finish)
    trajectory = search.finish(s, node, search.ending(node))
    assert (trajectory.leaf.complete, trajectory.tokens) == (complete, len(text))
    assert trajectory.leaf.prefix.text == text
    assert trajectory.leaf.notes["ending"] == trajectory.ending
    assert (trajectory.leaf is node) == (finish is Finish.END)


async def test_an_answer_ends_the_path(session):
    search = sampler(answered=lambda text: "c" in text)
    outcome = await run(search, session(Toy("abc", length=12)), Majority())
    answers = outcome.tree.answers()
    assert answers and all("c" in leaf.prefix.text[-2:] and "c" not in leaf.prefix.text[:-2] for leaf in answers)
    assert sum(node.times for node in answers) == outcome.candidates


async def test_paths_too_short_do_not_count(session):
    outcome = await run(sampler(min_tokens=5, fallbacks=50), session(LONG), Majority())
    lengths = [tokens(leaf) for leaf in trajectories(outcome.tree)]
    assert sum(length >= 5 for length in lengths) >= 8 > 0 < sum(length < 5 for length in lengths)


# falling back


@pytest.mark.parametrize("position", ["random", "min_logprob_token", "block", "inverse_block", "from_start"])
@pytest.mark.parametrize("source", ["finished_first", "finished_first_strict", "random_all", "ended", "longer_first"])
async def test_a_fallback_fills_up_what_is_missing(session, position, source):
    fields = {"width": 7, "segment": 3, "depth": 4, "divergence": 1, "first": (1, 1), "window": 2, "block": 2}
    s = session(LONG)
    outcome = await run(Watched(**fields, position=position, fallback=source), s, Majority())
    assert len(trajectories(outcome.tree)) == 7
    assert 3 <= s.root.notes["fallbacks"] <= 6
    none = await run(Watched(**fields, position=position, fallback="none"), session(LONG), Majority())
    assert len(trajectories(none.tree)) == 1


async def test_fallbacks_are_bounded(session):
    s = session(LONG)
    await run(Watched(width=30, segment=2, divergence=1, first=(1, 1), fallbacks=2), s, Majority())
    assert s.root.notes["fallbacks"] == 2 and len(trajectories(s.tree)) < 30


async def test_a_fallback_reuses_what_it_keeps(session):
    """Two leaves that branch at a cut share exactly the tokens before it."""
    fields = {"width": 6, "segment": 4, "depth": 3, "divergence": 1, "first": (1, 1)}
    outcome = await run(TreePO(**fields, position="random", window=3, back=1), session(LONG), Majority())
    assert outcome.spent.generated < sum(tokens(leaf) for leaf in trajectories(outcome.tree))
    for node in outcome.tree.nodes[1:]:
        if 0 < len(node.segment.tokens) < 4 and not node.terminal:
            longer = [
                other
                for other in node.parent.children
                if other.segment.tokens[: len(node.segment.tokens)] == node.segment.tokens
            ]
            assert len(longer) > 1  # the segment it was cut from


def test_what_needs_to_be_read(session):
    assert TreePO().needs == TreePO(position="random").needs == TreePO(position="block", fallback="none").needs == ()
    assert TreePO(position="random", window=1024).needs == ()
    assert TreePO(position="random", window=100).needs == ("reads",)
    assert TreePO(position="min_logprob_token").needs == ("logprobs", "reads")


async def test_the_prefix_weighted_vote_gives_each_first_step_one_vote(session):
    s = session()
    for words in (["a", "x"], ["a", "x", ""], ["a", "b", "x"], ["b", "y"], ["c", "y"]):
        node_of(s, *words[:-1], words[-1] + "=", finish=Finish.END)

    class LastLetter(SameText):
        async def classes(self, texts):
            return await super().classes([text.rstrip("=")[-1] for text in texts])

    answers = s.tree.answers()
    assert (await Majority()(answers, LastLetter())).prefix.text == "ax="
    assert (await PrefixWeighted()(answers, LastLetter())).prefix.text == "by="
    assert await PrefixWeighted()([], LastLetter()) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 0),
        ("segment", 0),
        ("depth", 0),
        ("max_tokens", 0),
        ("divergence", 0),
        ("window", 0),
        ("back", 0),
        ("block", 0),
        ("min_width", 0),
        ("answer_windows", 0),
        ("min_tokens", -1),
        ("fallbacks", -1),
        ("temperature", 0.0),
        ("first", (3, 2)),
        ("first", (0, 2)),
        ("divergence_max", 3),
        ("width_tokens", 3),
        ("allocation", "odd"),
        ("divergence_by", "chance"),
        ("width_by", "depth"),
        ("remainder", "first"),
        ("box", "yes"),
        ("look", "away"),
        ("repetition", "yes"),
        ("fallback", "up"),
        ("position", "up"),
    ],
)
def test_settings_that_make_no_sense_are_refused(field, value):
    with pytest.raises(ConfigError) as caught:
        TreePO(**{field: value})
    assert caught.value.field == field
