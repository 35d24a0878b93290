"""Every YAML file under conf/ composes, builds and prints; no weights are touched."""

from __future__ import annotations

import pytest
import yaml

from experiments.commandline import CONF
from experiments.parts import Parts
from experiments.rows import read_rows

CHOICES = sorted(f"{path.parent.relative_to(CONF)}={path.stem}" for path in CONF.glob("*/*.yaml"))

# what a choice cannot do without
NEEDS = {
    "task=jsonl": ["task.path=problems.jsonl"],
    "verifier=think_prm": ["verifier.policy.model=models/policy"],
} | {
    choice: ["verifier.model=models/prm"]
    for choice in CHOICES
    if choice.startswith("verifier=") and "\nmodel: ???" in (CONF / f"{choice.replace('=', '/')}.yaml").read_text()
}


def test_there_is_something_to_test():
    assert {"search=greedy", "search=majority", "search=astar", "task=toy"} <= set(CHOICES)


@pytest.mark.parametrize("choice", CHOICES)
def test_it_composes_builds_and_prints(choice, settings):
    composed = settings(choice, *NEEDS.get(choice, []))
    parts, again = Parts.of(composed), Parts.of(composed)
    assert repr(parts) == repr(again), "building twice gives the same"
    assert "object at 0x" not in repr(parts), "a part prints its settings"


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_it_is_small_and_says_what_it_is(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 50
    assert yaml.safe_load(text) is None or isinstance(yaml.safe_load(text), dict)
    assert "#" in text or path.parent.name == "budget"


NEED_DATA = ("math500", "aime", "livecodebench")  # looked at with dry_run, see test_launch
PRESETS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml") if not path.stem.startswith(NEED_DATA))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_runs_on_the_toy_world(preset, solve, tmp_path):
    toy = ["policy=toy", "verifier=toy", "steps=token", "offset=0", "limit=1"]
    assert solve(f"experiment={preset}", *toy, f"out={tmp_path / 'run'}") == 0
    assert read_rows(tmp_path / "run")[0].error is None
