"""Outliers among texts, and drift of a stream."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nearfield import Encoder, Vectors, find_drift, find_outliers
from nearfield.errors import InputError, SpaceMismatch
from nearfield.jobs import outliers
from tests.support.cli_runner import run

pytest.importorskip("sklearn", reason="the extra 'jobs' is not installed")


def _vectors(count: int, direction: int, seed: int) -> np.ndarray:
    """Return vectors [count, 16] around one direction."""
    return np.eye(16)[[direction] * count] + 0.1 * np.random.default_rng(seed).standard_normal((count, 16))


USUAL = _vectors(200, 0, 1)
TEXTS = ["usual"] * 200


def test_the_odd_ones_come_first_and_alone_are_far(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.vstack([USUAL, np.eye(16)[[5, 9]]])
    results = find_outliers([*TEXTS, "x", "y"], vectors=vectors, count=20)
    assert {result.number for result in results[:2]} == {200, 201} and all(result.is_far for result in results[:2])
    assert results[0].score > results[2].score * 5 and len(results) == 20
    assert {200, 201} <= {result.number for result in find_outliers([*TEXTS, "x", "y"], vectors=vectors)}
    monkeypatch.setattr(outliers, "_PAIRS", 1000)
    assert [result.number for result in find_outliers([*TEXTS, "x", "y"], vectors=vectors, count=20)] == [
        result.number for result in results
    ]


def test_equal_texts_have_no_outlier() -> None:
    assert find_outliers(TEXTS, vectors=np.ones((200, 4))) == []


def test_a_stream_that_is_alike_has_not_drifted_and_another_one_has() -> None:
    alike = find_drift(TEXTS, TEXTS, vectors=(USUAL, _vectors(200, 0, 2)))
    assert not alike.has_drifted and 0.35 < alike.separability < 0.65 and alike.interval[0] <= 0.02
    mixed = np.vstack([_vectors(140, 0, 3), _vectors(60, 7, 4)])
    report = find_drift(TEXTS, TEXTS, vectors=(USUAL, mixed), count=60)
    assert report.has_drifted and report.p < 1e-6
    assert 0.2 < report.interval[0] < report.new_share < report.interval[1] < 0.45
    assert set(report.newest) == set(range(140, 200)) and "has drifted" in report.to_text()


def test_a_stream_that_is_the_reference_is_alike() -> None:
    same = find_drift(TEXTS, TEXTS, vectors=(USUAL, USUAL[::-1]))
    assert 0.4 < same.separability < 0.6 and not same.has_drifted


@pytest.mark.parametrize("seed", range(8))
def test_equal_texts_are_not_new(seed: int) -> None:
    random = np.random.default_rng(seed)
    one = random.normal(size=(1, 32)).astype(np.float32)
    one /= np.linalg.norm(one)
    report = find_drift(["a"] * 30, ["a"] * 31, vectors=(np.repeat(one, 30, 0), np.repeat(one, 31, 0)))
    assert report.new_share == 0 and not report.has_drifted
    few = np.repeat(np.eye(8)[:3], 10, axis=0)
    assert find_drift(TEXTS[:30], TEXTS[:30], vectors=(few, few)).separability == 0.5
    sides = (few + np.eye(8)[6], few + np.eye(8)[7])
    assert find_drift(TEXTS[:30], TEXTS[:30], vectors=sides).separability > 0.9


def test_vectors_of_two_spaces_are_not_compared() -> None:
    first, second = (Vectors(USUAL, f"{name}:16:float32", 16) for name in "ab")
    with pytest.raises(SpaceMismatch):
        find_drift(TEXTS, TEXTS, vectors=(first, second))
    with pytest.raises(InputError, match="of 16 and of 4 dimensions"):
        find_drift(TEXTS, TEXTS, vectors=(USUAL, np.ones((200, 4))))


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="at least 10 texts, and there are 3"):
        find_outliers(["a"] * 3)
    with pytest.raises(InputError, match="A search for drift needs at least 10 texts"):
        find_drift(["a"] * 3, ["b"] * 20)


def test_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: Encoder, tmp_path: Path
) -> None:
    old, new = tmp_path / "old.txt", tmp_path / "new.txt"
    old.write_text("the cat sat\na cat sat\nthe dog sat\n" * 12)
    new.write_text("the cat sat\na cat sat\nthe dog sat\n" * 12 + "blue \x1b[2J world search query\n")
    words = ("outliers", new, "--model", tiny.recipe.folder)
    ran = run(capsys, monkeypatch, *words)
    assert ran.code == 0 and "36  blue" in ran.out and "\x1b" not in ran.out, ran.err
    ran = run(capsys, monkeypatch, *words, "--reference", old, "--json", "--count", 2)
    assert json.loads(ran.out)["newest"][0] == 36 and not json.loads(ran.out)["drifted"]
