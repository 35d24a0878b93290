"""What searches have drawn, as guesses for vLLM: its `custom_class` proposer, called in the engine's process.

The branches of a search say similar things, and so do the solutions of a problem's siblings: what followed the same
last tokens before, most often, is guessed to follow again. All requests share one store, while they run and after.
vLLM tells a proposer neither log-probabilities nor which request a row is, so it counts; and it checks a single chain,
accepting a guess x with the probability that x is drawn, so that the likeliest token is the best guess. Written for
`vllm.v1.spec_decode.custom_class_proposer` of 0.32, which calls it experimental.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

ORDERS = (8, 6, 4, 3, 2)  # tokens of context, the longest that was seen before says what follows
ENTRIES = 500_000  # contexts remembered
FEW, MANY = 8, 32  # rows: a guess costs a forward little with few, and much with many
SURE, SURER = 0.35, 0.6  # how likely a chain of guesses must be to go on, with few and with many rows
DOUBT = 0.5  # added to what was seen, as of other tokens


class SearchStore:
    """Counts of what followed each context of `ORDERS` tokens; of prompts it knows only what was drawn after them.

    Args:
        config: vLLM's configuration: how many tokens are guessed at once.
    """

    def __init__(self, config: Any):
        self.most = int(config.speculative_config.num_speculative_tokens)
        self.context = int(config.model_config.max_model_len)
        self._seen: OrderedDict[tuple[int, ...], dict[int, int]] = OrderedDict()

    def load_model(self, *arguments: Any, **fields: Any) -> None:
        """There are no weights."""

    def propose(
        self, sampled_token_ids: Sequence[Sequence[int]], lengths: np.ndarray, tokens: np.ndarray, **others: Any
    ) -> list[list[int]]:
        """Guesses for each row, none for rows whose prompt is not read yet.

        Args:
            sampled_token_ids: per row, what this forward has drawn.
            lengths: per row, tokens of prompt and answer.
            tokens: int32 [rows, context], these tokens.
        """
        rows = [i for i, drawn in enumerate(sampled_token_ids) if len(drawn)]
        tails = {i: self._tail(tokens[i], int(lengths[i]), len(sampled_token_ids[i])) for i in rows}
        for i in rows:
            self._learn(tails[i], len(sampled_token_ids[i]))
        sure = SURE if len(rows) <= FEW else SURER if len(rows) >= MANY else (SURE + SURER) / 2
        guesses: list[list[int]] = [[] for _ in sampled_token_ids]
        for i in rows:
            room = min(self.most, self.context - int(lengths[i]) - 1)
            guesses[i] = self.guess(tails[i], room, sure)
        return guesses

    def guess(self, tail: Sequence[int], most: int, sure: float) -> list[int]:
        """The likeliest chain after `tail`, as long as it is likelier than `sure`."""
        known, chain, reach = tuple(tail[-ORDERS[0] :]), list[int](), 1.0
        while len(chain) < most:
            following = next((found for n in ORDERS if (found := self._after(known, n))), None)
            if following is None:
                break
            token = max(following, key=lambda t: (following[t], -t))
            reach *= following[token] / (sum(following.values()) + DOUBT)
            if reach < sure:
                break
            chain.append(token)
            known = (*known, token)[-ORDERS[0] :]
        return chain

    def _after(self, known: tuple[int, ...], order: int) -> dict[int, int] | None:
        return self._seen.get(known[-order:]) if len(known) >= order else None

    def _tail(self, row: np.ndarray, length: int, drawn: int) -> list[int]:
        begin = max(length - drawn - ORDERS[0], 0)
        found: list[int] = row[begin:length].tolist()
        return found

    def _learn(self, tail: Sequence[int], drawn: int) -> None:
        seen = self._seen
        for at in range(len(tail) - drawn, len(tail)):
            for order in ORDERS:
                if order > at:
                    continue
                key = tuple(tail[at - order : at])
                following = seen.pop(key, None) or {}
                following[tail[at]] = following.get(tail[at], 0) + 1
                seen[key] = following
        while len(seen) > ENTRIES:
            seen.popitem(last=False)
