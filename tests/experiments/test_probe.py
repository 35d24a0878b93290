"""Probes fitted on runs: the regression against its own optimum, and the command from run to file."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.item import Item
from experiments.logistic import cross_validated, fit, sigmoid
from experiments.probe import calibration, main
from experiments.problems import arithmetic as sums_problems
from experiments.problems import countdown as puzzles
from experiments.problems.__main__ import rows
from verifiers.grade import arithmetic, countdown
from verifiers.probe import Fitted, Probe


def world(n, seed, weights=(0.8, -1.2, 0.0), bias=-0.4, draws=16):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(weights)))
    p = sigmoid(bias + x @ np.array(weights))
    drawn = np.full(n, float(draws))
    return x, rng.binomial(draws, p).astype(float), drawn, p


@pytest.mark.parametrize("penalty", [0.1, 5.0, 1000.0])
def test_the_fit_is_the_optimum(penalty):
    """No step in any direction raises the objective, computed here from its definition."""
    x, right, drawn, _ = world(60, 0)

    def objective(theta):
        p = sigmoid(theta[0] + x @ theta[1:])
        return (right * np.log(p) + (drawn - right) * np.log(1 - p)).sum() - penalty * (theta[1:] ** 2).sum() / 2

    theta = fit(x, right, drawn, penalty)
    for direction in np.eye(4):
        for step in (-1e-3, 1e-3):
            assert objective(theta + step * direction) < objective(theta)


def test_it_finds_the_truth_where_there_is_enough_data():
    x, right, drawn, p = world(4000, 1)
    assert fit(x, right, drawn, 0.1) == pytest.approx([-0.4, 0.8, -1.2, 0.0], abs=0.05)
    _, predictions = cross_validated(x, right, drawn)
    assert np.abs(predictions - p).max() < 0.05
    told = calibration(predictions, right, drawn)
    assert told["explained"] > 0.97 and told["gap"] < 0.01


def test_noise_is_explained_by_nothing():
    x, right, drawn, _ = world(400, 2, weights=(0.0,) * 30)
    _, predictions = cross_validated(x, right, drawn)
    assert predictions.std() < 0.02
    assert calibration(predictions, right, drawn)["error"] == pytest.approx(right.var() / 256, rel=0.1)


def test_separable_data_stays_finite():
    x = np.linspace(-1, 1, 30)[:, None]
    right = (x[:, 0] > 0) * 8.0
    theta = fit(x, right, np.full(30, 8.0), 0.1)
    assert np.isfinite(theta).all() and theta[1] > 5


def test_training_problems_are_read_by_the_graders_and_are_none_of_the_held_out():
    written = list(rows(40, seed=3))
    assert written == list(rows(40, seed=3)) and written != list(rows(40, seed=4))
    assert len({row["problem"] for row in written}) == len({row["id"] for row in written}) == 40
    sums = [row for row in written if row["answer"] is not None]
    assert len(sums) == 20
    for row in sums:
        expression = row["problem"].removeprefix("Compute ").removesuffix(".")
        assert arithmetic.read_question(row["problem"]).value == int(row["answer"])
        assert not sums_problems.held_out(SimpleNamespace(key=expression))
    for row in written:
        if row["answer"] is None:
            numbers, target = countdown.puzzle(Item("", "", row["problem"]))
            assert puzzles.trainable(puzzles.Puzzle(tuple(numbers), target))


@pytest.fixture
def a_run(solve, tmp_path):
    def run(search, *more):
        folder = tmp_path / f"run-{search}-{len(more)}"
        fields = ["search.n=8"] if search in ("majority", "best_of_n") else []
        assert solve(f"search={search}", *fields, "limit=20", "budget=free", *more, f"out={folder}") == 0
        return folder

    return run


def test_from_a_run_to_a_probe(a_run, tmp_path, capsys):
    folder, out = a_run("majority", "trace=events", "task.word=ab"), tmp_path / "probe.json"
    assert main([str(folder), "--out", str(out)]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["problems"], said["samples"]) == (20, 160)
    fitted, content = Fitted.read(str(out)), json.loads(out.read_text())
    assert len(fitted.predictions) == 20 and content["prices"]["average"].keys() == {"2", "4", "8", "16", "32"}
    share = np.mean(fitted.predictions)
    assert abs(Probe(str(out)).fitted.success(fitted.centre) - share) < 0.1 and math.isfinite(share)
    assert main([str(folder), "--out", str(tmp_path / "again.json")]) == 0
    assert (tmp_path / "again.json").read_text() == out.read_text()


@pytest.mark.parametrize(
    ("search", "more", "says"),
    [
        ("beam", ("trace=events",), "independent completions"),
        ("majority", ("trace=none",), "trace=events"),
        ("majority", ("trace=events", "limit=3"), "at least 20"),
    ],
)
def test_a_run_of_another_kind_is_one_clear_error(search, more, says, a_run, tmp_path, capsys):
    folder = a_run(search, *more)
    capsys.readouterr()
    assert main([str(folder), "--out", str(tmp_path / "probe.json")]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1
    assert not (tmp_path / "probe.json").exists()


def test_a_folder_that_is_no_run_is_one_clear_error(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "probe.json")]) == 2
    assert "run.json" in capsys.readouterr().err
