"""Duplicates among texts: equal, near, in meaning; which stays; and the command."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from nearfield import Encoder, find_duplicate_texts
from nearfield.errors import InputError
from nearfield.jobs.duplicates import find_duplicates
from tests.support.cli_runner import run

#: Two hundred texts of forty words, of which none is like another.
_RANDOM = random.Random(1)
_WORDS = ["".join(_RANDOM.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(2000)]
ORIGINALS = [" ".join(_RANDOM.choices(_WORDS, k=40)) for _ in range(200)]


def _edit(text: str) -> str:
    """Return a near copy: one word of forty is another one."""
    words = text.split()
    words[20] = "replaced"
    return " ".join(words)


COPIES = [text.upper() + "!" for text in ORIGINALS[:40]] + [_edit(text) for text in ORIGINALS[30:90]]


def test_equal_and_near_copies_are_found_and_no_others() -> None:
    report = find_duplicate_texts([*ORIGINALS, *COPIES], keep="first")
    assert report.unique == list(range(200))
    assert report.to_dict()["copies"] == {"exact": 40, "near": 60, "meaning": 0}
    originals = [*range(40), *range(30, 90)]
    assert [report.links[200 + number].original for number in range(100)] == originals
    assert len(report.groups[35]) == 2 and next(iter(report.groups)) in range(30, 40)
    assert all(0.8 <= link.value < 1 for _, link in report.sample(20)) and len(report.sample(20)) == 20


@pytest.mark.parametrize(
    ("rule", "kept"), [({"keep": "longest"}, 1), ({"keep": "first"}, 0), ({"keep": "newest", "dates": [1, 2, 3]}, 2)]
)
def test_the_rule_says_which_stays(rule: dict[str, Any], kept: int) -> None:
    text = ORIGINALS[0]
    report = find_duplicate_texts([text, text + " and more", text + "!"], **rule)
    assert report.unique == [kept] and set(report.links) == {0, 1, 2} - {kept}


def test_many_equal_texts_and_chains_have_one_original() -> None:
    chain = [ORIGINALS[0]]
    for place in range(0, 40, 4):
        words = chain[-1].split()
        words[place] = "changed"
        chain.append(" ".join(words))
    report = find_duplicate_texts(["", "!", "same"] * 300 + chain, keep="first")
    assert set(report.unique[:3]) == {0, 1, 2}
    assert all(link.original in report.unique for link in report.links.values())


def test_the_same_meaning_with_a_model(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["the cat sat on a mat", "the cat sat on the mat", "blue world"]
    report = find_duplicate_texts(texts, model=tiny, threshold=0.95)
    assert [link.measure for link in report.links.values()] == ["meaning"] and 2 in report.unique
    monkeypatch.setattr(find_duplicates, "MAX_BY_MEANING", 2)
    with pytest.raises(InputError, match="3 texts remain"):
        find_duplicate_texts(texts, model=tiny)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": "best"}, "Unknown rule 'best'"),
        ({"keep": "newest"}, "go together"),
        ({"keep": "newest", "dates": [1]}, "dates must be a finite number for each of 2"),
        ({"similarity": 0.5}, "similarity must be from 0.8 to 1"),
        ({"threshold": 2}, "threshold must be from 0 to 1"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_duplicate_texts(["a", "b"], **options)


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [(ORIGINALS[0], "2026-01-01"), (_edit(ORIGINALS[0]), "2026-02-01"), ("<b>\x1b[2J</b>", "2026-01-01")]
    path.write_text(
        "".join(json.dumps({"id": n, "text": text, "day": day}) + "\n" for n, (text, day) in enumerate(rows))
    )
    words = ("dedupe", path, "--id-field", "id", "--keep", "newest", "--date", "day", "-o", tmp_path / "links.jsonl")
    ran = run(capsys, monkeypatch, *words, "--format", "json")
    (link,) = map(json.loads, (tmp_path / "links.jsonl").read_text().splitlines())
    assert (link["id"], link["copy_of"], link["measure"]) == (0, 1, "near") and json.loads(ran.out)["unique"] == 2
    monkeypatch.setattr("typer.confirm", lambda *_, **__: True)
    ran = run(capsys, monkeypatch, "dedupe", path, "--ask", 5)
    assert "precision: 100% (95% 3 to 100) of 1 pair" in ran.err and "\x1b" not in ran.out
    assert run(capsys, monkeypatch, "dedupe", path, "--link").code == 2
    assert "in two runs" in run(capsys, monkeypatch, "dedupe", path, tmp_path).err
