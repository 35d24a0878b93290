"""A connection between two processes that know the same secret, on whichever nodes they are."""

from __future__ import annotations

import hmac
import secrets
import socket
import time
from collections.abc import Sequence
from contextlib import suppress

SIZE = 32  # bytes of a challenge and of a proof
PATIENCE = 2.0  # seconds for one who calls to prove that it knows the secret


def listen(host: str, ports: Sequence[int] | None) -> socket.socket:
    """Listens at `host`, on the first free one of the ports from ports[0] to ports[1]; None for any; else OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    error: OSError | None = None
    for port in (0,) if ports is None else range(ports[0], ports[1] + 1):
        try:
            return socket.create_server((host, port), family=family)
        except OSError as taken:
            error = taken
    assert error is not None
    raise error


def accept(listener: socket.socket, secret: bytes, limit: float) -> socket.socket:
    """The first to call that knows the secret; others are sent away. Nobody may call after it.

    Raises:
        TimeoutError: nobody has within `limit` seconds.
    """
    deadline = time.monotonic() + limit
    with listener, suppress(TimeoutError):  # said in our own words
        while (left := deadline - time.monotonic()) > 0:
            listener.settimeout(left)
            caller, _ = listener.accept()
            caller.settimeout(min(left, PATIENCE))
            try:
                if _knows(caller, secret):
                    return _ready(caller)
            except OSError:
                pass  # gone, or silent
            caller.close()
    raise TimeoutError(f"nobody who knows the secret has called within {limit:g} s")


def connect(address: tuple[str, int], secret: bytes, limit: float) -> socket.socket:
    """Calls one who accepts, and makes sure that it knows the secret too; OSError within about `limit` seconds."""
    called = socket.create_connection(address, limit)
    try:
        challenge, ours = _exactly(called, SIZE), secrets.token_bytes(SIZE)
        called.sendall(_proof(secret, b"caller", challenge + ours) + ours)
        if not hmac.compare_digest(_exactly(called, SIZE), _proof(secret, b"called", challenge + ours)):
            raise ConnectionError("who answers there does not know the secret")
    except BaseException:
        called.close()
        raise
    return _ready(called)


def _knows(caller: socket.socket, secret: bytes) -> bool:
    """Whether a caller knows the secret; if so it is told that we do."""
    challenge = secrets.token_bytes(SIZE)
    caller.sendall(challenge)
    answer = _exactly(caller, 2 * SIZE)
    proof, theirs = answer[:SIZE], answer[SIZE:]
    if not hmac.compare_digest(proof, _proof(secret, b"caller", challenge + theirs)):
        return False
    caller.sendall(_proof(secret, b"called", challenge + theirs))
    return True


def _proof(secret: bytes, side: bytes, challenges: bytes) -> bytes:
    return hmac.digest(secret, side + challenges, "sha256")


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        if not (more := connection.recv(size - len(found))):
            raise ConnectionError("who answers there has hung up: it does not know the secret, or has ended")
        found += more
    return found


def _ready(connection: socket.socket) -> socket.socket:
    """For small frames that must not wait for each other."""
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connection
