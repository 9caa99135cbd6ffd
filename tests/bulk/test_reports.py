"""Reports of ``nearfield embed``: they say what this run wrote, and what was there before it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nearfield.bulk.report import EmbedReport, FolderReport, Forecast

FILE = EmbedReport(
    output="out.npy",
    model="tiny",
    fingerprint="f",
    texts=3,
    tokens=12,
    truncated_texts=0,
    truncated_tokens=0,
    unknown_tokens=0,
    unread_texts=0,
    resumed_at=0,
    seconds=1.0,
    texts_per_second=3.0,
    tokens_per_second=12.0,
)
FOLDER = FolderReport(
    **{**vars(FILE), "output": "out/"},
    state="complete",
    shards=4,
    written=4,
    skipped=0,
    damaged=0,
    removed=0,
    elsewhere=0,
)


def test_a_whole_run_wrote_its_output() -> None:
    assert FILE.to_text().startswith("Wrote out.npy: 3 texts, 12 tokens\n")
    assert "Resumed" not in FILE.to_text()


def test_a_resumed_run_completed_it() -> None:
    text = replace(FILE, resumed_at=1).to_text()
    assert text.startswith("Completed out.npy: 3 texts, 12 tokens\n")
    assert "Resumed:      after 1 text that an earlier run encoded" in text


def test_a_run_without_anything_to_encode_has_no_speed() -> None:
    text = replace(FILE, resumed_at=3, texts_per_second=0.0, tokens_per_second=0.0).to_text()
    assert text.startswith("Completed out.npy") and "Speed" not in text


@pytest.mark.parametrize(
    ("written", "skipped", "start"),
    [
        (4, 0, "Wrote out/: 3 texts"),
        (1, 3, "Wrote 1 of 4 shards of out/, which holds: 3 texts"),
        (0, 4, "Nothing new was written to out/: 3 texts"),
    ],
)
def test_a_folder_names_what_was_written(written: int, skipped: int, start: str) -> None:
    assert replace(FOLDER, written=written, skipped=skipped).to_text().startswith(start)


def test_counts_of_one_and_names_with_controls() -> None:
    one = replace(FILE, output="a\nb.npy", model="m\x1b", texts=1, tokens=1, truncated_texts=1, truncated_tokens=1)
    assert one.to_text().startswith(r"Wrote 'a\nb.npy': 1 text, 1 token")
    assert "1 text too long; 1 token cut off" in one.to_text() and "\x1b" not in one.to_text()
    forecast = Forecast("out/", "m", 1, 1, 1, 1, 1, 1, 1, 0, 1.0, 1.0).to_text()
    assert "1 text in 1 shard\n" in forecast and "To remove:    1 shard\n" in forecast


def test_kinds_of_cpus_are_named_if_there_are_several() -> None:
    assert "CPUs" not in replace(FOLDER, cpus=("One",)).to_text()
    assert "CPUs:         One, Two: the last bits" in replace(FOLDER, cpus=("One", "Two")).to_text()
    assert json.loads(FOLDER.to_json())["cpus"] == []
