"""What the engine itself counted since it was started, taken from the statistics it makes of every iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Counters:
    """Tokens and requests, as vLLM counts them; grows while the engine runs.

    Attributes:
        prompt: tokens of all prompts that were read; `cached` of them were found in the prefix cache.
        generated: tokens given to us, those of aborted requests included as far as they came.
        queries, hits: tokens looked up in the prefix cache, and found; requests that skip it are not in them.
        finished: requests.
        drafts, drafted, accepted: guesses: how often there were any, tokens, and those that came true.
    """

    prompt: int = 0
    cached: int = 0
    generated: int = 0
    queries: int = 0
    hits: int = 0
    finished: int = 0
    drafts: int = 0
    drafted: int = 0
    accepted: int = 0


class Listener:
    """A logger of vLLM's statistics (its `StatLoggerBase`, which may change with its versions) that only counts."""

    def __init__(self, counters: Counters):
        self._counters = counters

    def record(self, scheduler_stats: Any, iteration_stats: Any, *others: Any, **more: Any) -> None:
        """One iteration of the engine, seen from both of its processes; either may be missing."""
        counters = self._counters
        if scheduler_stats is not None:
            counters.queries += scheduler_stats.prefix_cache_stats.queries
            counters.hits += scheduler_stats.prefix_cache_stats.hits
            if (guessed := scheduler_stats.spec_decoding_stats) is not None:
                counters.drafts += guessed.num_drafts
                counters.drafted += guessed.num_draft_tokens
                counters.accepted += guessed.num_accepted_tokens
        if iteration_stats is not None:
            counters.prompt += iteration_stats.prompt_token_stats.total
            counters.cached += iteration_stats.prompt_token_stats.cached_tokens
            counters.generated += iteration_stats.num_generation_tokens
            counters.finished += len(iteration_stats.finished_requests)

    def log_engine_initialized(self) -> None:
        """Nothing to say."""

    def log(self) -> None:
        """Nothing to say."""

    def record_sleep_state(self, is_awake: int, level: int) -> None:
        """It does not sleep."""
