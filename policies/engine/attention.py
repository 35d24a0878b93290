"""The attention function that the engine registers with `transformers`: keys and values live in the slot pool.

All tokens of a forward, of however many sequences, are packed in one row [1, N]: the linear layers see no padding.
In each layer the new keys and values are first written to their slots; then each group of sequences reads its own
context through its slot table, under an explicit mask. So a token may attend to a token of the same forward that
another sequence brought: a prefix shared by two prompts is computed once even when both arrive together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from search.errors import PolicyError

NAME = "treewise_slots"


@dataclass(slots=True)
class Group:
    """Sequences that attend together: R of them, T new tokens each, at most S tokens of context.

    Attributes:
        tokens: int64 [R * T], where their tokens are in the packed row; padding repeats a token of the same sequence.
        table: int64 [R * S], slots of the context; 0 where there is none.
        seen: int64 [R, T], position of each token: it attends to the context up to and including that one.
        shape: (R, T, S).
        plain: the first token if tokens are R * T neighbours in the row and nothing is padding, else -1.
        masks: additive masks by sliding window, made when first needed, shared by the layers.
    """

    tokens: torch.Tensor
    table: torch.Tensor
    seen: torch.Tensor
    shape: tuple[int, int, int]
    plain: int = -1
    masks: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)

    def mask(self, window: int, share: int, dtype: torch.dtype) -> torch.Tensor:
        """[R, 1, share * T or 1, S]; 0 where a token may look, -inf elsewhere; `share` query heads per key head."""
        if (window, share) not in self.masks:
            rows, new, span = self.shape
            at = torch.arange(span, device=self.seen.device)
            hidden = at > self.seen[..., None]
            if window:
                hidden |= at <= self.seen[..., None] - window
            mask = torch.zeros(rows, 1, new, span, dtype=dtype, device=self.seen.device)
            mask.masked_fill_(hidden[:, None], -torch.inf)
            # one new token: the mask broadcasts over the heads of a group; more: queries are laid out head by head
            self.masks[window, share] = mask if new == 1 else mask.repeat(1, 1, share, 1)
        return self.masks[window, share]


@dataclass(slots=True)
class Plan:
    """What one forward reads and writes: the pool [layers, slots, 2, heads, width], a slot per token, the groups."""

    pool: torch.Tensor
    write: torch.Tensor  # int64 [N]
    groups: list[Group]
    layers: tuple[torch.Tensor, ...] = field(init=False)  # of the pool, each [slots, 2 * heads * width]

    def __post_init__(self) -> None:
        self.layers = self.pool.flatten(2).unbind(0)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    plan: Plan | None = None,
    **other: Any,
) -> tuple[torch.Tensor, None]:
    """`packed` as `transformers` calls it: query [1, heads, N, width], key and value [1, key heads, N, width].

    Returns:
        [1, N, heads, width], None.

    Raises:
        PolicyError: the model asks for something this function does not do (soft caps, attention sinks), or calls it
            outside the engine.
    """
    if plan is None:
        raise PolicyError("this model does not pass the engine's plan to its attention: it cannot run embedded")
    for name in ("softcap", "s_aux", "position_bias"):
        if other.get(name) is not None:
            raise PolicyError(f"the embedded engine does not support attention with {name!r}")
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    return packed(plan, module.layer_idx, query, torch.cat((key, value), 1), scaling, sliding_window or 0)[None], None


def packed(
    plan: Plan,
    layer: int,
    query: torch.Tensor,
    new: torch.Tensor,
    scale: float | None,
    window: int = 0,
) -> torch.Tensor:
    """Attention of N packed tokens: query [N, heads, width], keys then values [N, 2 * key heads, width] -> like query.

    Grouped-query attention needs no copy: the query heads that share a key head become further queries of it.
    """
    pool = plan.layers[layer]
    pool.index_copy_(0, plan.write, new.flatten(1))
    total, heads, width = query.shape
    shared = new.shape[1] // 2
    share = heads // shared
    whole = len(plan.groups) == 1 and plan.groups[0].plain == 0
    out = query if whole else query.new_empty(total, heads, width)
    for group in plan.groups:
        rows, count, span = group.shape
        context = pool.index_select(0, group.table).view(rows, span, 2, shared, width)
        keys, values = context.permute(2, 0, 3, 1, 4).unbind(0)
        first, last = group.plain, group.plain + rows * count
        if whole:
            asked = query
        else:
            asked = query[first:last] if group.plain >= 0 else query.index_select(0, group.tokens)
        if count == 1:  # the layout is already that of `share` queries per key head
            asked = asked.reshape(rows, shared, share, width)
        else:
            asked = asked.reshape(rows, count, shared, share, width).permute(0, 2, 3, 1, 4)
            asked = asked.reshape(rows, shared, share * count, width)
        mask = group.mask(window, share, query.dtype)
        result = scaled_dot_product_attention(asked, keys, values, attn_mask=mask, scale=scale)
        if count > 1:
            result = result.view(rows, shared, share, count, width).permute(0, 3, 1, 2, 4)
        result = result.reshape(-1, heads, width)
        if whole:
            return result
        if group.plain >= 0:
            out[first:last] = result
        else:
            out.index_copy_(0, group.tokens, result)  # padding repeats a token and computes the same for it
    return out


AttentionInterface.register(NAME, attend)
