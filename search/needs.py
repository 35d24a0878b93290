"""What a search cannot do without, checked before anything is spent; and which search would do in its place."""

from __future__ import annotations

from collections.abc import Mapping

from search.errors import ConfigError
from search.ports import Enumerates, Policy, Reads, Verifier, Writes, ability, lacking

_ABILITIES = {
    "next_tokens": (Enumerates, "it does not list the likeliest next tokens (search.ports.Enumerates)"),
    "writes": (Writes, "text cannot be written into its prefixes (search.ports.Writes)"),
    "reads": (Reads, "it does not say what tokens decode to (search.ports.Reads)"),
}
_STATED = ("logprobs", "continues")  # what every policy can, unless it says that it `Lacks` it

# The nearest searches that ask less, nearest first, as they are called in conf/search. Those over next tokens become
# searches over steps; what reads log-probabilities becomes its like that reads scores or counts votes.
NEAREST: Mapping[str, tuple[str, ...]] = {
    "TokenBeam": ("beam",),
    "BestFirstBeam": ("astar",),
    "DiverseTokenBeam": ("diverse_beam",),
    "StochasticBeam": ("particles",),
    "LatticeSearch": ("fetch", "beam"),
    "TokenMcts": ("rest_mcts",),
    "Kcts": ("rest_mcts",),
    "MCTS": ("mcts search.prior.path=search.rules.by_times", "rest_mcts"),
    "Phi": ("tot", "majority"),
    "Guided": ("beam",),
    "TreePO": ("treepo search.fallback=none search.allocation=even",),
    "ReExSQL": ("majority",),
    "Refine": ("refine search.restart=prefix",),
    "ABMCTS": ("ab_mcts search.nodes=steps",),
    "ExploreExecute": ("explore_execute search.lead='' search.handover=''",),
}
WHOLE = "majority, or best_of_n with a verifier"  # complete answers alone


def check(search: object, policy: Policy, verifier: Verifier | None, roles: Mapping[str, Policy]) -> None:
    """Raises ConfigError for the first of the search's needs that is not met, with the nearest search that would run.

    `needs` is an optional tuple of texts: "verifier"; "roles.NAME", another policy; "next_tokens", "writes" and
    "reads", abilities of the policy; "logprobs", those of what it draws. Every search also goes on with answers that
    have begun ("continues"), unless it says `whole`: it asks for complete answers to the prompt alone.
    """
    needs: tuple[str, ...] = getattr(search, "needs", ())
    for need in (*needs, *(() if getattr(search, "whole", False) else ("continues",))):
        if need == "verifier":
            if verifier is None:
                raise ConfigError("verifier", None, f"{_name(search)} needs scores: give a verifier")
        elif need.startswith("roles."):
            if (role := need.removeprefix("roles.")) not in roles:
                raise ConfigError(need, None, f"{_name(search)} asks a policy of its own as {role}: give one")
        elif (reason := _missing(policy, need)) is not None:
            instead = _nearest(search, policy)
            remedy = f"{_name(search)} cannot use it, because {reason}: take {instead}, or another policy"
            raise ConfigError("policy", policy, remedy)


def _missing(policy: Policy, need: str) -> str | None:
    """Why `policy` does not meet `need`; None if it does."""
    if need in _STATED:
        return lacking(policy, need)
    wanted, reason = _ABILITIES[need]
    return None if ability(policy, wanted) is not None else lacking(policy, wanted.__name__) or reason


def _nearest(search: object, policy: Policy) -> str:
    """What to take in place of `search`: nothing here needs more than a policy that continues, and a verifier."""
    if _missing(policy, "continues") is not None:
        return f"search={WHOLE}"
    return " or ".join(f"search={name}" for name in NEAREST.get(type(search).__name__, (WHOLE,)))


def _name(search: object) -> str:
    return f"search={type(search).__name__}"
