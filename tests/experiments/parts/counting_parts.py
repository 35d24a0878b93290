"""A policy and a verifier that leave a line for everything they are asked, and may kill their driver on the way.

They are told by the environment, so that the settings of all starts of a run are the same:

    COUNTED       the file for the lines; absent, none are written
    COUNTED_START number of this start
    COUNTED_KILL  "n seconds": so long after the n-th line of this start the driver is killed
    COUNTED_DRIVER its process id; absent, this process is the driver
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from policies.toy import Toy
from search.journal import _key, _prefix_key
from verifiers.toy import Hidden


def count(kind: str, key: str, prompt: str) -> None:
    """Leaves a line, whole or not at all."""
    if not (path := os.environ.get("COUNTED")):
        return
    line = f"{os.environ['COUNTED_START']} {kind} {key} {prompt}\n".encode()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)
    if kill := os.environ.get("COUNTED_KILL"):
        number, seconds = kill.split()
        start = os.environ["COUNTED_START"]
        mine = sum(line.split()[0] == start for line in Path(path).read_text().splitlines())
        if mine >= int(number):
            driver = int(os.environ.get("COUNTED_DRIVER") or os.getpid())
            threading.Thread(target=end, args=(driver, float(seconds)), daemon=True).start()


def end(driver: int, seconds: float) -> None:
    """Kills."""
    time.sleep(seconds)
    with suppress(ProcessLookupError):  # it is dead already
        os.kill(driver, signal.SIGKILL)


@dataclass(frozen=True)
class CountedPolicy(Toy):
    """The toy."""

    seconds: float = 0.001

    @property
    def fingerprint(self) -> str:
        return "counted toy"

    async def sample(self, requests):
        for request in requests:
            listed = (request.top,) if request.top else ()
            key = _key(request.prefix.digest.hex(), request.sampling, request.seeds, *listed)
            count("policy", key, request.prefix.prompt.text)
        await asyncio.sleep(self.seconds)
        return await super().sample(requests)


@dataclass(frozen=True)
class CountedVerifier(Hidden):
    """The verifier that knows the word."""

    @property
    def fingerprint(self) -> str:
        return "counted hidden"

    async def score(self, prefixes):
        for prefix in prefixes:
            count("verifier", _prefix_key(prefix), prefix.prompt.text)
        return await super().score(prefixes)
