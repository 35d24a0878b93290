"""The sampler against plain Python: its noise, its truncation, and its distribution."""

import math

import numpy as np
import pytest
import torch

from policies.engine.sampler import Numbers, gumbel, likeliest, sample, truncate
from search.errors import PolicyError

MASK = (1 << 64) - 1
LOGITS = torch.tensor([2.0, 1.5, 1.5, 0.3, 0.0, -0.7, -1.0, -2.0])


def numbers(count, temperature=1.0, top_k=0, top_p=1.0, positions=None):
    def full(value, dtype):
        return np.full(count, value, dtype)

    places = np.zeros(count, np.int64) if positions is None else positions
    seeds = np.arange(count, dtype=np.int64) * 7 + 3
    return Numbers(seeds, places, full(temperature, float), full(top_k, np.int64), full(top_p, float))


def mix(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def reference(seed, position, token):
    gamma = 0x9E3779B97F4A7C15
    key = mix((mix((seed + gamma) & MASK) + (position + 1) * gamma) & MASK)
    uniform = ((mix((key + (token + 1) * gamma) & MASK) >> 12) + 0.5) / 2**52
    return -math.log(-math.log(uniform))


def truth(temperature, top_k, top_p):
    """The distribution by its definition, one number at a time."""
    order = sorted(range(len(LOGITS)), key=lambda i: (-float(LOGITS[i]), i))
    weight = {i: math.exp(float(LOGITS[i]) / temperature) for i in order[: top_k or None]}
    total, kept, share = sum(weight.values()), {}, 0.0
    for i, w in weight.items():
        if share < top_p or top_p == 1:
            kept[i] = w
        share += w / total
    return [kept.get(i, 0.0) / sum(kept.values()) for i in range(len(LOGITS))]


def test_noise_is_the_hash_of_seed_position_and_token():
    seeds, positions = np.array([0, 5, 2**63 - 1]), np.array([0, 17, 3])
    noise = gumbel(seeds, positions, 9)
    for r in range(3):
        for v in range(9):
            assert noise[r, v].item() == pytest.approx(reference(int(seeds[r]), int(positions[r]), v), rel=1e-12)


def test_noise_of_a_row_does_not_depend_on_the_others():
    seeds = np.arange(64) * 1000003
    positions = np.arange(64) % 5
    together = gumbel(seeds, positions, 300)
    for r in (0, 1, 63):
        alone = gumbel(seeds[r : r + 1], positions[r : r + 1], 300)
        torch.testing.assert_close(alone[0], together[r], rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(gumbel(seeds, positions, 100), together[:, :100], rtol=1e-14, atol=1e-14)


def test_noise_has_the_moments_of_a_gumbel_and_no_correlation():
    noise = gumbel(np.arange(400), np.zeros(400, np.int64), 500)
    assert noise.mean().item() == pytest.approx(np.euler_gamma, abs=0.01)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.03)
    later = gumbel(np.arange(400), np.ones(400, np.int64), 500)
    for a, b in ((noise, later), (noise[:-1], noise[1:]), (noise[:, :-1], noise[:, 1:])):
        assert abs(np.corrcoef(a.ravel().numpy(), b.ravel().numpy())[0, 1]) < 0.01


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (3, 1.0), (0, 0.8), (6, 0.9), (1, 1.0), (0, 0.01)])
def test_draws_follow_the_distribution(temperature, top_k, top_p):
    count = 20_000
    drawn = sample(LOGITS.expand(count, -1), numbers(count, temperature, top_k, top_p, np.arange(count) % 7))
    expected = np.array(truth(temperature, top_k, top_p))
    seen = np.bincount(drawn.tokens, minlength=len(LOGITS))
    assert not seen[expected == 0].any()
    possible = expected > 0
    free = int(possible.sum()) - 1
    statistic = float(((seen - count * expected)[possible] ** 2 / (count * expected[possible])).sum())
    assert statistic < free + 4 * math.sqrt(2 * free) + 1e-9, (seen, expected * count)
    np.testing.assert_allclose(drawn.logprobs, np.log(expected[drawn.tokens]), atol=1e-5)


def test_a_chi_square_this_size_notices_a_wrong_temperature():
    count = 20_000
    drawn = sample(LOGITS.expand(count, -1), numbers(count, 1.1))
    expected = np.array(truth(1.0, 0, 1.0))
    seen = np.bincount(drawn.tokens, minlength=len(LOGITS))
    assert ((seen - count * expected) ** 2 / (count * expected)).sum() > 100


def test_temperature_zero_takes_the_likeliest_and_lowest():
    drawn = sample(torch.tensor([[1.0, 3.0, 3.0, 2.0]]).expand(5, -1), numbers(5, 0.0, 2, 0.5))
    assert drawn.tokens.tolist() == [1] * 5
    assert drawn.logprobs.tolist() == [0.0] * 5


def test_rows_with_different_settings_do_not_touch_each_other():
    settings = [(0.0, 0, 1.0), (1.0, 0, 1.0), (0.7, 3, 1.0), (1.3, 0, 0.6)] * 8
    alone = []
    for i, (temperature, top_k, top_p) in enumerate(settings):
        one = Numbers(*(np.array([x]) for x in (i, 2, temperature, top_k, top_p)))
        alone.append(sample(LOGITS[None], one))
    columns = [np.array(column) for column in zip(*settings)]
    mixed = sample(LOGITS.expand(32, -1), Numbers(np.arange(32), np.full(32, 2), *columns))
    assert mixed.tokens.tolist() == [int(a.tokens[0]) for a in alone]
    np.testing.assert_allclose(mixed.logprobs, [float(a.logprobs[0]) for a in alone], atol=1e-6)


def test_truncate_keeps_exactly_k_of_equal_logits():
    kept = truncate(torch.zeros(1, 6), torch.tensor([4]), torch.tensor([1.0]))
    assert torch.isfinite(kept)[0].tolist() == [True] * 4 + [False] * 2


def test_logits_that_are_not_finite_are_an_error():
    with pytest.raises(PolicyError, match="not finite"):
        sample(torch.full((1, 4), torch.nan), numbers(1))


@pytest.mark.parametrize("top", [1, 2, 3, 6])
def test_the_likeliest_are_those_of_a_stable_sort(top):
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.integers(-2, 3, (40, 9)).astype(np.float32))  # many are equal
    for row, (ids, logprobs) in zip(logits[:, :6], likeliest(logits, top, 6), strict=True):
        weights = [math.exp(x) for x in row.tolist()]
        expected = sorted(range(6), key=lambda i: (-weights[i], i))[:top]
        assert list(ids) == expected
        assert list(logprobs) == pytest.approx([math.log(weights[i] / sum(weights)) for i in expected], abs=1e-5)


def test_a_list_of_logits_that_are_not_finite_is_an_error():
    with pytest.raises(PolicyError, match="not finite"):
        likeliest(torch.tensor([[0.0, 1.0], [0.0, torch.inf]]), 1, 2)
