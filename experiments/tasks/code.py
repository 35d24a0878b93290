"""Programming problems: LiveCodeBench, HumanEval, MBPP, Codeforces; searches see public tests, grades all of them."""

from __future__ import annotations

import ast
import doctest
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from experiments.item import Grade, Item
from experiments.tasks.files import find, malformed, missing, read_rows
from search.errors import VerifierError
from verifiers.grade.code.compare import Compare
from verifiers.grade.code.extract import extract, same
from verifiers.grade.code.pool import shared
from verifiers.grade.code.program import Isolation, Limits, Program
from verifiers.grade.code.verdict import Trial

FENCED = "Put the whole program in one ```python block."
STDIN = f"Write a Python 3 program that reads standard input and writes standard output. {FENCED}"
FUNCTION = f"Complete this Python 3 code. {FENCED}"


@dataclass(frozen=True)
class Tests:
    """How a program is tested; the public ones travel with the item as its field "public".

    Attributes:
        mode, name, support: see `verifiers.grade.code.program.Program`.
        header: source put before the program.
        tests: mappings {"input", "output"}, or source of checks.
    """

    mode: str
    tests: Sequence[Any]
    name: str = ""
    header: str = ""
    support: str = ""

    def fields(self) -> dict[str, Any]:
        """As the verifier of public tests takes them."""
        return {"mode": self.mode, "tests": list(self.tests), "name": self.name, "header": self.header,
                "support": self.support}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A row made ready."""

    item: Item
    hidden: Tests


@dataclass(frozen=True)
class Programs:
    """What these tasks have in common; `name` and `file` tell them apart.

    Attributes:
        data: folder of benchmark files; None takes the environment variable TREEWISE_DATA.
        isolation: of the programs that are graded, see `verifiers.grade.code.sandbox`.
        cpu: seconds of processor time per test.
        memory: bytes.
    """

    data: str | None = None
    isolation: Isolation = "auto"
    cpu: float = 6.0
    memory: int = 2 << 30

    name: ClassVar[str]
    file: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    compare: ClassVar[Compare] = Compare()

    def __post_init__(self) -> None:
        Limits(cpu=self.cpu, memory=self.memory)

    def items(self) -> list[Item]:
        """All problems in the order of the file. Raises ConfigError where the data is missing or malformed."""
        return [case.item for case in self._cases.values()]

    @cached_property
    def _cases(self) -> dict[str, Case]:
        path = find(self.data, self.file)
        if path is None:
            raise missing(self.data, self.file)
        cases = {}
        for number, row in read_rows(path):
            if lacking := [column for column in ("id", "prompt", *self.columns) if column not in row]:
                raise malformed(path, number, f"has no {lacking[0]!r}; take a file of {self.name}")
            public, hidden, question = self._tests(row)
            fields: dict[str, Any] = {"public": public.fields()}
            fields.update({column: row[column] for column in ("platform", "difficulty") if column in row})
            cases[str(row["id"])] = Case(Item(str(row["id"]), self.name, question, None, fields), hidden)
        return cases

    def _tests(self, row: Mapping[str, Any]) -> tuple[Tests, Tests, str]:
        """Public tests, hidden tests, and what is asked."""
        raise NotImplementedError

    def messages(self, item: Item) -> list[Mapping[str, str]]:
        """The problem, and how the program is to be written."""
        how = STDIN if item.fields["public"]["mode"] == "stdin" else FUNCTION
        return [{"role": "user", "content": f"{item.question.strip()}\n\n{how}"}]

    async def classes(self, texts: Sequence[str]) -> list[int | None]:
        """Programs are equal when they differ in comments, spaces and brackets only."""
        labels: dict[str, int] = {}
        codes = [extract(text) for text in texts]
        return [None if code is None else labels.setdefault(same(code), len(labels)) for code in codes]

    async def grade(self, item: Item, text: str) -> Grade:
        """By all tests, the hidden ones included. Raises VerifierError where programs cannot be isolated."""
        code = extract(text)
        if code is None:
            return Grade("unparsable", None, reason="no program in the text")
        hidden = self._cases[item.id].hidden
        program = Program(hidden.header + code, hidden.mode, hidden.name, support=hidden.support)  # type: ignore[arg-type]
        pool = shared(self.isolation, Limits(cpu=self.cpu, memory=self.memory))
        verdict = await Trial(program, hidden.tests, self.compare, stop="failure").run(pool)
        if verdict.kind == "refused":
            if not verdict.total:
                return Grade("unknown", code, reason="no tests")
            raise VerifierError(verdict.note)
        reason = "" if verdict.kind == "right" else f"{verdict.kind}: {verdict.note}"
        return Grade("right" if verdict.kind == "right" else "wrong", code, verdict.seconds, reason)


class LiveCodeBench(Programs):
    """LiveCodeBench (Jain et al. 2024, arXiv:2403.07974), release 6.

    Public tests are those of the statement. The full hidden tests are not in the file: a program is graded by the
    public ones and some more, and about one wrong program in five passes them all.
    """

    name = "livecodebench"
    file = "livecodebench"
    columns = ("test_type", "fn_name", "public_tests", "extra_tests", "starter_code")
    compare = Compare(tolerance=0.0)  # as its own grader: numbers are equal, or they are not

    def _tests(self, row: Mapping[str, Any]) -> tuple[Tests, Tests, str]:
        mode, name = ("call", row["fn_name"]) if row["test_type"] == "functional" else ("stdin", "")
        start = f"\n\n```python\n{row['starter_code'].rstrip()}\n```" if row["starter_code"].strip() else ""
        every = [*row["public_tests"], *row["extra_tests"]]
        return Tests(mode, row["public_tests"], name), Tests(mode, every, name), row["prompt"] + start


class Codeforces(Programs):
    """Problems of Codeforces with the first of their tests. Most have a single one, which the search then sees too, and
    problems with several right outputs are judged by the one on file: compare searches, not with published numbers.
    """

    name = "codeforces"
    file = "codeforces_rllm408"
    columns = ("tests",)

    def _tests(self, row: Mapping[str, Any]) -> tuple[Tests, Tests, str]:
        return Tests("stdin", row["tests"][:1]), Tests("stdin", row["tests"]), row["prompt"]


class HumanEval(Programs):
    """HumanEval (Chen et al. 2021, arXiv:2107.03374): a function from its signature and docstring.

    Public tests are the examples in the docstring, where it has any in the form of an interpreter's session.
    """

    name = "humaneval"
    file = "humaneval"
    columns = ("entry_point", "test_code")

    def _tests(self, row: Mapping[str, Any]) -> tuple[Tests, Tests, str]:
        prompt, name = row["prompt"], row["entry_point"]
        header = prompt.split(f"def {name}")[0] + "\n"
        public = Tests("check", list(examples(prompt, name)), name, header, prompt + "    pass\n")
        hidden = Tests("check", [f"{row['test_code']}\ncheck({name})\n"], name, header, prompt + "    pass\n")
        return public, hidden, f"```python\n{prompt.rstrip()}\n```"


class MBPP(Programs):
    """MBPP (Austin et al. 2021, arXiv:2108.07732), test split: a function from a sentence and one of three tests."""

    name = "mbpp"
    file = "mbpp_test"
    columns = ("entry_point", "test_setup", "tests")

    def _tests(self, row: Mapping[str, Any]) -> tuple[Tests, Tests, str]:
        tests = [f"{row['test_setup']}\n{test}" for test in row["tests"]]
        question = f"{row['prompt']}\n\nThe code must pass this test:\n```python\n{row['tests'][0]}\n```"
        return Tests("check", tests[:1], row["entry_point"]), Tests("check", tests, row["entry_point"]), question


def examples(prompt: str, name: str) -> Iterator[str]:
    """The examples in the docstring of function `name` that call it, as checks."""
    try:
        functions = [node for node in ast.parse(prompt + "    pass\n").body if isinstance(node, ast.FunctionDef)]
        docstring = next((ast.get_docstring(each) for each in functions if each.name == name), None)
        found = doctest.DocTestParser().get_examples(docstring or "")
    except (SyntaxError, ValueError):  # not written as Python or doctest want it
        return
    for example in found:
        source, wanted = example.source.strip(), example.want.strip()
        if f"{name}(" in source and wanted and not wanted.startswith("Traceback"):
            try:
                compile(f"({source})\n({wanted})", "example", "exec")
            except SyntaxError:
                continue
            yield f"assert ({source}) == ({wanted})"
