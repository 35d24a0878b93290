"""Model folders: is it one, what is in it, its fingerprint, and its weights ready for the engine."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from safetensors import safe_open
from torch.nn.functional import linear
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as hf_logging

from policies.engine.attention import NAME
from policies.engine.lean import Lean, suits
from policies.engine.native.backbone import Native, Product, kernels
from policies.engine.native.backbone import suits as fits
from search.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Weights as the engine sees them.

    Attributes:
        backbone: ids to final hidden states [1, N, H], through the attention function of this package.
        head: hidden states [n, H] to numbers [n, C]: logits of a language model, or scores.
        layers, heads, width: shape of keys and values.
        context: positions the model was made for.
        vocabulary: ids it knows, those without a token included.
        whole: the model as `transformers` runs it, for the check at the start.
    """

    backbone: Callable[..., Any]
    head: Callable[[torch.Tensor], torch.Tensor]
    layers: int
    heads: int
    width: int
    context: int
    vocabulary: int
    dtype: torch.dtype
    device: str
    whole: PreTrainedModel


def settings(path: Path, field: str = "model") -> dict[str, Any]:
    """The folder's config.json.

    Raises:
        ConfigError: `path` is not a folder with a model's config, weights in safetensors, and tokenizer.
    """
    if not path.is_dir():
        raise ConfigError(field, str(path), "give the folder of a model (config.json, *.safetensors, tokenizer)")
    config = path / "config.json"
    missing = "config.json" if not config.is_file() else None
    missing = missing or ("*.safetensors" if not any(path.glob("*.safetensors")) else None)
    missing = missing or ("tokenizer.json" if not (path / "tokenizer.json").is_file() else None)
    if missing:
        raise ConfigError(field, str(path), f"the folder has no {missing}; give the folder of a model")
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(field, str(path), f"its config.json cannot be read ({error})") from error
    if not isinstance(found, dict) or "model_type" not in found:
        raise ConfigError(field, str(path), "its config.json names no model_type")
    return found


