"""A search of six levels computes at most a fifth of its prompt tokens, by vLLM's own counters."""

from __future__ import annotations

import pytest

from experiments.benchmarks import prefix

pytestmark = pytest.mark.vllm


def test_at_least_80_percent_of_prompt_tokens_are_found_in_the_caches(loop, policy, prm):
    prm._forget()
    found = loop(prefix.rates(policy, prm, prefix.EXAMPLES, 4))
    assert 200 < found.length < 400
    assert found.policy >= 0.8 and found.prm >= 0.8
