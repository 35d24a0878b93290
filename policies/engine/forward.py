"""From a schedule to one packed forward: which tokens, at which positions, reading and writing which slots."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch

from policies.engine.attention import Group, Plan
from policies.engine.calls import Prefill, lines
from policies.engine.growth import Draft
from policies.engine.load import Model
from policies.engine.schedule import Scheduler

BLOCK = 64  # running rows that attend together


class Computed(NamedTuple):
    """Final hidden states [N, H]: first one per running row in order, then the prefills' chunks in order."""

    hidden: torch.Tensor
    running: int  # tokens of running rows: one each, or with a draft as many as it has nodes
    prefills: list[Prefill]  # in the order of their tokens; each brought `chunk`


def forward(model: Model, schedule: Scheduler, draft: Draft | None = None) -> Computed | None:
    """Compute the next token of every running row and the next chunks of prefills; None if there is nothing.

    A `draft` adds guesses of what follows the running rows' tokens.
    """
    chunks = schedule.chunks()
    # most prompts of a search are a path of which but the last token is known: those are laid out like running rows
    last = [job for job in chunks if job.like_a_row]
    # neighbours of like size share a group, so that little of it is padding
    jobs = sorted((job for job in chunks if not job.like_a_row), key=_bucket)
    if not chunks and not schedule.running:
        return None
    ids: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    write: list[np.ndarray] = []
    groups: list[Group] = []
    begun = 0
    device, dtype_index = model.device, np.int64
    rows: np.ndarray = np.empty(0, dtype_index)
    if draft is not None:
        begun = draft.lay(schedule, ids, positions, write, groups)
    elif schedule.running:
        rows, tokens, slots = schedule.feed()
        ids.append(tokens)
        write.append(slots)
        begun = len(rows)
    at = begun - len(rows)  # where the tokens of `rows` begin
    if last:
        own = lines([job.rows[0] for job in last])
        ids.append(np.fromiter((job.call.ids[-1] for job in last), dtype_index, len(last)))
        known = np.fromiter((job.cached == len(job.slots) for job in last), bool, len(last))
        write.append(np.where(known, 0, schedule.table[own, schedule.length[own] - 1]))
        rows = np.concatenate((rows, own))
    if len(rows):
        seen = schedule.length[rows] - 1
        positions.append(seen)
        # blocks of rows: what a block reads stays in the processor's cache between gathering and attending
        for begin in range(0, len(rows), BLOCK):
            block, ends = rows[begin : begin + BLOCK], seen[begin : begin + BLOCK]
            table = schedule.table[block, : int(ends.max()) + 1]
            where = np.arange(at, at + len(block))
            groups.append(_group(where, table, ends[:, None], at, device))
            at += len(block)
    for _, bucket in groupby(jobs, key=_bucket):
        some = list(bucket)
        new = max(job.chunk for job in some)
        span = max(job.done + job.chunk for job in some)
        table = np.zeros((len(some), span), dtype_index)
        where = np.empty((len(some), new), dtype_index)
        seen = np.empty((len(some), new), dtype_index)
        plain = at if all(job.chunk == new for job in some) else -1
        for i, job in enumerate(some):
            end = job.done + job.chunk
            table[i, :end] = job.slots[:end]
            place = np.arange(job.done, end)
            ids.append(np.array(job.call.ids[job.done : end], dtype_index))
            positions.append(place)
            write.append(np.where(place < job.cached, 0, job.slots[job.done : end]))
            step = np.minimum(np.arange(new), job.chunk - 1)
            where[i], seen[i] = at + step, job.done + step
            at += job.chunk
        groups.append(_group(where.ravel(), table, seen, plain, device))
    plan = Plan(schedule.kv.data, _tensor(np.concatenate(write), device), groups)
    hidden = model.backbone(
        input_ids=_tensor(np.concatenate(ids), device)[None],
        position_ids=_tensor(np.concatenate(positions), device)[None],
        use_cache=False,
        plan=plan,
    ).last_hidden_state[0]
    return Computed(hidden, begun, last + jobs)


def _bucket(job: Prefill) -> int:
    return job.chunk.bit_length()


def _tensor(array: np.ndarray, device: str) -> torch.Tensor:
    return torch.from_numpy(array).to(device)


def _group(where: np.ndarray, table: np.ndarray, seen: np.ndarray, plain: int, device: str) -> Group:
    shape = (*seen.shape, table.shape[1])
    flat = np.ascontiguousarray(table).ravel()
    return Group(_tensor(where, device), _tensor(flat, device), _tensor(seen, device), shape, plain)
