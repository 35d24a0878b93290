"""The direction of imports: every file is read with `ast`, nothing is imported to find out."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("search", "policies", "verifiers", "experiments")  # each may import those before it
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
HEAVY = {
    "torch",
    "ray",
    "hydra",
    "omegaconf",
    "transformers",
    "vllm",
    "rich",
    "networkx",
    "httpx",
    "sklearn",
    "sympy",
    "math_verify",
}


def imported(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """Dotted names of all imports in a file, wherever they stand; those for type checkers alone are left out."""
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            module = node.module or ""
            yield from ((f"{module}.{alias.name}" if module in ROOMS else module, node) for alias in node.names)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_rooms_import_only_rightwards(path):
    room = path.relative_to(ROOT).parts[0]
    allowed = ROOMS[: ROOMS.index(room) + 1]
    for module, node in imported(parse(path)):
        top = module.split(".")[0]
        assert top not in ROOMS or top in allowed, f"{name(path)}:{node.lineno} imports {module}"
        assert top not in ("conf", "tests"), f"{name(path)}:{node.lineno} imports {module}"


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(ROOT / "search")], ids=name)
def test_search_needs_only_the_standard_library_and_numpy(path):
    for module, node in imported(parse(path)):
        top = module.split(".")[0]
        if top == "networkx":
            assert path.name == "tree.py" and node.col_offset > 0, "networkx belongs inside Tree.to_networkx"
        elif top in ("sklearn", "threadpoolctl"):
            assert path.name == "cluster.py" and node.col_offset > 0, "scikit-learn belongs inside functions of cluster"
        else:
            assert top in (*sys.stdlib_module_names, "numpy", "search"), f"{name(path)}:{node.lineno} imports {module}"


@pytest.mark.parametrize("path", [p for p in FILES if p.parent == ROOT / "search" / "algorithms"], ids=name)
def test_algorithms_know_neither_schedules_nor_each_other(path):
    for module, node in imported(parse(path)):
        assert module.split(".")[0] not in ("asyncio", "threading", "concurrent", "time", "logging"), (path, module)
        assert not module.startswith(("search.batching", "search.journal", "search.algorithms")), (
            f"{name(path)}:{node.lineno} imports {module}"
        )


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(ROOT / "policies")], ids=name)
def test_policies_take_from_search_only_what_crosses_the_seam(path):
    open_doors = ("types", "ports", "errors", "contract", "batching", "steps", "seeds")
    for module, node in imported(parse(path)):
        if module.startswith("search"):
            assert module.split(".")[1] in open_doors, f"{name(path)}:{node.lineno} imports {module}"


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=name)
def test_packages_do_nothing_when_imported(path):
    for statement in parse(path).body:
        text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        names = isinstance(statement, ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef)
        value = isinstance(statement, ast.Assign) and not any(isinstance(n, ast.Call) for n in ast.walk(statement))
        assert text or names or value, f"{name(path)}:{statement.lineno} does something at import"


def test_importing_search_is_light():
    code = "import json, sys, pkgutil, search; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not HEAVY & set(json.loads(done.stdout))


def test_files_are_small():
    assert {name(p): n for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 300} == {}
