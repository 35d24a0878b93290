"""What of the vLLM policy needs no vLLM: settings, plans and guesses."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest

from policies.engine import load
from policies.tiny import checkpoint, tokenizer
from policies.vllm import VLLM, speculating
from policies.vllm.drawing import Plans
from policies.vllm.host import arguments
from policies.vllm.memory import weights
from policies.vllm.reader import Rows
from policies.vllm.store import SearchStore
from policies.vocabulary import Vocabulary
from search.errors import ConfigError
from search.steps import Delimiter, Pattern, Tokens
from search.types import Sampling

import torch  # isort: skip


def test_wrong_settings_are_refused():
    wrong = ({"dtype": "int8"}, {"memory": "much"}, {"rows": 0}, {"block": 0}, {"threads": 0}, {"ahead": 0})
    for fields in wrong:
        with pytest.raises(ConfigError, match=next(iter(fields))):
            VLLM("models/policy", **fields)
    lossy = {"method": "ngram", "rejection_sample_method": "synthetic"}
    for speculate in ("magic", {"k": 3}, lossy):
        with pytest.raises(ConfigError, match="speculate"):
            VLLM("models/policy", speculate=speculate)


def test_options_are_passed_on_and_may_not_undo_what_answers_rest_on():
    told = arguments("models/policy", "bfloat16", "1MB", 99, 7, 16, {"tensor_parallel_size": 2}, max_logprobs=-1)
    wanted = {"tensor_parallel_size": 2, "kv_cache_memory_bytes": 1 << 20, "max_model_len": 99, "max_num_seqs": 7}
    assert wanted.items() <= told.items() and told["enable_prefix_caching"] is True
    for name in ("logprobs_mode", "skip_tokenizer_init", "max_logprobs"):
        with pytest.raises(ConfigError, match=name):
            arguments("models/policy", "float32", None, None, 1, 32, {name: 1}, max_logprobs=-1)


def test_speculation_by_name_and_by_vllms_own_settings():
    assert speculating.config(None, 5) is None
    assert speculating.config("search", 4) == {
        "method": "custom_class",
        "model": "policies.vllm.store.SearchStore",
        "num_speculative_tokens": 4,
    }
    own = {"method": "draft_model", "model": "models/draft", "num_speculative_tokens": 3}
    assert speculating.config(own, 5) == own


def test_the_cheapest_way_to_each_boundary(tmp_path):
    words = tokenizer()
    plans = Plans(Vocabulary(words, "tiny"))
    assert plans.of(Sampling(), 9).stops == () and not plans.of(Sampling(), 9).watched
    step = plans.of(Sampling(until=Tokens(4)), 9)
    assert (step.limit, step.capped, step.watched) == (4, True, False)
    assert not plans.of(Sampling(until=Tokens(9)), 4).capped
    lines = plans.of(Sampling(until=Delimiter(("\n\n",))), 9)
    texts = {words.convert_ids_to_tokens(i) for i in lines.stops}
    assert len(texts) == 3 and not lines.watched  # a blank line, with a full stop before it, with a sign after it
    assert plans.of(Sampling(until=Delimiter(("\n\n", "so "))), 9).watched
    assert plans.of(Sampling(until=Pattern("=")), 9).watched


def test_weights_are_counted_as_they_will_be_loaded(tmp_path):
    folder = checkpoint(tmp_path, hidden=32, heads=1)
    model = load.language_model(folder, "float32", "cpu")
    numbers = sum(parameter.numel() for parameter in model.whole.parameters())
    assert weights(folder, "float32") == 4 * numbers and weights(folder, "bfloat16") == 2 * numbers


def store(most=4, context=64):
    told = SimpleNamespace(num_speculative_tokens=most), SimpleNamespace(max_model_len=context)
    return SearchStore(SimpleNamespace(speculative_config=told[0], model_config=told[1]))


def run(guesser, sequences, prompt=3):
    """Feeds the sequences as vLLM would, a token each per forward; how many tokens would have been guessed right."""
    width = max(map(len, sequences))
    table = np.zeros((len(sequences), width), np.int32)
    for i, row in enumerate(sequences):
        table[i, : len(row)] = row
    right = total = 0
    for length in range(prompt + 1, width):
        drawn = [[row[length - 1]] if length <= len(row) else [] for row in sequences]
        lengths = np.array([min(length, len(row)) for row in sequences])
        for row, guess, new in zip(sequences, guesser.propose(drawn, lengths, table, slot_mappings=None), drawn):
            assert len(guess) <= guesser.most and (new or not guess)
            right += sum(a == b for a, b in zip(guess, row[length:], strict=False))
            total += len(guess)
    return right, total


def test_what_was_drawn_before_is_guessed_and_nothing_else():
    guesser = store()
    text = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
    assert run(guesser, [text]) == (0, 0)  # nothing repeats
    right, total = run(guesser, [text, text])
    assert right == total > 20
    rng = random.Random(0)
    noise = [[rng.randrange(1000) for _ in range(40)] for _ in range(20)]
    assert run(store(), noise)[1] < 20


def test_guesses_stop_where_what_was_seen_disagrees():
    guesser = store()
    guesser._learn([1, 2, 3, 4], 4)
    guesser._learn([1, 2, 3, 5], 4)
    assert guesser.guess([1, 2], 4, 0.35) == [3]  # then 4 or 5, each at most 1 in 2.5
    guesser._learn([1, 2, 3, 4], 4)
    assert guesser.guess([1, 2], 4, 0.35) == [3, 4]
    assert guesser.guess([1, 2], 4, 0.6) == [3]
    assert guesser.guess([1, 2], 1, 0.0) == [3] and guesser.guess([9, 9], 4, 0.0) == []


def test_rows_of_blocks_are_found_by_their_ids_and_forgotten_in_order():
    rows = Rows(4, room=3 * 4 * 2 * 4)
    ids = list(range(10))
    values = torch.arange(20.0).reshape(10, 2)
    rows.keep(ids, values)
    assert torch.equal(rows.find(ids, 2, 8), values[2:8]) and torch.equal(rows.find(ids, 4, 8), values[4:8])
    assert rows.find([9, *ids[1:]], 2, 8) is None
    rows.keep([*ids[:4], 7, 7, 7, 7, 8, 8, 8, 8], values[:8])  # the rows of what follows a cached block
    assert rows.find([*ids[:4], 7, 7, 7, 7], 4, 8) is not None
    assert rows.find(ids, 0, 8) is None  # the least recently used is gone
