"""The other side of the engine's benchmarks: a policy over `transformers` `generate`, nothing kept between calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList

from policies.engine import load
from policies.vocabulary import Growing, Vocabulary
from search.batching import Batcher
from search.types import Cost, Finish, Reply, Request, Segment


@dataclass(frozen=True)
class _Asked:
    """One draw: the prompt it continues, and under which request."""

    request: Request
    prompt: tuple[int, ...]


class Generate:
    """Draws all that searches ask at once with one `generate` per `rows` draws, left-padded, each batch to its end.

    The draws do not depend on the seeds: `torch.manual_seed` before a run repeats it. Log-probabilities are all 0: the
    searches compared do not read them, and `generate` shall not spend time on them.

    Attributes:
        generated, computed: tokens so far, those after a draw's end not counted; and prompt tokens, padding left out.
    """

    def __init__(self, folder: str, dtype: str = "float32", rows: int = 256):
        self.folder, self.rows, self.dtype = folder, rows, dtype
        self.generated = self.computed = 0
        self._batch: Batcher[Request, Reply] = Batcher(self._all)

    async def __aenter__(self) -> Self:
        path = Path(self.folder)
        tokenizer = load.tokenizer(path)
        with load.quiet():
            self.model = AutoModelForCausalLM.from_pretrained(path, dtype=load.DTYPES[self.dtype]).eval()
        self.vocabulary = Vocabulary(tokenizer, self.folder)
        self.ends = load.end_tokens(path, load.settings(path), tokenizer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self.model

    async def sample(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """One reply per request, in order; calls of several searches share batches."""
        return await self._batch(requests)

    async def _all(self, requests: Sequence[Request]) -> list[Reply]:
        asked = [_Asked(request, request.prefix.tokens) for request in requests for _ in request.seeds]
        # the kindest order: draws of like length share a batch
        order = sorted(range(len(asked)), key=lambda i: len(asked[i].prompt))
        segments: list[Segment | None] = [None] * len(asked)
        for at in range(0, len(order), self.rows):
            some = order[at : at + self.rows]
            for i, segment in zip(some, self._draw([asked[i] for i in some]), strict=True):
                segments[i] = segment
        drawn = iter(segments)
        return [
            Reply(tuple(s for _ in request.seeds if (s := next(drawn)) is not None), Cost(policy_calls=1))
            for request in requests
        ]

    def _draw(self, asked: Sequence[_Asked]) -> list[Segment]:
        sampling = asked[0].request.sampling
        if any(each.request.sampling != sampling for each in asked):
            raise ValueError("the draws of a batch are sampled alike")
        stops = _Stops(self, [each.request for each in asked])
        out = self.generate([each.prompt for each in asked], sampling.max_tokens, sampling.temperature, stops)
        self.computed += sum(len(each.prompt) for each in asked)
        segments = []
        for row, count, text in zip(out.tolist(), stops.counts, stops.texts, strict=True):
            ids = tuple(row[:count])
            ended = ids[-1] in self.ends
            finish = (Finish.END if text.text else Finish.EMPTY) if ended else Finish.LENGTH
            if not ended and (until := sampling.until) is not None and until.ends(text.text, text.tokens):
                finish = Finish.STEP
            segments.append(Segment(ids, text.text, (0.0,) * count, finish))
            self.generated += count
        return segments

    def generate(
        self, prompts: Sequence[tuple[int, ...]], limit: int, temperature: float, stop: StoppingCriteria | None = None
    ) -> torch.Tensor:
        """What `generate` adds, [rows, up to limit]; without `stop` it always adds `limit` tokens."""
        longest = max(map(len, prompts))
        ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
        seen = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            ids[i, longest - len(prompt) :] = torch.tensor(prompt)
            seen[i, longest - len(prompt) :] = 1
        settings: dict[str, Any] = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        # with a criterion for the end, transformers pads what has ended and goes on with the rest
        settings |= {"eos_token_id": sorted(self.ends)} if stop else {"eos_token_id": None}
        with torch.inference_mode():
            out = self.model.generate(
                input_ids=ids, attention_mask=seen, max_new_tokens=limit, pad_token_id=0,
                stopping_criteria=StoppingCriteriaList([stop] if stop else []), **settings,
            )  # fmt: skip
        return out[:, longest:]


class _Stops(StoppingCriteria):
    """Which rows have come to a boundary, by their text so far, or to an end token."""

    def __init__(self, policy: Generate, requests: Sequence[Request]):
        self.ends, self.until = policy.ends, requests[0].sampling.until
        self.texts = [Growing(policy.vocabulary) for _ in requests]
        self.counts = [0] * len(requests)
        self.done = torch.zeros(len(requests), dtype=torch.bool)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **more: Any) -> torch.Tensor:
        for i, (token, done) in enumerate(zip(input_ids[:, -1].tolist(), self.done.tolist(), strict=True)):
            if done:
                continue
            self.counts[i] += 1
            if token in self.ends:
                self.done[i] = True
                continue
            self.texts[i].add(token)
            self.done[i] = self.until is not None and self.until.ends(self.texts[i].text, self.texts[i].tokens)
        return self.done
