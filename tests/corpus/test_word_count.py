"""Counting words, in scripts with and without spaces."""

from __future__ import annotations

import pytest

from nearfield.corpus.word_count import count_words


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("--- | ...", 0),
        ("Payment is due within 30 days.", 6),
        ("día: año_nuevo", 2),
        ("契約書、第三条。", 6),
        ("Vertrag 契約 2024", 4),
        ("สัญญา", 4),
        ("계약서 제3조", 2),
    ],
)
def test_count_words(text: str, count: int) -> None:
    assert count_words(text) == count
