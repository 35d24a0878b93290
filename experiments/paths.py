"""Solutions to judge: paths that a policy walks step by step, without any search."""

from __future__ import annotations

from typing import Any

from experiments.item import Item
from experiments.parts import Parts
from search.errors import ConfigError
from search.ports import Renders, ability
from search.session import Session
from search.types import Finish, Prefix

LONGEST = 64  # steps after which a path is given up


async def paths(parts: Parts, item: Item, count: int, *, greedy: bool = False) -> list[Prefix]:
    """`count` paths of an item, to their ends or `LONGEST` steps; the first takes the likeliest tokens if `greedy`."""
    renders = ability(parts.policy, Renders)
    if renders is None:
        raise ConfigError("policy", parts.policy, "it has no chat template (search.ports.Renders)")
    prompt = renders.prompt(parts.task.messages(item))
    seed = parts.seeds[0]
    s = Session(prompt, parts.policy, None, question=item.question, step=parts.step, whole=parts.whole, seed=seed)
    found = []
    for number in range(count):
        node = s.root
        how: dict[str, Any] = {"temperature": 0.0} if greedy and not number else {}
        for _ in range(LONGEST):
            if node.terminal:
                break
            (node,) = await s.expand(node, 1, **how)
        found.append(node.prefix)
    return found


def beginnings(path: Prefix) -> list[Prefix]:
    """The path after its first step, its second, and so on; an end without text is no step."""
    steps = path.steps[:-1] if path.steps and path.steps[-1].finish is Finish.EMPTY else path.steps
    return [Prefix(path.prompt, steps[:count], path.question) for count in range(1, len(steps) + 1)]
