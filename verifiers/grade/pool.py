"""A pool of killable processes with limits per piece of work; awaitable from any thread and any event loop.

Comparing two answers can run for ever or fill the memory, inside C code and behind `except Exception`. So every
comparison runs in a process of its own pool (`verifiers.grade.worker`), and its limits are hard:

    cpu     seconds of processor time of one piece of work, enforced by the kernel: the verdict is that of the work
            and not of the machine's load. Waiting in the queue and starting a process do not count.
    wall    seconds from the start of the work; only a backstop for work that waits instead of computing.
    memory  bytes of address space of a process.

A process that breaks a limit is killed and replaced. Processes start when they are first needed; they are started as
programs (no fork of a process that holds threads), ignore Ctrl-C, and end when the parent does. No signal handler or
alarm is ever set in the parent.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from search.errors import ConfigError, VerifierError
from verifiers.grade.process import Finished, Process


@dataclass(frozen=True, slots=True)
class _Job:
    future: Future[Finished]
    target: str
    arguments: tuple[Any, ...]


class Pool:
    """Runs functions, named as "module:name" with JSON arguments and results, in killable processes.

    Args:
        workers: processes at most; 0 takes one per processor, at most four.
        cpu: seconds of processor time of one piece of work.
        wall: seconds of wall time of one piece of work, a backstop; 0 takes sixty times `cpu`.
        memory: bytes of address space of one process; it starts with about 0.3 GiB.
        warm: a function without arguments that each process runs once before its first work; None for none.
    """

    def __init__(
        self,
        *,
        workers: int = 0,
        cpu: float = 5.0,
        wall: float = 0.0,
        memory: int = 2 << 30,
        warm: str | None = "verifiers.grade.equal:warm",
    ):
        if workers < 0:
            raise ConfigError("workers", workers, "give 0 (one per processor) or a positive number")
        if not cpu > 0:
            raise ConfigError("cpu", cpu, "give a positive number of seconds")
        if not wall >= 0:
            raise ConfigError("wall", wall, "give 0 (sixty times cpu) or a positive number of seconds")
        if memory < 1 << 28:
            raise ConfigError("memory", memory, "give at least 268435456 bytes (256 MiB)")
        self.size = workers or min(4, os.cpu_count() or 1)
        self.cpu, self.wall, self.memory, self._warm = cpu, wall or 60 * cpu, memory, warm
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._processes: set[Process] = set()
        self._closed = False

    def submit(self, target: str, *arguments: Any) -> Future[Finished]:
        """Queue a piece of work. Its future fails with VerifierError where no process can be started."""
        job = _Job(Future(), target, arguments)
        with self._lock:
            if self._closed:
                raise VerifierError("the grading pool is closed")
            self._jobs.put(job)
            if not self._idle.acquire(blocking=False) and len(self._threads) < self.size:
                if not self._threads:
                    atexit.register(self.close)
                thread = threading.Thread(target=self._serve, name="grading", daemon=True)
                self._threads.append(thread)
                thread.start()
        return job.future

    async def run(self, target: str, *arguments: Any) -> Finished:
        """Queue a piece of work and wait for it without blocking the event loop."""
        return await asyncio.wrap_future(self.submit(target, *arguments))

    def close(self) -> None:
        """Kill every process and fail what is not done. A closed pool takes no more work; closing twice is fine."""
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, []
            for process in self._processes:
                process.interrupt()
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join()
        atexit.unregister(self.close)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        """One thread: takes work from the queue and waits for the process that does it."""
        process: Process | None = None
        while (job := self._jobs.get()) is not None:
            if job.future.set_running_or_notify_cancel():
                try:
                    process, finished = self._work(process, job)
                except (VerifierError, OSError, TypeError, ValueError) as error:  # no process, or no JSON
                    self._end(process)
                    process = None
                    job.future.set_exception(error if isinstance(error, VerifierError) else VerifierError(str(error)))
                else:
                    job.future.set_result(finished)
            self._idle.release()
        self._end(process)

    def _work(self, process: Process | None, job: _Job) -> tuple[Process | None, Finished]:
        """The work's result, and the process if it is still fit for more."""
        fresh = process is None
        process = process or self._start()
        finished = process.work(job.target, job.arguments, cpu=self.cpu, wall=self.wall)
        if finished.kind in ("done", "error") and not process.worn:
            return process, finished
        self._end(process)
        if finished.kind == "died" and self._closed:
            raise VerifierError("the grading pool is closed")
        if finished.kind in ("memory", "died") and not fresh:
            # A used process carries the memory of earlier work; the verdict must not depend on that.
            return self._work(None, job)
        return None, finished

    def _start(self) -> Process:
        with self._lock:
            if self._closed:
                raise VerifierError("the grading pool is closed")
            process = Process(memory=self.memory, warm=self._warm)
            self._processes.add(process)
        try:
            process.ready()
        except VerifierError as error:
            self._end(process)
            if self._closed:
                raise VerifierError("the grading pool is closed") from error
            raise
        return process

    def _end(self, process: Process | None) -> None:
        if process is not None:
            process.kill()
            with self._lock:
                self._processes.discard(process)


_shared: dict[int, Pool] = {}
_shared_lock = threading.Lock()


def shared() -> Pool:
    """The pool of this process, made on first use and closed at its end; a forked child gets one of its own."""
    with _shared_lock:
        pool = _shared.get(os.getpid())
        if pool is None or pool._closed:
            pool = _shared[os.getpid()] = Pool()
        return pool


__all__ = ["Finished", "Pool", "shared"]
