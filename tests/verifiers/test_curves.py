"""Fitted curves against known answers: what made the labels, scikit-learn, and the command."""

import json
import math

import numpy as np
import pytest

from search.errors import ConfigError
from verifiers.curves import Isotonic, Same, Temperature, curve_of, fit_isotonic, fit_temperature, main


def drawn(temperature, bias, count=20000):
    """Scores, and labels drawn as a verifier with this temperature and bias would be right."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, count)
    scores = 1 / (1 + np.exp(-x))
    labels = rng.random(count) < 1 / (1 + np.exp(-(x / temperature + bias)))
    return scores.tolist(), labels.tolist()


@pytest.mark.parametrize(("temperature", "bias"), [(1.0, 0.0), (2.5, 0.7), (0.6, -1.0)])
def test_a_temperature_is_found_again(temperature, bias):
    fitted = fit_temperature(*drawn(temperature, bias))
    assert fitted.temperature == pytest.approx(temperature, rel=0.05)
    assert fitted.bias == pytest.approx(bias, abs=0.06)


def test_the_temperature_is_that_of_a_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    scores, labels = drawn(1.7, 0.3, 500)
    x = np.log(scores) - np.log1p(-np.asarray(scores))
    known = LogisticRegression(C=np.inf, tol=1e-8).fit(x[:, None], labels)
    fitted = fit_temperature(scores, labels)
    assert 1 / fitted.temperature == pytest.approx(known.coef_[0, 0], rel=1e-4)
    assert fitted.bias == pytest.approx(known.intercept_[0], abs=1e-4)


def test_isotonic_is_least_squares_under_monotony():
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(1)
    scores = np.round(rng.random(300), 2)  # with ties
    labels = rng.random(300) < scores**2
    known = IsotonicRegression().fit(scores, labels)
    fitted = fit_isotonic(scores.tolist(), labels.tolist())
    # at the mean score of each pool stands the pool's mean label, which is what the regression says there
    for x, y in zip(fitted.x, fitted.y, strict=True):
        assert known.predict([x])[0] == pytest.approx(y, abs=1e-9)
    assert set(np.round(fitted.y, 9)) == set(np.round(known.predict(np.sort(scores)), 9))


def test_isotonic_by_hand():
    fitted = fit_isotonic([0.1, 0.2, 0.3, 0.4, 0.9], [False, True, False, False, True])
    assert fitted.x == pytest.approx((0.1, 0.3, 0.9)) and fitted.y == pytest.approx((0.0, 1 / 3, 1.0))
    assert fitted(0.0) == 0.0 and fitted(0.2) == pytest.approx(1 / 6) and fitted(1.0) == 1.0


def test_curves_never_fall_and_stay_in_range():
    grid = np.linspace(0, 1, 101).tolist()
    for curve in (
        Same(),
        Temperature(0.3, 2),
        Temperature(9.0),
        Isotonic((0.2,), (0.5,)),
        fit_isotonic(*drawn(2, 0, 99)),
    ):
        values = [curve(x) for x in grid]
        assert values == sorted(values) and values[0] >= 0 and values[-1] <= 1


def test_what_cannot_be_fitted_or_read_is_refused(tmp_path):
    for scores, labels in [([0.1, 0.2], [True, True]), ([0.1], [True, False]), ([0.1, 1.2], [True, False])]:
        for fit in (fit_temperature, fit_isotonic):
            with pytest.raises(ConfigError):
                fit(scores, labels)
    with pytest.raises(ConfigError, match="wrong more often"):
        fit_temperature([0.9, 0.8, 0.2, 0.1], [False, True, False, True])
    with pytest.raises(ConfigError, match="equal"):
        fit_temperature([0.5, 0.5], [False, True])
    for make in (
        lambda: Temperature(0.0), lambda: Temperature(1.0, math.inf), lambda: Isotonic((), ()),
        lambda: Isotonic((0.2, 0.1), (0.1, 0.2)), lambda: Isotonic((0.1, 0.2), (0.2, 0.1)),
        lambda: Isotonic((0.1,), (1.5,)), lambda: curve_of(str(tmp_path / "none.json")),
        lambda: curve_of({"kind": "isotonic", "z": 1}), lambda: curve_of({}),
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            make()


@pytest.mark.parametrize("how", ["isotonic", "temperature"])
def test_the_command_writes_a_curve(how, tmp_path, capsys):
    rows, out = tmp_path / "rows.jsonl", tmp_path / "curve.json"
    scores, labels = drawn(2.0, 0.0, 200)
    lines = [json.dumps({"score": score, "label": label}) for score, label in zip(scores, labels, strict=True)]
    rows.write_text("\n".join(lines))
    assert main([str(rows), "--how", how, "--out", str(out)]) == 0
    assert curve_of(str(out)) == {"isotonic": fit_isotonic, "temperature": fit_temperature}[how](scores, labels)
    rows.write_text("{}\n")
    assert main([str(rows), "--out", str(out)]) == 2
    assert "is not valid" in capsys.readouterr().err
