"""The lattice beside the tree: its classes, its paths, and that it never runs in a circle."""

import pytest

from search.lattice import Lattice
from search.tree import Tree
from search.types import Finish, Segment


def spell(*words):
    """A tree of words, each ended by "."; nodes by their word."""
    tree = Tree(Segment((0,), "q"))
    nodes = {"": tree.root}
    for word in words:
        node = tree.root
        for i, letter in enumerate(word):
            ends = letter == "."
            segment = Segment((ord(letter),), "" if ends else letter, (-1.0,), Finish.EMPTY if ends else Finish.STEP)
            node = nodes[word[: i + 1]] = tree.add(node, segment)
            node.notes["logprob"] = -float(node.depth)
    return tree, nodes


def test_without_merges_it_is_the_tree():
    tree, nodes = spell("ab.", "ac.", "b.")
    lattice = Lattice(tree.root)
    assert lattice.count() == 3
    assert sorted(lattice.texts()) == ["ab", "ac", "b"]
    assert lattice.after(nodes["a"]) == [nodes["ab"], nodes["ac"]]


def test_what_follows_one_follows_the_other():
    tree, nodes = spell("axy.", "axz.", "bx")
    lattice = Lattice(tree.root)
    assert lattice.count() == 2
    assert lattice.merge(nodes["bx"], nodes["ax"]) is nodes["bx"]
    assert lattice.name(nodes["bx"]) is nodes["ax"]
    assert sorted(lattice.texts()) == ["axy", "axz", "bxy", "bxz"]
    assert lattice.count() == 4


def test_merges_of_prefixes_share_what_each_of_them_led_to():
    tree, nodes = spell("axy.", "bx", "bw.")
    lattice = Lattice(tree.root)
    lattice.merge(nodes["bx"], nodes["ax"])
    assert lattice.merge(nodes["b"], nodes["a"]) is nodes["b"]
    assert sorted(lattice.texts()) == ["aw", "axy"]  # spelt as the older one spells itself


def test_tokens_listed_but_not_taken_are_no_part_of_it():
    tree, nodes = spell("ab.", "ac.")
    del nodes["ac"].notes["logprob"]
    assert Lattice(tree.root).count() == 1


def test_a_circle_is_refused():
    tree, nodes = spell("aba.", "c.")
    lattice = Lattice(tree.root)
    assert lattice.merge(nodes["aba"], nodes["a"]) is None
    assert lattice.merge(nodes["a"], nodes["aba"]) is None
    assert lattice.merge(nodes["a"], nodes["a"]) is None
    assert lattice.merge(nodes["c"], nodes["ab"]) is nodes["c"]
    assert lattice.merge(nodes["a"], nodes["c"]) is None  # a leads to ab, which c is now
    assert lattice.reaches(nodes["a"], nodes["c"]) and not lattice.reaches(nodes["c"], nodes["a"])


def test_it_is_read_back_from_the_notes():
    tree, nodes = spell("axy.", "axz.", "bx", "cx")
    lattice = Lattice(tree.root)
    for word in ("cx", "bx"):
        gone = lattice.merge(nodes[word], nodes["ax"])
        gone.notes["merged"] = lattice.name(gone).id
    again = Lattice.of(Tree.from_json(tree.to_json()))
    assert sorted(again.texts()) == sorted(lattice.texts())
    assert again.count() == lattice.count() == 6


def test_many_paths_are_counted_without_being_listed():
    tree = Tree(Segment((0,), "q"))
    lattice, node = Lattice(tree.root), tree.root
    for _ in range(50):
        a, b = (tree.add(node, Segment((t,), str(t), (-1.0,))) for t in (1, 2))
        for each in (a, b):
            each.notes["logprob"] = -1.0
        node = tree.add(a, Segment((3,), "3", (-1.0,)))
        other = tree.add(b, Segment((3,), "3", (-1.0,)))
        node.notes["logprob"] = other.notes["logprob"] = -1.0
        lattice.merge(other, node)
    tree.add(node, Segment((4,), "", (-1.0,), Finish.EMPTY)).notes["logprob"] = -1.0
    assert lattice.count() == 2**50
    assert next(lattice.texts()) == "13" * 50


@pytest.mark.parametrize("words", [("",), ("ab",)])
def test_without_an_end_there_is_no_path(words):
    tree, _ = spell(*words)
    assert Lattice(tree.root).count() == 0
    assert list(Lattice(tree.root).paths()) == []
