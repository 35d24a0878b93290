"""Beliefs about an average reward: by hand, piece by piece, and their draws against the known distributions."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, kstest, t

from search.errors import ConfigError
from search.posterior import Beta, Gaussian

REWARDS = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_by_hand():
    """Two rewards, 0.5 and 1: mean 3/4, squares around it 1/8, and (0 - 3/4)^2 weighs 2 * 1 / 3."""
    found = Gaussian().after([0.5, 1.0])
    assert (found.m, found.kappa, found.nu) == (0.5, 3.0, 3.0)
    assert found.tau2 == pytest.approx((0.1 + 0.125 + 2 / 3 * 0.5625) / 3)
    other = Gaussian(m=0.4, kappa=2, nu=3, tau2=0.2).after([0.9])
    assert (other.m, other.kappa, other.nu) == (pytest.approx(1.7 / 3), 3, 4)
    assert other.tau2 == pytest.approx((0.6 + 2 / 3 * 0.25) / 4)
    assert Beta().after([0.25, 1.0]) == Beta(1.75, 1.25)
    assert Gaussian().after([]) == Gaussian() and Beta().after([]) == Beta()


@given(REWARDS, st.data())
def test_together_or_one_by_one_is_the_same(rewards, data):
    cut = data.draw(st.integers(0, len(rewards)))
    for prior in (Gaussian(0.3, 2.0, 1.5, 0.2), Beta()):
        whole, parts = prior.after(rewards), prior.after(rewards[:cut]).after(rewards[cut:])
        for name in whole.__dataclass_fields__:
            assert getattr(whole, name) == pytest.approx(getattr(parts, name), abs=1e-9)


def test_draws_follow_the_distributions():
    """The mean of a normal-inverse-chi-squared is Student's t around m, with nu degrees of freedom."""
    rng = random.Random(1)
    for prior in (Gaussian(), Gaussian(0.4, 2, 5, 0.2).after([0.1, 0.9, 0.8])):
        law = t(prior.nu, prior.m, math.sqrt(prior.tau2 / prior.kappa))
        assert kstest([prior.draw(rng) for _ in range(4000)], law.cdf).pvalue > 0.001
    law = Beta().after([0.7, 0.9])
    assert kstest([law.draw(rng) for _ in range(4000)], beta(law.a, law.b).cdf).pvalue > 0.001


def test_a_belief_that_is_sure_draws_its_mean():
    rng = random.Random(0)
    assert [Gaussian(0.3, kappa=1e18).draw(rng) for _ in range(9)] == pytest.approx([0.3] * 9, abs=1e-6)


@pytest.mark.parametrize(("kind", "fields"), [(Gaussian, {"kappa": 0}), (Gaussian, {"nu": -1}), (Beta, {"b": 0})])
def test_priors_that_are_none_are_refused(kind, fields):
    with pytest.raises(ConfigError) as caught:
        kind(**fields)
    assert caught.value.field in fields
