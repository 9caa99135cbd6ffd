"""``nearfield embed`` to a folder of shards: formats, what is done again and what is not, kills, shares, refusals."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.dataset as datasets
import pytest
from pyarrow import parquet

from nearfield import Encoder
from nearfield.bulk import preflight
from nearfield.bulk.file_job import output_lock
from nearfield.bulk.input_table import InputTable, expand_paths
from nearfield.bulk.preflight import Sharding, ShardRequest
from nearfield.bulk.shard_directory import ShardDirectory
from nearfield.bulk.shard_job import ShardJob
from nearfield.errors import InputError
from nearfield.testing import write_tiny_model
from tests.support.cli_runner import Ran, run
from tests.support.paths import ROOT

pytestmark = pytest.mark.process

Run = Callable[..., Ran]
WORDS = ("the", "cat", "dog", "sat", "on", "mat", "blue", "red", "hello", "world")


@pytest.fixture
def words(tiny: Encoder) -> list[str]:
    """The options that choose the tiny model."""
    return ["--model", str(tiny.recipe.folder), "--precision", "float32", "--id-field", "id"]


@pytest.fixture
def embed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], tmp_path: Path) -> Run:
    """Run ``nearfield embed`` with the tiny model, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *more: run(capsys, monkeypatch, "embed", *more, *words)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that commands give to their encoders."""
    seen: list[str] = []
    stream = Encoder.stream

    def watched(self: Encoder, texts: Any, **options: Any) -> Any:
        return stream(self, (seen.append(text) or text for text in texts), **options)  # type: ignore[func-returns-value]

    monkeypatch.setattr(Encoder, "stream", watched)
    return seen


def _rows(count: int, *, first: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(7)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(first + count)]
    return [{"id": f"n{at}", "text": text, "at": at} for at, text in enumerate(texts)][first:]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*"))}


def _manifest(folder: Path) -> dict[str, Any]:
    actual: dict[str, Any] = json.loads((folder / "_manifest.json").read_text(encoding="utf-8"))
    return actual


def _done(ran: Ran) -> dict[str, Any]:
    assert ran.code == 0, ran.err
    report: dict[str, Any] = json.loads(ran.out)
    return report


# -- what is written -----------------------------------------------------------------------------------------------


def _read(folder: Path, form: str) -> list[dict[str, Any]]:
    """Read all rows of a folder as dictionaries."""
    if form == "parquet":
        rows: list[dict[str, Any]] = datasets.dataset(folder).to_table().to_pylist()
        return rows
    lines = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    if form == "npy":
        vectors = np.concatenate([np.load(path) for path in sorted(folder.glob("*.npy"))])
        return [{**line, "embedding": row} for line, row in zip(lines, vectors, strict=True)]
    return lines


@pytest.mark.parametrize("form", ["parquet", "npy", "jsonl"])
def test_shards_hold_the_vectors_of_encode(embed: Run, tiny: Encoder, form: str) -> None:
    rows = [*_rows(240), {"id": "long", "text": "the " * 90, "at": None}, {"id": "none", "text": ""}]
    _write(Path("rows.jsonl"), rows)
    report = _done(
        embed("rows.jsonl", "-o", "out/", "--shard-rows", 100, "--shard-format", form, "--keep", "at,text", "--json")
    )
    got, whole = _read(Path("out"), form), tiny.encode([row["text"] for row in rows])
    np.testing.assert_allclose(np.array([row["embedding"] for row in got]), np.asarray(whole), atol=2e-6)
    for name in ("id", "text", "at"):
        assert [row[name] for row in got] == [row.get(name) for row in rows]
    assert [row["tokens"] for row in got] == np.asarray(whole.tokens).tolist()
    assert [row["truncated"] for row in got] == np.asarray(whole.dropped).tolist()
    assert (report["state"], report["shards"], report["written"], report["texts"]) == ("complete", 3, 3, 242)
    assert (report["truncated_texts"], report["tokens"]) == (1, int(np.asarray(whole.tokens).sum()))


def test_the_manifest_tells_of_each_shard(embed: Run, tiny: Encoder) -> None:
    _write(Path("rows.jsonl"), _rows(250))
    assert embed("rows.jsonl", "-o", "out/", "--shard-rows", 100).code == 0
    report = _manifest(Path("out"))
    assert (report["state"], report["rows"], report["planned_shards"]) == ("complete", 250, 3)
    assert [(shard["start"], shard["rows"]) for shard in report["shards"]] == [(0, 100), (100, 100), (200, 50)]
    assert {shard["fingerprint"] for shard in report["shards"]} == {tiny.fingerprint}
    assert sum(shard["tokens"] for shard in report["shards"]) == report["tokens"]
    sizes = [size["bytes"] for shard in report["shards"] for size in shard["files"].values()]
    assert sizes == [len(data) for data in _shards(Path("out")).values()]


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("float32", "float"), ("float16", "halffloat"), ("int8", "int8"), ("ubinary", "uint8")],
)
def test_the_schema_says_what_the_vectors_are(embed: Run, tiny: Encoder, dtype: str, kind: str) -> None:
    _write(Path("rows.jsonl"), _rows(30))
    assert embed("rows.jsonl", "-o", "out/", "--role", "query", "--dtype", dtype).code == 0
    actual = datasets.dataset("out").schema
    width = 4 if dtype == "ubinary" else 32
    assert str(actual.field("embedding").type).replace("element", "item") == f"fixed_size_list<item: {kind}>[{width}]"
    report = {key.decode(): value.decode() for key, value in actual.metadata.items() if key.startswith(b"nearfield.")}
    vectors = tiny.encode(["a"], role="query", precision=dtype)
    expected = {"fingerprint": vectors.fingerprint, "dims": "32", "dtype": dtype, "role": "query", "prompt": "search: "}
    assert {name: report[f"nearfield.{name}"] for name in expected} == expected
    assert ("nearfield.ranges" in report) == (dtype == "int8")


def test_types_of_kept_columns(embed: Run) -> None:
    values = [
        {"int": 1, "mixed": 1, "tags": ["a"], "part": 1, "none": None, "huge": 2**70},
        {"int": 2, "mixed": "b", "tags": [], "part": 0.5, "none": None, "huge": 1},
    ]
    _write(Path("rows.jsonl"), [{**row, **more} for row, more in zip(_rows(2), values, strict=True)])
    keep = ["--keep", "int,mixed,tags", "--keep", "part,none,huge"]
    assert embed("rows.jsonl", "-o", "out/", *keep).code == 0
    table = datasets.dataset("out").to_table()
    kinds = {name: str(table.schema.field(name).type).replace("element", "item") for name in values[0]}
    assert kinds["tags"] == "list<item: string>"
    assert {**kinds, "tags": ""} == {
        "int": "int64", "mixed": "string", "tags": "", "part": "double", "none": "string", "huge": "string"
    }  # fmt: skip
    assert table["mixed"].to_pylist() == ["1", "b"]
    assert table["huge"].to_pylist() == [str(2**70), "1"]


def test_parquet_columns_keep_their_types(embed: Run) -> None:
    columns = {
        "day": arrow.array([datetime(2026, 1, 2, tzinfo=timezone.utc), None], arrow.timestamp("ms", "UTC")),
        "price": arrow.array([Decimal("1.50"), Decimal("2.00")], arrow.decimal128(9, 2)),
        "small": arrow.array([1, 2], arrow.int16()),
    }
    parquet.write_table(arrow.table({"id": ["a", "b"], "text": ["a", "b"], **columns}), "rows.parquet")
    assert embed("rows.parquet", "-o", "out/", "--keep", "day,price,small").code == 0
    actual = datasets.dataset("out").to_table().select(list(columns))
    assert actual.replace_schema_metadata(None) == arrow.table(columns)


def test_no_rows_are_one_empty_shard(embed: Run) -> None:
    Path("rows.jsonl").touch()
    assert _done(embed("rows.jsonl", "-o", "out/", "--json"))["state"] == "complete"
    assert datasets.dataset("out").to_table().num_rows == 0


# -- which inputs --------------------------------------------------------------------------------------------------


def test_folders_and_patterns_are_read_in_order(embed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data/b.jsonl", "data/a/z.ndjson", "data/.hidden/x.jsonl", "data/_tmp/x.jsonl", "data/out/x.jsonl"):
        _write(Path(name), _rows(1))
    for name in ("data/read.me", "data/note.txt"):
        Path(name).write_text("no data", encoding="utf-8")
    Path("data/loop").symlink_to(Path("data").resolve())
    actual = [str(path) for path in expand_paths([Path("data")], None, Path("data/out"))]
    assert actual == ["data/a/z.ndjson", "data/b.jsonl"]
    both = expand_paths([Path("data/b.jsonl"), Path("data/**/*.*json*")], None, Path("data/out"))
    assert [str(path) for path in both][:2] == ["data/b.jsonl", "data/_tmp/x.jsonl"]
    assert [path.name for path in expand_paths([Path("data")], "txt", Path("out"))] == ["note.txt"]


def test_a_report_says_what_its_run_wrote(embed: Run) -> None:
    _write(Path("rows.jsonl"), _rows(3))
    words = ("rows.jsonl", "-o", "out/", "--shard-rows", 2)
    assert embed(*words).out.startswith("Wrote out: 3 texts, ")
    again = embed(*words).out
    assert again.startswith("Nothing new was written to out: 3 texts, ") and "Speed" not in again
    _write(Path("rows.jsonl"), _rows(5))
    assert embed(*words).out.startswith("Wrote 2 of 3 shards of out, which holds: 5 texts, ")


def test_a_second_run_does_not_read_its_own_output(embed: Run) -> None:
    _write(Path("rows.jsonl"), _rows(10))
    for _ in range(2):
        assert _done(embed(".", "-o", "out/", "--shard-format", "jsonl", "--json"))["texts"] == 10
    assert "lies in the folder of shards" in embed("out/part-00000.jsonl", "-o", "out/").err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["nothing/*.jsonl", "-o", "out/"], "no file matches"),
        (["empty", "-o", "out/"], "holds no file that ends in .parquet"),
        (["-", "--format", "jsonl", "-o", "out/"], "stdin can be read only once"),
        (["rows.jsonl", "-o", "out/", "--shard", "3/2"], "--shard is I/N"),
        (["rows.jsonl", "-o", "out/", "--shard", "0/2"], "--shard is I/N"),
        (["rows.jsonl", "-o", "out/", "--shard-rows", "0"], "at least 1 row"),
        (["rows.jsonl", "-o", "out/", "--shard-format", "parqet"], "Did you mean 'parquet'"),
        (["rows.jsonl", "-o", "out/", "--keep", "id"], "has a column of that name"),
        (["rows.jsonl", "-o", "out/", "--keep", "att"], "no row has a field 'att'"),
        (["rows.jsonl", "-o", "out.npy", "--keep", "at"], "--keep needs a folder of shards"),
        (["rows.jsonl", "-o", "out.npy", "--dry-run"], "--dry-run needs a folder"),
        (["bad.jsonl", "-o", "out/"], "bad.jsonl, line 2: not JSON"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(embed: Run, more: list[str], message: str) -> None:
    _write(Path("rows.jsonl"), _rows(3))
    Path("bad.jsonl").write_text('{"id": 1, "text": "a"}\n{\n', encoding="utf-8")
    Path("empty").mkdir()
    ran = embed(*more)
    assert (ran.code, message in ran.err) == (2, True), ran.err
    assert not Path("out").exists()


# -- what is done again --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_only_what_changed_is_encoded_again(embed: Run, encoded: list[str]) -> None:
    rows, command = _rows(250), ["data", "-o", "out/", "--shard-rows", 50, "--keep", "at", "--json"]
    _write(Path("data/a.jsonl"), rows)
    assert _done(embed(*command))["written"] == 5
    first = _shards(Path("out"))

    def again(count: int, **counts: int) -> dict[str, bytes]:
        encoded.clear()
        report = _done(embed(*command))
        assert {name: report[name] for name in counts} == counts
        assert (len(encoded), report["state"], report["texts"]) == (count, "complete", len(rows))
        return _shards(Path("out"))

    os.utime("data/a.jsonl")  # another time is no other content
    assert again(0, written=0, skipped=5) == first
    rows[120]["text"] = "another text"
    _write(Path("data/a.jsonl"), rows)
    changed = again(50, written=1, skipped=4)
    assert {name for name in changed if changed[name] != first[name]} == {"part-00002.parquet"}
    rows[10]["at"] = -1  # so is a column that is carried over
    _write(Path("data/a.jsonl"), rows)
    again(50, written=1, skipped=4)
    rows += _rows(70, first=250)
    _write(Path("data/b.jsonl"), rows[250:])
    again(70, written=2, skipped=5)
    del rows[180:]
    Path("data/b.jsonl").unlink()
    _write(Path("data/a.jsonl"), rows)
    last = again(30, written=1, skipped=3, removed=3)
    assert sorted(last) == [f"part-0000{number}.parquet" for number in range(4)]
    assert [row["id"] for row in _read(Path("out"), "parquet")] == [row["id"] for row in rows]


def test_a_damaged_shard_is_done_again(embed: Run, encoded: list[str]) -> None:
    _write(Path("rows.jsonl"), _rows(90))
    command = ["rows.jsonl", "-o", "out/", "--shard-rows", 30, "--shard-format", "npy", "--json"]
    assert embed(*command).code == 0
    first = _shards(Path("out"))
    flipped = bytearray(first["part-00001.npy"])
    flipped[200] ^= 1
    Path("out/part-00001.npy").write_bytes(flipped)
    Path("out/part-00002.jsonl").unlink()  # what is missing shows at once, a flipped bit only where one looks
    report = _done(embed(*command))
    assert (report["written"], report["damaged"]) == (1, 1)
    assert Path("out/part-00001.npy").read_bytes() == flipped
    report = _done(embed(*command, "--check"))
    assert (report["written"], report["damaged"], report["state"]) == (1, 1, "complete")
    assert _shards(Path("out")) == first


@pytest.mark.slow
def test_other_vectors_do_not_come_into_the_same_folder(embed: Run, encoded: list[str]) -> None:
    _write(Path("rows.jsonl"), _rows(20))
    command = ["rows.jsonl", "-o", "out/", "--shard-rows", 10]
    assert embed(*command).code == 0
    before, count = _shards(Path("out")), len(encoded)
    for more, message in (
        (["--dtype", "int8"], "dtype 'float32' there, 'int8' here"),
        (["--role", "query"], "prompt '' there, 'search: ' here"),
        (["--dims", "16", "--force-dims"], "dims 32 there, 16 here"),
        (["--truncate", "left"], "truncate 'report' there"),
        (["--shard-rows", "20"], "shard rows 10 there, 20 here"),
        (["--shard-format", "npy"], "format 'parquet' there"),
        (["--keep", "at"], "keep {} there, {'at': 'int64'} here"),
    ):
        ran = embed(*command, *more)
        assert (ran.code, message in ran.err, "--restart" in ran.err) == (2, True, True), ran.err
    assert (_shards(Path("out")), len(encoded)) == (before, count)
    assert _done(embed("rows.jsonl", "-o", "out", "--json"))["skipped"] == 2  # rows of a shard as the folder has them
    assert embed(*command, "--dtype", "int8", "--restart").code == 0
    assert _manifest(Path("out"))["terms"]["dtype"] == "int8"
    assert len(encoded) == count + 20


def test_another_model_does_not_come_into_the_same_folder(tiny: Encoder, tmp_path: Path) -> None:
    _write(tmp_path / "rows.jsonl", _rows(4))
    source = InputTable((tmp_path / "rows.jsonl",), id_field="id")
    ShardJob(ShardRequest(tiny, source, tmp_path / "out", Sharding(), {})).run()
    with (
        Encoder(str(write_tiny_model(tmp_path / "other", layers=1)), precision="float32", compile_cache=False) as other,
        pytest.raises(InputError, match=r"tiny vectors that do not go with these: fingerprint .* --restart"),
    ):
        ShardJob(ShardRequest(other, source, tmp_path / "out", Sharding(), {}))


def test_shards_of_somebody_else_are_not_replaced(embed: Run) -> None:
    _write(Path("rows.jsonl"), _rows(4))
    _write(Path("out/part-00000.parquet"), _rows(1))
    assert "of which nothing is known" in embed("rows.jsonl", "-o", "out").err
    assert embed("rows.jsonl", "-o", "out", "--restart").code == 0


def test_an_input_that_changes_on_the_way_is_refused(tiny: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    _write(path, _rows(30))
    job = ShardJob(ShardRequest(tiny, InputTable((path,), id_field="id"), tmp_path / "out", Sharding(rows=10), {}))
    _write(path, [*_rows(10), *_rows(20, first=11)])
    with pytest.raises(InputError, match="changed while it was read"):
        job.run()
    assert sorted(_shards(tmp_path / "out")) == ["part-00000.parquet"]
    assert _manifest(tmp_path / "out")["state"] == "partial"


def test_a_dry_run_writes_nothing(embed: Run, encoded: list[str]) -> None:
    rows = _rows(300)
    _write(Path("rows.jsonl"), rows[:100])
    assert embed("rows.jsonl", "-o", "out/", "--shard-rows", 100).code == 0
    _write(Path("rows.jsonl"), rows)
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
    report = _done(embed("rows.jsonl", "-o", "out/", "--dry-run", "--json"))
    assert (report["texts"], report["shards"], report["texts_to_do"], report["shards_to_do"]) == (300, 3, 200, 2)
    assert report["bytes_to_do"] == 200 * 32 * 4
    assert report["seconds"] >= 0 < report["tokens_per_second"]
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")} == before
    assert "nothing was written to new" in embed("rows.jsonl", "-o", "new/", "--dry-run").out
    assert not Path("new").exists()
    assert len(encoded) == 100


def test_an_estimate_of_tokens_is_near(embed: Run, tiny: Encoder) -> None:
    rows = _rows(2000)
    _write(Path("rows.jsonl"), rows)
    report = _done(embed("rows.jsonl", "-o", "out/", "--dry-run", "--json"))
    tokens = sum(len(item.ids) for item in tiny.tokenize([row["text"] for row in rows]))
    assert report["tokens_to_do"] == pytest.approx(tokens, rel=0.1)


# -- several at once -----------------------------------------------------------------------------------------------


def _command(words: list[str], *more: object) -> list[str]:
    return [sys.executable, "-m", "nearfield.cli", "embed", *map(str, more), *words, "--json"]


@pytest.mark.slow
def test_two_shares_at_once_make_one_folder(embed: Run, words: list[str], tmp_path: Path) -> None:
    _write(Path("rows.jsonl"), _rows(700))
    pair = [
        subprocess.Popen(
            _command(words, "rows.jsonl", "-o", "out/", "--shard-rows", 100, "--shard", f"{at}/2"),
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for at in (1, 2)
    ]  # fmt: skip
    ends = [process.communicate(timeout=120) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], ends
    assert [json.loads(out)["written"] for out, _ in ends] == [4, 3]
    assert _manifest(Path("out"))["state"] == "complete"  # the run that ended last
    assert embed("rows.jsonl", "-o", "alone/", "--shard-rows", 100).code == 0
    assert _shards(Path("out")) == _shards(Path("alone"))
    assert _manifest(Path("out"))["shards"] == _manifest(Path("alone"))["shards"]


def test_shares_come_together(embed: Run, encoded: list[str]) -> None:
    _write(Path("rows.jsonl"), _rows(45))
    command = ["rows.jsonl", "-o", "out/", "--shard-rows", 10, "--json", "--shard"]
    report = [_done(embed(*command, f"{at}/3")) for at in (1, 2, 3)]
    assert [(one["written"], one["elsewhere"], one["state"]) for one in report] == [
        (2, 3, "partial"),
        (2, 3, "partial"),
        (1, 4, "complete"),
    ]
    assert len(encoded) == 45
    _write(Path("rows.jsonl"), _rows(15))
    assert [_done(embed(*command, f"{at}/3"))["removed"] for at in (1, 2, 3)] == [1, 1, 1]


def test_a_shard_that_another_run_is_at_is_left_to_it(embed: Run) -> None:
    _write(Path("rows.jsonl"), _rows(30))
    with output_lock(Path("out/_shards/00001")):
        report = _done(embed("rows.jsonl", "-o", "out", "--shard-rows", 10, "--json"))
    assert (report["written"], report["elsewhere"], report["state"]) == (2, 1, "partial")
    report = _done(embed("rows.jsonl", "-o", "out", "--json"))
    assert (report["written"], report["skipped"], report["state"]) == (1, 2, "complete")


def test_a_folder_that_others_write_to_is_not_cleared(embed: Run) -> None:
    _write(Path("rows.jsonl"), _rows(5))
    assert embed("rows.jsonl", "-o", "out/").code == 0
    before = _shards(Path("out"))
    with Path("out/_shards/run.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        ran = embed("rows.jsonl", "-o", "out/", "--restart", "--dtype", "int8")
    assert (ran.code, "being written by another run" in ran.err) == (2, True)
    assert _shards(Path("out")) == before


# -- killed, and out of room ---------------------------------------------------------------------------------------

#: Dies at a moment: before the n-th time that it writes rows, renames, removes or has something on the disk.
_MORTAL = """
import os, signal

