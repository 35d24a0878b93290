"""AB-MCTS-A against a plain implementation with the same dice, and what its posteriors must count."""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass

import pytest

from policies.toy import Toy
from search.algorithms.ab_mcts import ABMCTS
from search.algorithms.flat import Flat
from search.errors import ConfigError
from search.posterior import Beta
from search.run import run
from search.types import Cost, Finish, Reply, Segment, Verdict
from verifiers.toy import Hidden


class Noisy:
    """Scores that have nothing to do with anything."""

    async def score(self, prefixes):
        return [Verdict(random.Random(prefix.digest).random()) for prefix in prefixes]


def gauss(rewards, rng, m=0.0, kappa=1.0, nu=1.0, tau2=0.1):
    """A draw from the posterior of all rewards at once, by the formulas of the notes on the paper's code."""
    n = len(rewards)
    mean = sum(rewards) / n if n else 0.0
    squares = nu * tau2 + sum((r - mean) ** 2 for r in rewards) + n * kappa * (m - mean) ** 2 / (kappa + n)
    shape, scale = (nu + n) / 2, squares / 2
    sigma2 = scale / rng.gammavariate(shape, 1.0)
    return rng.gauss((kappa * m + n * mean) / (kappa + n), (sigma2 / (kappa + n)) ** 0.5)


def jeffreys(rewards, rng):
    return rng.betavariate(0.5 + sum(rewards), 0.5 + sum(1 - r for r in rewards))


async def plainly(s, generations, actions, stack, draw):
    """The same search by recursion over lists of rewards, one generation at a time; who made what, in order."""
    lists = defaultdict(list)
    order, made = [], set()

    def best(options):
        if len(options) == 1:
            return options[0][0]
        drawn = [draw(lists[key], s.rng) for _, key in options]
        return options[drawn.index(max(drawn))][0]

    async def visit(node, name):
        """Widens below `node`, named by its path of (action, child) pairs; the reward."""
        by = best([(a, (name, "action", a)) for a in actions]) if stack else None
        below = [c for c in lists[name, "children"] if by is None or c[-1][0] == by]
        if below and best([(0, (name, by, "gen")), (1, (name, by, "cont"))]):
            child = best([(c, (c, "own")) for c in below])
            reward = await visit(child[-1][1], child)
            if reward is not None:
                lists[child, "own"].append(reward)
                lists[name, by, "cont"].append(reward)
                lists[name, "action", child[-1][0]].append(reward)
            return reward
        by = by or best([(a, ("all", a)) for a in actions])
        (step,) = await s.expand(node, 1, by=by)
        reward = (await s.score([step]))[0]
        order.append((by, step.id))
        if step in made:
            lists[name, by if stack else None, "gen"].append(0.0)
            return None
        made.add(step)
        lists[name, by if stack else None, "gen"].append(reward)
        lists["all", by].append(reward)
        lists[name, "action", by].append(reward)
        if not step.terminal:
            lists[name, "children"].append((*name, (by, step)))
            lists[(*name, (by, step)), "own"].append(reward)
        return reward

    for _ in range(generations):
        await visit(s.root, ())
    return order


@dataclass(frozen=True)
class Forgetful(ABMCTS):
    """Broken: what grows below a child says nothing about going on."""

    def learn(self, known, parent, action, child, reward):
        super().learn(known, parent, action, child, reward)
        known.of = {key: belief for key, belief in known.of.items() if key[1:2] != ("cont",)}


SETTINGS = {
    "one": {},
    "bandit": {"actions": ("policy", "draft")},
    "stack": {"actions": ("policy", "draft"), "choose": "stack"},
    "beta": {"posterior": Beta(), "actions": ("draft", "policy")},
}


async def both(session, kind, seed, **setting):
    roles = {"draft": Toy("bcd", length=5, end=0.1)}
    generations = 40
    mine, plain = [session(Toy("ab", length=6, end=0.1), Noisy(), seed=seed, roles=roles) for _ in range(2)]
    outcome = await run(kind(generations=generations, **setting), mine)
    draw = jeffreys if "posterior" in setting else gauss
    stack = setting.get("choose") == "stack"
    await plainly(plain, generations, setting.get("actions", ("policy",)), stack, draw)
    return outcome.tree, plain.tree


def drawn(tree):
    return [(node.prefix.text, node.times, node.draws) for node in tree]


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
async def test_it_grows_the_tree_of_a_plain_implementation(session, setting):
    wrong = 0
    for seed in range(15):
        mine, plain = await both(session, ABMCTS, seed, **setting)
        assert drawn(mine)[: len(plain)] == drawn(plain)
        assert len(mine) - len(plain) in (0, 1)  # a completion where no step ended
        broken, plain = await both(session, Forgetful, seed, **setting)
        wrong += drawn(broken)[: len(plain)] != drawn(plain)
    assert wrong > 10


@dataclass(frozen=True)
class Watched(ABMCTS):
    """Hands out what it knows."""

    seen: tuple = ()

    def learn(self, known, *rest):
        super().learn(known, *rest)
        if known not in self.seen:
            self.seen.append(known)


