"""The one tokenizer of the reference models: bytes, whole numbers in groups of two digits, and the domain's phrases.

`204` is `2|04`, `4` is `4`: pairs of digits counted from the right, as one would group by thousands. Any text can be
encoded and decodes to itself; text outside the domain falls back to bytes.
"""

from __future__ import annotations

import json
from functools import reduce
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIALS = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>")
PAD, END, USER, ASSISTANT = range(4)
PHRASES = ("\n\n", "\\boxed{", " (left: ", ", ", "Make ", " from ", "Compute ")
VOCABULARY = 416  # rows of the embedding: the entries, rounded up to a multiple of 32
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|assistant|>{{ m['content'] }}<|end|>"
    "{% else %}<|user|>{{ m['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
LOADED = "tokenization.AsWritten"
LOADER = '''"""The class that `trust_remote_code` loads; without trust, the library's own class of this kind is."""

from transformers import PreTrainedTokenizerFast


class AsWritten(PreTrainedTokenizerFast):
    """A tokenizer just as tokenizer.json has it."""
'''


def build() -> PreTrainedTokenizerFast:
    """The tokenizer, made from nothing but the constants above."""
    vocabulary = {piece: i for i, piece in enumerate((*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())))}
    merges: list[tuple[str, str]] = []

    def merge(left: str, right: str) -> str:
        if left + right not in vocabulary:
            vocabulary[left + right] = len(vocabulary)
            merges.append((left, right))
        return left + right

    for tens in "0123456789":
        for ones in "0123456789":
            merge(tens, ones)
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for phrase in PHRASES:
        letters = as_bytes.pre_tokenize_str(phrase)[0][0]
        reduce(merge, letters)
    # " (" must not be taken out of "Compute (" or ", (": what begins with a space merges last
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=sorted(merges, key=lambda m: m[0].startswith("Ġ"))))
    pairs = Regex(r"\d{1,2}(?=(?:\d{2})*(?!\d))")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(pairs, "isolated"), as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", clean_up_tokenization_spaces=False
    )
    fast.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>"]})
    fast.chat_template = TEMPLATE
    return fast


def save(folder: Path) -> None:
    """Writes the tokenizer so that `AutoTokenizer`, and every server that uses it, loads it as it is.

    For models of type qwen2, transformers 5 takes the class of a folder's tokenizer_config.json for a mistake, and puts
    Qwen2's splitting in the place of the file's; a folder that brings a class of its own is believed.
    """
    build().save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "auto_map": {"AutoTokenizer": [None, LOADED]}}
    file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "tokenization.py").write_text(LOADER, encoding="utf-8")


def _numbers() -> dict[int, int]:
    entries = build().get_vocab()
    return {i: int(piece) for piece, i in entries.items() if piece.isascii() and piece.isdigit() and len(piece) <= 2}


NUMBERS = _numbers()  # entry -> its number, for the entries 0..9 and 00..99
