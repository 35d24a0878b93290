"""Test-time search over the reasoning of a language model: the domain, without models, devices or files of settings."""

from search.budget import Budget
from search.errors import (
    BudgetExhausted,
    ConfigError,
    JournalError,
    PolicyError,
    TreewiseError,
    VerifierError,
)
from search.run import Outcome, run
from search.session import Session, gather
from search.tree import Node, Tree
from search.types import Cost, Finish, Prefix, Reply, Request, Sampling, Segment, Verdict

__all__ = [
    "Budget",
    "BudgetExhausted",
    "ConfigError",
    "Cost",
    "Finish",
    "JournalError",
    "Node",
    "Outcome",
    "PolicyError",
    "Prefix",
    "Reply",
    "Request",
    "Sampling",
    "Segment",
    "Session",
    "Tree",
    "TreewiseError",
    "Verdict",
    "VerifierError",
    "gather",
    "run",
]
