"""Checkpoints as `transformers` (and vLLM) load them: config, safetensors in bfloat16, tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, Qwen2Config

from experiments.train.model import Model
from experiments.train.tokenizer import END, PAD, save


def config(model: Model) -> Qwen2Config:
    """The configuration of the same model in `transformers`."""
    s = model.shape
    return Qwen2Config(
        architectures=["Qwen2ForProcessRewardModel" if s.score_head else "Qwen2ForCausalLM"],
        vocab_size=s.vocabulary, hidden_size=s.hidden, intermediate_size=s.feed_forward, num_hidden_layers=s.layers,
        num_attention_heads=s.heads, num_key_value_heads=s.heads // 2, max_position_embeddings=512,
        rope_theta=10_000.0, rms_norm_eps=1e-6, tie_word_embeddings=True, use_sliding_window=False,
        bos_token_id=None, eos_token_id=END, pad_token_id=PAD, dtype="bfloat16",
        **({"num_labels": 2} if s.score_head else {}),
    )  # fmt: skip


def export(model: Model, folder: Path) -> None:
    """Writes the model to `folder`; with a score head as `Qwen2ForProcessRewardModel` (labels bad, good)."""
    folder.mkdir(parents=True, exist_ok=True)
    config(model).save_pretrained(folder)
    weights = {name: p.detach().to("cpu", torch.bfloat16).contiguous() for name, p in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    save(folder)
    if not model.shape.score_head:
        GenerationConfig(eos_token_id=END, pad_token_id=PAD).save_pretrained(folder)
