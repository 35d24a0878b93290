"""What a search cannot do without, checked before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping

from search.errors import ConfigError
from search.ports import Enumerates, Policy, Reads, Verifier, Writes, ability

_ABILITIES = {
    "next_tokens": (Enumerates, "it does not list the likeliest next tokens (search.ports.Enumerates)"),
    "writes": (Writes, "text cannot be written into its prefixes (search.ports.Writes)"),
    "reads": (Reads, "it does not say what tokens decode to (search.ports.Reads)"),
}


def check(search: object, policy: Policy, verifier: Verifier | None, roles: Mapping[str, Policy]) -> None:
    """Raises ConfigError for the first of the search's `needs` that is not met.

    `needs` is an optional tuple of texts: "verifier"; "roles.NAME", another policy; "next_tokens", "writes"
    and "reads", abilities of the policy.
    """
    for need in getattr(search, "needs", ()):
        if need == "verifier":
            if verifier is None:
                raise ConfigError("verifier", None, f"{_name(search)} needs scores: give a verifier")
        elif need.startswith("roles."):
            if (role := need.removeprefix("roles.")) not in roles:
                raise ConfigError(need, None, f"{_name(search)} asks a policy of its own as {role}: give one")
        elif ability(policy, _ABILITIES[need][0]) is None:
            wanting = f"{_name(search)} cannot use it, because {_ABILITIES[need][1]}: take another policy or search"
            raise ConfigError("policy", policy, wanting)


def _name(search: object) -> str:
    return f"search={type(search).__name__}"
