"""What the models answered, in an append-only file: to resume, run the search again and it flies through.

JSON lines: a header, `{"version"}`; whose answers these are, `{"role", "fingerprint"}`; and one line per answered
request or verdict, with its cost, so that a resumed run has the same ledger. A draw is a function of prefix, sampling
and seed, so the answer to a request is too, and may be replayed wherever the same request is made. Lines are flushed
one by one: a process that dies loses at most the line it was writing, which is cut off when the file is opened again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any

from search.contract import checked_reply, checked_verdict, one_each
from search.errors import ConfigError, JournalError, PolicyError, VerifierError
from search.ports import Describes, Policy, Verifier, ability
from search.records import cost_from_json, cost_to_json, segment_from_json, segment_to_json
from search.types import Prefix, Reply, Request, Verdict

VERSION = 1


class Journal:
    """Records by key, kept in a file; memory holds only where each record begins.

    Not for two processes at a time. Raises JournalError for a file that is not a journal of this version.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.fingerprints: dict[str, str] = {}  # by role, of the models whose answers it holds
        self._offsets: dict[str, int] = {}
        self._file = self.path.open("a+b")
        try:
            self._load()
        except JournalError:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._offsets)

    def close(self) -> None:
        self._file.close()

    def claim(self, role: str, fingerprint: str) -> None:
        """Says whose answers these are; raises JournalError if the journal holds answers of others."""
        if (known := self.fingerprints.get(role)) is None:
            self._write({"role": role, "fingerprint": fingerprint})
            self.fingerprints[role] = fingerprint
        elif known != fingerprint:
            raise JournalError(
                f"{self.path} holds answers of another {role} ({known}, not {fingerprint}): "
                "go on with the models and settings it began with, or begin another file"
            )

    def get(self, key: str) -> Mapping[str, Any] | None:
        """The record under `key`."""
        if (offset := self._offsets.get(key)) is None:
            return None
        self._file.seek(offset)
        record: dict[str, Any] = json.loads(self._file.readline())
        return record

    def put(self, key: str, record: Mapping[str, Any]) -> None:
        """Appends `record` under `key`; it is with the operating system when this returns."""
        self._offsets[key] = self._write({"key": key, **record})

    def _write(self, line: Mapping[str, Any]) -> int:
        offset = self._file.seek(0, 2)
        self._file.write(json.dumps(line, allow_nan=False, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        return offset

    def _load(self) -> None:
        """Reads what the file holds, cutting off a torn last line; begins one that is empty."""
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                self._file.truncate(end)
                break
            try:
                self._learn(json.loads(line), end, first=number == 1)
            except (ValueError, KeyError, TypeError) as error:
                raise JournalError(f"{self.path}, line {number}: not a line of a journal ({error})") from None
            end += len(line)
        if not end:
            self._write({"version": VERSION})

    def _learn(self, record: Mapping[str, Any], offset: int, first: bool) -> None:
        if first and record["version"] != VERSION:
            raise JournalError(f"{self.path}: version {record['version']}, this reads version {VERSION}")
        if "role" in record:
            self.fingerprints[record["role"]] = record["fingerprint"]
        elif not first:
            self._offsets[record["key"]] = offset


class Journaled:
    """A policy that answers from the journal what it answered before.

    Attributes:
        role: what it is to the search; policies of other roles may share the journal.
        asked: requests that reached the model.
        replayed: requests answered from the journal.
    """

    def __init__(self, policy: Policy, journal: Journal, role: str = "policy"):
        self.inner, self.journal, self.role = policy, journal, role
        self.asked = self.replayed = 0
        journal.claim(role, _fingerprint(role, policy))

    async def sample(self, requests: Sequence[Request]) -> list[Reply]:
        records = [self.journal.get(self._request_key(request)) for request in requests]
        missing = [request for request, record in zip(requests, records, strict=True) if record is None]
        self.asked, self.replayed = self.asked + len(missing), self.replayed + len(requests) - len(missing)
        fresh = iter(await self._ask(missing) if missing else [])
        return [next(fresh) if record is None else _reply(record) for record in records]

    async def _ask(self, requests: Sequence[Request]) -> list[Reply]:
        replies = one_each(len(requests), await self.inner.sample(requests), PolicyError)
        for request, reply in zip(requests, replies, strict=True):
            checked_reply(request, reply, self.inner)
            segments = [segment_to_json(segment) for segment in reply.segments]
            self.journal.put(self._request_key(request), {"segments": segments, "cost": cost_to_json(reply.cost)})
        return list(replies)

    def _request_key(self, request: Request) -> str:
        role = () if self.role == "policy" else (self.role,)
        listed = (request.top,) if request.top else ()
        return _key(request.prefix.digest.hex(), request.sampling, request.seeds, *listed, *role)


class JournaledVerifier:
    """A verifier that answers from the journal what it answered before.

    Attributes:
        asked: prefixes that reached the model.
        replayed: prefixes answered from the journal.
    """

    def __init__(self, verifier: Verifier, journal: Journal):
        self.inner, self.journal = verifier, journal
        self.asked = self.replayed = 0
        journal.claim("verifier", _fingerprint("verifier", verifier))

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        records = [self.journal.get(_prefix_key(prefix)) for prefix in prefixes]
        missing = [prefix for prefix, record in zip(prefixes, records, strict=True) if record is None]
        self.asked, self.replayed = self.asked + len(missing), self.replayed + len(prefixes) - len(missing)
        fresh = iter(await self._ask(missing) if missing else [])
        return [next(fresh) if record is None else _verdict(record) for record in records]

    async def _ask(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        verdicts = one_each(len(prefixes), await self.inner.score(prefixes), VerifierError)
        for prefix, verdict in zip(prefixes, verdicts, strict=True):
            checked_verdict(prefix, verdict)
            record = {"value": verdict.value, "steps": verdict.steps, "cost": cost_to_json(verdict.cost)}
            self.journal.put(_prefix_key(prefix), record)
        return list(verdicts)


def _fingerprint(role: str, part: Policy | Verifier) -> str:
    if (described := ability(part, Describes)) is None:
        raise ConfigError(role, part, "give it a `fingerprint` (search.ports.Describes), or run without a journal")
    fingerprint: str = described.fingerprint
    return fingerprint


def _prefix_key(prefix: Prefix) -> str:
    """Of all a verdict may depend on: a digest knows neither the bare question nor whether the path is complete."""
    return _key(prefix.digest.hex(), prefix.question, [step.finish.value for step in prefix.steps[-1:]])


def _key(*content: object) -> str:
    return blake2b(repr(content).encode(), digest_size=16).hexdigest()


def _reply(record: Mapping[str, Any]) -> Reply:
    return Reply(tuple(map(segment_from_json, record["segments"])), cost_from_json(record["cost"]))


def _verdict(record: Mapping[str, Any]) -> Verdict:
    return Verdict(record["value"], tuple(record["steps"]), cost_from_json(record["cost"]))
