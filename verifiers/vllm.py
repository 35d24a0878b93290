"""Process and outcome reward models in vLLM's engine: `verifiers.prm` and `verifiers.specified`, read there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch.nn.functional import linear
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from policies.engine import load
from policies.engine.engine import Engine
from policies.vllm import installed
from policies.vllm.host import EXTENSION, Host, arguments
from policies.vllm.memory import Claim, claim
from policies.vllm.reader import Head, Reader
from policies.vocabulary import Vocabulary
from search.errors import ConfigError
from search.types import Cost
from verifiers import prm, specified
from verifiers.hosted import Hosted
from verifiers.readout import Classes, Labels, Value

KNOWN_HEADS = ("ProcessRewardModel", "TokenClassification")  # ends of architectures whose `score` vLLM computes


@dataclass(frozen=True, kw_only=True)
class Served(Hosted):
    """What both have: an engine of vLLM, as `policies.vllm.VLLM` has one.

    Every token is read once, also in vLLM: its prefix cache is used, and the rows that it does not give again are kept
    (`policies.vllm.reader`). `device` is vLLM's own choice.

    Attributes:
        rows: sequences that are read at once.
        block: tokens in a block of the prefix cache; a multiple of 32 on CPUs.
        options: any other engine arguments of vLLM.
    """

    rows: int = 64
    block: int = 32
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rows", "block"):
            if getattr(self, name) < 1:
                raise ConfigError(name, getattr(self, name), "give a number of at least 1")

    def claim(self) -> Claim:
        """What it will take of the machine's memory; raises ConfigError if vLLM is not installed."""
        installed.require()
        return claim(self.model, self.dtype, self.memory, self.options)

    @cached_property
    def fingerprint(self) -> str:
        """Of the model and of every setting that shapes a verdict, and of the package that reads it."""
        return f"{installed.require()} {dict(self.options)} {super().fingerprint}"

    async def _close(self, engine: Any) -> None:
        await engine.close()

    @property
    def host(self) -> Host:
        """The running engine."""
        host: Host = self._ready.engine.host
        return host

    def _pooled(self, path: Path, task: str, head: Head | None, **more: Any) -> Any:
        """An engine that gives a row per token: classes, or hidden states for a head of ours."""
        pooling = {"task": task, "tok_pooling_type": "ALL", "use_activation": False}
        return self._reading(path, task, head, runner="pooling", pooler_config=pooling, **more)

    def _hidden(self, path: Path, without: Sequence[str], head: Head) -> Any:
        """An engine that gives the states behind the last layer, and knows nothing of the folder's heads."""
        kind = str(load.settings(path)["model_type"])
        if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            raise ConfigError("model", str(path), f"{kind} has no language model whose states could be read")
        more = {
            "convert": "embed",
            "hf_overrides": {"architectures": [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]]},
            "load_format": "treewise_backbone",
            "model_loader_extra_config": {"without": [*without, "lm_head."]},
            "worker_extension_cls": EXTENSION,  # knows the load format
        }
        return self._pooled(path, "token_embed", head, **more)

    def _reading(self, path: Path, task: str, head: Head | None, **more: Any) -> Any:
        installed.require()
        given = (self.model, self.dtype, self.memory, self.max_context, self.rows, self.block)
        told = arguments(*given, self.options, **more)
        return Reader(told, int(load.settings(path)["vocab_size"]), self.threads, task, head)


@dataclass(frozen=True, kw_only=True)
class PRM(Served, prm.PRM):
    """`verifiers.prm.PRM` in vLLM: the same settings, the same scores.

    A folder whose calibration weighs regret is read by its hidden states, from which the score head and the
    language-model head are computed here; another one by vLLM's own head.
    """

    def _reader(self, path: Path) -> Engine:
        if not self.calibration.reads and _knows(path):
            return self._pooled(path, "token_classify", None)
        score, labels = load.head(path, "score")
        if labels != 2:
            raise ConfigError("model", str(path), "its head does not have two labels, wrong and right")
        if not self.calibration.reads:
            return self._hidden(path, ["score."], score.eval())
        embeddings = load.tensors(path, "model.embed_tokens.").get("model.embed_tokens.weight")
        if embeddings is None or not load.settings(path).get("tie_word_embeddings"):
            raise ConfigError("model", str(path), "its calibration weighs regret, which needs tied word embeddings")
        return self._hidden(path, ["score."], prm.Both(score.eval(), partial(linear, weight=embeddings.float())))


@dataclass(frozen=True, kw_only=True)
class Specified(Served, specified.Specified):
    """`verifiers.specified.Specified` in vLLM: the same forms, readouts and rules, the same scores.

    Label tokens are weighed by drawing one token with the log-probabilities of the labels (the whole prefix is then
    found in the cache), classes by vLLM's token classifier where it knows the architecture, other heads by the hidden
    states.
    """

    def _reader(self, path: Path, vocabulary: Vocabulary) -> Engine:
        readout = self.readout
        if isinstance(readout, Labels):
            readout.ids(vocabulary)
            return self._reading(path, "", None, max_logprobs=-1)
        if not isinstance(readout, Classes | Value):
            raise ConfigError("readout", readout, "vLLM reads Labels, Classes and Value")
        if isinstance(readout, Classes) and readout.name == "score" and readout.classes == 2 and _knows(path):
            return self._pooled(path, "token_classify", None)
        head, size = load.head(path, readout.name)
        if size != (wanted := readout.classes if isinstance(readout, Classes) else 1):
            raise ConfigError("model", str(path), f"its head `{readout.name}` gives {size} numbers, not {wanted}")
        return self._hidden(path, [f"{readout.name}.", "score."], head.eval())

    async def _probabilities(
        self, engine: Any, ids: tuple[int, ...], start: int, marks: Sequence[int]
    ) -> tuple[list[float], Cost]:
        if not isinstance(self.readout, Labels):
            return await super()._probabilities(engine, ids, start, marks)
        labels = self.readout.ids(self._ready.vocabulary)
        outputs = await engine.weigh(ids, [start + mark for mark in marks], labels)
        tally = outputs.tally
        spent = Cost(read=tally.prefilled, reused=tally.reused, seconds=tally.seconds)
        return self.readout.probabilities(outputs.values), spent


def _knows(path: Path) -> bool:
    """Whether vLLM computes the folder's own head."""
    kinds = load.settings(path).get("architectures") or ()
    return any(str(kind).endswith(KNOWN_HEADS) for kind in kinds)
