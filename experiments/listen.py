"""HTTP/1.1 on a socket, as much of it as an API needs; a caller who hangs up cancels what it asked for."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from experiments.serving import Answer, Asked, failed

Handle = Callable[[Asked], Awaitable[Answer]]
LARGEST = 64 << 20  # bytes of a body
HEAD = 64 << 10  # bytes of a request's head


class _Caller:
    """One connection, read in whole requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader, self.writer, self._held = reader, writer, b""

    async def asked(self) -> Asked | None:
        """The next request; None when there are no more. Raises ValueError for what is not HTTP."""
        while b"\r\n\r\n" not in self._held:
            if len(self._held) > HEAD or not await self._more():
                return None
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if not 0 <= length <= LARGEST or "transfer-encoding" in headers:
            raise ValueError("the body has no length, or too much of it")
        while len(self._held) < length:
            if not await self._more():
                return None
        body, self._held = self._held[:length], self._held[length:]
        return Asked(method, path.partition("?")[0], headers, body)

    async def gone(self) -> None:
        """Returns when the caller has hung up."""
        while await self._more():
            pass

    async def _more(self) -> bool:
        data = await self.reader.read(1 << 16)
        self._held += data
        return bool(data)

    async def answer(self, answer: Answer) -> None:
        """Sends all of it."""
        if answer.events is None:
            body = json.dumps(answer.body).encode()
            self._head(
                answer.status, {"Content-Type": "application/json", "Content-Length": len(body), **answer.headers}
            )
            self.writer.write(body)
        else:
            self._head(answer.status, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
            async for event in answer.events:
                self._chunk(f"data: {json.dumps(event)}\n\n".encode())
                await self.writer.drain()
            self._chunk(b"data: [DONE]\n\n")
            self._chunk(b"")
        await self.writer.drain()

    def _head(self, status: int, headers: Mapping[str, Any]) -> None:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
        self.writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def _chunk(self, data: bytes) -> None:
        self.writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def listen(handle: Handle, host: str, port: int) -> asyncio.Server:
    """A server that answers by `handle`; port 0 takes a free one (`server.sockets[0].getsockname()`)."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = _Caller(reader, writer)
        try:
            while (asked := await caller.asked()) is not None:
                if not await _one(caller, handle, asked):
                    return
        except ValueError as error:
            with contextlib.suppress(ConnectionError):
                await caller.answer(failed(400, str(error)))
        except (ConnectionError, asyncio.CancelledError):
            pass  # the caller, or this server, is going
        finally:
            writer.close()

    return await asyncio.start_server(serve, host, port)


async def _one(caller: _Caller, handle: Handle, asked: Asked) -> bool:
    """Answers one request, unless the caller hangs up first; whether there may be another."""

    async def work() -> None:
        await caller.answer(await handle(asked))

    working, watching = asyncio.create_task(work()), asyncio.create_task(caller.gone())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        working.result()
        return not watching.done()
    finally:
        for task in (working, watching):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await task
