"""The tree of prefixes a search grows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from search.errors import ConfigError
from search.events import Added, Backed, Charged, Event, Noted, Pruned, Scored, Simulated, Started
from search.records import (
    cost_from_json,
    cost_to_json,
    number_from_json,
    number_to_json,
    segment_from_json,
    segment_to_json,
)
from search.types import Cost, Finish, Prefix, Segment

if TYPE_CHECKING:
    import networkx

VERSION = 1  # of the JSON form; raise it when a reader of the old form would misread the new one


class Node:
    """A prefix in the tree. Content is fixed at birth, the verdict written once; the rest belongs to the search.

    Attributes:
        id: order of insertion; the root is 0.
        parent: None for the root.
        segment: what this node adds to its parent; the prompt, for the root.
        prefix: the whole path, as the policy and the verifier see it.
        score: the verifier's value in [0, 1]; nan before it is asked.
        step_scores: values in [0, 1] the verifier gave to the steps of the path; () if it gives none.
        times: draws that gave this node; 0 for one that was not drawn (a token only listed, a text inserted), 1 for
            the root.
        draws: next steps drawn after this node; the number of the next such draw.
        completions: draws after this node to the end of sequence; the number of the next such draw.
        visits: values backed up through this node.
        total: their sum.
        pruned: whether the search gave this node up.
        notes: finite numbers an algorithm wants to show (f, g, h, advantage ...).
        cost: of drawing after this node and of judging it.
    """

    __slots__ = (
        "_child",
        "completions",
        "cost",
        "draws",
        "id",
        "notes",
        "parent",
        "prefix",
        "pruned",
        "score",
        "segment",
        "step_scores",
        "times",
        "total",
        "visits",
    )

    def __init__(self, id: int, parent: Node | None, segment: Segment, prefix: Prefix):
        self.id, self.parent, self.segment, self.prefix = id, parent, segment, prefix
        self._child: dict[bytes, Node] = {}  # by content, in order of insertion
        self.score: float = math.nan
        self.step_scores: tuple[float, ...] = ()
        self.times, self.draws, self.completions = 1, 0, 0
        self.visits, self.total = 0, 0.0
        self.pruned = False
        self.notes: dict[str, float] = {}
        self.cost = Cost()

    def __repr__(self) -> str:
        return f"Node({self.id}, {self.segment.text!r}, {self.segment.finish.value}, score={self.score:.3g})"

    @property
    def children(self) -> list[Node]:
        """Distinct continuations, in order of insertion."""
        return list(self._child.values())

    @property
    def terminal(self) -> bool:
        """Whether nothing may follow: the path is complete or dead. Never the root."""
        return self.parent is not None and self.segment.finish is not Finish.STEP

    @property
    def complete(self) -> bool:
        """Whether the path is an answer: ended by the model itself and not by a token limit."""
        return self.terminal and self.segment.finish is not Finish.LENGTH

    @property
    def scored(self) -> bool:
        return not math.isnan(self.score)

    @property
    def value(self) -> float:
        """Mean of the values backed up; 0 before the first."""
        return self.total / self.visits if self.visits else 0.0

    @property
    def depth(self) -> int:
        """Segments after the prompt."""
        return len(self.prefix.steps)

    def reserve(self, draws: int, whole: bool) -> int:
        """Counts `draws` more draws of a kind (`whole`: to the end of sequence); the number of the first."""
        if whole:
            self.completions += draws
            return self.completions - draws
        self.draws += draws
        return self.draws - draws

    def path(self) -> list[Node]:
        """Root first, this node last."""
        path: list[Node] = []
        node: Node | None = self
        while node is not None:
            path.append(node)
            node = node.parent
        return path[::-1]


class Tree:
    """Nodes in order of insertion. Nodes are never removed."""

    def __init__(self, prompt: Segment, question: str = ""):
        self.nodes = [Node(0, None, prompt, Prefix(prompt, question=question))]

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    @property
    def root(self) -> Node:
        return self.nodes[0]

    @property
    def cost(self) -> Cost:
        """Everything spent on this tree."""
        return sum((node.cost for node in self.nodes), Cost())

    @property
    def depth(self) -> int:
        """Of the deepest node."""
        return max(node.depth for node in self.nodes)

    def add(self, parent: Node, segment: Segment, draws: int = 1) -> Node:
        """The child of `parent` by `segment`, in constant time; the same segment again is one node counted twice.

        A node that is not drawn (`draws` = 0) counts nothing.
        """
        prefix = parent.prefix + segment
        content = prefix.digest + segment.finish.encode()  # tokens, text and author are in the digest
        if (known := parent._child.get(content)) is not None:
            known.times += draws
            return known
        node = Node(len(self.nodes), parent, segment, prefix)
        node.times = draws
        parent._child[content] = node
        self.nodes.append(node)
        return node

    def answers(self, *, truncated: bool = False) -> list[Node]:
        """The complete nodes, oldest first; `truncated` gives those cut by a token limit instead.

        An end of sequence that was listed among the likeliest tokens is an answer once a search has taken it.
        """
        return [node for node in self.nodes if node.terminal and node.times and node.complete is not truncated]

    def table(self) -> dict[str, np.ndarray]:
        """Columns with one row per node, for analysis.

        parent is -1 for the root; tokens and logprob (nats) are those of the node's own segment; each name used in
        `notes` has a column `notes.NAME`, nan where a node lacks it.
        """
        nodes = self.nodes
        columns = {
            "id": np.array([n.id for n in nodes]),
            "parent": np.array([-1 if n.parent is None else n.parent.id for n in nodes]),
            "depth": np.array([n.depth for n in nodes]),
            "finish": np.array([n.segment.finish.value for n in nodes]),
            "tokens": np.array([len(n.segment.tokens) for n in nodes]),
            "logprob": np.array([math.fsum(n.segment.logprobs) for n in nodes]),
            "score": np.array([n.score for n in nodes]),
            "times": np.array([n.times for n in nodes]),
            "draws": np.array([n.draws for n in nodes]),
            "visits": np.array([n.visits for n in nodes]),
            "value": np.array([n.value for n in nodes]),
            "pruned": np.array([n.pruned for n in nodes]),
        }
        for name in sorted({name for n in nodes for name in n.notes}):
            columns[f"notes.{name}"] = np.array([n.notes.get(name, math.nan) for n in nodes])
        return columns

    def to_json(self) -> dict[str, Any]:
        """The node-link form of networkx; `json.dumps(..., allow_nan=False)` takes it."""
        return {
            "directed": True,
            "multigraph": False,
            "graph": {"version": VERSION, "question": self.root.prefix.question},
            "nodes": [_node_to_json(node) for node in self.nodes],
            "edges": [{"source": node.parent.id, "target": node.id} for node in self.nodes if node.parent],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tree:
        """The tree `to_json` was called on. Raises ConfigError for a form of another version."""
        version = data["graph"].get("version")
        if version != VERSION:
            raise ConfigError("version", version, f"this reads trees of version {VERSION}")
        parents = {edge["target"]: edge["source"] for edge in data["edges"]}
        records = sorted(data["nodes"], key=lambda record: record["id"])
        tree = cls(segment_from_json(records[0]), data["graph"]["question"])
        for record in records:
            if (id := record["id"]) in parents:
                tree.add(tree.nodes[parents[id]], segment_from_json(record))
            _restore(tree.nodes[id], record)
        return tree

    def to_networkx(self) -> networkx.DiGraph:
        """A directed graph, edges from parent to child, with the attributes of `to_json`."""
        import networkx

        return networkx.node_link_graph(self.to_json(), edges="edges")

    @classmethod
    def from_networkx(cls, graph: networkx.DiGraph) -> Tree:
        """The tree `to_networkx` was called on."""
        import networkx

        return cls.from_json(networkx.node_link_data(graph, edges="edges"))

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> Tree:
        """The tree of the session that emitted `events`, from its first event on."""
        stream = iter(events)
        started = next(stream, None)
        if not isinstance(started, Started):
            raise ValueError("a stream of events begins with Started")
        tree = cls(started.prompt, started.question)
        for event in stream:
            tree._apply(event)
        return tree

    def _apply(self, event: Event) -> None:
        nodes = self.nodes
        match event:
            case Added(parent=parent, node=id, draws=draws, whole=whole, segment=segment):
                if segment is not None:
                    self.add(nodes[parent], segment, draws)
                else:
                    nodes[id].times += draws
                nodes[parent].reserve(draws, whole)
            case Scored(node=id, value=value, steps=steps):
                nodes[id].score, nodes[id].step_scores = value, steps
            case Simulated(node=id, segments=segments):
                nodes[id].reserve(len(segments), whole=True)
            case Backed(path=path, value=value):
                for id in path:
                    nodes[id].visits += 1
                    nodes[id].total += value
            case Noted(node=id, numbers=numbers):
                nodes[id].notes.update(numbers)
            case Pruned(node=id):
                nodes[id].pruned = True
            case Charged(node=id, cost=cost):
                nodes[id].cost += cost


_COUNTERS = ("times", "draws", "completions", "visits", "total", "pruned")


def _node_to_json(node: Node) -> dict[str, Any]:
    return {
        "id": node.id,
        **segment_to_json(node.segment),
        "score": number_to_json(node.score),
        "step_scores": list(node.step_scores),
        **{name: getattr(node, name) for name in _COUNTERS},
        "notes": {name: number_to_json(x) for name, x in node.notes.items()},
        "cost": cost_to_json(node.cost),
    }


def _restore(node: Node, record: Mapping[str, Any]) -> None:
    node.score = number_from_json(record["score"])
    node.step_scores = tuple(record["step_scores"])
    for name in _COUNTERS:
        setattr(node, name, record[name])
    node.notes = {name: number_from_json(x) for name, x in record["notes"].items()}
    node.cost = cost_from_json(record["cost"])
