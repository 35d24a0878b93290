"""Logits and seeds to tokens: the Gumbel-max rule with noise that is a pure function of (seed, position, token).

token = argmax over v of (logits_v / T + G(seed, position, v)), over the tokens left by top-k, then top-p, is an exact
draw from the softmax (Gumbel 1954; Maddison et al. 2014, "A* sampling"). G comes from a counter-based hash
(splitmix64: Steele, Lea and Flood 2014) in 64-bit integers, so it does not depend on batch, order, thread or device.
Nor do the logits where the kernels compute them (`native.backbone`). Torch's matrix products of other shapes round
otherwise in the last bits: there a draw can change only where the two best sums differ by less than that (about 1e-6 in
float32).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from policies.engine.native.draws import draw
from search.errors import PolicyError

VERSION = "gumbel-splitmix64-2"  # part of fingerprints: change it whenever a seed would give other tokens

_GAMMA, _MIX1, _MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class Numbers(NamedTuple):
    """How each of R rows is sampled; float64 or int64 arrays [R]. Meanings as in `search.types.Sampling`."""

    seeds: np.ndarray
    positions: np.ndarray  # of the token within its draw, from 0
    temperature: np.ndarray
    top_k: np.ndarray
    top_p: np.ndarray


class Sampled(NamedTuple):
    """One token per row and its log-probability (nats) in the distribution sampled from; 0 at temperature 0."""

    tokens: np.ndarray  # int64 [R]
    logprobs: np.ndarray  # float64 [R]


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX2)
    return x ^ (x >> np.uint64(31))


def gumbel(seeds: np.ndarray, positions: np.ndarray, size: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Standard Gumbel noise, float64 [R, size]: entry (r, v) depends on seeds[r], positions[r] and v alone."""
    return arrivals(seeds, positions, size, device).log_().neg_()


