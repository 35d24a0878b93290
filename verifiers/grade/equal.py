"""Mathematical equality of two answers, by the math-verify library and repairs for what it misreads.

Runs inside a process of `verifiers.grade.pool`: nothing here limits time or memory, and the library is told not to
(its own limits are alarms of wall time, whole seconds, main thread only, and end in a silent False).
"""

from __future__ import annotations

from typing import Any

from latex2sympy2_extended.antlr_parser import PSParser
from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
from math_verify import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig, parse, verify
from sympy import Basic, I, MatrixBase

from verifiers.grade.families import same_families
from verifiers.grade.forms import quick, words
from verifiers.grade.repairs import IMAGINARY, REPAIRS, alone, components, elements
from verifiers.grade.units import without_unit

if not hasattr(PSParser.AtomContext, "FUNC_GAMMA"):
    # The grammar generated for antlr 4.9 (the one hydra-core needs) lacks this rule. The converter asks for it before
    # it looks for percent numbers, so that without this line every `8\%` fails to parse.
    PSParser.AtomContext.FUNC_GAMMA = lambda self: None

KINDS = {"latex": LatexExtractionConfig, "expr": ExprExtractionConfig, "string": StringExtractionConfig}
# The library's own removal of units takes the letters of `2t`, `2s` and `x^2 t` for units; ours does not.
BARE = (
    LatexExtractionConfig(normalization_config=NormalizationConfig(True, False, True, True, "all")),
    ExprExtractionConfig(),
)
DEEPEST = 3  # levels of tuples inside tuples that are compared element by element


def warm() -> None:
    """Pay for imports, the parser's tables and first caches before any answer is timed."""
    for gold, other in (
        (r"\frac{1}{2}x+\sqrt{2}", r"\sqrt{2}+\frac{x}{2}"),
        (r"[1, 2)\cup(3,\infty)", r"1 \le x < 2"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"(1, \frac{\pi}{3})"),
    ):
        judge(gold, other, {})


def read(answer: str) -> list[Any]:
    """What the library reads in an answer: expressions first, then the text itself; [] for nothing."""
    result: list[Any] = parse(f"\\boxed{{{without_unit(answer)}}}", BARE, parsing_timeout=None)
    return result


def expression(answer: str) -> Any:
    """The first expression the library reads in an answer, or None."""
    return next((item for item in read(answer) if isinstance(item, (Basic, MatrixBase))), None)


def agree(gold: list[Any], other: list[Any], options: dict[str, Any]) -> bool:
    """The library's verdict on what it has read; not symmetric."""
    return bool(
        verify(
            gold,
            other,
            float_rounding=options.get("precision", 6),
            strict=options.get("strict", True),
            allow_set_relation_comp=options.get("relations", True),
            timeout_seconds=None,
        )
    )


def same_complex(gold: str, other: str, options: dict[str, Any]) -> bool:
    """Whether two answers agree once `i` is the imaginary unit; the library keeps it as a symbol without i^2 = -1."""
    if not (IMAGINARY.search(gold) or IMAGINARY.search(other)):
        return False
    found = [expression(alone(answer)) for answer in (gold, other)]
    if None in found:
        return False
    one, two = (item.subs({s: I for s in item.free_symbols if s.name == "i"}) for item in found)
    return agree([one], [two], options)


def judge(gold: str, other: str, options: dict[str, Any], depth: int = 0) -> str:
    """Compare two tidy answers: "right", "wrong", or "unparsable" where either cannot be read.

    Options: precision (decimals, 6), strict (variables matter, True), relations (an interval may equal an inequality,
    True), symmetric (right if right in either direction, False).
    """
    known = quick(gold, other, options.get("precision", 6))
    if known is not None:
        return "right" if known else "wrong"
    gold, other = components(gold, other)
    one, two = read(gold), read(other)
    if agree(one, two, options) or (options.get("symmetric") and agree(two, one, options)):
        return "right"
    for repair in REPAIRS:
        for spelled, spelled_too in repair(gold, other):
            if agree(read(spelled), read(spelled_too), options):
                return "right"
    if same_complex(gold, other, options) or same_families(gold, other, expression):
        return "right"
    pairs = elements(gold, other) if depth < DEEPEST else None
    if pairs and all(judge(a, b, options, depth + 1) == "right" for a, b in pairs):
        return "right"
    return "wrong" if _readable(one, gold) and _readable(two, other) else "unparsable"


def _readable(found: list[Any], answer: str) -> bool:
    return words(answer) is not None or any(isinstance(item, (Basic, MatrixBase)) for item in found)


def judge_texts(gold: str, text: str, options: dict[str, Any]) -> str:
    """Compare whole texts by the library's own extraction.

    Options: as `judge`, and kinds, what to look for: "latex", "expr", "string".
    """
    kinds = [KINDS[kind]() for kind in options.get("kinds", ("latex", "expr"))]
    one, two = (parse(whole, kinds, parsing_timeout=None) for whole in (gold, text))
    if agree(one, two, options):
        return "right"
    return "wrong" if one and two else "unparsable"
