"""The training loop: Muon for matrices, AdamW for the rest, checkpoints to resume from, a curve to look at."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from experiments.train.model import Model, Shape
from experiments.train.rows import Batch, Row, collate

RowMaker = Callable[[random.Random], Row]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        tokens: positions to train on, as many as fit in full batches, before the run ends.
        batch: positions per step, about.
        muon, adam: peak learning rates.
        warm_up: steps of linear warm-up.
        decay: last share of `tokens` over which the rate falls linearly to a fiftieth; 0 keeps it flat.
        score_weight: of the verifier's loss beside the language model's; step ends count `step_weight` times.
    """

    tokens: int
    batch: int = 2048
    muon: float = 0.02
    adam: float = 3e-3
    warm_up: int = 50
    decay: float = 0.6
    score_weight: float = 1.0
    step_weight: float = 4.0

    def rate(self, step: int, seen: int) -> float:
        """The factor on both peak rates."""
        left = (self.tokens - seen) / self.tokens
        fall = min(1.0, left / self.decay) if self.decay else 1.0
        return max(0.02, fall) * min(1.0, (step + 1) / self.warm_up)


class Batches:
    """Endless batches of rows of like length, about `size` positions each; where it is can be saved and taken up."""

    def __init__(self, make: RowMaker, size: int, seed: str, rows: int = 384):
        self.make, self.size, self.seed, self.rows = make, size, seed, rows
        self.pool, self.taken = 0, 0  # which pool of rows, and how many of its batches are gone

    def __iter__(self) -> Iterator[list[Row]]:
        while True:
            for batch in self.cut()[self.taken :]:
                self.taken += 1
                yield batch
            self.pool, self.taken = self.pool + 1, 0

    def cut(self) -> list[list[Row]]:
        """The batches of the present pool; what remains of the longest rows is dropped, it is not a full batch."""
        rng = random.Random(f"{self.seed} {self.pool}")
        cut: list[list[Row]] = []
        some: list[Row] = []
        for row in sorted((self.make(rng) for _ in range(self.rows)), key=len):
            if some and (len(some) + 1) * len(row) > self.size:
                cut.append(some)
                some = []
            some.append(row)
        rng.shuffle(cut)
        return cut


def losses(model: Model, batch: Batch, ends: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy (nats) of the language model over what it learns, and of the verifier over what it is told."""
    hidden = model.hidden(batch.tokens, batch.position, batch.visible)
    rows, at = batch.learn[:, 1:].nonzero(as_tuple=True)
    language = F.cross_entropy(model.logits(hidden[rows, at]).float(), batch.tokens[rows, at + 1], reduction="sum")
    language = language / max(len(rows), 1)  # a batch may hold nothing to learn
    if not model.shape.score_head:
        return language, language.new_zeros(())
    rows, at = (batch.label >= 0).nonzero(as_tuple=True)
    weight = 1 + (schedule.step_weight - 1) * torch.isin(batch.tokens[rows, at], ends)
    each = F.cross_entropy(model.scores(hidden[rows, at]).float(), batch.label[rows, at], reduction="none")
    return language, (each * weight).sum() / weight.sum()


class Trainer:
    """One model, its optimizers and its place in the schedule; `save` and `load` are exact."""

    def __init__(
        self, shape: Shape, schedule: Schedule, make: RowMaker, out: Path, *,
        ends: list[int], seed: int = 0, device: str = "cpu",
    ):  # fmt: skip
        torch.manual_seed(seed)
        self.schedule, self.out, self.device = schedule, out, torch.device(device)
        self.model, self.ends = Model(shape).to(device), torch.tensor(ends, device=device)
        self.step, self.seen, self.seconds = 0, 0, 0.0
        self.rank: int = dist.get_rank() if dist.is_initialized() else 0
        self.workers: int = dist.get_world_size() if dist.is_initialized() else 1
        self.batches = Batches(make, schedule.batch, f"{seed} {self.rank}")
        named = dict(self.model.named_parameters())
        matrices = [p for n, p in named.items() if p.dim() == 2 and "embed" not in n and "score.2" not in n]
        others = [p for p in named.values() if all(p is not m for m in matrices)]
        self.optimizers = [
            torch.optim.Muon(matrices, lr=schedule.muon, momentum=0.95, weight_decay=0.01, adjust_lr_fn="original"),
            torch.optim.AdamW(others, lr=schedule.adam, betas=(0.9, 0.95), weight_decay=0.0),
        ]

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"

    def save(self) -> None:
        """Writes the checkpoint in one move, so that a kill leaves the old one or the new one."""
        self.out.mkdir(parents=True, exist_ok=True)
        state = {
            "shape": asdict(self.model.shape), "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "step": self.step, "seen": self.seen, "seconds": self.seconds,
            "batches": (self.batches.pool, self.batches.taken),
        }  # fmt: skip
        torch.save(state, part := self.checkpoint.with_suffix(".part"))
        part.replace(self.checkpoint)

    def load(self) -> None:
        """Takes up the checkpoint where it was left."""
        state = torch.load(self.checkpoint, map_location=self.device)
        self.model.load_state_dict(state["model"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.step, self.seen, self.seconds = state["step"], state["seen"], state["seconds"]
        self.batches.pool, self.batches.taken = state["batches"]

    def start_from(self, checkpoint: Path) -> None:
        """Starts from the weights of another model of the same width; layers and head that it lacks begin as identity.

        A fresh layer adds nothing to what passes through it until it has learnt to, so that nothing known is lost.
        """
        known = torch.load(checkpoint, map_location=self.device)["model"]
        for name, p in self.model.named_parameters():
            if name in known:
                p.data.copy_(known[name])
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                p.data.zero_()

    def run(self, *, every: int = 200) -> Model:
        """Trains to the end of the schedule; each `every` steps saves and adds a line to `curve.jsonl`."""
        self.out.mkdir(parents=True, exist_ok=True)
        mean = torch.zeros(2)
        started = time.perf_counter()
        for rows in self.batches:
            factor = self.schedule.rate(self.step, self.seen)
            for optimizer, peak in zip(self.optimizers, (self.schedule.muon, self.schedule.adam), strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = peak * factor
            batch = Batch(*(None if t is None else t.to(self.device) for t in collate(rows)))
            with torch.autocast(self.device.type, torch.bfloat16):
                language, score = losses(self.model, batch, self.ends, self.schedule)
            (language + self.schedule.score_weight * score).backward()
            self.average_gradients()
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            self.step, self.seen = self.step + 1, self.seen + self.workers * self.schedule.batch
            now = torch.tensor([language.item(), score.item()])
            mean = now if mean.sum() == 0 else 0.98 * mean + 0.02 * now
            done = self.seen >= self.schedule.tokens
            if done or self.step % every == 0:
                self.seconds += time.perf_counter() - started
                self.report(mean)
                started = time.perf_counter()
            if done:
                return self.model
        raise AssertionError("batches never end")

    def average_gradients(self) -> None:
        """Makes one step of all workers' batches; one message, since many small ones cost more than they carry."""
        if self.workers == 1:
            return
        parameters = list(self.model.parameters())
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        dist.all_reduce(flat)
        for p, g in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad = g.view_as(p) / self.workers

    def report(self, mean: Tensor) -> None:
        """Saves, and says where the run is; the first worker speaks for all."""
        if self.rank:
            return
        self.save()
        line = {
            "step": self.step, "tokens": self.seen, "seconds": round(self.seconds, 1),
            "language": round(mean[0].item(), 4), "score": round(mean[1].item(), 4),
        }  # fmt: skip
        with (self.out / "curve.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
