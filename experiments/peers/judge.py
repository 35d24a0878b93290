"""The process reward model behind HTTP, in a process of its own, so that every side of a comparison pays the same.

`python -m experiments.peers.judge` prints its address. A request is {"question", "answers"}, the answers so far as
text, steps separated by blank lines; the reply is {"values"}, in [0, 1].
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from experiments.listen import listen
from experiments.serving import Answer, Asked, failed
from policies.embedded import Embedded
from search.errors import TreewiseError, VerifierError
from search.types import Cost, Finish, Prefix, Segment, Verdict
from verifiers.prm import PRM

BREAK, BOXED = "\n\n", "\\boxed{"


@dataclass(frozen=True)
class Judging:
    """Reads texts as the policy would have written them; whatever has a box has ended."""

    policy: Embedded
    prm: PRM

    async def __call__(self, asked: Asked) -> Answer:
        """The values."""
        try:
            body = json.loads(asked.body)
            prompt = self.policy.prompt([{"role": "user", "content": body["question"]}])
            verdicts = await self.prm.score([self.prefix(prompt, answer) for answer in body["answers"]])
        except (TreewiseError, ValueError, KeyError) as error:
            return failed(400, f"{type(error).__name__}: {error}")
        return Answer(200, {"values": [verdict.value for verdict in verdicts]})

    def prefix(self, prompt: Segment, answer: str) -> Prefix:
        """Its steps as segments."""
        prefix, lines = Prefix(prompt), answer.rstrip().split(BREAK)
        for line in lines[:-1]:
            prefix += self.policy.write(line + BREAK)
        if BOXED in lines[-1]:
            last = self.policy.write(lines[-1])
            return prefix + Segment(last.tokens, last.text, finish=Finish.END)
        return prefix + self.policy.write(lines[-1] + BREAK)


@dataclass(frozen=True)
class Judge:
    """Our side of it: a verifier of one problem that asks the process."""

    url: str
    question: str
    http: httpx.AsyncClient

    async def score(self, prefixes: Sequence[Prefix]) -> Sequence[Verdict]:
        """One request for all of them."""
        answers = [prefix.text for prefix in prefixes]
        reply = await self.http.post(self.url, json={"question": self.question, "answers": answers})
        if reply.status_code != 200:
            raise VerifierError(f"{self.url}: {reply.status_code} {reply.text[:200]}")
        return [Verdict(value, cost=Cost(passes=1)) for value in reply.json()["values"]]


async def main() -> None:
    """Serves until standard input ends."""
    async with Embedded("models/policy", threads=1) as policy, PRM("models/prm", threads=1) as prm:
        server = await listen(Judging(policy, prm), "127.0.0.1", 0)
        sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        server.close()


if __name__ == "__main__":
    asyncio.run(main())
