"""Everything this project raises on purpose.

TreewiseError
    ConfigError       a setting is wrong; names the field, the value and the remedy (exit status 2)
    BudgetExhausted   a limit is reached; ends a search with its best result so far, never a failure
    PolicyError       a policy could not answer, or its answer breaks the port's contract
    VerifierError     a verifier could not judge, or its verdict breaks the port's contract
    JournalError      a journal cannot be read, or belongs to other models or settings
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.budget import Budget


class TreewiseError(Exception):
    """The root of the tree above."""


class ConfigError(TreewiseError, ValueError):
    """A setting is wrong. `str` is one sentence with the field, the value and the remedy."""

    def __init__(self, field: str, value: Any, remedy: str):
        super().__init__(f"{field}={value!r} is not valid: {remedy}")
        self.field, self.value, self.remedy = field, value, remedy

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.field, self.value, self.remedy)


class BudgetExhausted(TreewiseError):
    """A limit is reached: `kind` names it, `budget` is the one of the nested budgets that stopped."""

    def __init__(self, kind: str, spent: float, limit: float, budget: Budget):
        super().__init__(f"{kind}: spent {spent:g} of {limit:g}")
        self.kind, self.spent, self.limit, self.budget = kind, spent, limit, budget


class PolicyError(TreewiseError):
    """A policy could not answer, or its answer breaks the contract of `search.ports.Policy`."""


class VerifierError(TreewiseError):
    """A verifier could not judge, or its verdict breaks the contract of `search.ports.Verifier`."""


class JournalError(TreewiseError):
    """A journal cannot be read, or was written with other models or settings."""
