"""Where a path ends by decree: cut inside a segment, or closed as if the end of sequence had been drawn. Both free."""

from __future__ import annotations

from search.errors import ConfigError
from search.ports import Reads, ability
from search.session import Session
from search.tree import Node
from search.types import Finish, Segment


def cut(s: Session, node: Node, tokens: int) -> Node:
    """A sibling of `node` (not the root) that holds only the first `tokens` of its tokens, and is open.

    `tokens` is at least 1 and less than the node has. The policy has to read tokens (`search.ports.Reads`).
    """
    segment, parent = node.segment, node.parent
    if parent is None or not 0 < tokens < len(segment.tokens):
        raise ValueError(f"{node} cannot be cut to {tokens} of its {len(segment.tokens)} tokens")
    if (reader := ability(s.policy, Reads)) is None:
        raise ConfigError("policy", s.policy, "it does not say what tokens decode to (search.ports.Reads)")
    kept = segment.tokens[:tokens]
    return s.put(parent, Segment(kept, reader.text(kept), segment.logprobs[:tokens]))


def close(s: Session, node: Node, finish: Finish) -> Node:
    """An end put after `node` (open): EMPTY makes the path an answer, LENGTH a dead end. Each call counts as a draw."""
    if node.terminal or finish not in (Finish.EMPTY, Finish.LENGTH):
        raise ValueError(f"{node} cannot be closed by {finish}")
    return s.put(node, Segment((), "", (), finish), draws=1)


def after(s: Session, leaf: Node, tokens: int) -> Node:
    """The open node on the way to `leaf` that has `tokens` tokens after the prompt; cut out if inside a segment."""
    for node in leaf.path()[1:]:
        size = len(node.segment.tokens)
        if tokens < size:
            return cut(s, node, tokens) if tokens else (node.parent or node)
        tokens -= size
    return leaf
