"""A pool of sandboxes, one per processor; awaitable from any thread and any event loop, killable at any time."""

from __future__ import annotations

import asyncio
import atexit
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from search.errors import ConfigError, VerifierError
from verifiers.grade.code.program import Isolation, Limits, Program, Ran
from verifiers.grade.code.sandbox import NoIsolation, Sandbox

GoOn = Callable[[int, Ran], bool]


@dataclass(frozen=True, slots=True)
class _Job:
    future: Future[list[Ran]]
    program: Program
    tests: Sequence[bytes]
    go_on: GoOn


class Pool:
    """Runs programs on tests, as `Sandbox.run`. Where nothing can be isolated, every test of a program is "refused".

    Args:
        workers: programs at once; 0 takes one per processor.
        isolation: see `verifiers.grade.code.sandbox`.
        limits: of every test.
    """

    def __init__(self, *, workers: int = 0, isolation: Isolation = "auto", limits: Limits | None = None):
        if workers < 0:
            raise ConfigError("workers", workers, "give 0 (one per processor) or a positive number")
        self.size, self.limits, self.isolation = workers or os.cpu_count() or 1, limits or Limits(), isolation
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._sandboxes: list[Sandbox] = []
        self._closed = False
        Sandbox(isolation)  # refuses what is no isolation at the door

    def submit(self, program: Program, tests: Sequence[bytes], go_on: GoOn = lambda _, __: True) -> Future[list[Ran]]:
        """Queue a program. Its future fails with VerifierError where a sandbox breaks or the pool is closed."""
        job = _Job(Future(), program, tests, go_on)
        with self._lock:
            if self._closed:
                raise VerifierError("the pool of sandboxes is closed")
            self._jobs.put(job)
            if not self._idle.acquire(blocking=False) and len(self._threads) < self.size:
                if not self._threads:
                    atexit.register(self.close)
                sandbox = Sandbox(self.isolation, self.limits)
                thread = threading.Thread(target=self._serve, args=(sandbox,), name="sandbox", daemon=True)
                self._sandboxes.append(sandbox)
                self._threads.append(thread)
                thread.start()
        return job.future

    async def run(self, program: Program, tests: Sequence[bytes], go_on: GoOn = lambda _, __: True) -> list[Ran]:
        """Queue a program and wait for it without blocking the event loop."""
        return await asyncio.wrap_future(self.submit(program, tests, go_on))

    @property
    def kind(self) -> Isolation | None:
        """The isolation found to work; None before a program was run."""
        return next((sandbox.kind for sandbox in self._sandboxes if sandbox.kind), None)

    def close(self) -> None:
        """Kill every program and fail what is not done. A closed pool takes no more work; closing twice is fine."""
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            while thread.is_alive():  # a sandbox that was about to start is killed when it has
                for sandbox in self._sandboxes:
                    sandbox.interrupt()
                thread.join(0.2)
        atexit.unregister(self.close)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self, sandbox: Sandbox) -> None:
        """One thread: takes programs from the queue and waits for the sandbox that runs them."""
        while (job := self._jobs.get()) is not None:
            if job.future.set_running_or_notify_cancel():
                try:
                    if self._closed:
                        raise VerifierError("the pool of sandboxes is closed")
                    done = sandbox.run(job.program, job.tests, job.go_on)
                except NoIsolation as error:
                    if self._closed:
                        job.future.set_exception(VerifierError("the pool of sandboxes is closed"))
                    else:
                        job.future.set_result([Ran("refused", note=str(error)) for _ in job.tests])
                except Exception as error:  # whatever breaks here is the job's, not the thread's
                    job.future.set_exception(error if isinstance(error, VerifierError) else VerifierError(str(error)))
                else:
                    if self._closed:
                        job.future.set_exception(VerifierError("the pool of sandboxes is closed"))
                    else:
                        job.future.set_result(done)
                    try:
                        sandbox.settle()
                    except VerifierError:
                        sandbox.close()
            self._idle.release()
        sandbox.close()


_shared: dict[tuple[int, Isolation, Limits], Pool] = {}
_shared_lock = threading.Lock()


def shared(isolation: Isolation = "auto", limits: Limits | None = None) -> Pool:
    """The pool of this process for these settings, made on first use; a forked child gets one of its own."""
    key = (os.getpid(), isolation, limits or Limits())
    with _shared_lock:
        pool = _shared.get(key)
        if pool is None or pool._closed:
            pool = _shared[key] = Pool(isolation=isolation, limits=key[2])
        return pool
