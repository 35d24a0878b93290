"""Best-of-k with k chosen for each problem: as many draws as are worth their price."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from search.allocate import binary, worth
from search.errors import ConfigError
from search.session import Session, gather
from search.tree import Node
from search.types import Prefix


@dataclass(frozen=True)
class AdaptiveBestOfK:
    """Draws b completions of the prompt, the b-th if lambda * (1 - lambda)^(b - 1) is at least `price`.

    Damani et al. 2025, "Learning How Hard to Think" (arXiv:2410.04707): a small model predicts from the prompt the
    probability lambda that one sample succeeds; the b-th sample then gains Delta(b), and a budget for many problems
    goes to the largest next gains. The paper shares out a batch (`search.allocate.allocate`); here each problem is
    searched by itself, so the budget comes as the price it would have in a batch of the problems of the probe
    (`search.allocate.price`, `verifiers.probe.price`): the same allocation, without seeing the other problems.
    Hopeless problems (lambda near 0) get few draws, and so do easy ones (lambda near 1).

    The selection makes the method, as in `Flat`: `select.Best` reranks, `select.Majority` votes.

    Where we differ: problems get at least `least` draws (the paper's coding experiments allow none), and they are drawn
    before the prediction is asked for, so that nothing is judged before anything is sampled.

    Attributes:
        predict: lambda in [0, 1] from the prompt; None takes the verifier's score of the bare prompt (a value model, or
            `verifiers.prospect.Prospect`).
        price: expected success that one more draw must bring, at least 0; 0 draws while anything is gained.
        least, most: draws at least and at most; 0 <= least <= most, most at least 1.
        parallel: completions in flight at once, at least 1; None for all. A budget is looked at before each wave.
    """

    predict: Callable[[Prefix], float] | None
    price: float
    least: int = 1
    most: int = 64
    parallel: int | None = None

    def __post_init__(self) -> None:
        if not self.price >= 0:
            raise ConfigError("price", self.price, "give a number of at least 0")
        if self.most < 1:
            raise ConfigError("most", self.most, "give a number of at least 1")
        if not 0 <= self.least <= self.most:
            raise ConfigError("least", self.least, f"give a number from 0 to most={self.most}")
        if self.parallel is not None and self.parallel < 1:
            raise ConfigError("parallel", self.parallel, "give a number of at least 1")

    @property
    def whole(self) -> bool:
        """It asks for complete answers alone."""
        return True

    @property
    def needs(self) -> tuple[str, ...]:
        """A verifier, where it is what predicts."""
        return () if self.predict else ("verifier",)

    async def __call__(self, s: Session) -> Node | None:
        await self.draw(s, self.least)
        success = self.predict(s.root.prefix) if self.predict else (await s.score([s.root]))[0]
        draws = worth(binary(success, self.most), self.price, self.least)
        s.note(s.root, success=success, draws=draws)
        await self.draw(s, draws - self.least)
        return None

    async def draw(self, s: Session, n: int) -> None:
        """`n` completions of the prompt, in waves."""
        wave = self.parallel or max(n, 1)
        for start in range(0, n, wave):
            await gather(s.complete(s.root) for _ in range(min(wave, n - start)))