def mortal(moment):
    from nearfield.bulk.shard_writer import PendingShard
    left = [moment]
    def dying(call):
        def counted(*args, **options):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **options)
        return counted
    os.fsync, os.replace, os.unlink = dying(os.fsync), dying(os.replace), dying(os.unlink)
    PendingShard.add = dying(PendingShard.add)
"""
#: Tries all moments with an encoder that costs nothing: at each one a child is killed, and a second child continues.
_ALL_MOMENTS = """
import json, os, sys
from hashlib import blake2b, sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.compute
import pyarrow.parquet

from nearfield.bulk.input_table import InputTable
from nearfield.bulk.shard_job import ShardJob
from nearfield.bulk.preflight import ShardRequest, Sharding
from nearfield.vectors.dense import Vectors

pyarrow.array(np.zeros(1))  # imports pandas, which each child would import for itself

class Cheap:
    name, precision, max_length = "cheap", "float32", 64
    recipe = SimpleNamespace(outputs=("dense",))
    def encode(self, texts, **_):
        rows = [np.frombuffer(sha256(text.encode()).digest(), np.uint8) for text in texts]
        counts = {"tokens": np.ones(len(rows), int), "dropped": np.zeros(len(rows), int)}
        return Vectors(np.array(rows, np.float32).reshape(-1, 32), "cheap:32:float32", 32, **counts)
    def stream(self, texts, **_):
        texts = list(texts)
        for at in range(0, len(texts), 4):
            yield self.encode(texts[at:at + 4])
    def prompt_of(self, **_):
        return ""

