"""What a sandbox costs: a program run in it beside the same program run bare, in turn."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path

from experiments.benchmarks.figure import Figure, measured
from verifiers.grade.code.pool import Pool
from verifiers.grade.code.program import Program
from verifiers.grade.code.sandbox import Sandbox

SOURCE = "print(sum(map(int, input().split())))"
GIVEN, WANTED = b"1 2 3\n", b"6\n"
REPEATS, PROGRAMS = 40, 60


def bare(path: Path) -> float:
    """Seconds of the program as a process of its own, without walls and limits."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, str(path)], input=GIVEN, capture_output=True, check=True)
    assert done.stdout == WANTED
    return time.perf_counter() - began


def walled(sandbox: Sandbox) -> float:
    """Seconds of the program in the sandbox, from handing it over until nothing of it is left."""
    began = time.perf_counter()
    (ran,) = sandbox.run(Program(SOURCE), [GIVEN])
    sandbox.settle()
    assert ran.output == WANTED, ran
    return time.perf_counter() - began


def per_second(workers: int) -> float:
    """Programs that a pool of so many sandboxes runs in a second."""
    busy = Program("x = 0\nfor i in range(300000): x += i\nprint(6)")
    with Pool(workers=workers) as pool:
        wait([pool.submit(busy, [GIVEN]) for _ in range(workers)])  # all have started
        began = time.perf_counter()
        wait([pool.submit(busy, [GIVEN]) for _ in range(PROGRAMS)])
        return PROGRAMS / (time.perf_counter() - began)


def figures() -> Iterator[Figure]:
    """`code.overhead_ms`, `code.per_second`, `code.speedup`."""
    sandbox = Sandbox()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.py")
        path.write_text(SOURCE)
        bare(path), walled(sandbox)  # the first of each pays for reading from the disk
        pairs = [(bare(path), walled(sandbox)) for _ in range(REPEATS)]
    kind = sandbox.kind
    sandbox.close()
    plain, inside = (sorted(times)[REPEATS // 2] * 1000 for times in zip(*pairs, strict=True))
    note = f"isolation {kind}: {inside:.0f} ms, start of Python saved, beside {plain:.0f} ms bare; median of pairs"
    yield measured("code.overhead_ms", "ms", note, [1000 * (two - one) for one, two in pairs])
    cores = os.cpu_count() or 1
    one, all_of_them = zip(*((per_second(1), per_second(cores)) for _ in range(3)), strict=True)
    note = f"short programs run by a pool of {cores} sandboxes"
    yield measured("code.per_second", "1/s", note, list(all_of_them))
    ratios = [more / less for more, less in zip(all_of_them, one, strict=True)]
    yield measured("code.speedup", "ratio", f"{note}, over one", ratios)
