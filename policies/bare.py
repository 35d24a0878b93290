"""An embedded policy that has its tokenizer and no weights: for a process that only asks others to draw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from policies.engine import load
from policies.loaded import Loaded
from policies.vocabulary import Vocabulary

if TYPE_CHECKING:
    from policies.embedded import Embedded


@dataclass(frozen=True, slots=True)
class Bare:
    """What is known of an engine without its weights.

    Attributes:
        vocabulary: ids the model has logits for.
    """

    vocabulary: int


def bare(policy: Embedded) -> Embedded:
    """`policy` with its tokenizer; drawing and reading fail.

    Raises:
        ConfigError: the folder is not a model.
    """
    path = Path(policy.model)
    config, tokenizer = load.settings(path), load.tokenizer(path)
    engine, ends = Bare(int(config["vocab_size"])), load.end_tokens(path, config, tokenizer)
    front = replace(policy)
    front._loaded.append(Loaded(engine, Vocabulary(tokenizer, policy.model), ends))  # type: ignore[arg-type]
    return front