def job(home):
    source = InputTable((Path("rows.jsonl"),), id_field="id")
    return ShardJob(ShardRequest(Cheap(), source, home, Sharding(sys.argv[1], 10), {}))

def child(work):
    process = os.fork()
    if not process:
        work()
        os._exit(0)
    return os.waitpid(process, 0)[1]

def state(home):
    return {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()}

def honest(files):
    # A manifest that says complete has all its shards, as it tells of them.
    report = json.loads(files.get("_manifest.json", '{"state": "none"}'))
    expected = {name: size["digest"] for shard in report.get("shards", ()) for name, size in shard["files"].items()}
    there = {name: blake2b(data, digest_size=16).hexdigest() for name, data in files.items() if name in expected}
    return report["state"] != "complete" or there == expected

def killed(home, moment):
    mortal(moment)
    job(home).run()

rows = Path("rows.jsonl").read_text().splitlines(keepends=True)
assert child(lambda: job(Path("whole")).run()) == 0
whole = state(Path("whole"))
moment = 0
while True:
    Path("rows.jsonl").write_text("".join(rows[:15] + rows[18:] + rows[:20]))
    home = Path(f"out{moment}")
    if moment % 2:  # into a folder of another content, or a new one
        assert child(lambda: job(home).run()) == 0
    Path("rows.jsonl").write_text("".join(rows))
    end = child(lambda: killed(home, moment))
    if not moment % 2 and not end:
        break
    assert honest(state(home) if home.is_dir() else {}), moment
    assert child(lambda: job(home).run()) == 0, moment
    assert state(home) == whole, (moment, sorted(state(home)))
    assert not [path for path in (home / "_shards").iterdir() if path.name.endswith((".partial", ".new"))], moment
    moment += int(sys.argv[2])
