"""vLLM's OpenAI server over the reference policy, as a process on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from search.errors import ConfigError

# small and exact: numbers as the embedded engine has them, prefixes cached in blocks of 32 tokens
SETTINGS = (
    "--dtype=float32",
    "--enforce-eager",
    "--block-size=32",
    "--kv-cache-memory-bytes=268435456",
    "--max-num-seqs=256",
    "--max-logprobs=-1",
    "--enable-prompt-tokens-details",
    "--disable-uvicorn-access-log",
)
QUIET = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}
COUNTERS = {
    "generated": "vllm:generation_tokens_total",
    "prompt": "vllm:prompt_tokens_total",
    "reused": "vllm:prompt_tokens_cached_total",
    "requests": "vllm:request_success_total",
}


@dataclass
class Server:
    """A server that can be started, killed and started again at the same address.

    Attributes:
        python: of an environment that has vLLM.
        model: folder of the model, served as "policy".
        port: None takes a free one.
        settings: further arguments.
        patience: seconds in which it has to start.
    """

    python: str = sys.executable
    model: str = "models/policy"
    port: int | None = None
    settings: Sequence[str] = ()
    patience: float = 240.0
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.port is None:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        """With the version, as `policies.http.Endpoint` takes it."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Starts it, and waits until it answers (about half a minute); its words go to standard error if it fails."""
        arguments = [
            self.python,
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            str(Path(self.model).resolve()),
        ]
        arguments += [
            "--served-model-name=policy",
            "--host=127.0.0.1",
            f"--port={self.port}",
            *SETTINGS,
            *self.settings,
        ]
        quiet = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | QUIET
        with tempfile.TemporaryFile() as said:  # it may say more than a pipe holds
            self.process = subprocess.Popen(
                arguments, env=quiet, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
            )
            if not self._answers():
                self.kill()
                said.seek(0)
                last = said.read().decode(errors="replace").strip().splitlines()[-1:]
                remedy = f"its server did not start ({''.join(last) or 'it said nothing'})"
                raise ConfigError("vllm", self.python, remedy)

    def _answers(self) -> bool:
        """Waits until it does; False if it ends before, or does not within `patience`."""
        began = time.monotonic()
        while self.process is not None and self.process.poll() is None and time.monotonic() - began < self.patience:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/models", timeout=5, trust_env=False).status_code == 200:
                    return True
            time.sleep(0.5)
        return False

    def kill(self) -> None:
        """Ends it and all its processes at once, as a crash would."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def counters(self) -> Mapping[str, int]:
        """What the server has counted since it started, by the names of `COUNTERS`."""
        lines = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=60, trust_env=False).text.splitlines()
        found = dict.fromkeys(COUNTERS, 0)
        for line in lines:
            for name, counter in COUNTERS.items():
                if line.startswith(counter + "{"):
                    found[name] += int(float(line.rpartition(" ")[2]))
        return found


@contextlib.contextmanager
def serving(python: str = sys.executable, settings: Sequence[str] = ()) -> Iterator[Server]:
    """A running server; it ends with the block."""
    server = Server(python, settings=settings)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def vllm_python(told: str | None) -> str:
    """The interpreter of an environment with vLLM: the one told, else this one, else that of `make test-vllm`."""
    beside = Path(".venv/vllm/bin/python")
    if told is None and importlib.util.find_spec("vllm") is None and not beside.exists():
        remedy = "make .venv/vllm by `make test-vllm`, or give the python of an environment that has vLLM"
        raise ConfigError("vllm", None, f"vLLM is not installed: {remedy}")
    return told or (sys.executable if importlib.util.find_spec("vllm") else str(beside))
