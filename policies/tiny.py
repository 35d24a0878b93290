"""Random tiny checkpoints in the folder layout of real ones: for tests, benches and trials without any download."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from policies.engine.load import quiet

SPECIALS = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% if m['role'] == 'assistant' %}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# "\n\n" alone, and merged with what is before or after it
MERGES = (("\n", "\n"), (".", "\n\n"), ("\n\n", "="), ("1", "2"))


ARCHITECTURES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}


def tokenizer(
    more: Sequence[str] = (), template: str = TEMPLATE, end: str = "<|end|>", begin: str | None = None
) -> PreTrainedTokenizerFast:
    """Byte-level BPE: 4 special tokens, 256 bytes, a few merges; <|end|> is 1, byte b is 4 + (its place in order).

    Args:
        more: further special tokens, with the last ids.
        end, begin: the end and the beginning of a sequence, among the special tokens.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {word: i for i, word in enumerate((*SPECIALS, *letters))}
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    merges = [(_word(level, left), _word(level, right)) for left, right in MERGES]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    bpe = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    bpe.pre_tokenizer = level
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in (*SPECIALS, *more)])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<|pad|>", eos_token=end, bos_token=begin, chat_template=template
    )


def sentence_piece(words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """BPE as Llama 2 and Mistral have it: U+2581 for a space, one before each text, bytes for other characters.

    Args:
        words: texts that are one token after a space, such as "+".
    """
    signs = [*map(chr, range(33, 127)), "\u2581", *(letter for word in words for letter in word if ord(letter) > 126)]
    listed = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *dict.fromkeys(signs)]
    merges: list[tuple[str, str]] = []
    for word in words:
        known = "\u2581"
        for letter in word:
            merges.append((known, letter))
            listed.append(known := known + letter)
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(listed))}
    bpe = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    parts = (decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0))
    bpe.decoder = decoders.Sequence(list(parts))
    bpe.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in ("<unk>", "<s>", "</s>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<unk>"
    )


def _word(level: pre_tokenizers.ByteLevel, text: str) -> str:
    return "".join(word for word, _ in level.pre_tokenize_str(text))


def checkpoint(
    path: Path,
    architecture: str = "qwen2",
    *,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 2,
    shared: int = 1,
    inner: int = 96,
    context: int = 512,
    scale: float = 0.15,
    end_bias: float = 0.0,
    tied: bool = False,
    vocabulary: int = 0,
    seed: int = 0,
    words: PreTrainedTokenizerFast | None = None,
) -> Path:
    """Write a random language model (float32, head width hidden / heads) with its tokenizer to `path`; returns it.

    Args:
        architecture: one of ARCHITECTURES.
        shared: key/value heads.
        vocabulary: ids; those beyond the tokenizer's have no text.
        scale: standard deviation of the weights; larger makes its distributions sharper.
        end_bias: how much of the last layer's output points to the end token; random models hardly ever end.
        words: its tokenizer; None takes `tokenizer()`.
    """
    words = words or tokenizer()
    kind, model_kind = ARCHITECTURES[architecture]
    config = kind(
        vocab_size=max(vocabulary, len(words)),
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        max_position_embeddings=context,
        initializer_range=scale,
        tie_word_embeddings=tied,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        bos_token_id=None,
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    try:
        model = model_kind(config)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=scale)
    finally:
        torch.random.set_rng_state(state)
    if end_bias:
        with torch.no_grad():
            model.lm_head.weight[words.eos_token_id] *= end_bias
    return _save(path, model, words)


def scripted(path: Path, follows: Mapping[int, Mapping[int, float]], *, context: int = 512) -> Path:
    """Write a model whose next-token logits depend on the last token alone: `follows[token][next]`, 0 if not given.

    Layers add nothing, embeddings are the identity: an exactly known distribution behind a real checkpoint.
    """
    words = tokenizer()
    size = len(words) + len(words) % 2
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        eos_token_id=words.eos_token_id,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for token, row in follows.items():
            for following, logit in row.items():
                # the last norm scales a unit vector to length sqrt(size)
                model.lm_head.weight[following, token] = logit / size**0.5
    return _save(path, model, words)


def _save(path: Path, model: PreTrainedModel, words: PreTrainedTokenizerFast) -> Path:
    with quiet():
        model.save_pretrained(path)
    words.save_pretrained(path)
    return path


def reward_model(path: Path, layout: str = "two layers", *, seed: int = 1, **shape: int | float | str) -> Path:
    """Write a random process reward model: `checkpoint` with a two-label `score` head of one or "two layers"."""
    checkpoint(path, seed=seed, **shape)  # type: ignore[arg-type]
    if layout == "two layers":
        return add_head(path, "score", 2, "Qwen2ForProcessRewardModel", layers=2, seed=seed)
    return add_head(path, "score", 2, "Qwen2ForTokenClassification", seed=seed)


def add_head(path: Path, name: str, size: int, kind: str, *, layers: int = 1, bias: bool = True, seed: int = 1) -> Path:
    """Add a random head of `size` outputs to the folder's weights, under `name`; its config is then of a `kind`.

    Args:
        layers: linear ones, with ReLU between, named NAME.0, NAME.2, ...; a single one is named NAME.
    """
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = [kind]
    hidden = config["hidden_size"]
    noise = torch.Generator().manual_seed(seed)
    head: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        prefix = f"{name}.{2 * layer}" if layers > 1 else name
        outputs = size if layer == layers - 1 else hidden
        head |= {f"{prefix}.weight": (outputs, hidden)} | ({f"{prefix}.bias": (outputs,)} if bias else {})
    weights = load_file(path / "model.safetensors")
    weights |= {key: torch.randn(shape, generator=noise) * 0.3 for key, shape in head.items()}
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return path