print(moment)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("form", "step"), [("parquet", 1), ("npy", 3)])
def test_killed_at_any_moment_it_ends_the_same(form: str, step: int, tmp_path: Path) -> None:
    _write(tmp_path / "rows.jsonl", _rows(25))
    done = subprocess.run(
        [sys.executable, "-c", _MORTAL + _ALL_MOMENTS, form, str(step)],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


@pytest.fixture
def mortal(words: list[str], tmp_path: Path) -> Callable[..., int]:
    """Run the command in a process that is killed at a moment; return how that ended."""
    code = _MORTAL + "import sys\nmortal(int(sys.argv.pop(1)))\nfrom nearfield import cli\ncli.main()"

    def started(moment: int, *more: object) -> int:
        command = [sys.executable, "-c", code, str(moment), *_command(words, *more)[3:]]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False).returncode

    return started


@pytest.mark.slow
def test_a_killed_run_ends_with_the_bytes_of_a_whole_one(embed: Run, mortal: Callable[..., int]) -> None:
    _write(Path("rows.jsonl"), _rows(1200))
    command = ["rows.jsonl", "-o", "out/", "--shard-rows", 400]
    assert mortal(22, *command) == -signal.SIGKILL
    safe = len(_shards(Path("out")))
    assert 0 < safe < 3
    assert mortal(14, *command) == -signal.SIGKILL
    report = _done(embed(*command, "--json"))
    assert report["skipped"] >= safe
    assert report["state"] == "complete"
    assert embed("rows.jsonl", "-o", "whole/", "--shard-rows", 400).code == 0
    assert _shards(Path("out")) == _shards(Path("whole"))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["parquet", "npy", "jsonl"])
