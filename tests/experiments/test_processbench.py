"""Figures on labelled steps against numbers by hand and scikit-learn; the formats read; the command on toy data."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.commandline import CONF
from experiments.item import Item
from experiments.labels import checker, from_file, judged
from experiments.parts import Parts
from experiments.paths import paths
from experiments.process import Scored, auc, best_threshold, calibration_error, f1, quality
from experiments.processbench import main
from search.errors import ConfigError, VerifierError
from search.types import Cost, Finish, Prefix, Segment, Verdict


@dataclass(frozen=True)
class Told:
    """A verifier that says what a step says: its last word is the value; "?" cannot be read."""

    steps: bool = True

    fingerprint = "told"

    async def score(self, prefixes):
        return [self._verdict(prefix) for prefix in prefixes]

    def _verdict(self, prefix):
        words = [step.text.split()[-1] for step in prefix.reply]
        if "?" in words:
            raise VerifierError("it says ?")
        values = tuple(map(float, words))
        return Verdict(values[-1], values if self.steps else (), Cost(passes=1))


def row(values, first_error, key="", dataset="d"):
    return Scored(dataset, key, tuple(values), first_error)


def test_the_area_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    scores, labels = np.round(rng.random(200), 1), rng.random(200) < 0.4
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    assert auc(scores, np.ones(200, bool)) is None


def test_the_calibration_error_by_hand():
    scores, labels = np.array([0.95, 1.0, 0.05, 0.45]), np.array([True, False, False, True])
    # bins 9, 0 and 4: |1.95 - 1|, |0.05 - 0|, |0.45 - 1|, over four steps
    assert calibration_error(scores, labels) == pytest.approx((0.95 + 0.05 + 0.55) / 4)


def test_the_first_error_by_hand():
    rows = [
        row([0.9, 0.2, 0.8], 1),  # found
        row([0.9, 0.2, 0.1], 2),  # too early
        row([0.9, 0.8], 1),  # missed
        row([0.9, 0.7], -1),  # rightly passed
        row([0.4, 0.7], -1),  # wrongly accused
    ]
    found = quality(rows, 0.5)
    assert (found.wrong, found.right) == (pytest.approx(1 / 3), 0.5)
    assert found.f1 == pytest.approx(2 * (1 / 3) * 0.5 / (1 / 3 + 0.5))
    # after the first error steps have no label
    assert (found.solutions, found.faulty, found.steps, found.threshold) == (5, 3, 2 + 3 + 2 + 2 + 2, 0.5)
    assert f1(None, 1.0) is None and f1(0.0, 0.0) == 0.0


def test_a_threshold_is_chosen_on_the_other_half():
    # every problem is perfectly told apart by 0.3; the two halves agree
    rows = [row([0.35, 0.25], 1, str(i)) for i in range(20)] + [row([0.35, 0.4], -1, str(i)) for i in range(20)]
    found = quality(rows)
    assert found.f1 == 1.0 and 0.25 < found.threshold <= 0.35
    assert 0.25 < best_threshold(rows) <= 0.35
    # noise chosen on itself looks good, chosen on the other half it does not
    rng = np.random.default_rng(1)
    noise = [row(rng.random(3), int(rng.integers(-1, 3)), str(i)) for i in range(60)]
    halves = quality(noise)
    assert halves.f1 <= max(quality(noise, cut).f1 for cut in np.linspace(0.01, 0.99, 99))


SHEPHERD = {
    "input": "What is 1+1? Step 1: It is 2+2=4. ки\nStep 2: So 4. ки",
    "label": "What is 1+1? Step 1: It is 2+2=4. +\nStep 2: So 4. -",
    "task": "GSM8K",
}
APS = {
    "question": "What?",
    "reasoning_steps": [
        {"solution_prefix": "What?", "mc_value": 0.5},
        {"solution_prefix": "What?\n\nOne.", "mc_value": 0.25},
        {"solution_prefix": "What?\n\nOne.\n\nTwo.", "mc_value": 0},
        {"solution_prefix": "What?\n\nOne.\n\nTwo.\n\nThree.", "mc_value": 0},
    ],
}
PRM800K = {
    "question": {"problem": "What?"},
    "label": {
        "steps": [
            {"completions": [{"text": "Bad.", "rating": -1}], "human_completion": {"text": "One.", "rating": None},
             "chosen_completion": None},
            {"completions": [{"text": "No.", "rating": 0}, {"text": "Two.", "rating": 1}], "human_completion": None,
             "chosen_completion": 1},
            {"completions": [{"text": "Wrong.", "rating": -1}], "human_completion": None, "chosen_completion": None},
            {"completions": [{"text": "More.", "rating": 1}], "human_completion": None, "chosen_completion": 0},
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "dataset", "steps", "first_error"),
    [
        ({"problem": "Q", "steps": ["a", "b"], "first_error": -1, "dataset": "x"}, "x", ["a", "b"], -1),
        (SHEPHERD, "math-shepherd", ["Step 1: It is 2+2=4.", "Step 2: So 4."], 1),
        (APS, "math-aps", ["One.", "Two.", "Three."], 1),
        (PRM800K, "prm800k", ["One.", "Two.", "Wrong."], 2),
    ],
)
def test_formats_of_labels(content, dataset, steps, first_error, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(content) + "\n")
    (found,) = from_file(path)
    assert (found.dataset, found.first_error) == (dataset, first_error)
    assert [step.text.strip() for step in found.prefix.steps] == steps
    assert [step.finish for step in found.prefix.steps] == [Finish.STEP] * (len(steps) - 1) + [Finish.END]


@pytest.mark.parametrize(
    "content",
    [{"a": 1}, {"problem": "Q", "steps": [], "first_error": -1}, {"problem": "Q", "steps": ["a"], "first_error": 1}],
)
def test_other_rows_are_refused(content, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(content) + "\n")
    with pytest.raises(ConfigError, match="line 1|row"):
        from_file(path)
    with pytest.raises(ConfigError, match="no such file"):
        from_file(tmp_path / "none.jsonl")


def segments(*lines):
    return tuple(Segment((1,), line, (-1.0,)) for line in lines)


def test_samples_of_the_reference_tasks_have_exact_labels():
    item = Item("a", "arithmetic", "Compute 2+3*4.")
    path = Prefix(Segment((1,), "?"), segments("3*4=12, 2+12\n\n", "2+12=15\n\n", "\\boxed{15}"), item.question)
    found = judged(item, path)
    assert found.first_error == 1 and found.key == "a"
    puzzle = Item("p", "countdown", "Make 24 from 4 6.", fields={"numbers": (4, 6), "target": 24})
    right = judged(puzzle, Prefix(Segment((1,), "?"), segments("\\boxed{4*6}"), puzzle.question))
    assert right.first_error == -1
    assert judged(item, Prefix(Segment((1,), "?"), segments(" "), item.question)) is None
    with pytest.raises(ConfigError, match="no exact checker"):
        checker(Item("x", "gsm8k", "How many?"))
    with pytest.raises(ConfigError, match="whole numbers"):
        checker(Item("x", "arithmetic", "Compute 1/2+3."))


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["processbench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.fixture
def labels(tmp_path):
    rows = [{"problem": f"q{i}", "steps": ["so 0.9", f"then {0.1 * (i % 10)}"], "first_error": 1 if i % 10 < 5 else -1,
             "dataset": "even" if i % 2 == 0 else "odd"} for i in range(40)]  # fmt: skip
    rows.append({"problem": "q", "steps": ["so ?"], "first_error": -1, "dataset": "odd"})
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


@pytest.mark.parametrize("steps", [True, False])
def test_the_command_prints_a_row_per_data_set(steps, labels, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "told", sys.modules[__name__])
    told = [
        "verifier=none",
        "+verifier._target_=told.Told",
        f"+verifier.steps={steps}",
        f"labels={labels}",
        "policy=toy",
    ]
    assert run(monkeypatch, *told, "threshold=0.45", f"out={tmp_path / 'out'}") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["even", "odd", "all"]
    figures = json.loads((tmp_path / "out" / "table.json").read_text())
    assert figures["odd"]["unread"] == 1 and figures["all"]["solutions"] == 40
    assert figures["all"]["f1"] == 1.0 and figures["all"]["auc"] == 1.0
    scored = [json.loads(line) for line in (tmp_path / "out" / "steps.jsonl").read_text().splitlines()]
    assert len(scored) == 80 and sum(not one["label"] for one in scored) == 20


def test_wrong_settings_are_one_sentence(labels, monkeypatch, capsys):
    toy = ["policy=toy", "verifier=toy", f"labels={labels}"]
    for wrong in (
        ["threshold=2"],
        ["samples=0"],
        ["dataset=none"],
        ["labels=none.jsonl"],
        ["nothing=1"],
        ["verifier=none"],
    ):
        assert run(monkeypatch, *toy, *wrong) == 2
        assert "is not valid" in capsys.readouterr().err


async def test_samples_of_a_problem_are_drawn_and_not_the_greedy_path(monkeypatch):
    """Copies of one path would count every step several times and make any figure look surer than it is."""
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        toy = ["policy=toy", "verifier=toy", "task=toy", "steps=token"]
        parts = Parts.of(OmegaConf.to_container(compose("processbench", overrides=toy), resolve=True))
        plain = Parts.of(OmegaConf.to_container(compose("processbench"), resolve=True))
    assert parts.step.temperature > 0 and plain.step.temperature > 0
    drawn = await paths(parts, parts.task.items()[0], 6)
    assert len({path.text for path in drawn}) > 3


def test_the_area_within_a_problem_does_not_reward_telling_hard_from_easy():
    # easy problems get 0.9, hard ones 0.1, whatever the step; hard ones have more wrong steps
    rows = [row([0.9, 0.9, 0.9], 2, f"easy{i}") for i in range(9)] + [row([0.1, 0.1], 1, f"hard{i}") for i in range(9)]
    rows += [row([0.9] * 5, -1, f"easy{i}") for i in range(9)] + [row([0.1], 0, f"hard{i}") for i in range(9)]
    found = quality(rows, 0.5)
    assert found.auc > 0.7 and found.within == 0.5
    assert quality([row([0.9, 0.2], 1, "a"), row([0.1, 0.3], 1, "b")], 0.5).within == 0.5, "1 and 0"


def test_copies_are_counted():
    same = Scored("d", "k", (0.5,), -1, "text")
    assert quality([same, same, Scored("d", "k", (0.5,), -1, "other")], 0.5).distinct == 2
    assert quality([row([0.5], -1), row([0.5], -1)], 0.5).distinct == 2, "texts that are not known"
