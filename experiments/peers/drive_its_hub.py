"""Drives its_hub in an environment of its own, by its public interface: a JSON line in for each run, one out.

Imports nothing of this project. All problems run at once (`ainfer` under one gather), as fast as it can be asked.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import warnings
from typing import Any

import aiohttp
from its_hub import BestOfN, LMOrchestrator, OpenAICompatibleLanguageModel, StepGeneration
from its_hub.api import AbstractOutcomeRewardModel, AbstractProcessRewardModel
from its_hub.core.algorithms.beam_search import BeamSearch
from its_hub.core.algorithms.particle_gibbs import ParticleFiltering

warnings.simplefilter("ignore")  # of its own deprecated calls, one for each level of each search


class Judge:
    """The verifier behind HTTP that both sides ask: question and answers so far to values in [0, 1]."""

    def __init__(self, url: str, session: aiohttp.ClientSession):
        self.url, self.session = url, session

    async def values(self, question: str, answers: list[str]) -> list[float]:
        """One request for all of them."""
        if not answers:
            return []
        async with self.session.post(self.url, json={"question": question, "answers": answers}) as response:
            response.raise_for_status()
            return list((await response.json())["values"])


class Steps(AbstractProcessRewardModel):
    """As its searches ask a process reward model."""

    def __init__(self, judge: Judge):
        self.judge = judge

    def score(self, prompt_or_messages: Any, steps: Any) -> Any:
        """Not asked by what runs here."""
        raise NotImplementedError("it is asked by `ascore`")

    async def ascore(self, prompt_or_messages: Any, steps: Any) -> Any:
        """Values of answers to one question."""
        return await self.judge.values(str(prompt_or_messages), list(steps))


class Outcomes(AbstractOutcomeRewardModel):
    """As its best-of-N asks an outcome reward model: conversations of one question."""

    def __init__(self, judge: Judge):
        self.judge = judge

    def score(self, messages: Any, **more: Any) -> Any:
        """Not asked by what runs here."""
        raise NotImplementedError("it is asked by `ascore`")

    async def ascore(self, messages: Any, orchestrator: Any = None, **more: Any) -> Any:
        """Values of the last messages."""
        return await self.judge.values(messages[0][0].content, [chat[-1].content for chat in messages])


def algorithm(run: dict[str, Any], judge: Judge) -> Any:
    """As the run describes it."""
    steps = StepGeneration(
        max_steps=run["depth"], step_token="\n\n", stop_token="\\boxed{", temperature=run["temperature"]
    )
    if run["algorithm"] == "beam":
        return BeamSearch(steps, Steps(judge), run["beams"])
    if run["algorithm"] == "particles":
        return ParticleFiltering(steps, Steps(judge))
    return BestOfN(Outcomes(judge), LMOrchestrator(max_concurrency=-1))


async def answered(run: dict[str, Any]) -> dict[str, Any]:
    """Answers to all problems, and the seconds from the first question to the last answer."""
    model = OpenAICompatibleLanguageModel(
        run["url"], "none", run["model"], temperature=run["temperature"], max_completion_tokens=run["limit"]
    )
    room = asyncio.Semaphore(run["together"])
    async with aiohttp.ClientSession() as session:
        search = algorithm(run, Judge(run["judge"], session))

        async def one(question: str) -> str:
            async with room:
                found = await search.ainfer(model, question, run["budget"])
            return str(found["content"])

        began = time.perf_counter()
        answers = await asyncio.gather(*map(one, run["questions"]))
        seconds = time.perf_counter() - began
        await model.close()
    return {"answers": answers, "seconds": seconds}


def main() -> None:
    """A line for each line."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(asyncio.run(answered(json.loads(line)))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
