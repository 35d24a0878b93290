"""What the reference models can do, on problems no training has seen: the figures of the model card.

`python -m experiments.train.evaluate --problems 500` writes models/figures.json and prints the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from experiments.problems import arithmetic, countdown
from experiments.train.judge import arithmetic_lines, countdown_lines
from experiments.train.rows import SEPARATOR, encode
from experiments.train.samples import LONGEST, Problem, draw
from policies.embedded import Embedded
from policies.engine.sampler import Numbers, sample
from search.types import Finish, Prefix, Sampling, Segment
from verifiers.grade import arithmetic as grade_arithmetic
from verifiers.grade import countdown as grade_countdown
from verifiers.prm import PRM
from verifiers.regret import Regret

TEMPERATURE = 0.8


@dataclass(frozen=True)
class Family:
    """Problems with an exact grader, votes, and exact labels of lines."""

    problems: list[Problem]
    right: Callable[[Any, str], bool]
    classes: Callable[[Sequence[str]], Sequence[int | None]]
    lines: Callable[[Any, Sequence[str]], list[bool]]


def families(count: int) -> dict[str, Family]:
    """The two families, `count` held-out problems of each."""
    return {
        "countdown": Family(
            list(countdown.test_split(count)),
            lambda p, text: grade_countdown.check_text(text, p.numbers, p.target).right,
            grade_countdown.classes,
            countdown_lines,
        ),
        "arithmetic": Family(
            list(arithmetic.test_split(count)),
            lambda p, text: grade_arithmetic.grade(text, p.answer).verdict == "right",
            grade_arithmetic.classes,
            arithmetic_lines,
        ),
    }


def auc(scores: Sequence[float], right: Sequence[bool]) -> float | None:
    """Chance that a right one scores above a wrong one, ties half; None where one kind is missing."""
    good, bad = (np.array([s for s, r in zip(scores, right, strict=True) if r is kind]) for kind in (True, False))
    if not len(good) or not len(bad):
        return None
    return float((good[:, None] > bad).mean() + 0.5 * (good[:, None] == bad).mean())


def within(groups: Sequence[tuple[Sequence[float], Sequence[bool]]]) -> dict[str, float | None]:
    """Mean area under the ROC curve over the groups that hold both kinds."""
    found = [a for a in (auc(s, r) for s, r in groups) if a is not None]
    return {"auc": round(fmean(found), 4) if found else None, "groups": len(found)}


def best_of(scores: Sequence[Sequence[float]], right: Sequence[Sequence[bool]], n: int) -> float:
    """Accuracy of the best-scored of n samples, over all disjoint groups of n."""
    starts = range(0, len(scores[0]) - n + 1, n)
    pairs = [(s[i : i + n], r[i : i + n]) for s, r in zip(scores, right, strict=True) for i in starts]
    return round(fmean(r[int(np.argmax(s))] for s, r in pairs), 4)


def vote(family: Family, texts: Sequence[str], right: Sequence[bool]) -> bool:
    """Whether the most frequent answer is right; the first seen of equally frequent ones."""
    labels = list(family.classes(texts))
    counted = [label for label in labels if label is not None]
    if not counted:
        return False
    winner = max(dict.fromkeys(counted), key=counted.count)
    return right[labels.index(winner)]


def as_steps(prompt: Prefix, completion: Segment) -> Prefix:
    """A completion sampled in one piece, cut into the lines it holds, so that each can be judged."""
    (separator,) = encode(SEPARATOR)
    ends = [i + 1 for i, token in enumerate(completion.tokens[:-1]) if token == separator]
    texts = completion.text.split(SEPARATOR)
    for text, (start, end) in zip(texts, pairwise([0, *ends, len(completion.tokens)]), strict=False):
        last = end == len(completion.tokens)
        finish = completion.finish if last else Finish.STEP
        prompt = prompt + Segment(completion.tokens[start:end], text if last else text + SEPARATOR, (), finish)
    return prompt


async def measure(family: Family, policy: Embedded, prm: PRM, regret: Regret, n: int) -> dict:
    """All figures of one family."""
    greedy = await draw(policy, family.problems, 1, Sampling(temperature=0.0, max_tokens=LONGEST))
    drawn = await draw(policy, family.problems, n, Sampling(temperature=TEMPERATURE, max_tokens=LONGEST), seed=1)
    texts = [[s.text for s in reply.segments] for reply in drawn]
    right = [[family.right(p, t) for t in ts] for p, ts in zip(family.problems, texts, strict=True)]
    greedy_right = [family.right(p, r.segments[0].text) for p, r in zip(family.problems, greedy, strict=True)]
    figures: dict = {
        "problems": len(family.problems),
        "greedy": round(fmean(greedy_right), 4),
        "pass@1": round(fmean(map(fmean, right)), 4),
        f"pass@{n}": round(fmean(map(any, right)), 4),
        f"majority@{n}": round(fmean(vote(family, ts, rs) for ts, rs in zip(texts, right, strict=True)), 4),
        "tokens_per_answer": round(fmean(len(s.tokens) for r in drawn for s in r.segments), 1),
    }
    paths = [
        [as_steps(prompt, s) for s in reply.segments]
        for prompt, reply in zip(prompts(policy, family.problems), drawn, strict=True)
    ]
    verdicts = [await prm.score(some) for some in paths]
    figures["prm"] = ranked([[v.value for v in some] for some in verdicts], right, n)
    figures["prm_min"] = ranked([[min(v.steps) for v in some] for some in verdicts], right, n)
    figures["prm_steps"] = by_step(family, texts, [[v.steps for v in some] for some in verdicts])
    figures["regret"] = ranked([[v.value for v in await regret.score(some)] for some in paths], right, n)
    return figures


def prompts(policy: Embedded, problems: Sequence[Problem]) -> list[Prefix]:
    """The rendered questions."""
    return [Prefix(policy.prompt([{"role": "user", "content": p.question}]), question=p.question) for p in problems]


def ranked(scores: list[list[float]], right: list[list[bool]], n: int) -> dict:
    """How well scores tell samples of the same problem apart, and what best-of-N makes of it."""
    sizes = [m for m in (1, 2, 4, 8, 16, 32, 64) if m <= n]
    return {
        "within_problem": within(list(zip(scores, right, strict=True))),
        "best_of": {str(m): best_of(scores, right, m) for m in sizes},
    }


def by_step(family: Family, texts: list[list[str]], scores: list[list[tuple[float, ...]]]) -> dict:
    """For each step that follows only right ones, how well its score tells right from wrong within a problem."""
    groups: dict[int, dict[int, tuple[list[float], list[bool]]]] = defaultdict(lambda: defaultdict(lambda: ([], [])))
    for i, p in enumerate(family.problems):
        for text, steps in zip(texts[i], scores[i], strict=True):
            good = family.lines(p, text.split(SEPARATOR))
            for k, score in enumerate(steps[: len(good)]):
                if k == 0 or good[k - 1]:
                    groups[k][i][0].append(score)
                    groups[k][i][1].append(good[k])
    return {str(k + 1): within(list(of.values())) for k, of in sorted(groups.items())}


async def acceptance(policy: Embedded, draft: str, problems: Sequence[Problem], n: int) -> dict:
    """How often the draft model, given the policy's own noise, draws the policy's own token (temperature 0.8)."""
    model = AutoModelForCausalLM.from_pretrained(draft, dtype=torch.float32)
    sampling = Sampling(temperature=TEMPERATURE, max_tokens=LONGEST)
    hits, likely, tokens = 0, 0, 0
    for prompt, reply in zip(prompts(policy, problems), await draw(policy, problems, n, sampling), strict=True):
        for seed, s in enumerate(reply.segments):
            ids = torch.tensor([[*prompt.tokens, *s.tokens]])
            with torch.no_grad():
                logits = model(ids[:, :-1]).logits[0, len(prompt.tokens) - 1 :]
            count = len(s.tokens)
            numbers = Numbers(
                np.full(count, seed),
                np.arange(count),
                np.full(count, TEMPERATURE),
                np.zeros(count, int),
                np.ones(count),
            )
            hits += int((sample(logits, numbers).tokens == np.array(s.tokens)).sum())
            likely += int((logits.argmax(-1).numpy() == np.array(s.tokens)).sum())
            tokens += count
    return {
        "accepted_per_token": round(hits / tokens, 4),
        "likeliest_is_it": round(likely / tokens, 4),
        "tokens": tokens,
    }


def table(figures: dict) -> str:
    """The figures of the model card as a Markdown table."""
    n = figures["draws"]
    lines = ["| | countdown | arithmetic |", "|---|---:|---:|"]

    def row(name: str, value: Callable[[dict], float]) -> None:
        lines.append(f"| {name} | {value(figures['countdown']):.3f} | {value(figures['arithmetic']):.3f} |")

    row("policy: greedy", lambda f: f["greedy"])
    row(f"policy: one sample at temperature {figures['temperature']}", lambda f: f["pass@1"])
    row(f"policy: any of {n} samples right", lambda f: f[f"pass@{n}"])
    row(f"policy: majority of {n}", lambda f: f[f"majority@{n}"])
    for kind, name in (("prm", "PRM"), ("prm_min", "PRM, worst step"), ("regret", "regret alone")):
        row(f"{name}: AUC between samples of one problem", lambda f, kind=kind: f[kind]["within_problem"]["auc"])  # type: ignore[misc]
    for m in figures["countdown"]["prm"]["best_of"]:
        row(f"PRM: best of {m}", lambda f, m=m: f["prm"]["best_of"][m])  # type: ignore[misc]
    for step in ("1", "2"):
        row(f"PRM: AUC of step {step}, within a problem", lambda f, s=step: f["prm_steps"][s]["auc"])  # type: ignore[misc]
    row("draft: drawn as the policy draws, per token", lambda f: f["draft"]["accepted_per_token"])
    return "\n".join(lines)


async def main(models: Path, problems: int, n: int) -> dict:
    """The figures of all models in `models`."""
    figures: dict = {"temperature": TEMPERATURE, "draws": n}
    async with (
        Embedded(str(models / "policy"), memory="2GB") as policy,
        PRM(str(models / "prm"), memory="2GB") as prm,
        Regret(str(models / "prm"), memory="2GB") as regret,
    ):
        for name, family in families(problems).items():
            figures[name] = await measure(family, policy, prm, regret, n)
            print(json.dumps({name: figures[name]}, indent=1), flush=True)
            if (models / "draft").is_dir():
                figures[name]["draft"] = await acceptance(policy, str(models / "draft"), family.problems[:100], 2)
    figures["bytes"] = {m.parent.name: m.stat().st_size for m in sorted(models.glob("*/model.safetensors"))}
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--draws", type=int, default=32)
    parser.add_argument("--out", type=Path)
    o = parser.parse_args()
    result = json.dumps(asyncio.run(main(o.models, o.problems, o.draws)), indent=1)
    (o.out or o.models / "figures.json").write_text(result + "\n")
    print(table(json.loads(result)))
