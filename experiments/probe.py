"""Fits a probe: how likely one sample is to be right, from the prompt alone.

    python -m experiments.problems --count 400 --seed 1 > problems.jsonl
    python -m experiments.solve task=jsonl task.path=problems.jsonl search=majority search.n=16 out=runs/probe
    python -m experiments.probe runs/probe --out models/probe.json

Reads runs of independent completions (majority, best_of_n) with their traces, grades every sample, and fits a logistic
regression of the share of right samples on features of the prompt, with the largest ridge penalty that predicts about
as well as the best out of fold. The file says how well that went: see `calibration`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.logistic import cross_validated, fit
from experiments.parts import build
from experiments.rows import read_rows
from experiments.store import read_run, replace
from experiments.trace import read_tree
from search import allocate
from search.errors import ConfigError
from search.tree import Tree
from search.types import Prefix
from verifiers.probe import FEATURES, VERSION, text_features
from verifiers.prospect import States

AVERAGES = (2, 4, 8, 16, 32)
MOST = 64  # draws of a problem, in the table of prices


@dataclass(frozen=True)
class Sampled:
    """A problem and what became of its samples.

    Attributes:
        prompt: the root.
        right, drawn: samples; 0 <= right <= drawn.
    """

    prompt: Prefix
    right: int
    drawn: int


async def sampled(folder: Path) -> list[Sampled]:
    """Every problem of a run with its graded samples; raises ConfigError for a run of another kind."""
    settings = read_run(folder, "run")["configuration"]
    task: Any = build("task", settings["task"])
    items = {item.id: item for item in task.items()}
    found = []
    async with AsyncExitStack() as stack:
        if hasattr(task, "__aenter__"):
            await stack.enter_async_context(task)
        for row in read_rows(folder, "run"):
            if row.error is not None:
                continue
            if row.trace is None:
                raise ConfigError("run", str(folder), "it kept no traces; run it with trace=events")
            if row.item not in items:
                raise ConfigError("run", str(folder), f"its task has no item {row.item!r} any more")
            tree = read_tree(folder / row.trace)
            leaves = _completions(folder, tree)
            grades = [await task.grade(items[row.item], leaf.prefix.text) for leaf in leaves]
            if any(grade.verdict == "unknown" for grade in grades):
                raise ConfigError("run", str(folder), f"item {row.item!r} cannot be graded: it has no reference answer")
            right = sum(leaf.times for leaf, g in zip(leaves, grades, strict=True) if g.verdict == "right")
            found.append(Sampled(tree.root.prefix, right, tree.root.completions))
    return found


def _completions(folder: Path, tree: Tree) -> list[Any]:
    root = tree.root
    if root.draws or not root.completions or any(node.children for node in root.children):
        remedy = "it is not a run of independent completions; take search=majority or search=best_of_n"
        raise ConfigError("run", str(folder), remedy)
    return root.children


async def features(problems: Sequence[Sampled], kind: str, model: str) -> tuple[np.ndarray, str | None]:
    """One row per problem, and the fingerprint of the model whose states they are."""
    if kind == "text":
        texts = [problem.prompt.question or problem.prompt.prompt.text for problem in problems]
        return np.array([text_features(text) for text in texts]), None
    async with States(model, threads=1) as states:
        rows = [(await states.of(problem.prompt.prompt.tokens))[0] for problem in problems]
        return np.array(rows), states.fingerprint


def probe(problems: Sequence[Sampled], x: np.ndarray, kind: str, model: str | None) -> dict[str, Any]:
    """The contents of a probe's file."""
    right = np.array([p.right for p in problems], dtype=float)
    drawn = np.array([p.drawn for p in problems], dtype=float)
    centre = x.mean(0)
    scale = np.where(x.std(0) > 1e-9, x.std(0), 1.0)
    z = (x - centre) / scale
    penalty, predictions = cross_validated(z, right, drawn)
    weights = fit(z, right, drawn, penalty)
    rows = [allocate.binary(float(p), MOST) for p in np.round(predictions, 4)]
    prices = {str(b): allocate.price(rows, b * len(rows), 1) for b in AVERAGES}
    return {
        "version": VERSION,
        "features": kind,
        "model": model,
        "centre": _short(centre),
        "scale": _short(scale),
        "low": _short(x.min(0)),
        "high": _short(x.max(0)),
        "weights": _short(weights[1:]),
        "bias": _short(weights[:1])[0],
        "predictions": sorted(round(float(p), 4) for p in predictions),
        "prices": {"least": 1, "most": MOST, "average": prices},
        "calibration": calibration(predictions, right, drawn),
        "fit": {"problems": len(problems), "samples": int(drawn.sum()), "penalty": penalty},
    }


def calibration(predictions: np.ndarray, right: np.ndarray, drawn: np.ndarray) -> dict[str, Any]:
    """How good predictions made out of fold are: error against a constant, and predicted beside observed by tenths.

    `error` is the mean squared difference between prediction and share of right samples; `constant` the same for the
    mean share; `noise` what the share's own sampling noise makes of it at least, s (1 - s) / (n - 1) on average;
    `explained` the part of what is not noise that the probe explains.
    """
    shares = right / drawn
    error = float(((predictions - shares) ** 2).mean())
    constant = float(((shares.mean() - shares) ** 2).mean())
    noise = float((shares * (1 - shares) / np.maximum(drawn - 1, 1)).mean())
    bins = []
    for some in np.array_split(np.argsort(predictions, kind="stable"), min(10, len(predictions))):
        observed = float(right[some].sum() / drawn[some].sum())
        bins.append({"problems": len(some), "predicted": float(predictions[some].mean()), "observed": observed})
    gap = sum(b["problems"] * abs(b["predicted"] - b["observed"]) for b in bins) / len(predictions)
    return {
        "error": round(error, 5),
        "constant": round(constant, 5),
        "noise": round(noise, 5),
        "explained": round((constant - error) / (constant - noise), 3) if constant > noise else None,
        "gap": round(float(gap), 4),
        "bins": [{name: round(float(value), 4) for name, value in b.items()} for b in bins],
    }


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


async def _fitted(folders: Sequence[Path], kind: str, model: str) -> dict[str, Any]:
    problems = [problem for folder in folders for problem in await sampled(folder)]
    if len(problems) < 20:
        raise ConfigError("run", len(problems), "a probe needs at least 20 problems")
    x, fingerprint = await features(problems, kind, model)
    return probe(problems, x, kind, fingerprint)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the file and prints what was fitted; returns the exit status: 2 for runs it cannot use."""
    parser = argparse.ArgumentParser(prog="experiments.probe", description="Fits how likely one sample is to be right.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--features", choices=FEATURES, default="text")
    parser.add_argument("--model", default="models/policy", help="folder of the policy, for --features state")
    options = parser.parse_args(arguments)
    try:
        record = asyncio.run(_fitted(options.runs, options.features, options.model))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    replace(options.out, json.dumps(record) + "\n")
    sys.stdout.write(json.dumps({"out": str(options.out), **record["fit"], **record["calibration"]}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
