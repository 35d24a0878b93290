"""What README shows works: its Python runs, its settings exist, its tables are complete."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_python_of_the_readme_runs(capsys, monkeypatch):
    assert len(blocks("python")) >= 4
    module = ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)  # dataclasses look their module up
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), module.__dict__)
    assert re.fullmatch(r"abcab \d+ tokens \d+ passes\n", capsys.readouterr().out)


def test_the_yaml_of_the_readme_is_yaml():
    for block in blocks("yaml"):
        shown = yaml.safe_load(block)
        assert shown.get("search", shown)["_target_"]


@pytest.mark.parametrize("group", sorted(path.name for path in (ROOT / "conf").iterdir() if path.is_dir()))
def test_every_choice_is_listed_and_exists(group):
    if group in ("debug", "experiment", "hydra"):
        return
    if group == "search":
        table = TEXT.partition("## The searches")[2].partition("\n## ")[0]
        names = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", " ".join(names))) == {p.stem for p in (ROOT / "conf" / group).glob("*.yaml")}
        return
    (row,) = re.findall(rf"^\| `{group}` \| (.*) \|$", TEXT, re.MULTILINE)
    listed = set(re.findall(r"`(\w+)`", row)) - {"transformers"}
    assert listed == {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}


def test_the_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake (\w+)\b", "\n".join(blocks("sh") + re.findall(r"`make \w+`", TEXT)))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