def digest(path: Path, *more: str) -> str:
    """A fingerprint (32 hex digits) of everything in the folder that shapes its answers, and of `more`."""
    total = blake2b(repr(more).encode(), digest_size=16)
    for file in sorted(path.iterdir()):
        if file.suffix in (".safetensors", ".json", ".jinja"):
            total.update(file.name.encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    total.update(block)
    return total.hexdigest()


def tokenizer(path: Path) -> Any:
    """The folder's tokenizer exactly as tokenizer.json has it, loaded without network.

    Not through `AutoTokenizer`: for some model types (Qwen2 among them) transformers 5 puts the type's usual splitting
    and normalisation in place of the file's, and a model with a tokenizer of its own would read other ids.
    """
    try:
        return PreTrainedTokenizerFast.from_pretrained(str(path), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError("model", str(path), f"its tokenizer cannot be loaded ({error})") from error


def end_tokens(path: Path, config: Mapping[str, Any], tokenizer: Any) -> frozenset[int]:
    """End-of-sequence ids by generation config, else by config; and the tokenizer's.

    Raises:
        ConfigError: there is none.
    """
    generation = path / "generation_config.json"
    told = json.loads(generation.read_text(encoding="utf-8")) if generation.is_file() else {}
    found = told.get("eos_token_id", config.get("eos_token_id"))
    listed = found if isinstance(found, list) else [found]
    ids = frozenset(int(i) for i in (*listed, tokenizer.eos_token_id) if i is not None)
    if not ids:
        raise ConfigError("model", str(path), "neither its configs nor its tokenizer name an end-of-sequence token")
    return ids


def size_in_bytes(memory: str | int) -> int:
    """Bytes of "512MB", "1.5GB" (powers of 1024) or a plain number of bytes.

    Raises:
        ConfigError: it is neither, or not positive.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", str(memory).strip(), re.IGNORECASE)
    total = int(float(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " ")) if found else 0
    if total <= 0:
        raise ConfigError("memory", memory, 'give bytes, or a size such as "512MB" or "2GB"')
    return total


def language_model(path: Path, dtype: str, device: str, lean: bool = True, native: bool = True) -> Model:
    """A decoder-only model with its language model head.

    Those that `lean.suits` run by that forward, unless `lean` is false, and if the kernels suit them by these, unless
    `native` is false.
    """
    return causal(_pretrained(AutoModelForCausalLM, path, dtype, device), dtype, device, lean, native)


def causal(full: PreTrainedModel, dtype: str, device: str, lean: bool = True, native: bool = True) -> Model:
    """A decoder-only model that `transformers` made with this package's attention, as the engine wants it."""
    return _model(full.base_model, full.get_output_embeddings(), full, dtype, device, lean, native)


def scoring_model(path: Path, dtype: str, device: str) -> Model:
    """A decoder-only backbone with the folder's two-label head `score`, see `headed_model`.

    The layouts are those of `Qwen2ForTokenClassification` (score.weight) and of the Qwen2.5-Math process reward
    models (score.0, score.2; Zhang et al. 2025, "The Lessons of Developing Process Reward Models").
    """
    model, labels = headed_model(path, "score", dtype, device)
    if labels != 2:
        raise ConfigError("model", str(path), "its head does not have two labels, wrong and right")
    return model


def headed_model(path: Path, name: str, dtype: str, device: str) -> tuple[Model, int]:
    """A decoder-only backbone with the folder's head `name`, and how many numbers that gives per position."""
    found, size = head(path, name)
    backbone = _pretrained(AutoModel, path, dtype, device)
    return _model(backbone, found.to(device=device, dtype=DTYPES[dtype]).eval(), backbone, dtype, device), size


def head(path: Path, name: str) -> tuple[torch.nn.Sequential, int]:
    """The folder's head `name` as it is stored, and how many numbers it gives.

    A head is one linear layer (NAME.weight, perhaps NAME.bias), or several with ReLU between (NAME.0, NAME.2, ...).
    """
    parts = tensors(path, f"{name}.")
    layers = sorted({key.rpartition(".")[0] for key in parts}, key=lambda key: (len(key), key))
    plain = layers == [name]
    if not plain and (not layers or layers != [f"{name}.{2 * i}" for i in range(len(layers))]):
        remedy = f"its weights have no head `{name}`: neither one linear layer nor `{name}.0` and `{name}.2`"
        raise ConfigError("model", str(path), remedy)
    made = torch.nn.Sequential()
    for layer_name in layers:
        weight, bias = parts[f"{layer_name}.weight"], parts.get(f"{layer_name}.bias")
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
        if len(made):
            made.append(torch.nn.ReLU())
        made.append(layer)
    return made, len(parts[f"{layers[-1]}.weight"])


def tensors(path: Path, beginning: str) -> dict[str, torch.Tensor]:
    """The folder's weights whose names begin so."""
    found: dict[str, torch.Tensor] = {}
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as stored:
            found |= {key: stored.get_tensor(key) for key in stored.keys() if key.startswith(beginning)}  # noqa: SIM118
    return found


_one_at_a_time = Lock()  # transformers keeps what it is doing in globals


def _pretrained(loader: Any, path: Path, dtype: str, device: str) -> PreTrainedModel:
    settings(path)
    try:
        with _one_at_a_time, quiet():
            model, told = loader.from_pretrained(
                str(path),
                dtype=DTYPES[dtype],
                attn_implementation=NAME,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError("model", str(path), f"it cannot be loaded ({error})") from error
    wrong = sorted(map(str, [*told["missing_keys"], *told["mismatched_keys"]]))
    if wrong:
        raise ConfigError("model", str(path), f"its weights do not fit its config: {', '.join(wrong[:3])}")
    return model.to(device).eval()


def _model(
    backbone: Any,
    head: Any,
    whole: PreTrainedModel,
    dtype: str,
    device: str,
    lean: bool = True,
    native: bool = True,
) -> Model:
    config = backbone.config
    queries = config.num_attention_heads
    if lean:
        backbone, head = _lean(backbone, head, whole, native)
    return Model(
        backbone=backbone,
        head=head,
        layers=config.num_hidden_layers,
        heads=getattr(config, "num_key_value_heads", None) or queries,
        width=getattr(config, "head_dim", None) or config.hidden_size // queries,
        context=config.max_position_embeddings,
        vocabulary=config.vocab_size,
        dtype=DTYPES[dtype],
        device=device,
        whole=whole,
    )


def _lean(backbone: Any, head: Any, whole: PreTrainedModel, native: bool) -> tuple[Any, Any]:
    """The same in fewer operators, or by the kernels, as far as they suit."""
    found = kernels(whole) if native else None
    make = partial(product, whole, native=native)
    if suits(backbone):
        backbone = Lean(backbone)
        if found and fits(backbone, found):
            backbone = Native(backbone, found)
    if type(head) is torch.nn.Linear:  # without the module's own Python around it
        head = make(head.weight, head.bias)
    elif isinstance(head, torch.nn.Sequential):
        head = Steps([make(m.weight, m.bias) if isinstance(m, torch.nn.Linear) else m for m in head])
    return backbone, head


def product(
    whole: PreTrainedModel, weight: torch.Tensor, bias: torch.Tensor | None = None, native: bool = True
) -> Callable[[torch.Tensor], torch.Tensor]:
    """x [N, in] to weight x + bias [N, out], in the way that suits a model."""
    if native and (found := kernels(whole)):
        return Product(found, weight.detach(), bias)
    return partial(linear, weight=weight, bias=bias)


@dataclass(frozen=True, slots=True)
class Steps:
    """Functions of a tensor one after the other."""

    functions: Sequence[Callable[[torch.Tensor], torch.Tensor]]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        for function in self.functions:
            x = function(x)
        return x


@contextmanager
def quiet() -> Iterator[None]:
    """Neither bars nor tables from `transformers` inside."""
    # transformers draws a bar, and logs a table of keys that a loader does not use; the loading report is checked here
    logger = logging.getLogger("transformers")
    level, bar = logger.level, hf_logging.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bar:
            hf_logging.enable_progress_bar()
