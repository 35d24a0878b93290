"""Fits how the verifier weighs its score head and its regret: `python -m experiments.train.calibrate --samples FILE`.

Two logistic regressions of the exact labels at the ends of lines on what the shipped folder reads there: of lines that
more follows, and of those that end an answer; see `verifiers.prm.Calibration`. The samples are of training problems.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from experiments.train.judge import judged
from experiments.train.model import Model, Shape
from experiments.train.rows import SEPARATOR, Row, collate, encode
from experiments.train.samples import known, problem
from experiments.train.tokenizer import ASSISTANT, END
from verifiers.prm import Calibration, Ending


def shipped(folder: Path) -> Model:
    """The verifier in `folder`, as the trainer knows it."""
    c = json.loads((folder / "config.json").read_text())
    shape = Shape(c["hidden_size"], c["num_hidden_layers"], c["intermediate_size"], c["vocab_size"], score_head=True)
    model = Model(shape)
    model.load_state_dict({name: w.float() for name, w in load_file(folder / "model.safetensors").items()})
    return model


@torch.no_grad()
def features(model: Model, rows: list[Row]) -> tuple[Tensor, Tensor, Tensor]:
    """At each labelled line end: logit, regret so far, regret before the line, its log-probability and 1 (n, 5);
    the label (n); and whether the answer ends there (n)."""
    ends = torch.tensor([END, *encode(SEPARATOR)])
    found, labels, last = [], [], []
    rows = sorted(rows, key=len)
    for i in range(0, len(rows), 64):
        batch = collate(rows[i : i + 64])
        hidden = model.hidden(batch.tokens)
        score, said = model.scores(hidden), batch.tokens[:, 1:, None]
        logits = model.logits(hidden[:, :-1])
        answer = (batch.tokens == ASSISTANT).cumsum(-1)[:, :-1]
        written = logits.gather(-1, said)[..., 0]
        regret = F.pad(((written - logits.amax(-1)) * answer).cumsum(-1), (1, 0))
        surprise = F.pad(((written - logits.logsumexp(-1)) * answer).cumsum(-1), (1, 0))
        line_end = torch.isin(batch.tokens, ends)
        # where the line before ended: the latest line end left of here, or the prompt's end, where both sums are 0
        place = torch.where(line_end, torch.arange(line_end.shape[1]), 0).cummax(-1).values
        before = F.pad(place[:, :-1], (1, 0))
        at = line_end & (batch.label >= 0)
        logit, ones = score[..., 1] - score[..., 0], torch.ones_like(regret)
        line = (regret, regret.gather(1, before), surprise - surprise.gather(1, before))
        found.append(torch.stack((logit, *line, ones), -1)[at])
        labels.append(batch.label[at])
        last.append(batch.tokens[at] == END)
    return torch.cat(found), torch.cat(labels), torch.cat(last)


def calibrated(x: Tensor, label: Tensor, last: Tensor) -> Calibration:
    """Both regressions, on what `features` gives."""
    score, regret, bias = fit(x[~last][:, [0, 1, 4]], label[~last])
    return Calibration(score, regret, bias, Ending(*fit(x[last][:, [0, 2, 3, 4]], label[last])))


def fit(x: Tensor, label: Tensor) -> list[float]:
    """The weights of the logistic regression of `label` (n) on `x` (n, k) of least loss."""
    weight = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(x.double() @ weight, label.double())
        value.backward()
        return value

    optimizer.step(loss)
    return [round(w, 4) for w in weight.tolist()]


def main() -> None:
    """Reads the command line, fits, and writes calibration.json into the model's folder."""
    parser = argparse.ArgumentParser(prog="experiments.train.calibrate", description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("models/prm"))
    parser.add_argument("--count", type=int, default=8000, help="samples used")
    o = parser.parse_args()
    lines = random.Random(0).sample(o.samples.read_text().splitlines(), o.count)
    records = [r for r in map(json.loads, lines) if known(r["text"])]
    rows = [judged(problem(r), r["text"], ended=r["ended"]) for r in records]
    calibration = calibrated(*features(shipped(o.model), rows))
    (o.model / "calibration.json").write_text(json.dumps(asdict(calibration)) + "\n")
    print(calibration)


if __name__ == "__main__":
    main()
