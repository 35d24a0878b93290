"""Training goes down, goes on where it stopped, and averages over workers."""

import json
import random
from dataclasses import replace

import torch

from experiments.train import traces
from experiments.train.model import Shape
from experiments.train.rows import Row, encode
from experiments.train.tokenizer import END
from experiments.train.trainer import Batches, Schedule, Trainer

TINY = Shape(hidden=64, layers=1, feed_forward=64, vocabulary=416, score_head=True)


def row(rng: random.Random) -> Row:
    return traces.facts(rng, 2)


def trainer(tmp_path, tokens):
    return Trainer(TINY, Schedule(tokens, batch=256, warm_up=5, decay=0), row, tmp_path, ends=[END, *encode("\n\n")])


def test_the_loss_goes_down_and_the_curve_says_so(tmp_path):
    trainer(tmp_path, 256 * 60).run(every=20)
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [line["step"] for line in curve] == [20, 40, 60]
    assert curve[-1]["language"] < curve[0]["language"]


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path):
    straight = trainer(tmp_path / "straight", 256 * 8)
    straight.run(every=4)
    stopped = trainer(tmp_path / "resumed", 256 * 8)
    stopped.schedule = replace(stopped.schedule, tokens=256 * 4)
    stopped.run(every=4)
    resumed = trainer(tmp_path / "resumed", 256 * 8)
    resumed.load()
    resumed.run(every=4)
    assert resumed.step == straight.step == 8
    for name, weight in straight.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_batches_are_a_pure_function_of_the_seed():
    one, two, other = (iter(Batches(row, 256, seed)) for seed in ("0 0", "0 0", "0 1"))
    first = [r.tokens for r in next(one)]
    assert first == [r.tokens for r in next(two)]
    assert first != [r.tokens for r in next(other)]


def test_the_schedule_warms_up_stays_and_falls():
    s = Schedule(1000, warm_up=10, decay=0.5)
    assert s.rate(0, 0) == 0.1 and s.rate(20, 400) == 1.0 and s.rate(20, 750) == 0.5 and s.rate(20, 1000) == 0.02
