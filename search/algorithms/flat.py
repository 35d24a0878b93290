"""Independent completions: best-of-N, self-consistency, and first-finish search."""

from __future__ import annotations

from dataclasses import dataclass

from search.errors import ConfigError
from search.session import Session, gather
from search.tree import Node


@dataclass(frozen=True)
class Flat:
    """Draws `n` completions of the prompt; the selection makes the method.

    `select.Best` gives best-of-N (one verifier pass per completion), `select.Weighted` weighted best-of-N,
    `select.Majority` self-consistency (Wang et al. 2022, arXiv:2203.11171; no passes). `n=1` at temperature 0 is
    greedy decoding.

    First-finish search (Agarwal et al. 2025, arXiv:2505.18149, its synchronous form) draws `n` chains in lockstep and
    nominates the first that ends, since short traces are right more often. Here a round is one step of each chain, so
    the cost is that of the shortest chain times n, up to the differences of length between the steps of one round;
    with steps of one token (`steps.Tokens(1)`) it is n * L_min tokens exactly, as in the paper. Of chains that end in
    the same round the one of fewest tokens wins, then the one drawn first. A chain without text, or cut by a token
    limit, is no answer: the others go on. The paper's asynchronous form, the first server to finish, would depend on
    the clock and is left out. With `finishers` above 1 the race ends when that many chains have, and the selection
    chooses among them (a majority of the first k, ours); those that end in the same round all count.

    Attributes:
        n: completions, at least 1 (N).
        parallel: completions in flight at once, at least 1; None for all. A budget is looked at before each wave.
        first_finish: whether the first chain to end is the answer.
        finishers: chains that have to end under `first_finish`, from 1 to n.
        depth: steps a chain may have under `first_finish`, at least 1.
    """

    n: int = 16
    parallel: int | None = None
    first_finish: bool = False
    finishers: int = 1
    depth: int = 256

    @property
    def whole(self) -> bool:
        """It asks for complete answers alone; a race goes step by step."""
        return not self.first_finish

    def __post_init__(self) -> None:
        for name in ("n", "parallel", "finishers", "depth"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        if self.finishers > self.n:
            raise ConfigError("finishers", self.finishers, f"give a number up to n={self.n}")

    async def __call__(self, s: Session) -> Node | None:
        if self.first_finish:
            return await self.race(s)
        wave = self.parallel or self.n
        for start in range(0, self.n, wave):
            await gather(s.complete(s.root) for _ in range(min(wave, self.n - start)))
        return None

    async def race(self, s: Session) -> Node | None:
        chains, finished = [s.root] * self.n, list[Node]()
        for _ in range(self.depth):
            ends = [child for (child,) in await gather(s.expand(node, 1) for node in chains)]
            finished += [node for node in ends if node.complete and node.prefix.text]
            if len(finished) >= self.finishers:
                return min(finished, key=lambda node: len(node.prefix.tokens)) if self.finishers == 1 else None
            chains = [node for node in ends if not node.terminal]
        return None
