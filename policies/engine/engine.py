"""The embedded engine: ids, seeds, sampling numbers and a stop rule in; ids, log-probabilities and a finish out.

It knows neither text nor steps, neither searches nor budgets, nor where a model comes from.

What is guaranteed: the tokens of a draw are a function of the prompt, the seed and the sampling numbers. To the last
bit, log-probabilities too, where the kernels compute (`native.backbone`); elsewhere up to rounding: a batch of other
size or an evicted prefix makes the model's logits differ in their last bits, and a token changes only where two
candidates are closer than that (see `sampler`). Order, identity and number of draws never depend on the schedule. A
prompt token is computed once as long as its slot is not evicted, whoever asks for it.

Life of a call: `sample` or `read` puts it in the inbox with all calls of the same turn of the event loop; the worker
thread admits it (`schedule`), computes prompt chunks and rows together (`forward`), draws one token per row
(`sampler`), and answers the futures of all calls that are complete once per forward (`worker`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Hashable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import torch

from policies.engine.calls import Call, Drawn, Listed, Outputs, Watch
from policies.engine.kv import KV
from policies.engine.load import Model
from policies.engine.pace import Pace
from policies.engine.schedule import Scheduler
from policies.engine.speculate import Speculation
from policies.engine.worker import Worker
from search.errors import ConfigError, PolicyError


class Engine:
    """Serves one model. Start it with `start`, end it with `close`, which leaves no thread.

    Args:
        memory: bytes for keys and values, allocated once (the system maps them when they are first used).
        rows: draws that run at once.
        budget: tokens in one forward; longer prompts are computed in several.
        context: tokens in a sequence at most; None takes what the model was made for and the memory can hold.
        threads: of torch's operators; None leaves torch's own choice.
        speculation: guesses several tokens ahead; changes how fast draws come, never which.

    Raises:
        ConfigError: `context` is more than the model or the memory allows, or the memory holds hardly anything.
    """

    def __init__(
        self,
        model: Model,
        memory: int,
        rows: int = 256,
        budget: int = 2048,
        context: int | None = None,
        threads: int | None = None,
        speculation: Speculation | None = None,
    ):
        token = 2 * model.layers * model.heads * model.width * model.dtype.itemsize
        slots = memory // token - 1
        if slots < 16:
            raise ConfigError("memory", memory, f"a token takes {token} bytes: give room for 17 at least")
        most = min(model.context, slots)
        if context is not None and not 1 <= context <= most:
            remedy = f"the model allows {model.context} tokens and the memory {slots}: give at most {most}"
            raise ConfigError("max_context", context, remedy)
        self.context = context or most
        self.vocabulary = model.vocabulary
        self.token_bytes = token
        self._threads = threads
        self.kv = KV(model.layers, model.heads, model.width, slots, model.dtype, model.device)
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._door = threading.Lock()  # nothing enters the inbox after the None that ends the worker
        self._open = False
        self._turns: dict[asyncio.AbstractEventLoop, list[Call]] = {}
        self.speculation = speculation
        self.pace = Pace(model.device, threads)
        self._worker = Worker(model, self.kv, lambda: Scheduler(self.kv, rows, budget), speculation)
        self._thread = threading.Thread(target=self._run, name="treewise-engine", daemon=True)

    def start(self) -> None:
        self._open = True
        self._thread.start()

    def close(self) -> None:
        """End the worker; calls that wait fail with PolicyError. Blocks for at most one forward."""
        with self._door:
            if not self._open:
                return
            self._open = False
            self._inbox.put(None)
        self._thread.join()

    async def sample(
        self,
        ids: Sequence[int],
        seeds: Sequence[int],
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        limit: int,
        ends: frozenset[int] = frozenset(),
        watch: Callable[[], Watch] | None = None,
        alert: Collection[int] | None = None,
        owner: Hashable = None,
    ) -> Drawn:
        """One draw after `ids` per seed; see `calls.Call` for the arguments. Draws of several owners take turns.

        Raises:
            PolicyError: prompt and limit do not fit the context, the engine is closed, or a forward failed.
        """
        self._check(ids, limit)
        call = Call(
            tuple(ids), self._future(), tuple(seeds), temperature, top_k, top_p, limit, ends, watch, owner=owner
        )
        call.alert = () if watch is None else alert
        if not call.seeds:
            return Drawn((), call.tally)
        call.draws = [None] * len(call.seeds)
        return await self._ask(call)

    async def likeliest(
        self, ids: Sequence[int], top: int, *, among: int | None = None, owner: Hashable = None
    ) -> Listed:
        """The `top` likeliest of the first `among` ids (None: of all) to come after `ids`; it runs beside the draws.

        Raises:
            PolicyError: as `sample`; or `top` is not in 1 .. `among`.
        """
        self._check(ids, 1)
        among = self.vocabulary if among is None else among
        if not 1 <= top <= among <= self.vocabulary:
            raise PolicyError(f"{top} of {among} tokens cannot be listed in a vocabulary of {self.vocabulary}")
        call = Call(tuple(ids), self._future(), (0,), limit=1, owner=owner, top=top, among=among, draws=[None])
        return await self._ask(call)

    async def read(
        self, ids: Sequence[int], start: int, *, likelihood: bool = False, owner: Hashable = None
    ) -> Outputs:
        """The head's output at positions `start` to the last of `ids`; what came before is read only if unknown.

        With `likelihood`, for a language model: at each position but the last, log p of the next id and the largest
        log p of any (nats, temperature 1); [len(ids) - 1 - start, 2]. The last id then needs no forward.

        Raises:
            PolicyError: as `sample`.
        """
        self._check(ids, 0)
        if not 0 <= start < len(ids) - likelihood:
            raise PolicyError(f"there is nothing to read from position {start} of {len(ids)} tokens")
        fed, targets = (ids[:-1], ids[start + 1 :]) if likelihood else (ids, ())
        return await self._ask(Call(tuple(fed), self._future(), start=start, targets=tuple(targets), owner=owner))

    def retain(self, ids: Sequence[int]) -> None:
        """A hint: the sequence will be continued, so it counts as used now."""
        kept = tuple(ids)
        self._post(lambda: self._worker.retain(kept))

    def release(self, ids: Sequence[int], keep: int) -> None:
        """A hint: the sequence is not needed beyond its first `keep` tokens."""
        kept = tuple(ids)
        self._post(lambda: self._worker.release(kept, keep))

    def _future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def _check(self, ids: Sequence[int], limit: int) -> None:
        if not ids:
            raise PolicyError("a prompt needs at least one token")
        if len(ids) + limit > self.context:
            raise PolicyError(f"{len(ids)} tokens and {limit} more do not fit a context of {self.context}")

    async def _ask(self, call: Call) -> Any:
        loop = call.future.get_loop()
        turn = self._turns.get(loop)
        if turn is None:
            # calls of one turn of the event loop enter together, so that the first forward already has them all
            turn = self._turns[loop] = []
            loop.call_soon(self._flush, loop)
        turn.append(call)
        try:
            return await call.future
        except asyncio.CancelledError:
            self._post(lambda: self._worker.cancel(call))
            raise

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        calls = self._turns.pop(loop)
        if not self._post(lambda: self._worker.enter(calls)):
            for call in calls:
                if not call.future.done():
                    call.future.set_exception(PolicyError("the engine is closed"))

    def _post(self, message: Callable[[], None]) -> bool:
        with self._door:
            if self._open:
                self._inbox.put(message)
            return self._open

    # ---- the worker's thread ----

    def _run(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        worker = self._worker
        with torch.inference_mode():
            while self._receive():
                began = self.pace.clock()
                try:
                    self.pace.observe(worker.step(), self.pace.clock() - began)
                except Exception as error:  # whatever a model or a device raises: the callers must hear of it
                    worker.fail(error)
                worker.deliver()
        worker.fail(PolicyError("the engine is closed"))
        worker.deliver()

    def _receive(self) -> bool:
        """Take in what has arrived, waiting if there is nothing to do; False at the end."""
        while True:
            try:
                message = self._inbox.get(block=self._worker.idle)
            except Empty:
                return True
            if message is None:
                return False
            message()