async def test_posteriors_count_what_was_generated_and_what_grew_below(session):
    seen = []
    outcome = await run(Watched(generations=60, seen=seen), session(Toy("ab", length=3), Noisy()))
    (known,) = seen
    widened = Counter()
    for node in outcome.tree:
        gen, cont, own = (known[key].kappa - 1 for key in ((node, "gen", ""), (node, "cont", ""), (node, "own")))
        assert gen == node.draws
        assert cont == len(below(node)) - len(node.children)  # a step drawn again counts at its parent alone
        if node.parent:
            assert own == 1 + len(below(node))
        widened[node] = gen
    assert sum(widened.values()) == 60
    assert outcome.tree.root.visits == 60


def below(node):
    return [n for child in node.children for n in (child, *below(child))]


async def test_it_finds_more_than_flat_sampling(session):
    word, language = Hidden("abbaba"), Toy("ab", length=6)
    found = Counter()
    for seed in range(20):
        for name, search in (("tree", ABMCTS(generations=100)), ("flat", Flat(100 // 7))):
            outcome = await run(search, session(language, word, seed=seed))
            found[name] += outcome.answer.prefix.text == "abbaba"
    assert found["tree"] >= 14 and found["flat"] <= 5


class Reviser:
    """Answers with a number: a fresh one is drawn from `fresh`, a refined one is `better` than the one before."""

    def __init__(self, fresh, better):
        self.fresh, self.better = fresh, better

    def write(self, text):
        return Segment((1,), text)

    turn = write

    def vocabulary_size(self):
        return 2

    async def sample(self, requests):
        return [self.reply(request) for request in requests]

    def reply(self, request):
        answers = [float(step.text) for step in request.prefix.steps if step.by == "policy"]
        draws = [random.Random(seed).uniform(*self.fresh) for seed in request.seeds]
        values = [min(max(answers[-1] + self.better * (0.5 + x), 0.0), 1.0) if answers else x for x in draws]
        texts = [f"{value:.6f}" for value in values]
        ends = tuple(Segment((1,), text, (-0.5,), Finish.END) for text in texts)
        return Reply(ends, Cost(generated=len(ends), policy_calls=1))

    async def score(self, prefixes):
        return [Verdict(float(prefix.text or 0)) for prefix in prefixes]


async def test_it_goes_deeper_where_refining_helps_and_wider_where_it_does_not(session):
    def wide(outcome):
        return len(outcome.tree.root.children) / 40

    shares = {"helps": [], "spoils": []}
    for seed in range(10):
        for name, model in (("helps", Reviser((0.0, 0.3), 0.1)), ("spoils", Reviser((0.5, 0.9), -0.4))):
            outcome = await run(ABMCTS(generations=40, nodes="answers"), session(model, model, seed=seed))
            shares[name].append(wide(outcome))
            assert outcome.answer.score == max(node.score for node in outcome.tree.answers())
            assert len(outcome.tree.answers()) == 40
    helps, spoils = (sum(shares[name]) / 10 for name in ("helps", "spoils"))
    assert helps < 0.35 and spoils > 0.6


async def test_a_better_answer_follows_a_turn_of_the_user(session):
    model = Reviser((0.0, 0.3), 0.2)
    outcome = await run(ABMCTS(generations=20, nodes="answers", refine="Again.", depth=2), session(model, model))
    for node in outcome.tree.nodes[1:]:
        if node.complete:
            assert node.parent is outcome.tree.root or node.parent.segment.by == "user"
        else:
            assert (node.segment.text, node.segment.by, node.parent.complete) == ("Again.", "user", True)
    deepest = max(node.depth for node in outcome.tree)
    assert deepest == 5  # an answer and two refinements


@pytest.mark.parametrize(("choose", "times"), [("bandit", 5), ("stack", 1.2)])
async def test_of_two_policies_the_better_one_is_asked_more(session, choose, times):
    """A bandit knows who is better everywhere; a stack learns it anew at each node."""
    counts, roles = Counter(), {"draft": Toy("ab", length=30)}
    for seed in range(10):
        s = session(Toy("cd", length=30), Hidden("a" * 30), seed=seed, roles=roles)
        outcome = await run(ABMCTS(generations=60, actions=("policy", "draft"), choose=choose), s)
        for node in outcome.tree.nodes[1:]:
            counts[node.segment.text in ("a", "b")] += node.times * (len(node.segment.text) == 1)
    assert counts[True] > times * counts[False]


async def test_what_it_needs_is_said_and_missing_parts_are_refused(session):
    assert ABMCTS().needs == ("verifier",)
    assert ABMCTS(actions=["policy", "draft"], nodes="answers").needs == ("verifier", "roles.draft", "writes")
    with pytest.raises(ConfigError, match="draft"):
        await run(ABMCTS(actions=("draft",)), session())


async def test_without_an_answer_among_the_steps_the_best_path_is_completed(session):
    outcome = await run(ABMCTS(generations=4, depth=2), session(Toy(length=9), Hidden("abcabcabc")))
    (answer,) = outcome.tree.answers()
    assert outcome.answer is answer and answer.parent.depth <= 2
    assert answer.parent.score == max(n.score for n in outcome.tree if n.scored and n is not answer)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"generations": 0}, "generations"),
        ({"parallel": 0}, "parallel"),
        ({"depth": 0}, "depth"),
        ({"nodes": "words"}, "nodes"),
        ({"choose": "dice"}, "choose"),
        ({"actions": ()}, "actions"),
        ({"actions": ("a", "a")}, "actions"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        ABMCTS(**fields)
    assert caught.value.field == field
