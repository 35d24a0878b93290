"""A lean Qwen2: `transformers`' parameter names and arithmetic without its generality, for training on small machines.

`tests/experiments/train/test_model.py` holds it equal to `transformers`' own forward. Weights are float32 masters;
matrix products run in bfloat16 under autocast.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.train.tokenizer import NUMBERS


@dataclass(frozen=True)
class Shape:
    """Sizes of a model; the head is 32 wide, and two query heads share a key head."""

    hidden: int
    layers: int
    feed_forward: int
    vocabulary: int
    score_head: bool = False

    @property
    def heads(self) -> int:
        return self.hidden // 32

    def to_dict(self) -> dict[str, int | bool]:
        return asdict(self)


PERIODS = (100, 50, 25, 20, 10, 5, 4, 2)


def number_features(n: int) -> Tensor:
    """Where the embedding of the number n in [0, 99] starts: its phase in several periods, and its size.

    Numbers then add by turning phases, as models learn to do after long training (Nanda et al. 2023, arXiv:2301.05217);
    to start there makes sums and products of two-digit tokens several times quicker to learn.
    """
    phases = [f(2 * math.pi * n / p) for p in PERIODS for f in (math.cos, math.sin)]
    return 0.1 * torch.tensor([*phases, (n - 50) / 30])


class RMSNorm(nn.Module):
    """Scales the last axis to root mean square 1 (Zhang and Sennrich 2019), then by a learnt weight."""

    def __init__(self, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), 1e-6)


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023) with rotary positions; x is (rows, length, hidden)."""

    def __init__(self, s: Shape):
        super().__init__()
        self.heads, self.groups = s.heads, s.heads // 2
        self.q_proj = nn.Linear(s.hidden, 32 * self.heads)
        self.k_proj = nn.Linear(s.hidden, 32 * self.groups)
        self.v_proj = nn.Linear(s.hidden, 32 * self.groups)
        self.o_proj = nn.Linear(32 * self.heads, s.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, visible: Tensor | None) -> Tensor:
        rows, length, _ = x.shape
        q = rotate(self.q_proj(x).view(rows, length, self.heads, 32).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(rows, length, self.groups, 32).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(rows, length, self.groups, 32).transpose(1, 2)
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, is_causal=visible is None)
        return self.o_proj(y.transpose(1, 2).reshape(rows, length, -1))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021), halves layout; x is (rows, heads, length, 32)."""
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020); x is (..., hidden)."""

    def __init__(self, s: Shape):
        super().__init__()
        self.gate_proj = nn.Linear(s.hidden, s.feed_forward, bias=False)
        self.up_proj = nn.Linear(s.hidden, s.feed_forward, bias=False)
        self.down_proj = nn.Linear(s.feed_forward, s.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Attention and feed-forward, each with its norm before and a residual around."""

    def __init__(self, s: Shape):
        super().__init__()
        self.input_layernorm, self.self_attn = RMSNorm(s.hidden), Attention(s)
        self.post_attention_layernorm, self.mlp = RMSNorm(s.hidden), FeedForward(s)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, visible: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, visible)
        return x + self.mlp(self.post_attention_layernorm(x))


class Backbone(nn.Module):
    """The parameters under `model.`; what runs them is `Model.hidden`."""

    def __init__(self, s: Shape):
        super().__init__()
        self.embed_tokens = nn.Embedding(s.vocabulary, s.hidden)
        self.layers = nn.ModuleList(Layer(s) for _ in range(s.layers))
        self.norm = RMSNorm(s.hidden)


class Model(nn.Module):
    """A causal language model with tied embeddings and, when `score_head`, two labels (bad, good) per position."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.model = Backbone(shape)
        if shape.score_head:
            self.score = nn.Sequential(nn.Linear(shape.hidden, shape.hidden), nn.ReLU(), nn.Linear(shape.hidden, 2))
        for name, p in self.named_parameters():
            if p.dim() == 2:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=(0.5 if deep else 1.0) / math.sqrt(p.shape[1]))
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        nn.init.normal_(self.model.embed_tokens.weight, std=0.08)
        with torch.no_grad():
            for entry, n in NUMBERS.items():
                self.model.embed_tokens.weight[entry, : len(PERIODS) * 2 + 1] = number_features(n)

    def hidden(self, tokens: Tensor, position: Tensor | None = None, visible: Tensor | None = None) -> Tensor:
        """Last hidden states (rows, length, hidden) of right-padded ids (rows, length).

        `position` (rows, length) and `visible` (rows, 1, length, length; True where a position is read) are for rows
        with branches; without them positions count up and attention is causal.
        """
        if position is None:
            position = torch.arange(tokens.shape[1], device=tokens.device)[None]
        angle = position[..., None] * 10_000.0 ** (-torch.arange(0, 32, 2, device=tokens.device) / 32)
        x, cos, sin = self.model.embed_tokens(tokens), angle.cos()[:, None], angle.sin()[:, None]
        if torch.is_autocast_enabled(tokens.device.type):
            dtype = torch.get_autocast_dtype(tokens.device.type)
            x, cos, sin = x.to(dtype), cos.to(dtype), sin.to(dtype)
        for layer in self.model.layers:
            x = layer(x, cos, sin, visible)
        return self.model.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits (..., vocabulary)."""
        return F.linear(hidden, self.model.embed_tokens.weight)

    def scores(self, hidden: Tensor) -> Tensor:
        """Logits of the two labels bad, good (..., 2)."""
        return self.score(hidden)
