"""Reading instead of drawing: what a model says at every token of a sequence, computed once per token.

vLLM's pooling runner gives a row of numbers for each token that it computes and none for those it finds in its prefix
cache, which holds whole blocks. So the rows of whole blocks are kept here, by their ids, as long as there is room; a
row that is in neither place is computed anew, with the whole sequence.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import torch

from policies.engine.calls import Outputs, Tally
from policies.vllm import installed
from policies.vllm.host import Host
from search.errors import PolicyError

Head = Callable[[torch.Tensor], torch.Tensor]
ROOM = 64 << 20  # bytes of rows kept


class Rows:
    """Rows of whole blocks, by a digest of all ids up to the block's end; the least recently used go first."""

    def __init__(self, block: int, room: int = ROOM):
        self.block, self._room = block, room
        self._rows: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._bytes = 0

    def keep(self, ids: Sequence[int], rows: torch.Tensor) -> None:
        """`rows` are those of the last ids; of these the whole blocks are kept."""
        first = len(ids) - len(rows)
        for at, key in enumerate(self._keys(ids)):
            begin = at * self.block - first
            if begin >= 0 and key not in self._rows:
                self._rows[key] = rows[begin : begin + self.block].clone()
                self._bytes += self._rows[key].nbytes
        while self._bytes > self._room and self._rows:
            self._bytes -= self._rows.popitem(last=False)[1].nbytes

    def find(self, ids: Sequence[int], begin: int, end: int) -> torch.Tensor | None:
        """Rows `begin` to `end` of a sequence; None if one of them is not here. `end` is the end of a block."""
        parts = []
        for at, key in enumerate(self._keys(ids[:end])):
            if (at + 1) * self.block > begin:
                if key not in self._rows:
                    return None
                self._rows.move_to_end(key)
                parts.append(self._rows[key])
        return torch.cat(parts)[begin - end :] if parts else None

    def _keys(self, ids: Sequence[int]) -> list[bytes]:
        total, keys = blake2b(digest_size=16), []
        for end in range(self.block, len(ids) + 1, self.block):
            total.update(array("q", ids[end - self.block : end]).tobytes())
            keys.append(total.digest())
        return keys


class Reader:
    """Serves one model that is read; asked like `policies.engine.engine.Engine`.

    Args:
        told, vocabulary, threads: as for `Host`.
        task: what a row is: "token_classify" (classes), "token_embed" (hidden states); "" for `weigh` alone.
        head: what is computed here of a row.

    Attributes:
        host: the engine.
    """

    def __init__(self, told: Mapping[str, Any], vocabulary: int, threads: int | None, task: str, head: Head | None):
        self.host = Host(told, vocabulary, threads)
        self.vocabulary = vocabulary
        self._task, self._head = task, head
        self._rows = Rows(int(told["block_size"]))
        self._flying: set[asyncio.Future[Any]] = set()

    @property
    def context(self) -> int:
        """Tokens in a sequence at most; where one is drawn to weigh the others it needs a place, too."""
        return self.host.context - (not self._task)

    def start(self) -> None:
        """As `Host.start`."""
        self.host.start()

    async def close(self) -> None:
        """As `Host.close`."""
        await self.host.close()

    async def read(self, ids: tuple[int, ...], start: int, owner: object = None) -> Outputs:
        """The head's outputs at positions `start` and after.

        Raises:
            PolicyError: the sequence is too long, or the engine failed.
        """
        self._check(ids)
        began = time.monotonic()
        rows, cached = await self._asked(ids, cached=True)
        computed, reused = len(ids) - cached, cached
        if start < cached:
            before = self._rows.find(ids, start, cached)
            if before is None and self._flying:  # computed for another sequence at this moment
                await asyncio.wait(list(self._flying))
                before = self._rows.find(ids, start, cached)
            if before is None:
                rows, _ = await self._asked(ids, cached=False)
                computed, cached = computed + len(ids), 0
            else:
                rows, cached = torch.cat((before, rows)), start
        values = rows[start - cached :].float()
        if self._head is not None:
            with torch.inference_mode():
                values = self._head(values)
        tally = Tally(prefilled=computed, reused=reused, seconds=time.monotonic() - began)
        return Outputs(values, tally)

    async def _asked(self, ids: tuple[int, ...], cached: bool) -> tuple[torch.Tensor, int]:
        """The rows that vLLM gives, and how many tokens before them it found in its cache."""
        pooling = installed.module("vllm.pooling_params").PoolingParams
        params = pooling(task=self._task, use_activation=False, skip_reading_prefix_cache=not cached)
        asked = asyncio.ensure_future(self.host.ask(ids, params))
        self._flying.add(asked)
        try:
            output = await asked
            rows, found = output.outputs.data, int(output.num_cached_tokens or 0)
            if len(rows) != len(ids) - found:
                raise PolicyError(f"vLLM gave {len(rows)} rows for {len(ids)} tokens of which it knew {found}")
            self._rows.keep(ids, rows)
            return rows, found
        finally:
            self._flying.discard(asked)
            asked.cancel()

    async def weigh(self, ids: tuple[int, ...], marks: Sequence[int], labels: Sequence[int]) -> Outputs:
        """Log-probabilities [marks, labels] of the tokens `labels` after the ids up to each of the `marks`.

        One token is drawn for each mark, and thrown away: so the prefix cache can be used.
        """
        self._check(ids)
        told = installed.module("vllm.sampling_params")
        params = told.SamplingParams(
            max_tokens=1,
            seed=0,
            logprob_token_ids=list(labels),
            detokenize=False,
            output_kind=told.RequestOutputKind.FINAL_ONLY,
        )
        began = time.monotonic()
        outputs = await asyncio.gather(*(self.host.ask(ids[: mark + 1], params) for mark in marks))
        rows = [[output.outputs[0].logprobs[0][label].logprob for label in labels] for output in outputs]
        reused = sum(int(output.num_cached_tokens or 0) for output in outputs)
        prefilled = sum(mark + 1 for mark in marks) - reused
        return Outputs(torch.tensor(rows), Tally(prefilled, reused, len(outputs), seconds=time.monotonic() - began))

    def _check(self, ids: tuple[int, ...]) -> None:
        if len(ids) > self.context:
            raise PolicyError(f"{len(ids)} tokens do not fit the context of {self.context}")
