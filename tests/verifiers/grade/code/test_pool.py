"""The pool: from threads and event loops, killable, leaving nothing; refusal without isolation; the command."""

# ruff: noqa: E501 (programs in tables)

import asyncio
import io
import json
import os
import tempfile
import threading
import time

import pytest

from search.errors import VerifierError
from verifiers.grade.code import __main__ as command
from verifiers.grade.code import sandbox as sandboxes
from verifiers.grade.code.pool import Pool, shared
from verifiers.grade.code.program import Limits, Program
from verifiers.grade.code.sandbox import NoIsolation, Sandbox

FULL = os.environ.get("TREEWISE_FULL") == "1"
HELLO = Program("print(input())")


def mine() -> set[str]:
    """Processes that descend from this one, and temporary folders of ours."""
    found: set[str] = set()

    def look(pid: str) -> None:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as children:
                for child in children.read().split():
                    found.add(child)
                    look(child)

    look(str(os.getpid()))
    return found | {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("treewise-")}


def test_many_programs_leave_nothing(limits):
    before, count = mine(), 1000 if FULL else 40
    kinds = [
        "print(input())",
        "import os\nif os.fork(): print(input())",
        "open('x', 'w').write('x')\nprint(input())",
        "1 / 0",
    ]
    with Pool(workers=2, limits=limits) as pool:
        futures = [pool.submit(Program(kinds[i % 4]), [str(i).encode()]) for i in range(count)]
        ends = [future.result()[0] for future in futures]
    assert [ran.end for ran in ends] == ["error" if i % 4 == 3 else "done" for i in range(count)]
    assert [int(ran.output) for i, ran in enumerate(ends) if i % 4 < 3] == [i for i in range(count) if i % 4 < 3]
    assert mine() <= before


def test_from_threads(pool):
    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda i=i: results.append(pool.submit(HELLO, [b"%d" % i]).result()[0].output))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [b"%d\n" % i for i in range(4)]


async def test_the_event_loop_goes_on(pool):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    done = await asyncio.gather(*(pool.run(Program("import time\ntime.sleep(0.2)"), [b""]) for _ in range(3)))
    ticking.cancel()
    assert ticks > 3 and [ran.end for (ran,) in done] == ["done"] * 3


def test_closing_kills_what_runs():
    pool = Pool(workers=1, limits=Limits(cpu=600, wall=600))
    running = pool.submit(Program("import time\ntime.sleep(600)"), [b""])
    waiting = pool.submit(HELLO, [b""])
    while not running.running():
        time.sleep(0.01)
    time.sleep(0.5)
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 30
    for future in (running, waiting):
        with pytest.raises(VerifierError, match="closed"):
            future.result(timeout=10)
    with pytest.raises(VerifierError, match="closed"):
        pool.submit(HELLO, [b""])
    pool.close()


def test_a_sandbox_that_was_killed_starts_again(limits):
    made = Sandbox("auto", limits)
    assert made.run(HELLO, [b"1"])[0].output == b"1\n"
    made._process.kill()
    made._process.wait()
    with pytest.raises(VerifierError):
        made.run(HELLO, [b"2"])
        made.run(HELLO, [b"2"])
    assert made.run(HELLO, [b"3"])[0].output == b"3\n"
    made.close()


def test_shared_pools_are_one():
    limits = Limits(cpu=3)
    assert shared(limits=limits) is shared(limits=limits) is not shared()


def no_walls(monkeypatch):
    monkeypatch.setattr(Sandbox, "_start", lambda self, kind: "" if kind == "none" else "forbidden here")


def test_without_isolation_nothing_is_run(monkeypatch, capsys):
    no_walls(monkeypatch)
    with Pool(workers=1) as pool, pytest.raises(NoIsolation, match=r"namespaces: forbidden.*limits: forbidden.*none"):
        assert [ran.end for ran in pool.submit(HELLO, [b"1"] * 2).result()] == ["refused"] * 2
        Sandbox().start()
    row = {"code": "print(1)", "tests": [{"input": "", "output": "1"}], "fn_name": None}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(row)))
    out = io.StringIO()
    assert command.main(["-"], out) == 0
    assert json.loads(out.getvalue()) == {"verdict": "refused", "passed": 0, "total": 1, "seconds": 0}
    assert "isolation=none" in capsys.readouterr().err


def test_the_second_choice_is_taken_in_order_and_declared(monkeypatch, capsys):
    start = Sandbox._start
    monkeypatch.setattr(Sandbox, "_start", lambda self, kind: start(self, kind) if kind == "limits" else "forbidden")
    row = {"code": "print(1)", "tests": [{"input": "", "output": "1"}], "fn_name": None}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(row)))
    out = io.StringIO()
    assert command.main(["-", "--workers", "1"], out) == 0
    verdict, said = json.loads(out.getvalue())["verdict"], capsys.readouterr().err
    assert (verdict, "isolation: limits" in said) == ("right", True) or verdict == "refused"
    assert sandboxes.ORDER == ("namespaces", "bubblewrap", "limits")


def test_no_isolation_by_wish(limits):
    made = Sandbox("none", limits)
    assert made.run(Program("import os\nprint(os.getuid())"), [b""])[0].output == b"%d\n" % os.getuid()
    assert made.run(Program("while True: pass"), [b""])[0].end == "timeout"
    folder = made._folder.name
    made.close()
    assert not os.path.exists(folder)


def test_the_command(tmp_path, capsys):
    rows = [
        {"code": "print(int(input()) + 1)", "tests": [{"input": "1", "output": "2"}] * 2, "fn_name": None},
        {"code": "def f(a, b): return a + b", "tests": [{"input": "1\n2", "output": "3"}, {"input": "1\n2", "output": "4"}], "fn_name": "f"},
        {"code": "1 / 0", "tests": [{"input": "", "output": ""}]},
        {"code": "a = [0] * 10 ** 10", "tests": [{"input": "", "output": ""}]},
        {"code": "while True: pass", "tests": [{"input": "", "output": ""}]},
        {"code": "print(1)", "tests": []},
    ]  # fmt: skip
    file = tmp_path / "rows.jsonl"
    file.write_text("\n\n".join(map(json.dumps, rows)))
    assert command.main([str(file), "--cpu", "0.5", "--workers", "2"]) == 0
    verdicts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [tuple(v.values())[:3] for v in verdicts] == [
        ("right", 2, 2), ("wrong", 1, 2), ("error", 0, 1), ("memory", 0, 1), ("timeout", 0, 1), ("refused", 0, 0),
    ]  # fmt: skip
    assert all(list(v) == ["verdict", "passed", "total", "seconds"] for v in verdicts)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1"),
        ('{"code": 1, "tests": []}', "line 1"),
        ('{"code": "x", "tests": [{"input": 1}]}', "tests[0]"),
        ('{"code": "x", "tests": [], "fn_name": 3}', "fn_name"),
    ],
)
def test_malformed_rows(text, said, tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    file.write_text(text)
    assert command.main([str(file), "--workers", "1"]) == 2
    assert said in capsys.readouterr().err


def test_a_missing_file(capsys):
    assert command.main(["no such file"]) == 2 and "cannot be read" in capsys.readouterr().err
