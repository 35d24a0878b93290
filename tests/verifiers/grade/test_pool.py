"""Limits are hard, results come back whatever happens to a process, and nothing is left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from search.errors import ConfigError, VerifierError
from verifiers.grade.pool import Pool

BURN = ("builtins:pow", 7, 10**7)  # many seconds in C code, deaf to Python's exceptions
ROOT = Path(__file__).resolve().parents[3]


def bare(**limits) -> Pool:
    return Pool(**{"workers": 1, "warm": None, **limits})


def alive(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody has collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_results_and_errors_of_the_function():
    with bare() as pool:
        assert pool.submit("operator:add", 2, 3).result().value == 5
        failed = pool.submit("operator:truediv", 1, 0).result()
        assert (failed.kind, failed.value) == ("error", None) and "ZeroDivisionError" in failed.note
        assert pool.submit("operator:add", [1], [2]).result().value == [1, 2]


def test_processor_time_is_limited_even_inside_c_code():
    with bare(cpu=0.3) as pool:
        finished = pool.submit(*BURN).result()
        assert (finished.kind, finished.seconds) == ("timeout", 0.3) and "processor" in finished.note
        assert pool.submit("operator:add", 2, 3).result().value == 5  # in a new process


def test_waiting_costs_no_processor_time_and_ends_at_the_wall():
    with bare(cpu=0.05, wall=0.4) as pool:
        assert pool.submit("time:sleep", 0.2).result().kind == "done"
        finished = pool.submit("time:sleep", 60).result()
        assert finished.kind == "timeout" and "wall" in finished.note


def test_the_limit_counts_from_the_start_of_the_work_not_from_the_queue():
    with bare(wall=2.0) as pool:
        futures = [pool.submit("time:sleep", 0.3) for _ in range(8)]  # the last one waits longer than its limit
        assert [future.result().kind for future in futures] == ["done"] * 8


def test_memory_is_limited():
    with bare(memory=1 << 28) as pool:
        finished = pool.submit("builtins:bytearray", 1 << 30).result()
        assert finished.kind == "memory" and "256 MiB" in finished.note
        assert pool.submit("operator:add", 2, 3).result().value == 5


def test_a_swallowed_memory_error_is_still_told():
    with bare(memory=1 << 28) as pool:
        # `timeit` runs code that fills the memory and hides it, as symbolic algebra does
        code = "x = []\ntry:\n    while True: x.append(bytearray(1 << 20))\nexcept MemoryError: x.clear()"
        assert pool.submit("builtins:exec", code).result().kind == "memory"


def test_death_of_a_process_is_its_own_verdict():
    with bare() as pool:
        finished = pool.submit("os:_exit", 3).result()
        assert (finished.kind, finished.note) == ("died", "the process ended with status 3")
        assert pool.submit("os:abort").result().kind == "died"
        assert pool.submit("operator:add", 2, 3).result().value == 5


def test_prints_do_not_break_the_protocol():
    with bare() as pool:
        assert pool.submit("builtins:print", "hello").result().kind == "done"
        assert pool.submit("operator:add", 2, 3).result().value == 5


def test_results_that_are_no_json_are_errors():
    with bare() as pool:
        assert pool.submit("builtins:complex", 1, 2).result().kind == "error"
        with pytest.raises(VerifierError):
            pool.submit("operator:add", 1, object()).result()
        assert pool.submit("operator:add", 2, 3).result().value == 5


def test_it_starts_nothing_before_the_first_work_and_no_more_than_it_needs():
    with bare(workers=3) as pool:
        assert not pool._processes
        first = pool.submit("os:getpid").result().value
        time.sleep(0.05)
        assert pool.submit("os:getpid").result().value == first and len(pool._processes) == 1


def test_several_processes_work_at_once():
    with bare(workers=3) as pool:
        futures = [pool.submit("time:sleep", 0.3) for _ in range(3)]
        for future in futures:
            future.result()
        assert len(pool._processes) == 3


def test_it_is_awaitable_from_several_loops_and_threads_and_blocks_none():
    with bare(workers=2) as pool:

        async def one(number: int) -> int:
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.01)
                    ticks += 1

            ticker = asyncio.create_task(tick())
            results = await asyncio.gather(*(pool.run("operator:add", number, k) for k in range(5)))
            await pool.run("time:sleep", 0.2)
            ticker.cancel()
            assert ticks >= 3
            return sum(result.value for result in results)

        with ThreadPoolExecutor(4) as threads:
            sums = list(threads.map(lambda number: asyncio.run(one(number)), range(4)))
        assert sums == [5 * number + 10 for number in range(4)]


def test_a_cancelled_call_does_not_disturb_the_others():
    with bare() as pool:

        async def scene() -> int:
            first = asyncio.create_task(pool.run("time:sleep", 0.2))
            second = asyncio.create_task(pool.run("time:sleep", 0.2))
            await asyncio.sleep(0.05)
            second.cancel()
            await first
            return (await pool.run("operator:add", 2, 3)).value

        assert asyncio.run(scene()) == 5


def test_close_ends_every_process_and_fails_what_is_left():
    others = set(threading.enumerate())
    pool = bare(workers=2)
    pids = [pool.submit("os:getpid").result().value]
    running, waiting = pool.submit("time:sleep", 60), [pool.submit("time:sleep", 60) for _ in range(3)]
    time.sleep(0.3)
    pids += [process._process.pid for process in pool._processes]
    started = time.monotonic()
    pool.close()
    pool.close()
    assert time.monotonic() - started < 20
    for future in [running, *waiting]:
        with pytest.raises(VerifierError, match="closed"):
            future.result()
    with pytest.raises(VerifierError, match="closed"):
        pool.submit("operator:add", 2, 3)
    assert not any(alive(pid) for pid in pids)
    assert not [thread for thread in threading.enumerate() if thread.name == "grading" and thread not in others]


@pytest.mark.parametrize("end", ["pass", "import os; os._exit(1)", "raise SystemExit(3)"])
def test_no_process_outlives_its_parent(end):
    code = (
        "from verifiers.grade.pool import Pool\n"
        "pool = Pool(workers=1, warm=None)\n"
        "print(pool.submit('os:getpid').result().value, flush=True)\n"
        f"{end}"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    pid, deadline = int(done.stdout), time.monotonic() + 20
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid) and not done.stderr


def test_the_parent_keeps_its_own_alarms():
    before = signal.getsignal(signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        with bare(cpu=0.2) as pool:
            pool.submit(*BURN).result()
        assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL)[0] > 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def test_a_process_that_cannot_start_is_an_error_that_says_so():
    with bare(warm="operator:no_such_function") as pool, pytest.raises(VerifierError, match="did not start"):
        pool.submit("operator:add", 2, 3).result()


def test_environment_of_a_process_is_fixed():
    with bare() as pool:
        assert pool.submit("os:getenv", "PYTHONHASHSEED").result().value == "0"
        assert pool.submit("os:getsid", 0).result().value != os.getsid(0)  # Ctrl-C goes to the parent alone


@pytest.mark.parametrize(
    ("field", "value"), [("workers", -1), ("cpu", 0.0), ("cpu", float("nan")), ("wall", -1.0), ("memory", 1)]
)
def test_wrong_limits_are_refused(field, value):
    with pytest.raises(ConfigError, match=field):
        Pool(**{field: value})
