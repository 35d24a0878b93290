"""Verdicts on programs that mean well, by every kind of sandbox that works here."""

# ruff: noqa: E501 (programs in tables)

import pytest

from search.errors import ConfigError
from verifiers.grade.code.pool import Pool
from verifiers.grade.code.program import Limits, Program
from verifiers.grade.code.verdict import Trial

ECHO = [{"input": "1\n", "output": "2"}, {"input": "5\n", "output": "6"}]
ADD = "print(int(input()) + 1)"


def judged(sandbox, code, tests, mode="stdin", name="", **settings):
    trial = Trial(Program(code, mode, name, support=settings.pop("support", "")), tests, **settings)
    return trial.verdict(sandbox.run(trial.program, [case.given for case in trial._cases], trial._go_on))


def io(given, output):
    return [{"input": given, "output": output}]


PROGRAMS = {
    "adds": (ADD, ECHO, "right"),
    "reads in other ways": ("import sys\nfor line in sys.stdin: print(int(line) + 1)", ECHO, "right"),
    "reads bytes": ("import os\nprint(int(os.read(0, 99)) + 1)", ECHO, "right"),
    "reads file 0": ("print(int(open(0).read()) + 1)", ECHO, "right"),
    "reads a named device": ("print(int(open('/dev/stdin').read()) + 1)", ECHO, "right"),
    "is run as main": (f"def main():\n    {ADD}\nif __name__ == '__main__':\n    main()", ECHO, "right"),
    "runs in a thread": (f"import threading\ndef main(): {ADD}\nthreading.Thread(target=main).start()", ECHO, "right"),
    "prints at its exit": ("import atexit\natexit.register(lambda: print(int(input()) + 1))", ECHO, "right"),
    "ends early": (f"import sys\n{ADD}\nsys.exit(0)\nprint('x')", ECHO, "right"),
    "writes without Python": ("import os\nos.write(1, str(int(input()) + 1).encode())", ECHO, "right"),
    "lacks an import": ("print(int(floor(sqrt(9))), Counter('aa')['a'], math.gcd(2, 4))", io("", "3 2 2"), "right"),
    "uses numbers": ("import numpy as np\nprint(int(np.arange(4).sum()))", io("", "6"), "right"),
    "recurses": ("import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return n and 1 + f(n - 1)\nprint(f(40000))", io("", "40000"), "right"),
    "keeps a file": ("open('a', 'w').write('x')\nprint(open('a').read())", io("", "x"), "right"),
    "keeps results": ("@cache\ndef f(n): return n if n < 2 else f(n - 1) + f(n - 2)\nprint(f(5000) % 1000)", io("", "125"), "right"),
    "is half right": ("print(2)", ECHO, "wrong"),
    "fails": ("print(1 / 0)", ECHO, "error"),
    "fails late": (f"{ADD}\nraise ValueError", ECHO, "error"),
    "is no program": ("print(", ECHO, "error"),
    "reads too much": ("input(); input()", ECHO, "error"),
    "prints nothing": ("input()", ECHO, "wrong"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name, pool):
    code, tests, kind = PROGRAMS[name]
    trial = Trial(Program(code), tests)
    verdict = trial.verdict(trial.start(pool).result())
    assert (verdict.kind, verdict.total) == (kind, len(tests)), verdict
    assert verdict.seconds > 0 and (verdict.passed == len(tests)) == (kind == "right")


def test_each_kind_of_sandbox(sandbox):
    assert judged(sandbox, ADD, ECHO).kind == "right"
    half = judged(sandbox, "print(2)", ECHO)
    assert (half.kind, half.passed, half.total, half.fraction, half.tests) == ("wrong", 1, 2, 0.5, ("right", "wrong"))
    assert judged(sandbox, "def f(x): return x", io("[1]", "[1]"), "call", "f").kind == "right"
    assert judged(sandbox, "def f(x): return x", ["assert f(1) == 1"], "check", "f").kind == "right"
    assert judged(sandbox, "open('a', 'w').write('x')\nprint(open('a').read())", io("", "x")).kind == "right"


def test_the_same_program_rolls_the_same_dice(pool):
    program = Program("import random\nprint(random.random(), hash('a'))")
    assert len({ran.output for ran in pool.submit(program, [b""] * 3).result()}) == 1


@pytest.mark.parametrize(
    ("code", "given", "output", "kind"),
    [
        ("class Solution:\n    def f(self, a: List[int]) -> int: return sum(a)", "[1, 2]", "3", "right"),
        ("def f(a, b): return [a, b]", '1\n"x"', '[1, "x"]', "right"),
        ("def f(a): return tuple(a)", "[1]", "[1]", "right"),
        ("def f(a): return (x for x in a)", "[1]", "[1]", "right"),
        ("def f(a): print('noise'); return a", "1", "1", "right"),
        ("def f(a): return 10 ** 5000", "1", "1", "wrong"),
        ("def f(a): return lambda: 1", "1", "1", "wrong"),
        ("def f(a): return f", "1", "null", "wrong"),
        ("def f(a):\n    b = []\n    b.append(b)\n    return b", "1", "[]", "error"),
        ("def g(a): return a", "1", "1", "error"),
        ("def f(): return 1", "1", "1", "error"),
        ("x = 1 / 0\ndef f(a): return a", "1", "1", "error"),
        ("import sys\ndef f(a): sys.exit()", "1", "null", "error"),
    ],
)
def test_calls(code, given, output, kind, pool):
    trial = Trial(Program(code, "call", "f"), io(given, output))
    assert trial.verdict(trial.start(pool).result()).kind == kind


@pytest.mark.parametrize(
    ("code", "check", "kind"),
    [
        ("def f(x): return x + 1", "assert f(1) == 2\nassert f(x=2) == 3", "right"),
        ("def f(x): return x + 1", "assert f(1) == 3", "wrong"),
        ("def f(x): return {1, 2}", "assert sorted(f(1)) == [1, 2] and isinstance(f(1), set)", "right"),
        ("def f(x): raise KeyError(x)", "try:\n    f(1)\n    assert False\nexcept KeyError:\n    pass", "right"),
        ("def f(x): raise KeyError(x)", "f(1)", "error"),
        ("class Node:\n    def __init__(self, v): self.v = v\ndef f(n): return n.v + n.w", "n = Node(1)\nn.w = 2\nassert f(n) == 3", "right"),
        ("def f(x): return iter([1, 2])", "assert list(f(1)) == [1, 2]", "right"),
        ("def f(x): return object()", "assert f(1)", "error"),
        ("def g(x): return x", "assert f(1)", "error"),
        ("def f(x): return x", "assert double(f(2)) == 4", "right"),
        ("def f(x): return x", "assert f(unknown)", "error"),
        ("def f(x):\n    while True: pass", "assert f(1)", "timeout"),
        ("import os\ndef f(x): os._exit(0)", "assert f(1)", "error"),
        ("def f(x): return bytearray(1 << 40)", "assert f(1)", "memory"),
    ],
)  # fmt: skip
def test_checks(code, check, kind, pool):
    trial = Trial(Program(code, "check", "f", support="def double(x): return 2 * x"), [check])
    verdict = trial.verdict(trial.start(pool).result())
    assert verdict.kind == kind, verdict


def test_stopping():
    with Pool(workers=1, limits=Limits(cpu=0.3, wall=0.3)) as pool:
        trial = Trial(Program("print(1)"), io("", "2") * 3, stop="failure")
        assert len(trial.verdict(trial.start(pool).result()).tests) == 1
        trial = Trial(Program("import time\ntime.sleep(60)"), io("", "2") * 5, timeouts=2)
        verdict = trial.verdict(trial.start(pool).result())
        assert (verdict.kind, verdict.tests, verdict.total) == ("timeout", ("timeout",) * 2, 5)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Trial(Program("x"), [{"input": "1"}]),
        lambda: Trial(Program("x"), [{"input": 1, "output": "1"}]),
        lambda: Trial(Program("x", "call", "f"), [{"input": "{", "output": "1"}]),
        lambda: Trial(Program("x", "check", "f"), [{}]),
        lambda: Trial(Program("x"), [], stop="soon"),
        lambda: Program("x", "call"),
        lambda: Program("x", "stdin", "f"),
        lambda: Limits(cpu=0),
        lambda: Limits(memory=1),
        lambda: Limits(processes=0),
        lambda: Pool(workers=-1),
        lambda: Pool(isolation="wall"),
    ],
)
def test_what_is_malformed_is_refused(wrong):
    with pytest.raises(ConfigError):
        wrong()


def test_no_tests_no_verdict():
    assert Trial(Program("x"), []).verdict([]).kind == "refused"
