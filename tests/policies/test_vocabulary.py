"""Bytes and text of ids, against the tokenizers' own decoding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from policies.tiny import tokenizer
from policies.vocabulary import Growing, Vocabulary
from search.errors import ConfigError

BYTE_LEVEL = Vocabulary(tokenizer(), "tiny")


def sentence_piece():
    words = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "\u2581", "a", "b", "\u2581a", "ab"]
    bpe = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, [("\u2581", "a"), ("a", "b")], byte_fallback=True))
    bpe.normalizer = normalizers.Replace(" ", "\u2581")
    bpe.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="</s>")


@given(st.text())
def test_text_survives_encoding(text):
    assert BYTE_LEVEL.text(BYTE_LEVEL.encode(text)) == text


@given(st.lists(st.integers(0, len(BYTE_LEVEL) - 1), max_size=12))
def test_text_of_any_ids_is_the_tokenizers_and_grows_to_the_same(ids):
    text = BYTE_LEVEL.text(ids)
    assert text == BYTE_LEVEL.tokenizer.decode(ids, skip_special_tokens=False)
    growing = Growing(BYTE_LEVEL)
    for i in ids:
        growing.add(i)
    assert text.startswith(growing.text) and set(text[len(growing.text) :]) <= {"\ufffd"}
    assert growing.tokens == len(ids)


def test_a_character_in_several_tokens_appears_when_it_is_whole():
    ids = BYTE_LEVEL.encode("a\u20ac")
    assert len(ids) == 4
    growing, seen = Growing(BYTE_LEVEL), []
    for i in ids:
        growing.add(i)
        seen.append(growing.text)
    assert seen == ["a", "a", "a", "a\u20ac"]


def test_sentence_piece_words_keep_their_spaces():
    vocabulary = Vocabulary(sentence_piece(), "sp")
    for text in ("a b", " ab ", "a\u20acb", "a a a"):
        ids = vocabulary.encode(text)
        assert vocabulary.text(ids) == text
        assert "".join(vocabulary.text([i]) for i in ids if vocabulary.texts[i] is not None) == text.replace(
            "\u20ac", ""
        )


def test_an_id_of_the_padding_has_no_text():
    assert BYTE_LEVEL.text((10**6, BYTE_LEVEL.encode("a")[0])) == "a"


def test_an_unknown_kind_of_tokenizer_is_refused():
    bare = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    bare.decoder = decoders.WordPiece()
    with pytest.raises(ConfigError, match="WordPiece"):
        Vocabulary(PreTrainedTokenizerFast(tokenizer_object=bare), "words")
