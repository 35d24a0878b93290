"""Laws of a search, as plain async functions: what holds for every algorithm in any world.

    from search.testing import check_search
    await check_search(MySearch(), world)

Each law takes the search and a `search.worlds.World` with at least two problems and instant models, and raises
AssertionError with the law's name and the first difference found.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from search import events
from search.batching import Batched, BatchedVerifier
from search.budget import SAMPLING, Budget
from search.journal import Journal, Journaled, JournaledVerifier
from search.outside import Outside
from search.ports import Policy, Verifier
from search.run import Search
from search.tree import Tree
from search.types import Cost, Prefix, Reply, Request, Segment, Verdict
from search.worlds import Late, Ledger, Trial, World, still

Law = Callable[[Search, World], Coroutine[None, None, None]]
LIMITS = ("generated", "prefilled", "policy_calls", "passes", "read", "seconds", "wall")


async def check_search(search: Search, world: World) -> None:
    """Every law."""
    for law in LAWS:
        await law(search, world)


async def pays_once(search: Search, world: World) -> None:
    """What the models were paid = what the budgets spent = what the tree cost = what the events say."""
    for prompt in world.prompts:
        around = Budget(clock=still)
        budget, ledger = Budget(parent=around, clock=still), Ledger(world)
        trial = await ledger.kept.run(search, prompt, budget)
        charged = sum((event.cost for event in trial.seen if isinstance(event, events.Charged)), Cost())
        for found in (budget.spent, around.spent, trial.outcome.spent, trial.outcome.tree.cost, charged):
            _same("pays_once", found, ledger.paid)


async def ignores_the_schedule(search: Search, world: World) -> None:
    """Ids, costs and events depend neither on the sizes of batches nor on which reply comes first."""
    alone = [(await world.run(search, prompt)).record() for prompt in world.prompts]
    for size in (1, 7, 64):
        policy, verifier = Batched(world.policy, size), BatchedVerifier(world.verifier, size)
        roles = {role: Batched(other, size) for role, other in world.roles.items()}
        together = await replace(world, policy=policy, verifier=verifier, roles=roles).run_all(search)
        _same(f"ignores_the_schedule, batches of {size}", [trial.record() for trial in together], alone)
    for seed in range(4):
        together = await Late(world, random.Random(seed)).delayed.run_all(search)
        _same(f"ignores_the_schedule, delays {seed}", [trial.record() for trial in together], alone)


async def may_be_driven(search: Search, world: World) -> None:
    """Asked and told from outside, in any order, it grows the same tree."""
    orders: tuple[Callable[[list[int]], list[int]], ...] = (
        lambda numbers: numbers,
        lambda numbers: numbers[::-1],
        lambda numbers: numbers[-1:],
        lambda numbers: random.Random(1).sample(numbers, len(numbers)),
    )
    for prompt in world.prompts:
        called = (await world.run(search, prompt)).record()
        for order in orders:
            outside = Outside(world.policy)
            roles = {role: outside.role(role, policy) for role, policy in world.roles.items()}
            driven = replace(world, policy=outside, verifier=outside, roles=roles)
            task = asyncio.create_task(driven.run(search, prompt))
            while questions := await outside.ask(task):
                for number in order(list(questions)):
                    policy = world.roles.get(outside.asked(number), world.policy)
                    outside.tell(number, await _answer(policy, world.verifier, questions[number]))
            _same("may_be_driven", (await task).record(), called)


async def can_be_rebuilt(search: Search, world: World) -> None:
    """events -> tree -> JSON -> networkx -> tree; and events through JSON."""
    for prompt in world.prompts:
        trial = await world.run(search, prompt)
        wanted = trial.outcome.tree.to_json()
        _same("can_be_rebuilt", [events.from_json(events.to_json(event)) for event in trial.seen], trial.seen)
        tree = Tree.from_events(trial.seen)
        _same("can_be_rebuilt", tree.to_json(), wanted)
        _same("can_be_rebuilt", Tree.from_networkx(Tree.from_json(wanted).to_networkx()).to_json(), wanted)
        digests = [node.prefix.digest for node in trial.outcome.tree]
        _same("can_be_rebuilt", [node.prefix.digest for node in tree], digests)


async def replays(search: Search, world: World) -> None:
    """From a full journal it grows the same tree, with the same ledger, and calls no model."""
    for prompt in world.prompts:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "journal"
            first, asked = await _journaled(search, world, prompt, path)
            again, asked_again = await _journaled(search, world, prompt, path)
        _same("replays", again.record(), first.record())
        _same("replays", first.record(), (await world.run(search, prompt)).record())
        _true("replays", asked > 0, "nothing was asked")
        _same("replays", asked_again, 0)


async def resumes(search: Search, world: World, kills: int = 4) -> None:
    """Killed at random awaits, its journal torn, and run again, it ends as if nothing had happened."""
    rng = random.Random(0)
    world = Late(world, rng).delayed
    for prompt in world.prompts[:2]:
        with TemporaryDirectory() as folder:
            (whole, asked), rounds = await _until(None, _journaled(search, world, prompt, Path(folder) / "whole"))
            for kill in range(kills // 2):
                path = Path(folder) / f"killed {kill}"
                await _until(rng.randrange(rounds), _journaled(search, world, prompt, path))
                _tear(rng, path)
                with Journal(path) as journal:
                    kept = len(journal)
                resumed, asked_again = await _journaled(search, world, prompt, path)
                _same("resumes", resumed.record(), whole.record())
                _same("resumes", kept + asked_again, asked)


async def stops_in_time(search: Search, world: World) -> None:
    """No call is started across a limit, a strict one is kept; the best answer so far is the answer."""
    prompt = world.prompts[0]
    free = Ledger(world)
    await free.kept.run(search, prompt, Budget(clock=still))
    for kind in LIMITS:
        needed = free.calls if kind == "wall" else getattr(free.paid, kind)
        for limit, strict in product((0, needed / 3, needed * 2 / 3, needed + 1), (False, True)):
            ledger = Ledger(world)
            ledger.budget = budget = Budget({kind: limit}, strict=strict, clock=ledger.now)
            trial = await ledger.kept.run(search, prompt, budget)
            outcome, law = trial.outcome, f"stops_in_time, {kind}={limit} of {needed}, strict={strict}"
            _true(law, outcome.stopped in ("done", kind), outcome.stopped)
            _true(law, (outcome.answer is None) == (not outcome.tree.answers()), outcome.answer)
            _same(law, Tree.from_events(trial.seen).to_json(), outcome.tree.to_json())
            if limit > needed and not strict:
                _same(law, outcome.stopped, "done")
            if strict and kind == "generated":
                _true(law, outcome.spent.generated <= limit, outcome.spent)
            if limit == 0 and kind in SAMPLING:
                _same(law, (outcome.stopped, ledger.calls), (kind, 0))


LAWS: tuple[Law, ...] = (
    pays_once,
    ignores_the_schedule,
    may_be_driven,
    can_be_rebuilt,
    replays,
    resumes,
    stops_in_time,
)


async def _answer(policy: Policy, verifier: Verifier, question: Request | Prefix) -> Reply | Verdict:
    if isinstance(question, Request):
        return (await policy.sample([question]))[0]
    return (await verifier.score([question]))[0]


async def _journaled(search: Search, world: World, prompt: Segment, path: Path) -> tuple[Trial, int]:
    """The run through a journal, and how many questions reached the models."""
    with Journal(path) as journal:
        policy, verifier = Journaled(world.policy, journal), JournaledVerifier(world.verifier, journal)
        roles = {role: Journaled(other, journal, role) for role, other in world.roles.items()}
        trial = await replace(world, policy=policy, verifier=verifier, roles=roles).run(search, prompt)
        return trial, policy.asked + verifier.asked + sum(other.asked for other in roles.values())


async def _until(limit: int | None, coroutine: Coroutine[Any, Any, Any]) -> tuple[Any, int]:
    """The result, and the rounds of the event loop it took; None when killed after `limit` rounds."""
    task, rounds = asyncio.create_task(coroutine), 0
    while not task.done() and rounds != limit:
        await asyncio.sleep(0)
        rounds += 1
    task.cancel()
    with suppress(asyncio.CancelledError):
        return await task, rounds
    return None, rounds


def _tear(rng: random.Random, path: Path) -> None:
    """Cuts up to one line off the end of the file, as a death in the middle of writing does."""
    content = path.read_bytes() if path.exists() else b""
    last = len(content.splitlines(keepends=True)[-1]) if content else 0
    path.write_bytes(content[: len(content) - rng.randint(0, last)])


def _true(law: str, holds: bool, found: object) -> None:
    if not holds:
        raise AssertionError(f"{law}: {found}")


def _same(law: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{law}: {_difference(found, wanted)}")


def _difference(found: Any, wanted: Any, where: str = "") -> str:
    """The first place where two plain values differ."""
    if isinstance(found, dict) and isinstance(wanted, dict) and found.keys() == wanted.keys():
        return next(_difference(found[k], wanted[k], f"{where}.{k}") for k in found if found[k] != wanted[k])
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        first = next(i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b)
        return _difference(found[first], wanted[first], f"{where}[{first}]")
    return f"{where or 'it'} is {found}, not {wanted}"
