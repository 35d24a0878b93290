"""A replica as a Ray actor. Everything that knows Ray's calls is here and in `cluster`.

Ray places the actor, starts it, kills it and reports its death. What it is asked goes over a connection of our own, as
with a process: a call of Ray takes longer than many a step of a small model, and the threads that serve it take turns
with those of the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from policies.pool.connection import accept, connect, listen
from policies.pool.home import Build
from policies.pool.linked import Linked
from policies.pool.replica import Gone, Mortal
from policies.pool.serving import Serving
from search.errors import ConfigError

REACH = 10.0  # seconds to reach an actor that listens
REPORT = 1.0  # seconds for Ray to say why an actor has died; that it has is known before


class Resident:
    """The class of the actor: reached over a connection, served for as long as that lasts."""

    def listen(self, ports: Sequence[int] | None) -> tuple[str, int] | OSError:
        """Where it can be reached; the error if no port can be had."""
        import ray

        try:
            self._listener = listen(ray.util.get_node_ip_address(), ports)
        except OSError as error:
            return error
        host, port, *_ = self._listener.getsockname()
        return host, port

    def serve(self, secret: bytes) -> None:
        """Serves one who knows the secret, until that one hangs up."""
        with accept(self._listener, secret, 2 * REACH) as connection:
            Serving(connection.makefile("rb"), connection.makefile("wb"))()


class Actor(Linked):
    """A part in a Ray actor; the pool starts another when it is lost, so Ray restarts and repeats nothing."""

    def __init__(
        self,
        build: Build,
        batch: int | None,
        options: Callable[[], Mapping[str, Any]],
        ports: Sequence[int] | None = None,
    ):
        super().__init__()
        self._content, self._options, self._ports = (build, batch), options, ports
        self._mortal, self._killed = Mortal(), False
        self._actor: Any = None
        self._serving: Future[None] | None = None
        self._connection: socket.socket | None = None

    async def start(self) -> None:
        import ray

        options = {"max_restarts": 0, "max_task_retries": 0, **self._options()}
        self._actor = ray.remote(Resident).options(**options).remote()
        listening = asyncio.wrap_future(self._actor.listen.remote(self._ports).future())
        try:
            address = await self._mortal.until_death(listening)
        except ray.exceptions.RayError as error:
            raise Gone(_said(error)) from error
        if isinstance(address, OSError):
            raise self._unreachable("it has none there", address)
        secret = secrets.token_bytes()
        self._serving = self._actor.serve.remote(secret).future()
        await self._mortal.until_death(asyncio.to_thread(self._connect, address, secret))
        await self._wait("enter", ray.cloudpickle.dumps(self._content))  # also of what cannot be imported there

    def kill(self) -> None:
        import ray

        super().kill()
        self._killed = True
        self._mortal.die()
        self._hang_up()
        if self._actor is not None and ray.is_initialized():
            ray.kill(self._actor, no_restart=True)

    def _connect(self, address: tuple[str, int], secret: bytes) -> None:
        """Whoever waits for it may be gone by then."""
        try:
            self._connection = connection = connect(address, secret, REACH)
        except OSError as error:
            if said := self._report():
                raise Gone(said) from error
            raise self._unreachable(f"it cannot be reached at {address[0]}:{address[1]}", error) from error
        with connection:  # closed with its two streams
            self._attach(connection.makefile("rb"), connection.makefile("wb"))
        assert self._serving is not None
        self._serving.add_done_callback(lambda _: self._hang_up())  # its node may be gone without a word
        if self._ended:  # killed meanwhile
            self._hang_up()

    def _hang_up(self) -> None:
        """The reading thread finds the end of its stream."""
        if self._connection is not None:
            with contextlib.suppress(OSError):  # it is closed already
                self._connection.shutdown(socket.SHUT_RDWR)

    def _unreachable(self, what: str, error: OSError) -> ConfigError:
        remedy = (
            f"the driver talks to each actor over a port of its node, and {what} ({error.strerror or error}): give a "
            "range that is open between the nodes, as pool.ports=[20000,20999], or start the driver on one of the nodes"
        )
        return ConfigError("pool.ports", self._ports, remedy)

    def _why(self) -> str:
        return "the replica was killed" if self._killed else self._report() or "the connection to the actor has ended"

    def _report(self) -> str:
        """What Ray says of an actor that serves no more; empty if it says nothing for a while."""
        assert self._serving is not None
        try:
            self._serving.result(REPORT)
        except TimeoutError:
            return ""
        except Exception as error:  # Ray's own, or what serving raised
            return _said(error)
        return "the actor has ended"


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
