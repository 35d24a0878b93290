"""Hypotheses of searches that go by tokens: paths with the sum of their log-probabilities in the notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from search.errors import ConfigError
from search.session import Session
from search.tree import Node

Choice = Literal["model", "verifier"]


def logprob(node: Node) -> float:
    """Nats of the path from the root, at temperature 1: the node's note, or its parent's and its own token's."""
    if node.parent is None:
        return 0.0
    if (known := node.notes.get("logprob")) is not None:
        return known
    return logprob(node.parent) + node.segment.logprobs[0]


def normalised(node: Node, alpha: float) -> float:
    """logprob / length ** alpha, the length in tokens with the end of sequence (Wu et al. 2016, without constants)."""
    return logprob(node) / max(node.depth, 1) ** alpha


def take(s: Session, nodes: Iterable[Node]) -> None:
    """Notes the log-probabilities of `nodes`: of all tokens listed, these are the hypotheses the search goes on with.

    The end of sequence is among the tokens listed after nearly every prefix. It is an answer only where it is taken.
    """
    for node in nodes:
        if "logprob" not in node.notes:
            s.note(node, logprob=logprob(node))
        claim(s, node)


def claim(s: Session, node: Node) -> None:
    """Makes a listed end of sequence an answer, once; other nodes are left as they are."""
    if node.complete and not node.times and node.parent:
        s.put(node.parent, node.segment, draws=1)


def taken(s: Session) -> list[Node]:
    """The finished hypotheses, oldest first."""
    return s.tree.answers()


def forsake(s: Session, beam: Iterable[Node], kept: Iterable[Node]) -> None:
    """Prunes the hypotheses of `beam` that are neither in `kept` nor the parent of one."""
    alive = {node for one in kept for node in (one, one.parent)}
    for node in dict.fromkeys(beam):
        if node not in alive:
            s.prune(node)


def check_choice(choose: str) -> None:
    """Raises ConfigError for what is not a `Choice`."""
    if choose not in ("model", "verifier"):
        raise ConfigError("choose", choose, 'give "model" (the likeliest) or "verifier" (the one it likes best)')


def needs(choose: Choice) -> tuple[str, ...]:
    """What a search by next tokens cannot do without."""
    return ("next_tokens", "verifier") if choose == "verifier" else ("next_tokens",)


def best(finished: Iterable[Node], choose: Choice, alpha: float = 0.0) -> Node | None:
    """The likeliest by length-normalised score; or that of the highest score, what is not scored last."""

    def key(node: Node) -> tuple[float, ...]:
        score = node.score if choose == "verifier" and node.scored else -1.0
        return score, normalised(node, alpha)

    return max(finished, key=key, default=None)


async def chosen(s: Session, finished: Sequence[Node], choose: Choice, alpha: float = 0.0) -> Node | None:
    """The `best` of `finished`, after the verifier has been asked about each if it has the choice."""
    if choose == "verifier":
        await s.score(finished)
    return best(finished, choose, alpha)
