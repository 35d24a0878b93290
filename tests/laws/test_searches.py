"""Every search, in every world, under every law."""

import pytest

from search.testing import LAWS, resumes


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
async def test_law(law, any_search, any_world):
    await law(any_search, any_world)


@pytest.mark.parametrize("name", ["flat-waves", "beam", "astar-waves"])
async def test_seventy_kills_each(name, searches, worlds):
    await resumes(searches[name], worlds["pairs"], kills=70)
