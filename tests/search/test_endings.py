"""Boxes and repetition."""

import pytest

from search.endings import boxed, repeats


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"so \boxed{3}", True),
        (r"so \boxed{\frac{1}{2}} it is", True),
        (r"so \boxed{\frac{1}{2}", False),
        (r"so \boxed{", False),
        (r"so {3} \boxed 3", False),
        (r"\boxed{{ and \boxed{4}", True),
        ("", False),
    ],
)
def test_a_box_is_complete_when_its_braces_are(text, found):
    assert boxed(text) is found


def test_repetition_is_a_window_that_comes_back():
    line = "The quick brown fox jumps over it"  # 33 characters
    assert repeats(line * 8) and not repeats(line * 7)
    assert repeats("a" * 39) and not repeats("a" * 38)  # eight windows of 32 that overlap
    assert repeats("abcabcabc", window=3, times=3) and not repeats("abcabcab", window=3, times=3)
    assert not repeats("")
