"""Runs the items of a task: many at once over one policy, each a row, whatever happens to the others."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Any

from experiments.item import Item
from experiments.memory import plan
from experiments.pace import Watch
from experiments.parts import Parts, under
from experiments.progress import Progress
from experiments.rows import Row
from experiments.store import Store
from experiments.trace import Trace
from policies.collector import relax
from search.budget import Budget
from search.errors import ConfigError
from search.events import Sink
from search.journal import Journal, Journaled, JournaledVerifier
from search.needs import check
from search.ports import Binds, Describes, Policy, Renders, Verifier, ability
from search.run import Outcome, run
from search.session import Session
from verifiers.ahead import Ahead

CORRECT = {"right": True, "wrong": False, "unparsable": False, "timeout": None, "unknown": None}


@dataclass(frozen=True)
class Runner:
    """One run: parts, items and a folder.

    Attributes:
        items: those to run, each once per seed.
        every: ids of the whole task in its order, for the order of rows.
        search: name of the search in the rows.
        concurrency: items in work at once.
        begin: called with the fingerprints once the models are loaded, before the first item.
    """

    parts: Parts
    store: Store
    items: Sequence[Item]
    every: Sequence[str]
    search: str
    concurrency: int
    begin: Callable[[Mapping[str, str]], None]

    async def __call__(self, progress: Progress) -> None:
        """Runs what has no row yet. Raises ConfigError if the models cannot be used; a failed item is a row."""
        if next(self.todo(), None) is not None:
            await self._start(progress)
        self.store.settle(self.every)
        if not self.parts.keep.journal:
            self.store.drop_journals()

    async def _start(self, progress: Progress) -> None:
        parts = self.parts
        check(parts.search, parts.policy, parts.verifier, parts.roles)
        named: dict[str, Any] = {"policy": parts.policy, "verifier": parts.verifier}
        named |= {f"roles.{role}": policy for role, policy in parts.roles.items()}
        if (said := plan(named)) is not None:
            sys.stdout.write(f"{said}\n")
        async with AsyncExitStack() as stack:
            for name, part in ({"task": parts.task} | named).items():
                if hasattr(part, "__aenter__"):
                    try:
                        await stack.enter_async_context(part)
                    except ConfigError as error:
                        if error.field.partition(".")[0] == "pool":
                            raise
                        raise under(name, error) from error
            check(parts.search, parts.policy, parts.verifier, parts.roles)  # some abilities are known only now
            self.begin(self.fingerprints())
            relax()
            watch = Watch(self.store.rows)
            with progress:
                await self._all(progress)
            models = {"policy": parts.policy, "verifier": parts.verifier}
            told = await asyncio.to_thread(watch.told, models, self.store.rows)
            if told["driver"]["requests"]:
                self.store.note("pace", told)
            if (guesses := getattr(parts.policy, "guesses", None)) is not None:
                self.store.guesses(guesses)

    def todo(self) -> Iterator[tuple[Item, int]]:
        """What has no row yet, in the order of the task, all seeds of an item together."""
        for item in self.items:
            for seed in self.parts.seeds:
                if (item.id, seed) not in self.store.rows:
                    yield item, seed

    def fingerprints(self) -> dict[str, str]:
        """Of the parts that describe themselves, by role."""
        found = {}
        for role, part in {"policy": self.parts.policy, "verifier": self.parts.verifier, **self.parts.roles}.items():
            if part is not None:
                if (described := ability(part, Describes)) is None:
                    raise ConfigError(role, part, "give it a `fingerprint` (search.ports.Describes)")
                found[role] = described.fingerprint
        return found

    async def _all(self, progress: Progress) -> None:
        todo = self.todo()

        async def work() -> None:
            for item, seed in todo:
                row = await self._one(item, seed, progress)
                self.store.append(row)
                if not self.parts.keep.journal and row.error is None:  # what failed may be tried again
                    self.store.journal(item.id, seed).unlink(missing_ok=True)
                progress.finished(row)

        most = len(self.items) * len(self.parts.seeds)
        workers = [asyncio.create_task(work()) for _ in range(min(self.concurrency, most))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _one(self, item: Item, seed: int, progress: Progress) -> Row:
        """The row of one item under one seed; what was begun and not asked for is in its cost, in no budget."""
        foresee = getattr(self.parts.policy, "foresee", None)
        if foresee is None or (ahead := foresee(seed)) is None:
            return await self._row(item, seed, progress, self.parts.policy)
        async with ahead:
            row = await self._row(item, seed, progress, ahead)
        return replace(row, cost=row.cost + ahead.wasted)

    async def _row(self, item: Item, seed: int, progress: Progress, policy: Policy) -> Row:
        """The row, and on the way its journal and its trace."""
        row = Row(item=item.id, task=item.task, search=self.search, seed=seed)
        budget, began = self.parts.budget(), time.monotonic()
        try:
            async with AsyncExitStack() as stack:
                sinks: list[Sink] = [progress]
                if self.parts.keep.events:
                    trace = stack.enter_context(Trace(self.store.trace(item.id, seed)))
                    sinks.append(trace)
                    row = replace(row, trace=str(trace.path.relative_to(self.store.folder)))
                journal = stack.enter_context(Journal(self.store.journal(item.id, seed)))
                verifier = self.parts.verifier
                if isinstance(verifier, Binds):
                    verifier = verifier.bind(item)
                if self.parts.read_ahead and verifier:
                    ahead = await stack.enter_async_context(aclosing(Ahead(policy, verifier)))
                    policy, verifier = ahead.policy, ahead.verifier
                judge = JournaledVerifier(verifier, journal) if verifier else None
                session = self._session(item, seed, Journaled(policy, journal), judge, journal, budget, sinks)
                outcome = await run(self.parts.search, session, self.parts.select, self.parts.task)
                return await self._graded(item, row, outcome)
        except ConfigError:  # a setting is wrong, for this item and all others
            raise
        except Exception as error:  # whatever fails in one item must not end the others
            message = " ".join(f"{type(error).__name__}: {error}".split())
            wall = time.monotonic() - began
            return replace(row, error=message, stopped="error", cost=budget.spent, wall=wall)

    def _session(
        self,
        item: Item,
        seed: int,
        policy: Policy,
        verifier: Verifier | None,
        journal: Journal,
        budget: Budget,
        sinks: Sequence[Sink],
    ) -> Session:
        renders = ability(self.parts.policy, Renders)
        if renders is None:
            raise ConfigError("policy", self.parts.policy, "it has no chat template (search.ports.Renders)")
        return Session(
            renders.prompt(self.parts.task.messages(item)),
            policy,
            verifier,
            budget,
            question=item.question,
            step=self.parts.step,
            whole=self.parts.whole,
            roles={role: Journaled(policy, journal, role) for role, policy in self.parts.roles.items()},
            seed=seed,
            sinks=sinks,
        )

    async def _graded(self, item: Item, row: Row, outcome: Outcome) -> Row:
        answer = outcome.answer
        grade = await self.parts.task.grade(item, answer.prefix.text if answer else "")
        return replace(
            row,
            answer=grade.answer,
            correct=CORRECT[grade.verdict],
            score=answer.score if answer and answer.scored else None,
            stopped=outcome.stopped,
            cost=outcome.spent,
            wall=outcome.wall,
            nodes=len(outcome.tree),
            depth=outcome.tree.depth,
            candidates=outcome.candidates,
            error=f"Timeout: {grade.reason or 'the grader did not finish'}" if grade.verdict == "timeout" else None,
        )
