"""Lattice decoding: a plain best-first search where nothing is merged; a sound lattice where something is."""

import math
from itertools import pairwise

import networkx
import pytest

from policies.toy import Toy
from search.algorithms.lattice import LatticeSearch
from search.budget import Budget
from search.errors import ConfigError
from search.lattice import Lattice
from search.run import run
from verifiers.toy import Hidden

END = "."


def called(seen, tree):
    """The words whose successors were asked for, in order."""
    charged = (event for event in seen if event.kind == "charged" and event.cost.policy_calls)
    return [tree.nodes[event.node].prefix.text for event in charged]


def plain(toy, calls, top, alpha):
    """Best-first search with completion in depth, on words: the words asked about in order, and those that ended."""
    asked, ended, heap, age = [], set(), [(0.0, 0, 0.0, "")], 0
    while heap and len(asked) < calls:
        heap.sort()
        _, _, s, word = heap.pop(0)
        while not word.endswith(END) and len(asked) < calls:
            asked.append(word)
            row = sorted(toy.distribution(word).items(), key=lambda item: -item[1])[:top]
            for letter, p in row[1:]:
                age += 1
                longer = len(word) + 1
                heap.append((-(s + math.log(p)) / longer**alpha, age, s + math.log(p), word + letter))
            word, s = word + row[0][0], s + math.log(row[0][1])
        if word.endswith(END):
            ended.add(word)
    return asked, ended


@pytest.mark.parametrize("alpha", [0.0, 0.75])
async def test_without_merges_it_is_best_first_search_in_depth(session, language, alpha):
    for seed in range(40):
        toy, seen = language(seed, length=6), []
        search = LatticeSearch(calls=40, top=3, alpha=alpha, recombine="none")
        outcome = await run(search, session(toy, None, sinks=[seen.append]))
        asked, ended = plain(toy, 40, 3, alpha)
        assert called(seen, outcome.tree) == asked
        taken = [node for node in outcome.tree.answers() if "logprob" in node.notes]
        assert {node.prefix.text + END for node in taken} == ended
        assert Lattice.of(outcome.tree).count() == len(ended)
        assert outcome.answer is max(taken, key=lambda node: node.notes["logprob"] / node.depth**alpha)


def independent(tree):
    """The lattice by networkx, from the notes alone: classes of merged nodes as one graph."""
    same = networkx.Graph()
    taken = [node for node in tree if node is tree.root or "logprob" in node.notes]
    same.add_nodes_from(node.id for node in taken)
    same.add_edges_from((node.id, int(node.notes["merged"])) for node in taken if "merged" in node.notes)
    of = {id: number for number, ids in enumerate(networkx.connected_components(same)) for id in ids}
    graph = networkx.DiGraph()
    graph.add_nodes_from(of.values())
    graph.add_edges_from((of[node.parent.id], of[node.id]) for node in taken if node.parent)
    ends = {of[node.id] for node in taken if node.complete}
    return graph, of, ends


def paths(graph, start, ends):
    count = dict.fromkeys(graph, 0) | dict.fromkeys(ends, 1)
    for node in reversed(list(networkx.topological_sort(graph))):
        count[node] += sum(count[after] for after in graph.successors(node))
    return count[start]


@pytest.mark.parametrize("recombine", ["rcb", "zip"])
@pytest.mark.parametrize("parallel", [1, 3])
async def test_the_lattice_is_sound(session, language, recombine, parallel):
    merged = 0
    for seed in range(12):
        toy = language(seed, "abcdef", length=9)
        search = LatticeSearch(calls=50, top=4, recombine=recombine, match=2, gap=3, parallel=parallel)
        outcome = await run(search, session(toy, None))
        tree = outcome.tree
        assert outcome.spent.policy_calls == 50
        graph, of, ends = independent(tree)
        assert networkx.is_directed_acyclic_graph(graph)
        lattice = Lattice.of(tree)
        assert lattice.count() == paths(graph, of[0], ends) == len(list(lattice.paths()))
        finished = [node for node in tree.answers() if "logprob" in node.notes]
        assert lattice.count() >= len(finished)
        if recombine == "rcb":
            assert {node.prefix.text for node in finished} <= set(lattice.texts())
        for node in tree:
            if "merged" in node.notes:
                merged += 1
                other = tree.nodes[int(node.notes["merged"])]
                assert other.id < node.id
                assert node.segment.tokens == other.segment.tokens
                if recombine == "rcb":
                    assert node.prefix.text[-2:] == other.prefix.text[-2:]
                    assert sum(bool(member.children) for member in lattice.members(node)) <= 1
        for path in lattice.paths():
            for before, after in pairwise(path):
                assert after in lattice.after(before)
    assert merged > 50


