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
def kept() -> NearDuplicateIndex:
    made = NearDuplicateIndex(sqlite3.connect(":memory:"))
    made.create()
    made.create()
    return made


def test_a_near_repeat_leads_to_the_chunk_that_was_kept(kept: NearDuplicateIndex) -> None:
    original = text(1, 300)
    near = changed(original, 0, 150, 299)
    assert jaccard(original, near) > 0.92
    assert kept.add("a", "one", original) is None
    assert kept.add("b", "two", near) == "a"
    assert kept.add("c", "two", original.upper().replace(" ", "\n")) == "a"
    assert kept.add("d", "two", text(2, 300)) is None


def test_what_is_alike_but_no_repeat_is_kept(kept: NearDuplicateIndex) -> None:
    original = text(1, 120)
    other = changed(original, 20, 40, 60, 80, 100)
    assert jaccard(original, other) < 0.75
    assert kept.add("a", "one", original) is None
    assert kept.add("b", "two", other) is None


def test_nearly_all_repeats_are_found_and_nothing_else(kept: NearDuplicateIndex) -> None:
    missed = wrong = 0
    for seed in range(150):
        original = text(seed, 400)
        assert kept.add(f"a{seed}", "one", original) is None
        missed += kept.add(f"b{seed}", "two", changed(original, 200)) != f"a{seed}"
        wrong += kept.add(f"c{seed}", "three", changed(original, *range(0, 400, 40))) is not None
    assert missed <= 1
    assert wrong == 0


def test_short_texts_repeat_each_other_only_where_they_are_equal(kept: NearDuplicateIndex) -> None:
    assert kept.add("a", "one", "The cat sat on the mat.") is None
    assert kept.add("b", "two", "the  CAT sat\non the mat.") == "a"
    assert kept.add("c", "two", "The cat sat on the mat!") is None
    assert kept.add("d", "two", "x = 1") is None
    assert kept.add("e", "two", "x != 1") is None


def test_scripts_without_spaces_are_compared_by_characters(kept: NearDuplicateIndex) -> None:
    signs = [chr(0x4E00 + at * 7) for at in range(200)]
    original = "".join(signs)
    assert kept.add("a", "one", original) is None
    assert kept.add("b", "two", original.replace(signs[90], "猫")) == "a"
    assert kept.add("c", "two", "".join(reversed(signs))) is None


def test_families_do_not_mix(kept: NearDuplicateIndex) -> None:
    for number, original in enumerate((text(1), "The cat sat.")):
        assert kept.add(f"a{number}", "one", original, "red") is None
        assert kept.add(f"b{number}", "two", original, "blue") is None
        assert kept.add(f"c{number}", "three", original + " ", "blue") == f"b{number}"
    assert kept.remove(["two"]) == ["three"]
    assert kept.add("d", "four", text(1), "blue") is None
    assert kept.add("e", "four", text(1), "red") == "a0"


def test_the_same_chunk_given_again_stays_kept(kept: NearDuplicateIndex) -> None:
    assert [kept.add("a", "one", text(1)) for _ in range(2)] == [None, None]
    assert kept.add("b", "one", text(1)) == "a"


def test_forgetting_tells_who_had_repeated(kept: NearDuplicateIndex) -> None:
    for number, document in enumerate(("one", "one", "two", "three")):
        assert kept.add(f"{document}{number}", document, text(number)) is None
    assert kept.add("x", "four", text(0)) == "one0"
    assert kept.add("y", "three", changed(text(1, 120), 0)) == "one1"
    assert kept.add("z", "one", text(0)) == "one0"
    assert kept.add("w", "five", text(2)) == "two2"
    assert kept.remove(["two", "five"]) == []
    assert kept.remove(["one"]) == ["four", "three"]
    assert kept.remove(["one"]) == []
    assert kept.add("new", "four", text(0)) is None
    assert kept.add("newer", "three", text(1)) is None
    assert kept.add("newest", "six", text(3)) == "three3"


def test_nothing_is_left_of_what_is_forgotten(kept: NearDuplicateIndex) -> None:
    for number in range(20):
        kept.add(f"c{number}", f"d{number % 3}", text(number % 12))
    kept.remove(["d0", "d1", "d2"])
    tables = ("near_chunks", "near_bands", "near_repeats")
    assert [kept._rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables] == [0, 0, 0]


def test_all_is_done_in_the_callers_transaction() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    kept = NearDuplicateIndex(connection)
    kept.create()
    connection.execute("BEGIN")
    assert kept.add("a", "one", text(1)) is None
    kept.remove(["two"])
    assert connection.in_transaction
    connection.execute("ROLLBACK")
    assert kept.add("b", "two", text(1)) is None


def test_a_template_behind_thousands_costs_no_more_for_each(
    kept: NearDuplicateIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_duplicates, "BUCKET", 5)
    template = text(0, 400)
    for number in range(60):
        places = random.Random(number).sample(range(400), 12)
        kept.add(f"c{number}", "one", changed(template, *places).replace("other", f"other{number}"))
    most = kept._rows("SELECT max(total) FROM (SELECT count(*) AS total FROM near_bands GROUP BY band)")[0][0]
    assert most == 5


#: Bands are stored in collections: their values must not change with a version of ours or the library's.
PINNED = [49267550, 27279220, 71535194, 83699764]


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
