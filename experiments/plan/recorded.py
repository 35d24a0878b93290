"""What a finished run asked: the scripts of its problems, and the rates of its models, read off its traces.

A trace names what was charged in the order of the calls, not which calls were made at once. So a wave is taken to last
until a request needs what the wave itself gave, or the other model is asked: exact for searches that go by waves, too
wide for those that draw from one node again and again. `seconds` in a charge is model time (the embedded engine's
forwards, shared out by tokens), so a rate is of the run's own batches: at least what fuller ones would give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.plan.demand import demands
from experiments.plan.host import Host
from experiments.plan.paced import Paced
from experiments.plan.script import Ask, Phase, Script
from experiments.plan.station import Station
from experiments.rows import read_rows
from experiments.store import read_run
from experiments.trace import read_events
from search.errors import ConfigError
from search.events import Added, Charged, Event, Simulated, Started
from search.types import Cost


@dataclass
class Recorded:
    """A run.

    Attributes:
        policy, verifier: what their calls cost together.
        seconds: of wall time, per problem.
        paced: what its processes took; None where its models do not tell.
    """

    scripts: list[Script] = field(default_factory=list)
    policy: Cost = Cost()
    verifier: Cost = Cost()
    seconds: list[float] = field(default_factory=list)
    paced: Paced | None = None

    @property
    def rate(self) -> float | None:
        """Tokens per second of the policy, prompts' and drawn ones alike; None where it tells no time."""
        tokens = self.policy.generated + self.policy.prefilled
        return tokens / self.policy.seconds if self.policy.seconds else None

    @property
    def reading(self) -> float | None:
        """Tokens per second of the verifier."""
        return self.verifier.read / self.verifier.seconds if self.verifier.seconds else None

    def station(self, name: str, given: Mapping[str, Any], host: Host | None = None) -> Station:
        """As `Paced.station`, for the tokens of the scripts."""
        assert self.paced is not None
        if (demand := demands(self.scripts).get(name)) is None:
            return self.paced.station(name, given, host)
        asks = sum(len(phase.asks) for script in self.scripts for phase in script.phases)
        part = self.paced.requests / asks  # a run that was resumed tells of its latest start
        return self.paced.station(name, given, host, part * len(self.scripts) * demand.waves * demand.reads)

    @property
    def hits(self) -> float | None:
        """Share of the policy's prompt tokens found in a prefix cache; None for a policy that does not tell."""
        prompt = self.policy.reused + self.policy.prefilled
        return self.policy.reused / prompt if self.policy.reused else None


def recorded(folder: Path, setting: str = "run") -> Recorded:
    """Reads a run folder with traces (`trace=events`); raises ConfigError where there are none."""
    found = Recorded()
    for row in read_rows(folder, setting):
        if row.error is None and row.trace:
            _add(found, f"{row.item} {row.seed}".encode(), read_events(folder / row.trace))
            found.seconds.append(row.wall)
    if not found.scripts:
        raise ConfigError(setting, str(folder), "no row of it has a trace: run it with trace=events")
    if told := read_run(folder).get("pace"):
        found.paced = Paced.of(told)
    return found


def merged(runs: Sequence[Recorded]) -> Recorded:
    """Several as one."""
    found = Recorded()
    for run in runs:
        found.scripts += run.scripts
        found.policy += run.policy
        found.verifier += run.verifier
        found.seconds += run.seconds
    paced = [run.paced for run in runs if run.paced is not None]
    found.paced = Paced.merged(paced) if paced else None
    return found


def _add(found: Recorded, key: bytes, events: Sequence[Event]) -> None:
    parents, sizes = [-1], [0.0]
    phases: list[tuple[str, list[tuple[int, list[float], int]]]] = []
    begun = 0  # nodes that there were when the latest wave began
    for event in events:
        if isinstance(event, Started):
            sizes[0] = float(len(event.prompt.tokens))
        elif isinstance(event, Charged):
            cost, judged = event.cost, bool(event.cost.passes or event.cost.read)
            station = "verifier" if judged else "policy"
            if judged:
                found.verifier += cost
            else:
                found.policy += cost
            if not phases or phases[-1][0] != station or event.node >= begun:
                phases.append((station, []))
                begun = len(parents)
            phases[-1][1].append((event.node, [], 0 if judged else cost.generated))
        elif isinstance(event, Added):
            if event.node == len(parents):
                parents.append(event.parent)
                sizes.append(float(len(event.segment.tokens)) if event.segment else 0.0)
            if phases and phases[-1][0] == "policy":
                phases[-1][1][-1][1].extend([sizes[event.node]] * event.draws)
        elif isinstance(event, Simulated) and phases and phases[-1][0] == "policy":
            phases[-1][1][-1][1].extend(float(len(segment.tokens)) for segment in event.segments)
    whole = [Phase(station, tuple(Ask(n, _lengths(d, g)) for n, d, g in asks)) for station, asks in phases]
    if whole:
        found.scripts.append(Script(key, parents, sizes, whole))


def _lengths(lengths: Sequence[float], generated: int) -> tuple[float, ...]:
    """Tokens of each draw, which add up to what was charged (the end of a sequence is a token too)."""
    if not lengths:
        return (float(generated),) if generated else ()
    total = sum(lengths)
    return tuple(each * generated / total if total else generated / len(lengths) for each in lengths)
