"""Plans of shards: where rows begin, what is read of the inputs for a shard, and plans that a folder has stored."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from pyarrow import parquet

from nearfield import Encoder
from nearfield.bulk.input_table import InputRow, InputTable
from nearfield.bulk.preflight import Sharding, ShardRequest
from nearfield.bulk.report import FolderReport
from nearfield.bulk.shard_encoder import ShardRows
from nearfield.bulk.shard_job import ShardJob
from nearfield.bulk.shard_plan import PLAN_FORMAT, ShardPlan, plan_shards
from nearfield.errors import InputError

TEXTS = [f"the cat {'sat ' * (at % 7)}\u00e9 {at}" for at in range(230)]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of all rows that are read from inputs."""
    seen: list[str] = []
    full_rows = InputTable.full_rows

    def watched(self: InputTable, *start: Any) -> Iterator[InputRow]:
        return (seen.append(row.text) or row for row in full_rows(self, *start))  # type: ignore[func-returns-value]

    monkeypatch.setattr(InputTable, "full_rows", watched)
    return seen


def _inputs(folder: Path, form: str) -> tuple[Path, ...]:
    """Write the texts to three files, the second one without a row, whose times are those of a minute ago."""
    parts: tuple[list[str], ...] = (TEXTS[:90], [], TEXTS[90:])
    paths = tuple(folder / f"{name}.{form}" for name in "abc")
    for path, texts in zip(paths, parts, strict=True):
        _write(path, form, texts)
        os.utime(path, (path.stat().st_mtime - 60,) * 2)
    return paths


def _write(path: Path, form: str, texts: list[str]) -> None:
    if form == "parquet":
        return parquet.write_table(arrow.table({"text": arrow.array(texts, "string")}), path, row_group_size=40)
    lines = {
        "jsonl": [json.dumps({"text": text}) for text in texts],
        "csv": ["n,text", *(f'1,"{text}"\n' for text in texts)],
        "txt": texts,
    }
    path.write_text("".join(f"{line}\n" for line in lines[form]), encoding="utf-8")
    return None


@pytest.mark.parametrize("form", ["jsonl", "csv", "txt", "parquet"])
def test_each_shard_can_be_read_alone_and_in_any_order(form: str, tmp_path: Path) -> None:
    source = InputTable(_inputs(tmp_path, form))
    plan = plan_shards(source, 25, typed=False)
    for shard in reversed(plan.shards):
        assert [row.text for row in ShardRows(source).rows(shard)] == TEXTS[shard.start : shard.start + shard.rows]
    rows = ShardRows(source)
    for number in (3, 4, 0, 9, 2):
        shard = plan.shards[number]
        assert [row.text for row in rows.rows(shard)] == TEXTS[shard.start : shard.start + shard.rows]


def test_a_shard_that_was_not_read_to_its_end_does_not_shift_the_next(tmp_path: Path) -> None:
    source = InputTable(_inputs(tmp_path, "jsonl"))
    plan, rows = plan_shards(source, 25, typed=False), ShardRows(source)
    next(rows.rows(plan.shards[0]))
    assert next(rows.rows(plan.shards[1])).text == TEXTS[25]


def test_a_plan_is_the_same_after_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "at": 1, "id": 1}\n{"text": "b", "at": null, "id": 1}\n', encoding="utf-8")
    plan = plan_shards(InputTable((path,), id_field="id", keep=("at",)), 1, typed=True)
    again = ShardPlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == ShardPlan(plan.shards, plan.types, [], plan.warning)
    assert plan.warning is not None and str(plan.types["at"]) == "int64"
    assert ShardPlan.from_dict({**plan.to_dict(), "format": PLAN_FORMAT + 1}) is None


def _run(encoder: Encoder, source: InputTable, home: Path, **options: Any) -> FolderReport:
    share = options.pop("share", (1, 1))
    return ShardJob(ShardRequest(encoder, source, home, Sharding(rows=50, share=share), {}), **options).run()


def test_a_process_reads_the_rows_of_its_shards_alone(tiny: Encoder, parsed: list[str], tmp_path: Path) -> None:
    source = InputTable(_inputs(tmp_path, "jsonl"))
    assert _run(tiny, source, tmp_path / "out", share=(1, 4)).written == 2
    assert parsed == TEXTS + TEXTS[:50] + TEXTS[200:]
    for share, own in (((2, 4), TEXTS[50:100]), ((3, 4), TEXTS[100:150]), ((4, 4), TEXTS[150:200])):
        parsed.clear()
        _run(tiny, source, tmp_path / "out", share=share)
        assert parsed == own


def test_a_finished_folder_is_found_so_without_reading_the_inputs(
    tiny: Encoder, parsed: list[str], tmp_path: Path
) -> None:
    source, home = InputTable(_inputs(tmp_path, "jsonl")), tmp_path / "out"
    _run(tiny, source, home)
    parsed.clear()
    assert (_run(tiny, source, home).skipped, parsed) == (5, [])
    assert (_run(tiny, source, home, thorough=True).skipped, parsed) == (5, TEXTS)


def test_a_forecast_after_a_stored_plan_still_has_a_sample(tiny: Encoder, tmp_path: Path) -> None:
    source, home = InputTable(_inputs(tmp_path, "jsonl")), tmp_path / "out"
    _run(tiny, source, home)
    (home / "part-00001.parquet").unlink()
    forecast = ShardJob(ShardRequest(tiny, source, home, Sharding(), {})).forecast()
    assert (forecast.texts_to_do, forecast.tokens_to_do > 50) == (50, True)


@pytest.mark.parametrize("damage", ["cut", "none", "format", "shards"])
def test_a_plan_that_cannot_be_used_is_made_again(
    damage: str, tiny: Encoder, parsed: list[str], tmp_path: Path
) -> None:
    source, home = InputTable(_inputs(tmp_path, "jsonl")), tmp_path / "out"
    _run(tiny, source, home)
    path = home / "_shards" / "plan.json"
    text = path.read_text(encoding="utf-8")
    values = json.loads(text)
    damaged = {
        "cut": text[: len(text) // 2],
        "format": json.dumps({**values, "format": 0}),
        "shards": json.dumps({**values, "shards": [[1]]}),
    }
    path.unlink() if damage == "none" else path.write_text(damaged[damage], encoding="utf-8")
    parsed.clear()
    assert (_run(tiny, source, home).skipped, parsed) == (5, TEXTS)
    assert json.loads(path.read_text(encoding="utf-8")) == values


def test_an_input_of_another_time_or_written_just_now_is_read_again(
    tiny: Encoder, parsed: list[str], tmp_path: Path
) -> None:
    paths, home = _inputs(tmp_path, "jsonl"), tmp_path / "out"
    source = InputTable(paths)
    _run(tiny, source, home)
    paths[2].write_bytes(paths[2].read_bytes().replace(b"cat", b"dog"))
    for _ in range(2):  # what was read within the same tick may have changed since
        parsed.clear()
        _run(tiny, source, home)
        assert len(parsed) >= len(TEXTS)


def test_an_input_that_changed_since_its_plan_is_refused(tiny: Encoder, tmp_path: Path) -> None:
    paths = _inputs(tmp_path, "jsonl")
    job = ShardJob(ShardRequest(tiny, InputTable(paths), tmp_path / "out", Sharding(rows=50, share=(2, 2)), {}))
    paths[0].write_bytes(b"\n\n\n" + paths[0].read_bytes())
    with pytest.raises(InputError, match=r"changed while it was read.* \(.*a\.jsonl, line"):
        job.run()
