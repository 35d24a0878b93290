"""What a search may spend, and what it has spent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields

from search.errors import BudgetExhausted, ConfigError
from search.types import Cost

KINDS = (*(f.name for f in fields(Cost)), "wall")
JUDGING = frozenset({"passes", "read", "seconds", "wall"})  # what judging spends
SAMPLING = frozenset(KINDS) - {"passes", "read"}  # what sampling spends


class Budget:
    """Limits by name of a `Cost` field, or `wall`; charges also reach the budgets around this one.

    A limit is a line that no call is *started* across: what is in flight completes and is counted, so a search
    overshoots by one wave of calls at most. Reports print what was spent, never the limit. Per-problem limits are
    deterministic (but for `wall` and `seconds`); one shared through `parent` stops in order of arrival.

    A strict budget is not overshot in `generated` by the session it is given to: near the limit draws wait for those
    in flight, and are cut where the limit is.

    Attributes:
        limits: at least 0, in the unit of the field; `wall` in seconds since the first call under this budget.
        parent: the budget around this one (experiment > problem > phase), or None.
        strict: whether `generated` is never exceeded.
        spent: the sum of what was charged.
    """

    def __init__(
        self,
        limits: Mapping[str, float | None] | None = None,
        parent: Budget | None = None,
        *,
        strict: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ):
        """A limit of None is no limit. Raises ConfigError for an unknown name or a limit that is not a number >= 0."""
        self.limits = {kind: _valid(kind, limit) for kind, limit in (limits or {}).items() if limit is not None}
        self.parent, self.strict, self.spent = parent, strict, Cost()
        self._clock = clock
        self._began: float | None = None

    @property
    def wall(self) -> float:
        """Seconds since the first call under this budget."""
        return 0.0 if self._began is None else self._clock() - self._began

    def charge(self, cost: Cost) -> None:
        """Adds `cost` here and above. Never raises: what was done is paid."""
        self.spent += cost
        if self.parent:
            self.parent.charge(cost)

    def check(self, kinds: Collection[str] = KINDS, draws: int = 1) -> None:
        """Raises BudgetExhausted if a limit of one of these kinds, here or above, is reached; starts the clock.

        A strict limit is reached when less than a token for each of `draws` is left.
        """
        if self._began is None:
            self._began = self._clock()
        for kind, limit in self.limits.items():
            spent, strict = self._spent(kind), self.strict and kind == "generated"
            if kind in kinds and (spent >= limit or (strict and spent + draws > limit)):
                raise BudgetExhausted(kind, spent, limit, self)
        if self.parent:
            self.parent.check(kinds, draws)

    def allowance(self) -> float:
        """Tokens that may still be generated under the strict budgets, here and above; inf without one."""
        limit = self.limits.get("generated", math.inf) if self.strict else math.inf
        return min(limit - self.spent.generated, self.parent.allowance() if self.parent else math.inf)

    def _spent(self, kind: str) -> float:
        return self.wall if kind == "wall" else getattr(self.spent, kind)


def _valid(kind: str, limit: float) -> float:
    if kind not in KINDS:
        raise ConfigError(f"budget.{kind}", limit, f"there is no such limit; choose from {', '.join(KINDS)}")
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 0:
        raise ConfigError(f"budget.{kind}", limit, "give a number of at least 0, or null for no limit")
    return limit
