"""REBASE: reward-balanced search (Wu et al. 2024, "Inference Scaling Laws", arXiv:2408.00724, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

from search.draws import advance
from search.errors import ConfigError
from search.session import Session
from search.shares import Allocation, heaviest_first, nearest
from search.tree import Node
from search.waves import gather
from search.weights import softmax


@dataclass(frozen=True)
class Rebase:
    """Shares out, depth by depth, the draws that are left among the open nodes by a softmax of their scores.

    N first steps are drawn. At depth i the open nodes n_j, with scores R(n_j), get

        W_j = round(B_i * exp(R(n_j) / T_b) / sum_k exp(R(n_k) / T_b))

    children each, where B_i is N less the solutions finished so far; nodes that get none are given up. The answer is
    left to the selection: weighted majority or best of the solutions, as in the paper.

    Where the paper and its code differ, we follow the paper: it rounds to the nearest number (`shares.nearest`),
    the code goes from the best node to the worst and gives each its share of what is left, rounded up
    (`shares.heaviest_first`), so that the sum is B_i. Rounding to the nearest may give nothing to anybody (many
    nodes alike); the B_i best then get one child each. As in the code a path cut by a token limit also uses up one
    of N. A step drawn twice counts twice, in the softmax too. Paths open after `depth` steps are completed at one go.

    Notes: `width`, the children a node got.

    Attributes:
        samples: N, at least 1; solutions at the end, up to rounding.
        temperature: T_b, above 0; the paper's is 0.1 to 0.2. Small values go to the best node alone.
        rounding: how shares become whole numbers, of `search.shares`.
        depth: steps, at least 1.
    """

    samples: int = 16
    temperature: float = 0.2
    rounding: Allocation = nearest
    depth: int = 40

    def __post_init__(self) -> None:
        for name in ("samples", "depth"):
            if (count := getattr(self, name)) < 1:
                raise ConfigError(name, count, "give a number of at least 1")
        if not self.temperature > 0:
            raise ConfigError("temperature", self.temperature, "give a number above 0")

    async def __call__(self, s: Session) -> Node | None:
        budget, walkers = self.samples, [s.root] * self.samples
        for _ in range(self.depth):
            steps = await advance(s, walkers)
            budget -= sum(node.terminal for node in steps)
            active = [node for node in steps if not node.terminal]
            if budget < 1 or not active:
                return None
            await s.score(active)
            widths = self.widths([node.score for node in active], budget)
            walkers = [node for node, width in zip(active, widths, strict=True) for _ in range(width)]
            for node in dict.fromkeys(active):
                s.note(node, width=walkers.count(node))
                if node not in walkers:
                    s.prune(node)
        await gather(map(s.complete, walkers))
        return None

    def widths(self, scores: list[float], budget: int) -> list[int]:
        """W_j of nodes with these scores."""
        share = softmax(scores, self.temperature)
        widths = self.rounding(share, budget)
        return widths if any(widths) else heaviest_first(share, budget)
