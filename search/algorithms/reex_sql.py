"""Execution-aware decoding for SQL: intermediate queries are run on the way and their results written into the path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from search.errors import ConfigError
from search.session import Session, gather
from search.steps import Delimiter
from search.tree import Node


@dataclass(frozen=True)
class ReExSQL:
    """Thinks, runs a query, reads its result, thinks on; branches where queries have run.

    Tree-structured execution-aware decoding of ReEx-SQL (Dai et al. 2025, arXiv:2505.12768, section 3.4): the policy
    writes until it closes an intermediate query; the environment runs it and writes the result (its error, or its
    columns and first rows) into the path; the path goes on, until the policy ends it with its final query. All paths
    share what they have in common, new ones begin at the points of execution, and the final queries vote by what they
    give on the database.

    Where we decide what the paper leaves open: each path is continued `width` times at each point while there are
    places for leaves, the older paths first. Continuations of one path whose queries give the same are one path, the
    one drawn most often, of equals the first; the others are pruned. A vote weighs as often as its answer was drawn;
    answers without a query, or whose query fails, abstain unless all do. Of equal answers the first stands for all.

    Attributes:
        leaves: paths at most, complete ones included.
        width: continuations at each point of execution.
        rounds: executions on a path at most; after them it is completed at one go.
        query: tags around an intermediate query; a path stops behind the second.
        final: tags around the final query; without them the text behind the last result is the query.
        result: tags around what the environment writes.
        executor: role of the policy that answers a query with its result (`verifiers.database.Database`).
    """

    leaves: int = 8
    width: int = 2
    rounds: int = 6
    query: tuple[str, str] = ("<intermediate_sql>", "</intermediate_sql>")
    final: tuple[str, str] = ("<final_sql>", "</final_sql>")
    result: tuple[str, str] = ("<result>", "</result>")
    executor: str = "executor"

    def __post_init__(self) -> None:
        for name in ("leaves", "width", "rounds"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        for name in ("query", "final", "result"):
            value = tuple(getattr(self, name))
            if len(value) != 2 or not value[1]:
                raise ConfigError(name, value, "give two tags, the second of them not empty")
            object.__setattr__(self, name, value)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("writes", f"roles.{self.executor}")

    async def __call__(self, s: Session) -> Node | None:
        paths, done = [s.root], 0
        for _ in range(self.rounds):
            widths = self.places(len(paths), self.leaves - done)
            steps = await gather(
                s.expand(path, n, until=Delimiter((self.query[1],))) for path, n in zip(paths, widths, strict=True)
            )
            done += sum(child.complete for children in steps for child in children)
            stops = [[child for child in children if not child.terminal] for children in steps]
            results = await gather(self.run(s, self.asked(child)) for children in stops for child in children)
            given = iter(results)
            paths = [path for children in stops for path in self.go_on(s, children, [next(given) for _ in children])]
            if not paths or done >= self.leaves:
                break
        await gather(s.complete(path) for path in paths[: max(0, self.leaves - done)])
        return await self.agreed(s, s.tree.answers())

    def places(self, paths: int, free: int) -> list[int]:
        """Continuations of each path: at least one each, up to `width` while places are free."""
        spare = max(0, free - paths)
        widths = []
        for _ in range(paths):
            more = min(self.width - 1, spare)
            widths.append(1 + more)
            spare -= more
        return widths

    def go_on(self, s: Session, children: Sequence[Node], results: Sequence[str]) -> list[Node]:
        """Writes the results behind the queries of one path's children; of those with the same result one goes on."""
        first: dict[str, Node] = {}
        for child, result in zip(children, results, strict=True):
            if result not in first or child.times > first[result].times:
                first[result] = child
        for child in children:
            if child not in first.values():
                s.prune(child)
        return [s.extend(child, f"{self.result[0]}{result}{self.result[1]}") for result, child in first.items()]

    async def agreed(self, s: Session, answers: Sequence[Node]) -> Node | None:
        """The answer whose result most draws agree on."""
        results = await gather(self.run(s, self.answered(node), whole=True) for node in answers)
        votes: Counter[str] = Counter()
        for node, result in zip(answers, results, strict=True):
            votes[result] += node.times
        for failed in [result for result in votes if not result or result.startswith("error")]:
            if len(votes) > 1:
                del votes[failed]
        for node, result in zip(answers, results, strict=True):
            s.note(node, votes=votes[result])
        best = max(votes, key=lambda result: votes[result], default=None)
        return next((node for node, result in zip(answers, results, strict=True) if result == best), None)

    async def run(self, s: Session, sql: str, whole: bool = False) -> str:
        """What the environment answers to a query, "" for none; `whole`: one word for the whole of the result."""
        if not sql:
            return ""
        chat = [s.root.prefix.question, sql, *(["whole"] if whole else [])]
        (answer,) = await s.ask([{"role": "user", "content": content} for content in chat], by=self.executor)
        return answer.text

    def asked(self, node: Node) -> str:
        """The intermediate query that a step ends with."""
        text = node.segment.text.partition(self.query[1])[0]
        return (text.rpartition(self.query[0])[2] if self.query[0] else text).strip()

    def answered(self, node: Node) -> str:
        """The final query of a complete path."""
        text = node.prefix.text.rpartition(self.result[1])[2]
        if self.final[0] and self.final[0] in text:
            text = text.rpartition(self.final[0])[2]
        return text.partition(self.final[1])[0].strip()