def arrivals(seeds: np.ndarray, positions: np.ndarray, size: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """exp(-gumbel): standard exponential times, float64 [R, size]."""
    gamma = np.uint64(_GAMMA)
    keys = _mix(_mix(seeds.astype(np.uint64) + gamma) + (positions.astype(np.uint64) + np.uint64(1)) * gamma)
    counter = torch.arange(1, size + 1, dtype=torch.int64, device=device) * _signed(_GAMMA)
    x = torch.from_numpy(keys.view(np.int64)).to(device)[:, None] + counter
    # torch shifts int64 arithmetically; the masks make the shifts logical
    part = torch.empty_like(x)
    for shift, factor in ((30, _MIX1), (27, _MIX2), (31, 0)):
        torch.bitwise_right_shift(x, shift, out=part)
        x ^= part.bitwise_and_((1 << (64 - shift)) - 1)
        if factor:
            x *= _signed(factor)
    x >>= 12
    x &= (1 << 52) - 1
    # 52 bits plus a half is exact in float64 and never 0 or 1
    return x.double().add_(0.5).mul_(2.0**-52).log_().neg_()


def noise(seeds: np.ndarray, positions: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The entries of `gumbel` at `tokens` alone (int64 [R, K]), up to the last bits of its logarithms."""
    gamma = np.uint64(_GAMMA)
    keys = _mix(_mix(seeds.astype(np.uint64) + gamma) + (positions.astype(np.uint64) + np.uint64(1)) * gamma)
    mixed = _mix(keys[:, None] + (tokens.astype(np.uint64) + np.uint64(1)) * gamma)
    return -np.log(-np.log(((mixed >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52))


def truncate(logits: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Logits [R, V] with -inf outside the top_k[r] likeliest tokens (0: all), then outside the fewest of these whose
    probabilities reach top_p[r]. Of equal logits the lower id counts as likelier; at least one token stays."""
    ranked, order = torch.sort(logits, dim=-1, descending=True, stable=True)
    size = logits.shape[-1]
    rank = torch.arange(size, device=logits.device)
    limit = torch.where(top_k > 0, top_k, size)[:, None]
    ranked = ranked.masked_fill(rank >= limit, -torch.inf)
    share = torch.softmax(ranked.double(), dim=-1)
    before = share.cumsum(-1) - share
    # top_p = 1 means all: a rounded sum must not cut the tail
    drop = (before >= top_p[:, None]) & (top_p[:, None] < 1) & (rank > 0)
    ranked = ranked.masked_fill(drop, -torch.inf)
    return torch.empty_like(logits).scatter_(-1, order, ranked)


def sample(logits: torch.Tensor, numbers: Numbers) -> Sampled:
    """One token per row of `logits` [R, V] (unscaled, any float type).

    Raises:
        PolicyError: a row's logits are not finite.
    """
    logits = logits.float()
    greedy = numbers.temperature == 0
    cut = np.flatnonzero(~greedy & ((numbers.top_k > 0) | (numbers.top_p < 1)))
    heat = numbers.temperature.astype(np.float32)
    if len(cut):
        rows = torch.from_numpy(cut).to(logits.device)
        top_k = torch.from_numpy(numbers.top_k[cut]).to(logits.device)
        top_p = torch.from_numpy(numbers.top_p[cut]).to(logits.device)
        scaled = logits[rows] / torch.from_numpy(heat[cut]).to(logits.device)[:, None]
        logits = logits.index_copy(0, rows, truncate(scaled, top_k, top_p))
        heat[cut] = 1.0
    tokens, logprobs = draw(logits, numbers.seeds, numbers.positions, heat) or _race(logits, numbers, heat)
    if not np.isfinite(logprobs).all():
        raise PolicyError("the model's logits are not finite: the weights are broken or overflow in this dtype")
    return Sampled(tokens, np.where(greedy, 0.0, np.minimum(logprobs, 0.0)))


def _race(logits: torch.Tensor, numbers: Numbers, heat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and log-probabilities as `native.draws.draw` has them, by torch's operators on any device."""
    greedy = heat == 0
    if greedy.all():
        share = torch.softmax(logits, -1)
        tokens = logits.argmax(-1)
    else:
        logits = logits / torch.from_numpy(np.where(greedy, np.float32(1), heat)).to(logits.device)[:, None]
        share = torch.softmax(logits, -1)
        # the first arrival in a race at these rates is the largest sum of logit and Gumbel noise, for one log less
        times = arrivals(numbers.seeds, numbers.positions, logits.shape[-1], logits.device)
        tokens = times.div_(share).argmin(-1)
        if greedy.any():  # not by `share`, in which logits that differ may round to the same
            rows = torch.from_numpy(np.flatnonzero(greedy)).to(logits.device)
            tokens[rows] = logits[rows].argmax(-1)
    logprobs = share.gather(-1, tokens[:, None])[:, 0].log_().double()
    return tokens.cpu().numpy(), logprobs.cpu().numpy()


def likeliest(logits: torch.Tensor, top: int, among: int) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """The `top` likeliest of the first `among` ids, likeliest first, the lower id first where equal; for each row of
    `logits` [R, V] the ids and their log-probabilities (nats at temperature 1, normalised over the first `among`).

    Raises:
        PolicyError: a row's logits are not finite.
    """
    values = logits[:, :among].float().log_softmax(-1)
    # one more than is asked, to see whether the choice between equal ones matters: topk makes it as it likes
    best = values.topk(min(top + 1, among))
    logprobs, ids = best.values.double().cpu().numpy(), best.indices.cpu().numpy()
    if not np.isfinite(logprobs[:, 0]).all():
        raise PolicyError("the model's logits are not finite: the weights are broken or overflow in this dtype")
    for r in np.flatnonzero((logprobs[:, :-1] == logprobs[:, 1:]).any(-1)):
        line = values[r].double().cpu().numpy()
        ids[r] = np.argsort(-line, kind="stable")[: ids.shape[1]]
        logprobs[r] = line[ids[r]]
    return [(tuple(i[:top]), tuple(p[:top])) for i, p in zip(ids.tolist(), logprobs.tolist(), strict=True)]
