"""Adaptive branching Monte Carlo tree search: Thompson sampling between going wider and going deeper."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from search.errors import ConfigError
from search.posterior import Gaussian, Posterior
from search.session import Session, gather
from search.tree import Node

K = TypeVar("K", bound=Hashable)
REFINE = "Check your answer. If there is a mistake, solve the problem again and give a better answer."


@dataclass
class _Beliefs:
    """What a run knows, by (node, "gen" or "cont", group), (node, "own"), (node, "act", action) and (action,).

    A group is "" for all actions together, or the name of one.
    """

    prior: Posterior
    of: dict[Hashable, Posterior] = field(default_factory=dict)
    children: dict[tuple[Node, str], list[Node]] = field(default_factory=lambda: defaultdict(list))
    made: dict[Node, tuple[Node, str]] = field(default_factory=dict)  # parent and action of each node

    def __getitem__(self, key: Hashable) -> Posterior:
        return self.of.get(key, self.prior)

    def add(self, reward: float, *keys: Hashable) -> None:
        for key in keys:
            self.of[key] = self[key].after((reward,))


@dataclass(frozen=True)
class ABMCTS:
    """At each node draws how good a new child would be and how good the children it has are, and does what is better.

    AB-MCTS-A (Inoue et al. 2025, arXiv:2503.04412, node aggregation). From the root down: a draw from the
    posterior of GEN (rewards of the new children of this node) against one from CONT (rewards of all that grew below
    its children); if GEN wins a child is generated here, otherwise the child with the best draw from its own posterior
    is gone to. A reward r is added to GEN of the parent, to the new child's own posterior, and to CONT and the child's
    posterior on each edge above the parent. A node without children to go to is always widened.

    Nodes are steps (`nodes="steps"`): a child is one more step, and what is complete cannot be gone to. In the paper
    they are whole answers (`nodes="answers"`): a child of the root is a fresh answer, a child of an answer a better one
    asked for by a turn of the user. With several `actions` (policies by role) the one that generates is chosen by
    Thompson sampling over all rewards that each has had so far (`choose="bandit"`), or by the rewards below the node
    that its children had ("stack"; then GEN, CONT and the children it may go to are those of the action alone).

    Ours: a step drawn again is nothing new, a reward of 0 for GEN and none elsewhere, or a policy that is sure of its
    step would have it drawn for ever; an answer drawn again counts as in the paper, but is one node. If steps end
    without an answer, the best open path is completed. In a wave (`parallel`) all choose before any reward is known.

    Attributes:
        generations: nodes generated, at least 1 (the paper's budget).
        nodes: "steps" or "answers".
        posterior: prior of every reward; `posterior.Gaussian` or `posterior.Beta`.
        actions: who may generate: "policy" or names of roles; at least one.
        choose: "bandit" or "stack".
        refine: what the user says after an answer.
        parallel: nodes generated at once, at least 1.
        depth: nodes with so many steps, or answers after so many refinements, are not gone to.
    """

    generations: int = 64
    nodes: Literal["steps", "answers"] = "steps"
    posterior: Posterior = Gaussian()
    actions: tuple[str, ...] = ("policy",)
    choose: Literal["bandit", "stack"] = "bandit"
    refine: str = REFINE
    parallel: int = 1
    depth: int = 40

    def __post_init__(self) -> None:
        object.__setattr__(self, "actions", tuple(self.actions))
        for name in ("generations", "parallel", "depth"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        if self.nodes not in ("steps", "answers"):
            raise ConfigError("nodes", self.nodes, 'give "steps" or "answers"')
        if self.choose not in ("bandit", "stack"):
            raise ConfigError("choose", self.choose, 'give "bandit" or "stack"')
        if not self.actions or len(set(self.actions)) < len(self.actions):
            raise ConfigError("actions", self.actions, 'give different roles, "policy" for the policy itself')

    @property
    def whole(self) -> bool:
        """Answers refined by turns are complete."""
        return self.nodes == "answers"

    @property
    def needs(self) -> tuple[str, ...]:
        """A verifier, the roles that act, and a policy that takes a user's turn if answers are refined."""
        roles = tuple(f"roles.{action}" for action in self.actions if action != "policy")
        return ("verifier", *roles, *(("writes",) if self.nodes == "answers" else ()))

    async def __call__(self, s: Session) -> Node | None:
        known = _Beliefs(self.posterior)
        for start in range(0, self.generations, self.parallel):
            wave = [self.select(s, known) for _ in range(min(self.parallel, self.generations - start))]
            new = await gather(self.generate(s, node, action) for node, action in wave)
            await s.score([child for child in new if child.complete or not child.terminal])
            for (node, action), child in zip(wave, new, strict=True):
                reward = child.score if child.complete or not child.terminal else 0.0
                self.learn(known, node, action, child, reward)
                s.backup(child.path(), reward)
        if (best := self.nominate(s)) is not None:
            return best
        open_ = [node for node in s.tree if node.scored and not node.terminal]
        if not open_:
            return None
        leaf = await s.complete(max(open_, key=lambda node: node.score))
        return leaf if leaf.complete else None

    def select(self, s: Session, known: _Beliefs) -> tuple[Node, str]:
        """The node to widen, and who does it."""
        node = s.root
        while True:
            group = ""
            if self.choose == "stack":
                group = self.thompson(s, {action: known[node, "act", action] for action in self.actions})
            children = known.children[node, group]
            arms = {kind: known[node, kind, group] for kind in ("gen", "cont")}
            if not children or self.thompson(s, arms) == "gen":
                return node, group or self.thompson(s, {action: known[action,] for action in self.actions})
            node = self.thompson(s, {child: known[child, "own"] for child in children})

    def thompson(self, s: Session, arms: Mapping[K, Posterior]) -> K:
        """The arm of the largest draw; of one arm, it, without a draw."""
        if len(arms) == 1:
            return next(iter(arms))
        draws = {arm: posterior.draw(s.rng) for arm, posterior in arms.items()}
        return max(draws, key=draws.__getitem__)

    async def generate(self, s: Session, node: Node, action: str) -> Node:
        """A new child of `node`: a step, a first answer, or a better one."""
        if self.nodes == "steps":
            (child,) = await s.expand(node, 1, by=action)
            return child
        return await s.complete(node if node is s.root else s.extend(node, self.refine, by="user"), by=action)

    def learn(self, known: _Beliefs, parent: Node, action: str, child: Node, reward: float) -> None:
        """Adds the reward of a child where it counts: at its parent, and on the way up."""
        new = child not in known.made
        if not new and self.nodes == "steps":
            return known.add(0.0, (parent, "gen", self.group(action)))
        known.add(reward, (parent, "gen", self.group(action)), (parent, "act", action), (action,))
        if new:
            known.made[child] = parent, action
            known.add(reward, (child, "own"))
            if self.may_go_to(child):
                known.children[parent, self.group(action)].append(child)
        while parent in known.made:
            above, by = known.made[parent]
            known.add(reward, (parent, "own"), (above, "cont", self.group(by)), (above, "act", by))
            parent = above

    def group(self, action: str) -> str:
        return action if self.choose == "stack" else ""

    def may_go_to(self, node: Node) -> bool:
        if self.nodes == "steps":
            return not node.terminal and node.depth < self.depth
        return node.complete and (node.depth - 1) // 2 < self.depth  # an answer, and a turn before each better one

    def nominate(self, s: Session) -> Node | None:
        """The answer of highest score; also when the budget ends."""
        return max((n for n in s.tree.answers() if n.scored), key=lambda node: node.score, default=None)
