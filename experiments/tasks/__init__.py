"""Tasks: sets of problems with their graders, named by `conf/task/*.yaml`."""

from experiments.item import Checks, Grade, Item, Task, cut
from experiments.tasks.mathematics import GSM8K, Aime24, Aime25, Jsonl, Math500
from experiments.tasks.reference import Arithmetic, Countdown, Game24

__all__ = [
    "GSM8K",
    "Aime24",
    "Aime25",
    "Arithmetic",
    "Checks",
    "Countdown",
    "Game24",
    "Grade",
    "Item",
    "Jsonl",
    "Math500",
    "Task",
    "cut",
]
