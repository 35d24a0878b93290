"""The journal: what it keeps, what it refuses, what a torn line costs."""

import json

import pytest

from policies.testing import check_policy
from policies.toy import Toy
from search.errors import ConfigError, JournalError, PolicyError, VerifierError
from search.journal import Journal, Journaled, JournaledVerifier
from search.steps import Tokens
from search.types import Cost, Finish, Prefix, Reply, Request, Sampling, Segment, Verdict
from verifiers.testing import check_verifier
from verifiers.toy import Hidden

PREFIX = Prefix(Segment((1,), "q"))
LONGER = PREFIX + Segment((97,), "a", (-0.5,))
STEP = Sampling(until=Tokens(2))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


async def test_what_was_answered_is_not_asked_again(path):
    requests = [Request(PREFIX, STEP, (1, 2)), Request(LONGER, STEP, (1,))]
    with Journal(path) as journal:
        policy, verifier = Journaled(Toy(), journal), JournaledVerifier(Hidden("ab"), journal)
        replies, verdicts = await policy.sample(requests), await verifier.score([PREFIX, LONGER])
        assert (policy.asked, policy.replayed, verifier.asked, len(journal)) == (2, 0, 2, 4)
    with Journal(path) as journal:
        policy, verifier = Journaled(Toy(), journal), JournaledVerifier(Hidden("ab"), journal)
        fresh = Request(PREFIX, STEP, (3,))
        again = await policy.sample([requests[1], fresh, requests[0]])
        assert [again[2], again[0]] == replies  # segments, log-probabilities and costs
        assert again[1] == (await Toy().sample([fresh]))[0]
        assert await verifier.score([LONGER, PREFIX]) == verdicts[::-1]
        assert (policy.asked, policy.replayed, verifier.asked, verifier.replayed) == (1, 2, 0, 2)


async def test_journaled_models_keep_the_laws_of_what_they_wrap(path):
    with Journal(path) as journal:
        await check_policy(Journaled(Toy(), journal), [PREFIX, LONGER], STEP)
        await check_verifier(JournaledVerifier(Hidden("ab"), journal), [PREFIX, LONGER])


async def test_prefix_sampling_and_seeds_tell_requests_apart(path):
    requests = [
        Request(PREFIX, STEP, (1,)),
        Request(LONGER, STEP, (1,)),
        Request(PREFIX, Sampling(until=Tokens(1)), (1,)),
        Request(PREFIX, STEP, (2,)),
        Request(PREFIX, STEP, (1, 2)),
    ]
    with Journal(path) as journal:
        policy = Journaled(Toy(), journal)
        for request in requests:
            await policy.sample([request])
        assert (policy.asked, policy.replayed, len(journal)) == (5, 0, 5)


async def test_verdicts_about_complete_and_cut_paths_are_told_apart(path):
    cut, complete = (PREFIX + Segment((97,), "a", (0.0,), finish) for finish in (Finish.LENGTH, Finish.END))
    asked_otherwise = Prefix(cut.prompt, cut.steps, question="another")
    with Journal(path) as journal:
        verifier = JournaledVerifier(Hidden("ab"), journal)
        values = [verdict.value for verdict in await verifier.score([cut, complete, asked_otherwise])]
        assert values == [1.0, 0.5, 1.0]
        assert len(journal) == 3
        assert [verdict.value for verdict in await verifier.score([cut, complete])] == [1.0, 0.5]


async def filled(path, lines=3):
    with Journal(path) as journal:
        policy = Journaled(Toy(), journal)
        for seed in range(lines):
            await policy.sample([Request(PREFIX, STEP, (seed,))])
    return path.read_bytes()


async def test_a_torn_line_is_cut_off_wherever_it_is_torn(path):
    content = await filled(path)
    lines = content.splitlines(keepends=True)
    ends = [len(b"".join(lines[:n])) for n in range(len(lines) + 1)]
    for size in {*range(0, len(content), 13), *ends, *(end - 1 for end in ends[1:])}:
        path.write_bytes(content[:size])
        whole = sum(size >= end for end in ends[1:])
        with Journal(path) as journal:
            assert len(journal) == max(whole - 2, 0)  # a header and a fingerprint come first
            policy = Journaled(Toy(), journal)
            await policy.sample([Request(PREFIX, STEP, (seed,)) for seed in range(3)])
            assert policy.asked == 3 - max(whole - 2, 0)
        assert path.read_bytes() == content


async def test_a_line_that_is_whole_and_wrong_is_an_error(path):
    lines = (await filled(path)).splitlines(keepends=True)
    for wrong in (b"garbage\n", b"[]\n", b'{"no": "key"}\n', b"\xff\n"):
        path.write_bytes(b"".join([lines[0], wrong, *lines[2:]]))
        with pytest.raises(JournalError, match="line 2"):
            Journal(path)
    path.write_bytes(json.dumps({"version": 99}).encode() + b"\n")
    with pytest.raises(JournalError, match="version 99"):
        Journal(path)
    path.write_text("a text of some other kind\n")
    with pytest.raises(JournalError, match="line 1"):
        Journal(path)


async def test_answers_of_other_models_are_never_replayed(path):
    await filled(path)
    with Journal(path) as journal:
        Journaled(Toy(), journal)
        with pytest.raises(JournalError, match="another policy"):
            Journaled(Toy("ab"), journal)
        JournaledVerifier(Hidden("ab"), journal)
    with Journal(path) as journal:
        assert journal.fingerprints == {"policy": Toy().fingerprint, "verifier": Hidden("ab").fingerprint}
        with pytest.raises(JournalError, match="another verifier"):
            JournaledVerifier(Hidden("abc"), journal)


def test_models_that_do_not_say_what_they_are_have_no_journal(path):
    class Nameless:
        sample = Toy().sample

    class Transparent:
        inner = Toy()
        sample = inner.sample

    with Journal(path) as journal:
        with pytest.raises(ConfigError, match="fingerprint"):
            Journaled(Nameless(), journal)
        Journaled(Transparent(), journal)
        assert journal.fingerprints == {"policy": Toy().fingerprint}


async def test_wrong_answers_are_not_kept(path):
    class Wrong:
        fingerprint = "wrong"

        async def sample(self, requests):
            return [Reply((), Cost()) for _ in requests]

        async def score(self, prefixes):
            return [Verdict(7.0) for _ in prefixes]

    with Journal(path) as journal:
        with pytest.raises(PolicyError):
            await Journaled(Wrong(), journal).sample([Request(PREFIX, STEP, (1,))])
        with pytest.raises(VerifierError):
            await JournaledVerifier(Wrong(), journal).score([PREFIX])
        assert len(journal) == 0
