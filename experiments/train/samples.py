"""Samples of the policy that ships, kept as text; the verifier is trained on what it will have to judge."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from experiments.problems import arithmetic, countdown
from experiments.problems.arithmetic import Operation
from experiments.train.judge import judged
from experiments.train.mixture import a_countdown
from experiments.train.rows import GOOD, Row, encode, lesson
from policies.embedded import Embedded
from search.types import Finish, Prefix, Reply, Request, Sampling

LONGEST = 160  # tokens of an answer; the domain's need about 40

Problem = countdown.Puzzle | arithmetic.Problem


def expression(data: int | list) -> arithmetic.Expression:
    """The expression behind its JSON form."""
    return data if isinstance(data, int) else Operation(data[0], expression(data[1]), expression(data[2]))


def problem(record: dict) -> Problem:
    """The problem of a record."""
    if "numbers" in record:
        return countdown.Puzzle(tuple(record["numbers"]), record["target"])
    return arithmetic.Problem(expression(record["expression"]))


def record(p: Problem, text: str, *, ended: bool) -> dict:
    """One sample as a JSON object."""
    what = (
        {"numbers": p.numbers, "target": p.target} if isinstance(p, countdown.Puzzle) else {"expression": p.expression}
    )
    return {**what, "text": text, "ended": ended}


async def draw(policy: Embedded, problems: Sequence[Problem], n: int, sampling: Sampling, seed: int = 0) -> list[Reply]:
    """`n` completions of each problem, in order."""
    prompts = [Prefix(policy.prompt([{"role": "user", "content": p.question}]), question=p.question) for p in problems]
    seeds = tuple(range(seed * n, (seed + 1) * n))
    return list(await policy.sample([Request(prompt, sampling, seeds) for prompt in prompts]))


async def write(model: str, path: Path, problems: int, n: int, seed: int) -> None:
    """Appends `n` samples of each of `problems` training problems, half of each family, at temperatures 0.8 and 1."""
    rng, wave = random.Random(f"samples {seed}"), 100
    sums = arithmetic.training(rng)
    async with Embedded(model, memory="1GB") as policy:
        for i in range(0, problems, 2 * wave):
            some: list[Problem] = [*(a_countdown(rng) for _ in range(wave)), *islice(sums, wave)]
            sampling = Sampling(temperature=0.8 if i // wave % 4 else 1.0, max_tokens=LONGEST)
            with path.open("a") as file:
                for p, reply in zip(some, await draw(policy, some, n, sampling, seed + i), strict=True):
                    for s in reply.segments:
                        file.write(json.dumps(record(p, s.text, ended=s.finish is Finish.END)) + "\n")
            print(f"{i + len(some)} of {problems} problems", flush=True)


def spoken(path: Path) -> Callable[[random.Random], Row]:
    """A row maker over what the policy said, right or wrong: the draft model learns to say the same."""
    with path.open() as file:
        records = [json.loads(line) for line in file]
    rows = [lesson(problem(r).question, [r["text"]]) for r in records if r["ended"] and known(r["text"])]
    return lambda rng: rng.choice(rows)


def known(text: str) -> bool:
    """Whether the text keeps to the domain's alphabet; a byte outside it is nothing the fast encoder knows."""
    try:
        encode(text)
    except KeyError:
        return False
    return True


def rows_of(path: Path) -> Callable[[random.Random], Row]:
    """A row maker over a file of samples: families in equal parts, right and wrong samples in equal parts."""
    kinds: dict[tuple[bool, bool], list[Row]] = {}
    with path.open() as file:
        for line in file:
            r = json.loads(line)
            if not known(r["text"]):
                continue
            row = judged(problem(r), r["text"], ended=r["ended"])
            kinds.setdefault(("numbers" in r, row.label[-1] == GOOD), []).append(row)
    keys = sorted(kinds)
    return lambda rng: rng.choice(kinds[rng.choice(keys)])
