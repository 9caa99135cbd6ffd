"""Recommendations: what is liked, unliked, seen, diverse and new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Encoder, Recommender, Taste, recommend
from nearfield.errors import InputError
from tests.support.cli_runner import run

#: Three subjects of ten items each: a0 to a9, b0 to b9, c0 to c9.
IDS = [f"{subject}{number}" for subject in "abc" for number in range(10)]
VECTORS = np.repeat(np.eye(8)[:3], 10, axis=0) + 0.05 * np.random.default_rng(1).standard_normal((30, 8))


def _ids(taste: Taste, count: int = 5, **options: float) -> list[str]:
    return [str(item.id) for item in Recommender(IDS, VECTORS).recommend(taste, count, **options)]


def test_items_are_like_the_liked_ones_and_never_seen() -> None:
    results = _ids(Taste(["a1", "a2"], seen=["a3"]), 7, diversity=0)
    assert {name[0] for name in results} == {"a"} and not {"a1", "a2", "a3"} & set(results)
    (best, *_) = Recommender(IDS, VECTORS).recommend(Taste(["a1", "b1"]), 1)
    assert str(best.because_of)[0] == str(best.id)[0]


def test_unliked_items_push_away_what_is_like_them() -> None:
    assert {name[0] for name in _ids(Taste(["a1", "b1"], ["b2"]), 8, diversity=0)} == {"a"}


def test_the_latest_count_most_with_a_half_life() -> None:
    history = ["b1", "b2", "b3", "a1", "a2", "a3"]
    assert {name[0] for name in _ids(Taste(history, half_life=1), 5, diversity=0)} == {"a"}
    assert {name[0] for name in _ids(Taste(history[::-1], half_life=1), 5, diversity=0)} == {"b"}


def test_diversity_mixes_subjects_and_each_item_is_there_once() -> None:
    taste = Taste(["a1", "b1"])
    kinds = [len({name[0] for name in _ids(taste, 6, diversity=value)}) for value in (0, 0.7)]
    assert kinds[1] == 3 >= kinds[0]
    everything = _ids(taste, 100, diversity=1)
    assert len(everything) == len(set(everything)) == 28


def test_new_items_come_first_with_ages() -> None:
    ages = [30.0 * (number % 10) for number in range(30)]
    results = Recommender(IDS, VECTORS, ages=ages).recommend(Taste(["a0"]), 3, diversity=0, age_half_life=60)
    assert [item.id for item in results] == ["a1", "a2", "a3"]


@pytest.mark.parametrize(
    ("taste", "options", "message"),
    [
        (Taste([]), {}, "Nothing is liked"),
        (Taste(["a1", "a2"], ["a2"]), {}, "'a2' is liked and unliked"),
        (Taste(["a11"]), {}, "there is no item 'a11'"),
        (Taste(["a1"], half_life=0), {}, "half_life must be above 0"),
        (Taste(["a1"]), {"diversity": 2}, "from 0 to 1"),
        (Taste(["a1"]), {"age_half_life": 3}, "needs the ages"),
    ],
)
def test_what_is_refused(taste: Taste, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _ids(taste, **options)
    with pytest.raises(InputError, match="different"):
        Recommender(["x", "x"], VECTORS[:2])


def test_texts_and_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: Encoder, tmp_path: Path
) -> None:
    texts = ["the cat", "a cat", "blue world", "blue search", "cat cat"]
    assert recommend(texts, [0], model=tiny, count=1, diversity=0)[0].number in (1, 4)
    items, history = tmp_path / "items.jsonl", tmp_path / "reads.tsv"
    rows = [{"id": f"i{n}", "text": text, "day": "2026-01-01"} for n, text in enumerate(texts)]
    items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    history.write_text("user\titem\nann\ti0\nbo\tgone\nbo\ti2\ncy\tgone\n")
    words = ("recommend", items, "--id-field", "id", "--model", tiny.recipe.folder)
    ran = run(capsys, monkeypatch, *words, "--history", history, "--date", "day", "--age-half-life", 9, "--json")
    assert [json.loads(line)["user"] for line in ran.out.splitlines()] == ["ann", "bo", "cy"], ran.err
    assert "left out: 2 rows" in ran.err and json.loads(ran.out.splitlines()[2])["items"] == []
    assert json.loads(ran.out.splitlines()[1])["items"][0]["id"] == "i3"
    ran = run(capsys, monkeypatch, *words, "--like", "i0", "--count", 2, "--diversity", 0)
    assert ran.code == 0 and len(ran.out.splitlines()) == 2
    for more, message in (
        (("--like", "x"), "no item 'x' among 5 items, such as 'i0'"),
        ((), "either --like or --history"),
        (("--history", history, "--id-field", "text"), "--id-field names the column"),
    ):
        ran = run(capsys, monkeypatch, *words, *more)
        assert ran.code == 2 and message in ran.err
