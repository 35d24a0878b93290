"""Who knows the secret gets through, nobody else, and nobody holds up the others."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from policies.pool.connection import accept, connect, listen

SECRET = b"s" * 32


@pytest.fixture
def listener():
    with listen("127.0.0.1", None) as listener:
        yield listener


@pytest.fixture
def accepted(listener):
    """What becomes of an `accept`."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(accept, listener, SECRET, 10.0)


def test_who_knows_the_secret_is_connected(listener, accepted):
    address = listener.getsockname()
    with connect(address, SECRET, 5.0) as ours, accepted.result(5) as theirs:
        ours.sendall(b"there")
        assert theirs.recv(5) == b"there"
        assert ours.gettimeout() is theirs.gettimeout() is None
        with pytest.raises(ConnectionRefusedError):  # one is enough
            connect(address, SECRET, 1.0)


def test_who_does_not_know_it_is_sent_away_and_the_next_is_heard(listener, accepted):
    address = listener.getsockname()
    with pytest.raises(ConnectionError, match="hung up: it does not know the secret"):
        connect(address, b"w" * 32, 5.0)
    with closing(socket.create_connection(address)) as rude:
        rude.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(64))
        with connect(address, SECRET, 5.0), accepted.result(5):
            pass


def test_who_is_silent_holds_nobody_up_for_long(listener, accepted, monkeypatch):
    monkeypatch.setattr("policies.pool.connection.PATIENCE", 0.1)
    with closing(socket.create_connection(listener.getsockname())):
        began = time.monotonic()
        with connect(listener.getsockname(), SECRET, 5.0), accepted.result(5):
            assert time.monotonic() - began < 4


def test_who_answers_must_know_the_secret_too(listener):
    """Another program has the port by now: nothing it says is believed."""

    def impostor():
        caller, _ = listener.accept()
        with caller:
            caller.sendall(bytes(32))
            caller.recv(64)
            caller.sendall(bytes(32))
            caller.recv(1)

    threading.Thread(target=impostor, daemon=True).start()
    with pytest.raises(ConnectionError, match="who answers there does not know the secret"):
        connect(listener.getsockname(), SECRET, 5.0)


def test_nobody_calls(listener):
    with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
        accept(listener, SECRET, 0.05)


def test_ports_are_taken_from_a_range(listener):
    taken = listener.getsockname()[1]
    with pytest.raises(OSError):
        listen("127.0.0.1", (taken, taken))
    top = min(taken + 20, 65535)
    with listen("127.0.0.1", (taken, top)) as other:
        assert taken < other.getsockname()[1] <= top
