"""One small readable tree per search, kept in files: what a change does to a search is seen as a difference.

`make golden` writes them again; look at the difference before it is committed.
"""

import asyncio
import math
import os
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.commandline import CONF
from experiments.parts import build, make
from policies.toy import Toy
from search.budget import Budget
from search.needs import check
from search.run import run
from search.select import SameText
from search.session import Session
from search.types import Sampling, Segment
from search.worlds import still
from verifiers.toy import Hidden

NAMES = sorted(path.stem for path in (CONF / "search").glob("*.yaml"))
ROLES = {"draft": Toy(end=0.3), "judge": Toy(end=0.5), "amateur": Toy(end=0.2), "executor": Toy(end=0.5)}
TREES = Path(__file__).parent / "trees"
TOKENS = 60
SMALL = {  # what would not get beyond its first round
    "phi": ["search.beams=2", "search.width=2", "search.least=2", "search.clusters=2"],
    "predictive": ["search.width=3"],
}


def drawn(name):
    """The tree a search grows for the word abcab with at most 60 tokens, as text."""
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        composed = compose("config", overrides=["debug=toy", f"search={name}", *SMALL.get(name, [])])
    composed.verifier = composed.roles = None  # those of a real model stand aside for the toy's
    settings = OmegaConf.to_container(composed, resolve=True)
    steps = {**settings["steps"], "until": build("steps.until", settings["steps"]["until"])}
    longest = steps.pop("max_whole")
    step = make("steps", Sampling, steps)
    search, select = build("search", settings["search"]), build("select", settings["select"])
    policy, verifier = Toy(end=0.1), Hidden("abcab")
    check(search, policy, verifier, ROLES)
    session = Session(
        Segment((113,), "q"), policy, verifier, Budget({"generated": TOKENS}, strict=True, clock=still),
        step=step, whole=step.to_the_end(longest), roles=ROLES, clock=still,
    )  # fmt: skip
    outcome = asyncio.run(run(search, session, select, SameText()))
    answer = outcome.answer.prefix.text if outcome.answer else None
    spent = outcome.spent
    lines = [
        f"{name}: answer {answer}, {outcome.stopped}, {len(outcome.tree)} nodes, {outcome.candidates} candidates",
        f"spent: {spent.generated} generated, {spent.policy_calls} calls, {spent.passes} passes",
        *below(outcome.tree.root, 0),
    ]
    return "\n".join(lines) + "\n"


def below(node, level):
    """A line for `node` and those under it: text, finish, then what it was given."""
    said = [f"{'  ' * level}{node.segment.text or '()'}", node.segment.finish.value if node.parent else "prompt"]
    said += [node.segment.by] if node.segment.by != "policy" else []
    said += [f"x{node.times}"] if node.times > 1 else []
    said += [f"score {node.score:.3g}"] if not math.isnan(node.score) else []
    said += [f"visits {node.visits} value {node.value:.3g}"] if node.visits else []
    said += [f"{name} {value:.3g}" for name, value in sorted(node.notes.items())]
    said += ["pruned"] if node.pruned else []
    yield " ".join(said)
    for child in node.children:
        yield from below(child, level + 1)


@pytest.mark.parametrize("name", NAMES)
def test_the_tree_is_as_it_was(name):
    path, tree = TREES / f"{name}.txt", drawn(name)
    if os.environ.get("GOLDEN") == "write":
        path.write_text(tree)
    assert path.is_file(), "make golden writes it"
    assert tree == path.read_text()


def test_no_tree_is_left_of_a_search_that_is_gone():
    assert sorted(path.stem for path in TREES.glob("*.txt")) == NAMES