def test_a_full_disk_leaves_what_is_whole(embed: Run, form: str) -> None:
    _write(Path("rows.jsonl"), _rows(40))
    Path("out/_shards").mkdir(parents=True)
    Path(f"out/_shards/part-00002.{form}.partial").symlink_to("/dev/full")
    command = ["rows.jsonl", "-o", "out/", "--shard-rows", 10, "--shard-format", form, "--json"]
    ran = embed(*command)
    assert ran.code == 1
    assert "the disk is full" in ran.err
    assert "This run wrote 2 shards; they stay." in ran.err
    assert len(ran.err.splitlines()) == 1
    assert _manifest(Path("out"))["state"] == "partial"
    assert not list(Path("out/_shards").glob("*.partial"))
    report = _done(embed(*command))
    assert (report["written"], report["skipped"], report["state"]) == (2, 2, "complete")


# -- steady --------------------------------------------------------------------------------------------------------


def test_few_texts_are_on_their_way_at_once(tiny: Encoder) -> None:
    taken = [0]

    def texts() -> Iterator[str]:
        for row in _rows(1500):
            taken[0] += 1
            yield row["text"]

    given = 0
    for part in tiny.stream(texts(), window=64, steady=True):
        assert taken[0] - given <= 3 * 64
        given += len(part)
    assert given == 1500


