"""Steps by draw: nothing lost, nothing counted twice, dealt out fairly."""

from collections import Counter

from policies.toy import Toy
from search.draws import each_draw


async def test_a_step_drawn_twice_comes_twice(session):
    s = session(Toy("ab", length=9))
    (first,) = await each_draw(s, [s.root], 12)
    assert len(first) == 12 and set(first) == set(s.root.children)
    assert Counter(first) == {child: child.times for child in s.root.children}
    (second,) = await each_draw(s, [s.root], 5)  # counts what is new, not what was there
    assert len(second) == 5
    assert Counter(first) + Counter(second) == {child: child.times for child in s.root.children}


async def test_they_are_the_draws_of_one_expansion(session):
    s, plain = session(Toy(), seed=3), session(Toy(), seed=3)
    (drawn,) = await each_draw(s, [s.root], 7, temperature=0.5)
    children = await plain.expand(plain.root, 7, temperature=0.5)
    assert list(dict.fromkeys(node.segment.text for node in drawn)) == [node.segment.text for node in children]


async def test_places_at_one_node_share_its_draws_at_random(session):
    unequal = 0
    for seed in range(20):
        s = session(Toy("ab", length=9), seed=seed)
        a, b, c = await each_draw(s, [s.root] * 3, 4)
        assert Counter(a + b + c) == {child: child.times for child in s.root.children}
        assert (len(a), len(b), len(c), s.root.draws) == (4, 4, 4, 12)
        unequal += Counter(a) != Counter(b)
    assert unequal > 5


async def test_other_nodes_have_their_own(session):
    s = session(Toy("ab", length=9))
    left, right = await s.expand(s.root, 20)
    found = await each_draw(s, [left, right, left], 2)
    assert [{node.parent for node in nodes} for nodes in found] == [{left}, {right}, {left}]
    assert (left.draws, right.draws) == (4, 2)
