"""One engine of vLLM: its settings, its processes, its requests by token ids, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Any

from policies.engine import load
from policies.vllm import installed
from policies.vllm.counters import Counters, Listener
from search.errors import ConfigError, PolicyError

EXTENSION = "policies.vllm.worker.Extension"
CLOSING = 30.0  # seconds for its processes to end by themselves
# settings that answers would be wrong without
OURS = ("model", "dtype", "skip_tokenizer_init", "logprobs_mode", "runner", "convert", "pooler_config", "seed")


def arguments(
    model: str,
    dtype: str,
    memory: str | int | None,
    max_context: int | None,
    rows: int,
    block: int,
    options: Mapping[str, Any],
    **more: Any,
) -> dict[str, Any]:
    """Engine arguments of vLLM; `options` are any others, `more` what the caller cannot do without.

    Raises:
        ConfigError: `options` has one of those that are set here.
    """
    for name in options:
        if name in OURS or name in more:
            raise ConfigError(f"options.{name}", options[name], "it is set by this class: leave it out")
    told: dict[str, Any] = {
        "model": str(Path(model).resolve()),
        "tokenizer": str(Path(model).resolve()),
        "dtype": dtype,
        "max_num_seqs": rows,
        "block_size": block,
        "enable_prefix_caching": True,
        "enforce_eager": installed.on_cpu(),  # compiling takes half a minute there, and wins a third
        "skip_tokenizer_init": True,  # ids in, ids out: nothing is tokenised twice
        "use_tqdm_on_load": False,
        "disable_log_stats": True,  # ours listens in its place
        "enable_log_requests": False,
        "worker_extension_cls": EXTENSION,
        "seed": 0,
    }
    if installed.on_cpu():
        # a prompt read in parts takes a random number too many, which CPU generators cannot give back (0.32 dies)
        told["enable_chunked_prefill"] = False
    if memory is not None:
        told["kv_cache_memory_bytes"] = load.size_in_bytes(memory)
    if max_context is not None:
        told["max_model_len"] = max_context
    return {**told, **options, **more}


class Host:
    """Serves one model. `start` it in the event loop that asks it; `close` ends its processes.

    Attributes:
        counters: what the engine counted.
        context: tokens in a sequence at most.
        vocabulary: ids the model has logits for.
    """

    def __init__(self, told: Mapping[str, Any], vocabulary: int, threads: int | None = None):
        self.counters = Counters()
        self.context = 0
        self.vocabulary = vocabulary
        self._told, self._threads = dict(told), threads
        self._numbers = count()
        self._engine: Any = None

    def start(self) -> None:
        """Starts the engine and waits until it is there; raises ConfigError if vLLM will not run with the settings."""
        arg_utils = installed.module("vllm.engine.arg_utils")
        engine = installed.module("vllm.v1.engine.async_llm").AsyncLLM
        single = int(self._told.get("tensor_parallel_size", 1)) == int(self._told.get("pipeline_parallel_size", 1)) == 1
        cpu = installed.on_cpu()
        threads = None if self._threads is None else str(self._threads)
        variables = {
            # one process for engine and worker, whose threads are not bound to the cores that every engine would take
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0" if cpu and single else None,
            "OMP_NUM_THREADS": threads,
            "OMP_WAIT_POLICY": "PASSIVE" if cpu else None,
            "PYTHONWARNINGS": "ignore",
            "TORCH_CPP_LOG_LEVEL": "ERROR",
        }
        try:
            with installed.quiet(), installed.environment(**variables), load.quiet():
                made = arg_utils.AsyncEngineArgs(**self._told)
                self._engine = engine.from_engine_args(
                    made, stat_loggers=[lambda config, index=0: Listener(self.counters)]
                )
        except TypeError as error:
            raise ConfigError("options", dict(self._told), f"vLLM does not take them ({error})") from error
        except (ValueError, RuntimeError, ImportError, NotImplementedError, OSError) as error:
            said = " ".join(str(error).split())
            raise ConfigError("model", self._told["model"], f"vLLM does not run it ({said})") from error
        self.context = int(self._engine.model_config.max_model_len)

    async def close(self) -> None:
        """Ends its processes; what is under way fails."""
        if (engine := self._engine) is None:
            return
        self._engine = None
        if (listening := engine.output_handler) is not None:  # else it takes the end for a failure
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        with installed.quiet():
            await asyncio.to_thread(engine.shutdown, CLOSING)
            await asyncio.sleep(0)  # its sockets are closed by the event loop
            engine.engine_core.resources.ctx.destroy(linger=0)

    async def ask(self, ids: tuple[int, ...], params: Any, seen: Callable[[Any], bool] | None = None) -> Any:
        """The last of vLLM's outputs for one request.

        Args:
            seen: called with each output as it comes, by the output kind of `params`; when it says True the request
                is aborted, and `seen` gets what had come by then.

        Raises:
            PolicyError: the engine refuses the request, or is gone.
        """
        if (engine := self._engine) is None:
            raise PolicyError(f"the engine of {self._told['model']} is not running")
        exceptions, refused = installed.module("vllm.v1.engine.exceptions"), installed.module("vllm.exceptions")
        prompt = {"prompt_token_ids": list(ids)}  # a list of its own: the engine keeps it
        name, last, aborted = f"treewise-{next(self._numbers)}", None, False
        asked = engine.encode if hasattr(params, "task") else engine.generate
        try:
            async with aclosing(asked(prompt, params, name)) as outputs:
                async for last in outputs:
                    if seen is not None and seen(last) and not (aborted or last.finished):
                        aborted = True
                        await engine.abort(name)
        except exceptions.EngineDeadError as error:
            raise PolicyError(f"the engine of {self._told['model']} has died") from error
        except (exceptions.EngineGenerateError, refused.VLLMError, ValueError) as error:
            raise PolicyError(f"vLLM does not answer: {' '.join(str(error.__cause__ or error).split())}") from error
        if last is None:
            raise PolicyError("vLLM gave no answer")
        return last

    async def told(self, method: str) -> list[Any]:
        """What each of the engine's workers answers to a method of `policies.vllm.worker.Extension`."""
        answers: list[Any] = await self._engine.collective_rpc(method)
        return answers

    @property
    def unfinished(self) -> int:
        """Requests under way."""
        return 0 if self._engine is None else int(self._engine.output_processor.get_num_unfinished_requests())
