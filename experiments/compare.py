"""Every search at one limit of generated tokens: `python -m experiments.compare data=DIR`.

For each search of `SETTINGS` and each task of `TASKS` it makes a run folder under `out` (resumed where it exists, so
the command may be stopped and repeated, and shared by several processes: `share=0/2` and `share=1/2`), then prints a
table: accuracy of each, and its paired difference from best-of-N on the same items and seeds, with 95 % intervals.

    python -m experiments.compare data=DIR budget=1024 search=beam,astar
    python -m experiments.compare report
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from experiments.commandline import CONF
from experiments.job import solve
from experiments.report import compare, percent, summarise, table
from experiments.rows import Row, read_rows
from search.errors import ConfigError

BASE = "best_of_n"  # what every search is held against

# what each search needs to be able to spend the limit, where its defaults would end before
SETTINGS: dict[str, tuple[str, ...]] = {
    # completions of the prompt
    "greedy": (),
    "majority": ("search.n=256", "search.parallel=8"),
    "best_of_n": ("search.n=256", "search.parallel=8"),
    "weighted": ("search.n=256", "search.parallel=8"),
    "mbr": ("search.n=256", "search.parallel=8"),
    "first_finish": ("search.n=16",),
    "adaptive_best_of_k": ("search.price.average=26", "search.most=256", "search.parallel=8"),
    "refine": ("search.drafts=12", "search.rounds=8", "search.width=4"),
    "explore_execute": ("search.plans=32", "search.executions=12"),
    # beams over steps
    "beam": (),
    "dvts": (),
    "diverse_beam": (),
    "fetch": (),
    "tot": ("search.beams=4", "search.width=4", "search.depth=16"),
    "guided": ("search.depth=16", "search.temperature=0.1"),
    "phi": (),
    "predictive": (),
    "reward_guided": ("search.n=12",),
    # best-first and trees
    "astar": ("search.expansions=24", "search.revisit=0.15"),
    "litesearch": ("search.theta=0.95", "search.answers=16", "search.chance=0.999"),
    "mcts": ("search.simulations=300", "search.widening=0.5"),
    "rest_mcts": ("search.simulations=300", "search.width=8", "search.gate=null"),
    "sc_mcts": ("search.simulations=300", "search.widening=0.5"),
    "vm_mcts": ("search.iterations=300",),
    "ab_mcts": ("search.generations=256",),
    "fetch_mcts": (),
    # particles and segments
    "particles": ("search.particles=16",),
    "particle_gibbs": ("search.particles=8", "search.iterations=16"),
    "rebase": (),
    "treepo": ("search.width=48", "search.segment=8", "search.depth=24", "search.first=null"),
    # over tokens
    "patience_beam": ("search.beams=16",),
    "best_first_beam": ("search.beams=16",),
    "diverse_token_beam": ("search.beams=16", "search.groups=4", "search.choose=verifier"),
    "stochastic_beam": ("search.beams=20",),
    "lattice": ("search.calls=1024", "search.parallel=4", "search.choose=verifier"),
    "token_mcts": ("search.parallel=4",),
    "kcts": ("search.simulations=16", "search.parallel=4"),
}
# 70 held-out problems of two families, and ranks 932 to 1001 of the public list of the game of 24
TASKS: dict[str, tuple[str, ...]] = {
    "arithmetic": ("task=arithmetic", "limit=70"),
    "countdown": ("task=countdown", "limit=70"),
    "game24": ("task=game24", "offset=931", "limit=70"),
}
SEEDS = (0, 1, 2)
UNSAMPLED = {"greedy", "patience_beam", "best_first_beam", "diverse_token_beam", "lattice", "token_mcts", "kcts"}
OPTIONS = {"out": "runs/compare", "budget": "1024", "data": "", "share": "0/1", "search": "", "task": ""}


def settings(overrides: Sequence[str]) -> DictConfig:
    """The configuration of one run, as the command line would make it."""
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        composed = compose("config", overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(composed)
    with open_dict(composed):
        del composed["hydra"]
    return composed


def overrides(search: str, task: str, budget: str, data: str, folder: Path) -> list[str]:
    """The command line of one run."""
    seeds = [SEEDS[0]] if search in UNSAMPLED else list(SEEDS)  # what draws nothing is the same under every seed
    given = [f"search={search}", *SETTINGS.get(search, ()), *TASKS[task], f"seed={seeds}", "trace=none"]
    limits = [f"budget.generated={budget}", "budget.strict=true", "steps.max_whole=96", "concurrency=32"]
    return [*given, *limits, f"out={folder}", *([f"data={data}"] if data else [])]


def run_all(options: dict[str, str]) -> None:
    """The runs of this process's share that are not complete yet."""
    part, parts = map(int, options["share"].split("/"))
    searches = options["search"].split(",") if options["search"] else list(SETTINGS)
    tasks = options["task"].split(",") if options["task"] else list(TASKS)
    wanted = [(search, task) for search in searches for task in tasks]
    for search, task in wanted[part::parts]:
        folder = Path(options["out"]) / f"{task}-{search}"
        command = overrides(search, task, options["budget"], options["data"], folder)
        solve(settings(command), command)


def report(out: Path) -> str:
    """The table over the run folders in `out`; wall is seconds per item with 32 items in work at once."""
    runs: dict[str, dict[str, list[Row]]] = {}
    for folder in sorted(out.iterdir()):
        task, _, search = folder.name.partition("-")
        runs.setdefault(search, {})[task] = read_rows(folder, "run")
    tasks = sorted({task for found in runs.values() for task in found})
    whole = {search: [row for task in tasks for row in found.get(task, [])] for search, found in runs.items()}
    lines = []
    for search in sorted(runs, key=lambda name: -fmean(bool(row.correct) for row in whole[name])):
        s, pair = summarise(search, whole[search]), compare(BASE, whole.get(BASE, []), search, whole[search])
        each = (summarise(search, runs[search][t]).accuracy.mean if t in runs[search] else None for t in tasks)
        cells = ["-" if accuracy is None else f"{100 * accuracy:.1f}" for accuracy in each]
        gain = percent(pair.accuracy, True) if pair and search != BASE else "-"
        spent = [f"{s.generated:,.0f}", f"{s.passes:,.1f}", f"{s.wall:.2f}"]
        lines.append([search, *cells, percent(s.accuracy), gain, *spent])
    head = ["search", *tasks, "all % [95 %]", f"points over {BASE} [95 %]", "tokens", "passes", "wall s"]
    return table(head, lines, text_columns=1)


def main(arguments: Sequence[str]) -> int:
    """Runs what is missing and prints the table; `report` alone prints it. The exit status: 2 for a wrong setting."""
    options = dict(OPTIONS)
    try:
        for name, _, value in (argument.partition("=") for argument in arguments if argument != "report"):
            if name not in options:
                raise ConfigError(name, value, f"choose from {', '.join(options)}, or `report`")
            options[name] = value
        if "report" not in arguments:
            run_all(options)
        sys.stdout.write(report(Path(options["out"])) + "\n")
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
