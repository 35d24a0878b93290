"""Public names: listed in order, documented, and every search cites where it comes from."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("search", "policies", "verifiers", "experiments")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
ALGORITHMS = [p for p in FILES if p.parent == ROOT / "search" / "algorithms" and p.name != "__init__.py"]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_every_file_says_what_it_holds(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert (ast.get_docstring(tree) or "").strip(), f"{name(path)} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_public_names_are_documented(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    missing = [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert missing == []


@pytest.mark.parametrize("room", [r for r in ROOMS if (ROOT / r / "__init__.py").exists()])
def test_exported_names_exist_and_are_sorted(room):
    module = importlib.import_module(room)
    names = getattr(module, "__all__", [])
    assert list(names) == sorted(names)
    assert all(hasattr(module, each) for each in names)


@pytest.mark.parametrize("path", ALGORITHMS, ids=name)
def test_every_search_cites_its_source(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    searches = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and any(isinstance(f, ast.AsyncFunctionDef) and f.name == "__call__" for f in node.body)
    ]
    assert searches, f"{name(path)} holds no search"
    for search in searches:
        text = f"{ast.get_docstring(tree)} {ast.get_docstring(search)}"
        assert re.search(r"arXiv[ :]?\d{4}\.\d{4,5}|\b(19|20)\d\d\b", text), f"{search.name} cites no paper"


def test_no_common_drawer():
    assert [name(p) for p in FILES if p.stem in ("utils", "helpers", "common", "misc")] == []
