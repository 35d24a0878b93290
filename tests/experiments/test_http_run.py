"""The main job over a server: a run folder without the key, the same answers as in process, and refusals."""

import json

import pytest

from experiments.serving import Service
from policies.toy import Toy
from search.types import Prefix

KEY = "sk-very-secret-77a0"
TOY = Toy("abc", length=5, end=0.1)


def split(ids, text):
    """The toy task's prompt is a sentence: words are what follows it."""
    end = max((i + 1 for i, token in enumerate(ids) if chr(token) not in "abc"), default=0)
    prompt, word = "".join(map(chr, ids[:end])), "".join(map(chr, ids[end:]))
    return Prefix(TOY.write(prompt)) + TOY.write(word) if word else Prefix(TOY.write(prompt))


@pytest.fixture
def server(on_loopback, monkeypatch):
    monkeypatch.setenv("SERVER_KEY", KEY)
    with on_loopback(Service(TOY, "toy", key=KEY, prefix=split)) as url:
        yield url


def test_a_run_over_a_server_is_a_run(server, solve, without_times, tmp_path, capfd):
    search = ["search=beam", "search.beams=2", "search.width=3", "limit=2"]
    http = ["policy=http", f"policy.base_url={server}", "policy.key_env=SERVER_KEY"]
    assert solve(*search, *http, f"out={tmp_path / 'http'}") == 0
    assert solve(*search, f"out={tmp_path / 'toy'}") == 0
    rows = [[json.loads(line) for line in without_times(tmp_path / name)] for name in ("http", "toy")]
    for over, within in zip(*rows):
        for name in ("prefilled", "policy_calls"):  # a server computes a prompt once per draw
            del over["cost"][name], within["cost"][name]
        assert over == within
    said = "".join(capfd.readouterr())
    kept = b"".join(path.read_bytes() for path in (tmp_path / "http").rglob("*") if path.is_file())
    assert KEY not in said and KEY.encode() not in kept
    assert b"seeds of 63 bits" in (tmp_path / "http" / "run.json").read_bytes()


def test_a_wrong_key_is_a_wrong_setting(server, solve, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("SERVER_KEY", "sk-other-secret")
    assert solve("policy=http", f"policy.base_url={server}", "policy.key_env=SERVER_KEY", f"out={tmp_path}/a") == 2
    said = "".join(capfd.readouterr())
    assert "policy.key_env='SERVER_KEY'" in said and "sk-" not in said and "Traceback" not in said


def test_no_server_is_one_sentence(solve, tmp_path, capfd):
    arguments = ["policy=http", "policy.base_url=http://127.0.0.1:9/v1", "policy.attempts=1"]
    assert solve(*arguments, f"out={tmp_path}/a") == 2
    said = capfd.readouterr().err
    assert "no server answers there" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("search", ["phi", "mcts", "guided"])
def test_a_search_that_needs_what_is_missing_is_refused_with_the_nearest_that_runs(
    search, on_loopback, solve, tmp_path, capfd
):
    class Mute(Service):
        async def __call__(self, asked):
            body = json.loads(asked.body) if asked.body else {}
            body.pop("logprobs", None)
            return await super().__call__(
                type(asked)(asked.method, asked.path, asked.headers, json.dumps(body).encode())
            )

    with on_loopback(Mute(TOY, "toy", prefix=split)) as url:
        http = ["policy=http", f"policy.base_url={url}"]
        assert solve(f"search={search}", *http, f"out={tmp_path / 'refused'}", "verifier=toy") == 2
        said = capfd.readouterr().err
        assert "no log-probabilities" in said and "take search=" in said
        assert not (tmp_path / "refused" / "run.json").exists()
        nearest = said.partition("take search=")[2].partition(", or another")[0].partition(" or search=")[0].split()
        again = [f"search={nearest[0]}", *nearest[1:]]
        assert solve(*again, *http, "limit=1", "verifier=toy", f"out={tmp_path / 'run'}") == 0
