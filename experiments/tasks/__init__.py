"""Tasks: sets of problems with their graders, named by `conf/task/*.yaml`."""

from experiments.item import Checks, Grade, Item, Task, cut
from experiments.tasks.code import MBPP, Codeforces, HumanEval, LiveCodeBench
from experiments.tasks.mathematics import GSM8K, Aime24, Aime25, Jsonl, Math500
from experiments.tasks.reference import Arithmetic, Countdown, Game24
from experiments.tasks.text2sql import Text2SQL

__all__ = [
    "GSM8K",
    "MBPP",
    "Aime24",
    "Aime25",
    "Arithmetic",
    "Checks",
    "Codeforces",
    "Countdown",
    "Game24",
    "Grade",
    "HumanEval",
    "Item",
    "Jsonl",
    "LiveCodeBench",
    "Math500",
    "Task",
    "Text2SQL",
    "cut",
]
