"""Explore, then execute: many short plans, few solutions (Explore-Execute Chain, 2025, arXiv:2509.23946)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np

from search.ballots import BALLOT, check_ballot, poll
from search.cluster import Embedding, average_linkage, cosine_distances, words
from search.draws import each_draw
from search.errors import ConfigError
from search.session import Session, gather
from search.tree import Node
from search.types import Boundary


@dataclass(frozen=True)
class ExploreExecute:
    """Draws K short plans, chooses m of them, and executes each at low temperature.

    Exploration is where the choices are and costs little; execution follows its plan, greedily, and costs much. A plan
    is the first `plan_steps` steps of an answer, or with `until` text up to that boundary. The plans are chosen as in
    the paper by "cluster" (meanings are clustered, the largest clusters come first, each is stood for by the plan
    nearest to all its others) or by a judge: "verifier" (highest score of the plan) or "vote" (a judging policy sees
    all plans side by side). Of several executions the selection chooses; one alone is the answer.

    The paper trains models to write <exploration> and <execution>. For others `lead` and `handover` say what is asked
    of them: text put into the answer before the plan ("Plan:") and between plan and execution. K = 1 is plan, then
    solve. Equal plans are one plan, executed once; a plan that answers already is its own execution; one cut by a token
    limit is dropped.

    Clusters are those of average linkage at cosine distance `apart` over TF-IDF; the paper takes sentence embeddings,
    which `embed` allows. A plan drawn more often weighs more in its cluster. Ties go to the plan seen first.

    Attributes:
        plans: K, plans drawn.
        executions: m, plans executed, at least 1.
        choose: "cluster", "verifier" or "vote". With clusters no more plans are executed than there are clusters.
        plan_steps: steps of a plan; 1 with `until`.
        until: boundary of a plan; None for that of the session's steps.
        plan_tokens: most tokens of a step of a plan; None for those of the session's steps.
        plan_temperature: above 0; None for that of the session.
        temperature: of executions, at least 0; None for that of the session.
        lead, handover: text before the plan and after it; "" for none.
        apart: cosine distance within which plans are one, in [0, 2].
        embed: vectors of texts.
        votes, voter, ballot: of "vote", as in tree of thoughts.
    """

    plans: int = 8
    executions: int = 1
    choose: Literal["cluster", "verifier", "vote"] = "cluster"
    plan_steps: int = 1
    until: Boundary | None = None
    plan_tokens: int | None = None
    plan_temperature: float | None = None
    temperature: float | None = 0.0
    lead: str = ""
    handover: str = ""
    apart: float = 0.3
    embed: Embedding = words
    votes: int = 5
    voter: str = "judge"
    ballot: str = BALLOT

    def __post_init__(self) -> None:
        for name in ("plans", "executions", "plan_steps", "plan_tokens", "votes"):
            if (count := getattr(self, name)) is not None and count < 1:
                raise ConfigError(name, count, "give a number of at least 1")
        if self.choose not in ("cluster", "verifier", "vote"):
            raise ConfigError("choose", self.choose, 'give "cluster", "verifier" or "vote"')
        if self.until is not None and self.plan_steps > 1:
            raise ConfigError("plan_steps", self.plan_steps, "a plan up to a boundary is one step: give 1")
        if self.plan_temperature is not None and not self.plan_temperature > 0:
            raise ConfigError("plan_temperature", self.plan_temperature, "give a number above 0, so that plans differ")
        if self.temperature is not None and not self.temperature >= 0:
            raise ConfigError("temperature", self.temperature, "give a number of at least 0")
        if not 0 <= self.apart <= 2:
            raise ConfigError("apart", self.apart, "give a number from 0 to 2")
        check_ballot("ballot", self.ballot)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the way of choosing and the prompts cannot do without."""
        judge = {"cluster": (), "verifier": ("verifier",), "vote": (f"roles.{self.voter}",)}[self.choose]
        writes = ("writes",) if self.lead or self.handover else ()
        return tuple(need for need in (*judge, *writes) if need != "roles.policy")

    async def __call__(self, s: Session) -> Node | None:
        plans = await self.explore(s)
        chosen = await self.best(s, plans) if plans else []
        for plan in plans:
            s.note(plan, chosen=float(plan in chosen))
            if plan not in chosen:
                s.prune(plan)
        ended = [plan for plan in chosen if plan.complete]
        ended += await gather(self.execute(s, plan) for plan in chosen if not plan.complete)
        return ended[0] if len(ended) == 1 and ended[0].complete else None

    async def explore(self, s: Session) -> list[Node]:
        """The distinct plans, with how often each was drawn in its notes."""
        start = s.extend(s.root, self.lead) if self.lead else s.root
        fields = {"until": self.until, "max_tokens": self.plan_tokens, "temperature": self.plan_temperature}
        how: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
        ends = list(chain.from_iterable(await each_draw(s, [start], self.plans, **how)))
        for _ in range(self.plan_steps - 1):
            grown = iter(await each_draw(s, [node for node in ends if not node.terminal], 1, **how))
            ends = [node if node.terminal else next(grown)[0] for node in ends]
        plans = [node for node in dict.fromkeys(ends) if node.complete or not node.terminal]
        for plan in plans:
            s.note(plan, drawn=ends.count(plan))
        return plans

    async def best(self, s: Session, plans: Sequence[Node]) -> list[Node]:
        """Up to `executions` of the plans, best first."""
        if self.choose == "verifier":
            await s.score(plans)
            ranked = sorted(plans, key=lambda plan: -plan.score)
        elif self.choose == "vote" and len(plans) > self.executions:
            found = await poll(s, [plan.prefix.text for plan in plans], self.votes, by=self.voter, ballot=self.ballot)
            ranked = [plans[i] for i in found.ranked()]
        elif self.choose == "vote":
            ranked = list(plans)
        else:
            ranked = self.centres(s, plans)
        return ranked[: self.executions]

    def centres(self, s: Session, plans: Sequence[Node]) -> list[Node]:
        """The central plan of each cluster, largest cluster first."""
        distances = cosine_distances(self.embed([plan.prefix.text for plan in plans]))
        drawn = np.array([plan.notes["drawn"] for plan in plans])
        labels = average_linkage(distances, self.apart)
        groups = [[i for i, label in enumerate(labels) if label == group] for group in range(max(labels) + 1)]
        for plan, label in zip(plans, labels, strict=True):
            s.note(plan, cluster=label)
        groups.sort(key=lambda group: -drawn[group].sum())
        return [plans[min(group, key=lambda i: float(distances[i, group] @ drawn[group]))] for group in groups]

    async def execute(self, s: Session, plan: Node) -> Node:
        """The plan carried out."""
        node = s.extend(plan, self.handover) if self.handover else plan
        return await (s.complete(node) if self.temperature is None else s.complete(node, temperature=self.temperature))
