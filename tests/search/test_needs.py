"""What a policy lacks is said before a search begins, with a search that would run."""

import re
from dataclasses import dataclass, field

import pytest

from policies.toy import Toy
from search.errors import ConfigError
from search.needs import NEAREST, WHOLE, check
from search.ports import Enumerates, Writes, ability, lacking
from search.run import run
from verifiers.toy import Hidden


@dataclass(frozen=True)
class Poor(Toy):
    """Says it lacks things that its class has."""

    lacks: dict = field(default_factory=dict)


class Around:
    def __init__(self, inner):
        self.inner = inner


def test_what_is_lacked_is_no_ability_even_through_a_wrapper():
    for policy in (Poor(lacks={"Writes": "why"}), Around(Poor(lacks={"Writes": "why"}))):
        assert ability(policy, Writes) is None and lacking(policy, "Writes") == "why"
        assert ability(policy, Enumerates) is not None and lacking(policy, "Enumerates") is None


EVERYTHING = {name: f"no {name} here" for name in ("Enumerates", "Writes", "Reads", "logprobs")}


def test_every_search_that_needs_an_ability_is_told_what_to_take(searches, worlds):
    roles = worlds["letters"].roles
    refused = set()
    for name, search in searches.items():
        try:
            check(search, Poor(lacks=EVERYTHING), Hidden("ab"), roles)
        except ConfigError as error:
            refused.add(type(search).__name__)
            assert re.search(r"because no \w+ here: take search=\w+", str(error)), name
            assert type(search).__name__ in NEAREST, name
    assert refused >= {"TokenBeam", "Phi", "Guided", "MCTS", "Kcts", "TreePO", "Refine"}


def test_without_prefill_only_whole_answers_are_searched(searches, worlds):
    poor, roles = Poor(lacks={"continues": "no prefill"}), worlds["letters"].roles
    for name, search in searches.items():
        whole = name in ("flat", "flat-waves", "adaptive", "adaptive-prompt", "refine", "ab-mcts-answers")
        if whole:
            check(search, poor, Hidden("ab"), roles)
        else:
            with pytest.raises(ConfigError, match=f"no prefill: take search={WHOLE}"):
                check(search, poor, Hidden("ab"), roles)


async def test_a_run_is_refused_before_it_begins(searches, session):
    s = session(policy=Poor(lacks={"logprobs": "it is mute"}))
    with pytest.raises(ConfigError, match="it is mute"):
        await run(searches["phi"], s)
    assert len(s.tree) == 1 and s.budget.spent.policy_calls == 0
