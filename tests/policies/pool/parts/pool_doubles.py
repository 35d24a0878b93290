"""Parts for the tests of pools, importable in every process: they die, hang, lie and fail when told to."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from dataclasses import dataclass

from policies.toy import Toy
from search.errors import ConfigError, PolicyError
from search.types import Reply
from verifiers.toy import Hidden


@dataclass(frozen=True)
class Frail(Toy):
    """A toy that takes a moment, and may be lost with what it is working on.

    Attributes:
        folder: a file is left there for each accident; None for no accidents.
        accidents: that happen in all, whichever replica they happen to.
        chance: of an accident, per call.
        kind: "die", "hang", "garbage", "short", "fault" or "other": die and hang by turns.
    """

    folder: str | None = None
    accidents: int = 0
    chance: float = 0.2
    kind: str = "die"
    seconds: float = 0.002

    @property
    def fingerprint(self) -> str:
        return "frail"

    def node(self):
        """Of the Ray cluster, where this replica works."""
        import ray

        return ray.get_runtime_context().get_node_id()

    async def sample(self, requests):
        await asyncio.sleep(self.seconds)
        replies = await super().sample(requests)
        if requests and self._accident():
            return await accident(self.kind, replies)
        return replies

    def _accident(self) -> bool:
        if self.folder is None or random.random() > self.chance:
            return False
        for number in range(self.accidents):
            try:
                os.close(os.open(f"{self.folder}/{self.kind}-{number}", os.O_CREAT | os.O_EXCL))
                return True
            except FileExistsError:
                continue
        return False


async def accident(kind, replies):
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hang":
        await asyncio.sleep(1000)
    if kind == "freeze":
        time.sleep(1000)
    if kind == "short":
        return replies[:-1]
    if kind == "fault":
        raise OSError("the device is on fire")
    return [Reply((*reply.segments, *reply.segments), reply.cost) for reply in replies]


@dataclass(frozen=True)
class Poisoned(Toy):
    """A toy that cannot bear a prompt with "poison" in it."""

    kind: str = "die"

    async def sample(self, requests):
        await asyncio.sleep(0.01)
        replies = await super().sample(requests)
        if any("poison" in request.prefix.prompt.text for request in requests):
            return await accident(self.kind, replies)
        return replies


@dataclass(frozen=True)
class Refuses(Toy):
    """A toy that says of some prompts that it cannot go on."""

    async def sample(self, requests):
        if any("poison" in request.prefix.prompt.text for request in requests):
            raise PolicyError("this prompt does not fit")
        return await super().sample(requests)


@dataclass(frozen=True)
class Unloadable(Toy):
    """A toy that cannot be entered."""

    error: str = "config"

    async def __aenter__(self):
        if self.error == "hang":
            await asyncio.sleep(1000)
        if self.error == "die":
            os._exit(3)
        raise ConfigError("model", "nowhere", "give a folder that exists") if self.error == "config" else OSError("no")

    async def __aexit__(self, *error):
        return None


@dataclass(frozen=True)
class Heavy(Toy):
    """A toy with something to load, so that its abilities are asked of a replica."""

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        return None


@dataclass(frozen=True)
class Busy(Toy):
    """A toy that computes in Python, without a pause, for each request."""

    rounds: int = 20_000

    async def sample(self, requests):
        for _ in requests:
            sum(i * i for i in range(self.rounds))
        return await super().sample(requests)


@dataclass(frozen=True)
class Bound(Hidden):
    """A verifier whose word is the item it is bound to."""

    def bind(self, item):
        return Hidden(item)


@dataclass(frozen=True)
class Squares:
    """A part of another kind: numbers in, their squares out; says which process did it, and how many came at once."""

    async def square(self, numbers):
        await asyncio.sleep(0.001)
        return [(number, number * number, os.getpid(), len(numbers), os.environ.get("COLOUR")) for number in numbers]


@dataclass(frozen=True)
class Slow(Squares):
    """As long for each batch as its first number says, in seconds."""

    async def square(self, numbers):
        await asyncio.sleep(numbers[0])
        return await super().square(numbers)


def refuse():
    raise OSError("this cannot be read here")


class Unreadable:
    """Can be pickled, and never read again."""

    def __reduce__(self):
        return refuse, ()


@dataclass(frozen=True)
class Odd(Squares):
    """A part that may have answers which cannot be sent, or cannot be read."""

    async def square(self, numbers):
        odd = {"unsendable": lambda: None, "unreadable": Unreadable()}
        return [odd.get(number, number) for number in numbers]