def test_steady_windows_are_alone_in_the_engine(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[int] = []
    submit = tiny.engine.submit

    def watched(ticket: Any, **options: Any) -> Any:
        stats = tiny.engine.stats()
        waiting.append(stats.queued_jobs)
        return submit(ticket, **options)

    monkeypatch.setattr(tiny.engine, "submit", watched)
    texts = [row["text"] for row in _rows(1000)]
    steady = np.concatenate([part.data for part in tiny.stream(texts, window=100, steady=True)])
    assert waiting == [0] * 10
    np.testing.assert_allclose(steady, np.asarray(tiny.encode(texts)), atol=2e-6)


def test_the_bar_names_the_shard(tiny: Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path / "rows.jsonl", _rows(20))
    source = InputTable((tmp_path / "rows.jsonl",), id_field="id")
    ShardJob(ShardRequest(tiny, source, tmp_path / "out", Sharding(rows=10), {}), shown=True).run()
    shown = capsys.readouterr().err
    assert all(report in shown for report in ("shard 2/2", "20/20", "tokens/s"))


def test_a_folder_that_is_none_yet_has_no_terms(tmp_path: Path) -> None:
    assert ShardDirectory(tmp_path / "none").schema() is None
    assert preflight.parse_share("2/2") == (2, 2)


def test_the_page_on_bulk_work(embed: Run, capsys: pytest.CaptureFixture[str]) -> None:
    _write(Path("data/rows.jsonl"), [{**row, "title": "t", "url": "u"} for row in _rows(20)])
    page = (ROOT / "docs" / "guides" / "bulk.md").read_text(encoding="utf-8")
    commands = [shlex.split(line) for line in re.findall(r"^\$ nearfield embed (.+)$", page, re.M)]
    for command in commands[:2]:
        assert embed(*command).code == 0
    exec(re.findall(r"```python\n(.*?)```", page, re.S)[0], {})
    assert capsys.readouterr().out == "n0 (20, 32) 1.0\n"
