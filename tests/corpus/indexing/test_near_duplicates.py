"""Near-duplicates: they are detected, other chunks are not, and every run gives the same result."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys

import pytest

from nearfield.corpus.indexing import near_duplicates
from nearfield.corpus.indexing.near_duplicates import NearDuplicateIndex, shingles, signature

WORDS = [f"{a}{b}{c}" for a in "bcdfglmnpr" for b in "aeiou" for c in ("t", "st", "ller", "n")]


def text(seed: int, length: int = 120) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def changed(original: str, *places: int) -> str:
    words = original.split()
    for place in places:
        words[place] = "other"
    return " ".join(words)


def jaccard(one: str, other: str) -> float:
    sides = [{tuple(part.split()[at : at + 5]) for at in range(len(part.split()) - 4)} for part in (one, other)]
    return len(sides[0] & sides[1]) / len(sides[0] | sides[1])


@pytest.fixture
def index() -> NearDuplicateIndex:
    duplicates = NearDuplicateIndex(sqlite3.connect(":memory:"))
    duplicates.create()
    duplicates.create()
    return duplicates


def test_a_near_duplicate_leads_to_its_original(index: NearDuplicateIndex) -> None:
    original = text(1, 300)
    near = changed(original, 0, 150, 299)
    assert jaccard(original, near) > 0.92
    assert index.add("a", "one", original) is None
    assert index.add("b", "two", near) == "a"
    assert index.add("c", "two", original.upper().replace(" ", "\n")) == "a"
    assert index.add("d", "two", text(2, 300)) is None


def test_similar_texts_below_the_threshold_are_no_duplicates(index: NearDuplicateIndex) -> None:
    original = text(1, 120)
    other = changed(original, 20, 40, 60, 80, 100)
    assert jaccard(original, other) < 0.75
    assert index.add("a", "one", original) is None
    assert index.add("b", "two", other) is None


@pytest.mark.slow
def test_nearly_all_repeats_are_found_and_nothing_else(index: NearDuplicateIndex) -> None:
    missed = wrong = 0
    for seed in range(150):
        original = text(seed, 400)
        assert index.add(f"a{seed}", "one", original) is None
        missed += index.add(f"b{seed}", "two", changed(original, 200)) != f"a{seed}"
        wrong += index.add(f"c{seed}", "three", changed(original, *range(0, 400, 40))) is not None
    assert missed <= 1
    assert wrong == 0


def test_short_texts_repeat_each_other_only_where_they_are_equal(index: NearDuplicateIndex) -> None:
    assert index.add("a", "one", "The cat sat on the mat.") is None
    assert index.add("b", "two", "the  CAT sat\non the mat.") == "a"
    assert index.add("c", "two", "The cat sat on the mat!") is None
    assert index.add("d", "two", "x = 1") is None
    assert index.add("e", "two", "x != 1") is None


def test_scripts_without_spaces_are_compared_by_characters(index: NearDuplicateIndex) -> None:
    signs = [chr(0x4E00 + at * 7) for at in range(200)]
    original = "".join(signs)
    assert index.add("a", "one", original) is None
    assert index.add("b", "two", original.replace(signs[90], "猫")) == "a"
    assert index.add("c", "two", "".join(reversed(signs))) is None


def test_families_do_not_mix(index: NearDuplicateIndex) -> None:
    for number, original in enumerate((text(1), "The cat sat.")):
        assert index.add(f"a{number}", "one", original, "red") is None
        assert index.add(f"b{number}", "two", original, "blue") is None
        assert index.add(f"c{number}", "three", original + " ", "blue") == f"b{number}"
    assert index.remove(["two"]) == ["three"]
    assert index.add("d", "four", text(1), "blue") is None
    assert index.add("e", "four", text(1), "red") == "a0"


def test_a_chunk_that_is_added_again_is_no_duplicate(index: NearDuplicateIndex) -> None:
    assert [index.add("a", "one", text(1)) for _ in range(2)] == [None, None]
    assert index.add("b", "one", text(1)) == "a"


def test_removal_returns_the_documents_with_duplicates(index: NearDuplicateIndex) -> None:
    for number, document in enumerate(("one", "one", "two", "three")):
        assert index.add(f"{document}{number}", document, text(number)) is None
    assert index.add("x", "four", text(0)) == "one0"
    assert index.add("y", "three", changed(text(1, 120), 0)) == "one1"
    assert index.add("z", "one", text(0)) == "one0"
    assert index.add("w", "five", text(2)) == "two2"
    assert index.remove(["two", "five"]) == []
    assert index.remove(["one"]) == ["four", "three"]
    assert index.remove(["one"]) == []
    assert index.add("new", "four", text(0)) is None
    assert index.add("newer", "three", text(1)) is None
    assert index.add("newest", "six", text(3)) == "three3"


def test_removal_leaves_no_rows(index: NearDuplicateIndex) -> None:
    for number in range(20):
        index.add(f"c{number}", f"d{number % 3}", text(number % 12))
    index.remove(["d0", "d1", "d2"])
    tables = ("near_chunks", "near_bands", "near_repeats")
    assert [index._rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables] == [0, 0, 0]


def test_all_is_done_in_the_callers_transaction() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    index = NearDuplicateIndex(connection)
    index.create()
    connection.execute("BEGIN")
    assert index.add("a", "one", text(1)) is None
    index.remove(["two"])
    assert connection.in_transaction
    connection.execute("ROLLBACK")
    assert index.add("b", "two", text(1)) is None


def test_a_template_behind_thousands_costs_no_more_for_each(
    index: NearDuplicateIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_duplicates, "BUCKET", 5)
    template = text(0, 400)
    for number in range(60):
        places = random.Random(number).sample(range(400), 12)
        index.add(f"c{number}", "one", changed(template, *places).replace("other", f"other{number}"))
    most = index._rows("SELECT max(total) FROM (SELECT count(*) AS total FROM near_bands GROUP BY band)")[0][0]
    assert most == 5


#: Bands are stored in collections: their values must not change with a version of ours or the library's.
PINNED = [49267550, 27279220, 71535194, 83699764]


@pytest.mark.process
@pytest.mark.slow
def test_signatures_are_the_same_in_each_process() -> None:
    code = (
        "from nearfield.corpus.indexing.near_duplicates import shingles, signature; "
        f"print(signature(shingles({text(1)!r})).tolist())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    held = shingles(text(1))
    assert held is not None
    values = signature(held).tolist()
    assert (len(values), values[:4]) == (120, PINNED)
    assert told.strip() == str(values)
