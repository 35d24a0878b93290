"""Which program a completion holds."""

import pytest

from verifiers.grade.code.extract import extract, same


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        ("print(1)", "print(1)"),
        ("```python\nprint(1)\n```", "print(1)"),
        ("First:\n```\na = 1\n```\nbetter:\n```py\nb = 2\n```\nDone.", "b = 2"),
        ("```python\nb = 2\n```\nIt prints\n```text\n2\n```", "b = 2"),
        ("```python\nfor i in x:\n    print(i)", "for i in x:\n    print(i)"),
        ("~~~python3\nx\n~~~", "x"),
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''"),
        ("```java\nclass A {}\n```", None),
        ("```python\n```", None),
        ("", None),
        ("  \n", None),
        ("x" * 300_000, None),
    ],
)
def test_extraction(completion, code):
    assert extract(completion) == code


def test_programs_that_are_the_same():
    assert same("x = (1 +  2)  # three") == same("x = 1 + 2")
    assert same("x = 1") != same("x = 2")
    assert same("x = = 1") == "x = = 1" and same("(" * 10_000)