async def test_merging_finds_more_paths_with_the_same_calls(session, language):
    found = {}
    for recombine in ("none", "rcb", "zip"):
        counts = []
        for seed in range(10):
            search = LatticeSearch(calls=60, top=3, recombine=recombine, match=2)
            counts.append(Lattice.of((await run(search, session(language(seed, length=9), None))).tree).count())
        found[recombine] = sum(counts)
    assert found["none"] < found["rcb"] < found["zip"]


async def test_repetition_makes_no_circle(session):
    toy = Toy("ab", length=12, end=0.1)
    for match in (1, 2, 3):
        outcome = await run(LatticeSearch(calls=80, top=3, match=match, gap=8), session(toy, None))
        assert networkx.is_directed_acyclic_graph(independent(outcome.tree)[0])
        assert Lattice.of(outcome.tree).count() > 0


async def test_a_copy_that_allows_circles_is_found_out(session, monkeypatch):
    monkeypatch.setattr(Lattice, "reaches", lambda self, node, other: self.name(node) is self.name(other))
    outcome = await run(LatticeSearch(calls=80, top=3, match=2, gap=8), session(Toy("ab", length=12, end=0.1), None))
    assert not networkx.is_directed_acyclic_graph(independent(outcome.tree)[0])


async def test_only_hypotheses_of_nearly_the_same_length_are_merged(session, language):
    for gap in (1, 2, 4):
        search = LatticeSearch(calls=80, match=1, gap=gap, recombine="rcb")
        tree = (await run(search, session(language(2, length=12), None))).tree
        lattice = Lattice.of(tree)
        merged = {node for node in tree if len(lattice.members(node)) > 1}
        continued = {node: next(other for other in lattice.members(node) if other.children) for node in merged}
        assert max(abs(node.depth - other.depth) for node, other in continued.items()) == gap - 1


async def test_when_all_is_explored_it_ends_before_its_calls(session, language):
    toy = language(1, "ab", length=3)
    outcome = await run(LatticeSearch(calls=1000, recombine="none"), session(toy, None))
    assert outcome.spent.policy_calls == 15
    assert Lattice.of(outcome.tree).count() == len(toy.probabilities())


async def test_hypotheses_that_are_too_long_are_dead(session, language):
    outcome = await run(LatticeSearch(calls=50, length=4), session(language(1, length=9), None))
    assert outcome.tree.depth == 4
    assert not any(node.children for node in outcome.tree if node.depth == 4)


async def test_the_verifier_may_choose(session, language):
    s = session(language(1, "ab", length=3), Hidden("bba"))
    outcome = await run(LatticeSearch(calls=1000, recombine="none", choose="verifier"), s)
    assert outcome.answer.prefix.text == "bba"


async def test_when_the_budget_ends_the_best_finished_is_the_answer(session, language):
    s = session(language(3, length=9), None, budget=Budget({"policy_calls": 30}))
    outcome = await run(LatticeSearch(alpha=0.0), s)
    taken = [node for node in outcome.tree.answers() if "logprob" in node.notes]
    assert outcome.stopped == "policy_calls"
    assert outcome.answer is max(taken, key=lambda node: node.notes["logprob"])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"calls": 0}, "calls"),
        ({"top": 0}, "top"),
        ({"match": 0}, "match"),
        ({"gap": 0}, "gap"),
        ({"length": 0}, "length"),
        ({"parallel": 0}, "parallel"),
        ({"alpha": -1}, "alpha"),
        ({"recombine": "all"}, "recombine"),
        ({"choose": "me"}, "choose"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        LatticeSearch(**fields)
    assert caught.value.field == field
