"""The memory plan: every model of a run is in it, and what does not fit is refused before anything loads."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from experiments import memory
from policies.embedded import Embedded
from policies.vllm.memory import Claim
from search.errors import ConfigError
from verifiers.combine import Least
from verifiers.prm import PRM

GB = 1 << 30


@dataclass(frozen=True)
class Engine:
    """A part that claims."""

    wants: Claim
    others: tuple = field(default=())

    def claim(self):
        return self.wants


def engine(weights, cache, device="cpu"):
    return Engine(Claim("folder", weights, cache, GB, device))


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: {"cpu": 8 * GB, "cuda": 80 * GB}[device])


def test_a_run_without_vllm_has_no_plan(machine):
    assert memory.plan({"policy": Embedded("models/policy"), "verifier": PRM("models/prm")}) is None


def test_every_model_is_in_the_plan_wherever_it_is_wrapped(machine):
    verifier = Least((PRM("models/prm", memory="512MB"), engine(GB, GB)))
    said = memory.plan({"policy": engine(2 * GB, GB), "verifier": verifier, "roles.judge": None})
    assert said.count("policy: folder on cpu") == 1 and said.count("verifier: ") == 2
    assert "models/prm" in said and "7.5 GB wanted, 8.0 GB available" in said


def test_what_does_not_fit_is_refused_in_one_sentence(machine):
    with pytest.raises(ConfigError, match=r"want 9\.0 GB of the cpu's 8\.0 GB") as error:
        memory.plan({"policy": engine(5 * GB, GB), "verifier": engine(GB, 0)})
    assert "\n" not in str(error.value) and "policy 7.0 GB" in str(error.value)
    assert memory.plan({"policy": engine(5 * GB, GB), "verifier": engine(GB, 70 * GB, "cuda")})


def test_an_engine_that_takes_what_it_finds_has_a_device_of_its_own(machine):
    alone = {"policy": engine(GB, None, "cuda")}
    assert "a share of the device" in memory.plan(alone)
    with pytest.raises(ConfigError, match="give each a size"):
        memory.plan(alone | {"verifier": engine(GB, GB, "cuda")})


def test_a_folder_that_is_no_model_is_named_with_its_part(machine, tmp_path):
    with pytest.raises(ConfigError, match=r"verifier\.model"):
        memory.plan({"policy": engine(GB, GB), "verifier": PRM(str(tmp_path))})
