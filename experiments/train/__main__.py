"""Trains the reference models: `python -m experiments.train policy|draft|prm|samples|export`, see models/README.md.

Several workers: `torchrun --nproc-per-node 2 -m experiments.train prm ...`. A run that was stopped goes on where its
checkpoint is when the same command is given again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

import torch
import torch.distributed as dist

from experiments.train.export import export
from experiments.train.mixture import COURSES
from experiments.train.model import Model, Shape
from experiments.train.rows import SEPARATOR, encode
from experiments.train.samples import rows_of, spoken, write
from experiments.train.tokenizer import END, VOCABULARY
from experiments.train.trainer import RowMaker, Schedule, Trainer

SHAPES = {
    "policy": Shape(128, 4, 384, VOCABULARY),
    "draft": Shape(64, 2, 192, VOCABULARY),
    "prm": Shape(128, 7, 384, VOCABULARY, score_head=True),
}


def row_maker(what: str, course: str, samples: Path | None) -> RowMaker:
    """What a model is trained on; samples are a quarter of the verifier's rows, all of the draft's."""
    made = COURSES[course]
    if samples is None:
        return made
    if what == "draft":
        return spoken(samples)
    sampled = rows_of(samples)
    return lambda rng: sampled(rng) if rng.random() < 0.25 else made(rng)


def main() -> None:
    """Reads the command line and does what it asks."""
    parser = argparse.ArgumentParser(prog="experiments.train", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=[*SHAPES, "samples", "export"])
    parser.add_argument("--out", type=Path, required=True, help="folder; file of `samples`")
    parser.add_argument("--course", choices=list(COURSES), default="policy", help="what it is trained on")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the learning rates")
    parser.add_argument("--tokens", type=float, default=10e6, help="positions to train on")
    parser.add_argument("--decay", type=float, default=0.6, help="last share of them with a falling learning rate")
    parser.add_argument("--weights", type=Path, help="checkpoint whose weights to start from; what `export` writes out")
    parser.add_argument("--samples", type=Path, help="file of the policy's samples, for prm and draft")
    parser.add_argument("--model", help="folder of the policy that is sampled")
    parser.add_argument("--problems", type=int, default=6000, help="how many are sampled")
    parser.add_argument("--draws", type=int, default=8, help="samples of each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    o = parser.parse_args()
    if o.what == "samples":
        asyncio.run(write(o.model, o.out, o.problems, o.draws, o.seed))
        return
    if o.what == "export":
        state = torch.load(o.weights)
        model = Model(Shape(**state["shape"]))
        model.load_state_dict(state["model"])
        export(model, o.out)
        return
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
    torch.set_num_threads(1 if dist.is_initialized() else torch.get_num_threads())
    make = row_maker(o.what, o.course, o.samples)
    schedule = Schedule(int(o.tokens), muon=0.02 * o.rate, adam=3e-3 * o.rate, decay=o.decay)
    ends = [END, encode(SEPARATOR)[0]]
    trainer = Trainer(SHAPES[o.what], schedule, make, o.out, ends=ends, seed=o.seed, device=o.device)
    if trainer.checkpoint.exists():
        trainer.load()
    elif o.weights:
        trainer.start_from(o.weights)
    trainer.run()


if __name__ == "__main__":
    main()
