"""What prefix caches save in vLLM: prompt tokens of a search that were not computed again, for policy and verifier.

The engines' own counters of the tokens they looked up and found. Prompts have worked examples before the question, as
prompts of real tasks have (here about 200 tokens), each problem its own, so that nothing is shared between problems;
a search of six levels goes on from there. The bare questions of the reference tasks, which are hardly longer than a
block of the cache, are measured beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from experiments.benchmarks.figure import Figure, measured
from experiments.item import Item, cut
from experiments.tasks.reference import Arithmetic
from policies.vllm import VLLM
from search.algorithms.beam import Beam
from search.run import run
from search.session import Session
from search.steps import Tokens
from search.types import Sampling
from verifiers.vllm import PRM

LEVELS, EXAMPLES, PROBLEMS, REPEATS = 6, 11, 8, 3
STEP = Sampling(temperature=0.8, max_tokens=8, until=Tokens(8))
SEARCH = Beam(beams=4, width=4, depth=LEVELS)


@dataclass(frozen=True)
class Rates:
    """Shares of the prompt tokens that were found, and the mean length of a prompt."""

    policy: float
    prm: float
    length: float


def prompts(examples: int, offset: int) -> Iterator[tuple[Item, Sequence[Mapping[str, str]]]]:
    """Problems, each with a chat that answers `examples` others first; no problem comes twice."""
    task, size = Arithmetic(), examples + 1
    items = cut(task.items(), PROBLEMS * size, offset * PROBLEMS * (EXAMPLES + 1))
    for begin in range(0, PROBLEMS * size, size):
        *others, item = items[begin : begin + size]
        shown: list[Mapping[str, str]] = []
        for other in others:
            shown += [*task.messages(other), {"role": "assistant", "content": f"\\boxed{{{other.answer}}}"}]
        yield item, [*shown, *task.messages(item)]


async def rates(policy: VLLM, prm: PRM, examples: int, offset: int) -> Rates:
    """Of some problems searched side by side."""
    engines = (policy.host, prm.host)
    before = [(host.counters.queries, host.counters.hits) for host in engines]
    lengths, sessions = [], []
    for item, chat in prompts(examples, offset):
        prompt = policy.prompt(chat)
        lengths.append(len(prompt.tokens))
        whole = STEP.to_the_end(LEVELS * STEP.max_tokens)
        sessions.append(Session(prompt, policy, prm, question=item.question, step=STEP, whole=whole))
    await asyncio.gather(*(run(SEARCH, session) for session in sessions))
    drawing, reading = (
        (host.counters.hits - hits) / (host.counters.queries - queries)
        for host, (queries, hits) in zip(engines, before, strict=True)
    )
    return Rates(drawing, reading, sum(lengths) / len(lengths))


async def measure(repeats: int) -> Mapping[int, list[Rates]]:
    """By the number of examples."""
    async with VLLM("models/policy", memory="256MB") as policy, PRM("models/prm", memory="256MB") as prm:
        return {
            examples: [await rates(policy, prm, examples, offset) for offset in range(repeats)]
            for examples in (EXAMPLES, 0)
        }


def figures() -> Iterator[Figure]:
    """`prefix.policy_hit_rate`, `prefix.prm_hit_rate`, and the same of bare questions.

    Raises:
        ConfigError: vLLM is not installed.
    """
    for examples, found in asyncio.run(measure(REPEATS)).items():
        name = "" if examples else ".bare"
        length = sum(each.length for each in found) / len(found)
        note = (
            f"of prompt tokens, by vLLM's counters; {PROBLEMS} problems, beam of 4 by 4, {LEVELS} levels of 8 tokens, "
            f"prompts of {length:.0f} tokens, blocks of 32"
        )
        yield measured(f"prefix.policy_hit_rate{name}", "share", note, [each.policy for each in found])
        yield measured(f"prefix.prm_hit_rate{name}", "share", note, [each.prm for each in found])
