"""Where work is done: how fast one replica of a policy, a verifier, a grader or a driver is, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from search.errors import ConfigError

INFINITE = float("inf")


@dataclass(frozen=True, kw_only=True)
class Station:
    """One kind of replica. Times are seconds; a token is one of one draw.

    A replica computes what is new in a prompt (prefill) by itself, one prompt after the other, and draws for all rows
    together: with n draws at once each gets a token every `step(n)` seconds.

    Attributes:
        rate: tokens per second of a draw that is alone.
        full: tokens per second of `rows` draws together.
        rows: draws at once at most; what is more waits. Without one (None), `rate` is for any number together.
        prefill: prompt tokens per second.
        stepwise: whether draws begin with a step, and wait for it where one is under way; else at any time.
        call, draw: seconds that each request, and each draw, takes beside its tokens.
        way: seconds that a request is on its way there and back, in which nobody works on it.
        acceptance: chance that a guessed token is right, each independent of the others; 0 for no speculation.
        guesses: tokens guessed before each check.
        draft: seconds for one guessed token over those of a token drawn alone.
        price: of a replica per hour, in any currency.
        replicas: None leaves the number to the plan.
    """

    rate: float = INFINITE
    full: float | None = None
    rows: int | None = None
    prefill: float = INFINITE
    stepwise: bool = False
    call: float = 0.0
    draw: float = 0.0
    way: float = 0.0
    acceptance: float = 0.0
    guesses: int = 0
    draft: float = 0.0
    price: float = 0.0
    replicas: int | None = None

    def __post_init__(self) -> None:
        for name in ("rate", "full", "prefill"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ConfigError(name, value, "give a positive number of tokens per second")
        for name in ("call", "draw", "way", "draft", "price", "guesses"):
            if not getattr(self, name) >= 0:
                raise ConfigError(name, getattr(self, name), "give a number of at least 0")
        for name in ("rows", "replicas"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(name, value, "give a whole number of at least 1")
        if not 0 <= self.acceptance < 1:
            raise ConfigError("acceptance", self.acceptance, "give a share of at least 0 and less than 1")
        if self.acceptance and not self.guesses:
            raise ConfigError("guesses", self.guesses, "give how many tokens are guessed at once")
        if self.full is not None and self.rows is None:
            raise ConfigError("rows", None, "give the number of draws that have the rate `full` together")
        if self.full is not None and not self.rate <= self.full <= self.rate * (self.rows or 1):
            raise ConfigError("full", self.full, f"give from rate={self.rate:g} to rows times as many")

    @property
    def fixed(self) -> float:
        """Seconds of a step that do not depend on the rows in it."""
        return 1 / self.rate - self.row

    @property
    def row(self) -> float:
        """Seconds of a step per row in it: the line through one row and `rows` rows."""
        if self.full is None or self.rows is None:
            return 1 / self.rate
        return (self.rows / self.full - 1 / self.rate) / (self.rows - 1) if self.rows > 1 else 0.0

    @property
    def said(self) -> str:
        """Its times, for people."""
        parts = [f"{1000 * self.fixed:.2f} ms per step", f"{1000 * self.row:.3f} per row", f"{1000 / self.prefill:.4f}"]
        way = f", {1000 * self.way:.1f} ms on the way" if self.way else ""
        return f"{', '.join(parts)} per prompt token, {1000 * self.call:.2f} per request{way}"

    @property
    def per_check(self) -> float:
        """Tokens a step of speculation gives a row: (1 - a^(k+1)) / (1 - a) (Leviathan et al. 2023, equation 1)."""
        return (1 - self.acceptance ** (self.guesses + 1)) / (1 - self.acceptance)

    def step(self, rows: float) -> float:
        """Seconds until each of `rows` draws at work has one token more."""
        if not self.guesses:
            return self.fixed + self.row * rows
        checked = self.fixed + self.row * rows * (self.guesses + 1)
        return (checked + self.guesses * self.draft / self.rate) / self.per_check

    def slowed(self, by: float) -> Station:
        """The same where all takes `by` times as long."""
        if by == 1:
            return self
        less: dict[str, Any] = {"rate": self.rate / by, "prefill": self.prefill / by}
        if self.full is not None and self.rows is not None:
            less["full"] = min(max(self.full / by, less["rate"]), less["rate"] * self.rows)  # but for rounding
        return replace(self, **less, call=self.call * by, draw=self.draw * by)

    def reading(self, tokens: float, requests: float = 1, draws: float = 0) -> float:
        """Seconds for requests with `tokens` new in their prompts, before any is drawn."""
        return requests * self.call + draws * self.draw + tokens / self.prefill
