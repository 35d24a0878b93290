"""What is believed of an average reward after some rewards, and draws from that belief (Thompson sampling)."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from search.errors import ConfigError


class Posterior(Protocol):
    """A belief: a prior that rewards are added to."""

    def after(self, rewards: Sequence[float]) -> Self:
        """The belief once `rewards`, each in [0, 1], have been seen; this one stays as it is."""
        ...

    def draw(self, rng: random.Random) -> float:
        """An average reward that is likely as it is believed to be."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Rewards are normal, mean and variance unknown: the normal-inverse-chi-squared prior and its posteriors.

    sigma^2 ~ nu tau^2 / chi^2(nu), mean ~ N(m, sigma^2 / kappa) (Gelman et al. 2013, "Bayesian Data Analysis", section
    3.3). The defaults are those of AB-MCTS (arXiv:2503.04412).

    Attributes:
        m: mean.
        kappa: rewards that the mean counts for, above 0.
        nu: rewards that the variance counts for, above 0.
        tau2: variance, above 0.
    """

    m: float = 0.0
    kappa: float = 1.0
    nu: float = 1.0
    tau2: float = 0.1

    def __post_init__(self) -> None:
        for name in ("kappa", "nu", "tau2"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(name, getattr(self, name), "give a number above 0")

    def after(self, rewards: Sequence[float]) -> Gaussian:
        if not (n := len(rewards)):
            return self
        mean = math.fsum(rewards) / n
        spread = math.fsum((r - mean) ** 2 for r in rewards)
        kappa, nu = self.kappa + n, self.nu + n
        squares = self.nu * self.tau2 + spread + n * self.kappa * (self.m - mean) ** 2 / kappa
        return Gaussian((self.kappa * self.m + n * mean) / kappa, kappa, nu, squares / nu)

    def draw(self, rng: random.Random) -> float:
        variance = self.nu * self.tau2 / 2 / rng.gammavariate(self.nu / 2, 1.0)
        return rng.gauss(self.m, math.sqrt(variance / self.kappa))


@dataclass(frozen=True)
class Beta:
    """Rewards are shares of a success: a += r, b += 1 - r from Jeffreys' prior. Both above 0."""

    a: float = 0.5
    b: float = 0.5

    def __post_init__(self) -> None:
        for name in ("a", "b"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(name, getattr(self, name), "give a number above 0")

    def after(self, rewards: Sequence[float]) -> Beta:
        return Beta(self.a + math.fsum(rewards), self.b + math.fsum(1 - r for r in rewards))

    def draw(self, rng: random.Random) -> float:
        return rng.betavariate(self.a, self.b)
