"""The benchmark of speech: its word error rate is the edit distance of words, and its words have no times."""

from __future__ import annotations

import random

import pytest

from benchmarks.speech import SpeechResult, word_errors, words_of


@pytest.mark.parametrize(
    ("expected", "read", "errors"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "a x c", 1),
        ("a b c", "a c", 1),
        ("a b c", "a b b c", 1),
        ("a b c", "", 3),
        ("", "a b", 2),
        ("a b c d", "b c d a", 2),
        ("the boats left at noon", "two boats left the harbour at noon", 3),
    ],
)
def test_errors_are_the_least_edits(expected: str, read: str, errors: int) -> None:
    assert word_errors(expected.split(), read.split()) == errors


def test_errors_are_those_of_the_plain_algorithm() -> None:
    random.seed(1)
    for _ in range(50):
        a, b = (random.choices("abcd", k=random.randrange(12)) for _ in range(2))
        table = [[max(i, j) if not i * j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
        for i in range(1, len(a) + 1):
            for j in range(1, len(b) + 1):
                same = table[i - 1][j - 1] + (a[i - 1] != b[j - 1])
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, same)
        assert word_errors(a, b) == table[-1][-1]


def test_words_have_neither_times_nor_punctuation() -> None:
    assert words_of("[0:01] It's 24–10, said Ann.\n\n[1:02:03] Fine!") == ["it's", "24", "10", "said", "ann", "fine"]


def test_a_row_says_how_fast_it_was() -> None:
    assert SpeechResult("spoken", 0.125, 0.5, 1.0, 600.0, 60.0).row() == "| spoken | 12.5% | 50% | 100% | 10.0 |"
    assert SpeechResult("written", 0.0, 0.5, 1.0).row() == "| written | - | 50% | 100% | - |"
