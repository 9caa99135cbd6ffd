"""``nearfield embed``: every format in and out, bad lines, and a run that was killed."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pytest
from pyarrow import parquet

from nearfield import Encoder
from nearfield.bulk import file_job, repeated_ids
from nearfield.bulk.text_source import TextSource
from nearfield.errors import InputError
from nearfield.progress import Progress
from tests.support.cli_runner import Ran, run

pytestmark = pytest.mark.process

TEXTS = ["the cat sat", "", 'a dog, "quoted", on the mat', "blau über 猫", "the " * 90]
Run = Callable[..., Ran]
#: Texts of a run that is killed: three times as many as it writes at once.
COUNT = 12_000


@pytest.fixture
def embed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: Encoder, tmp_path: Path) -> Run:
    """Run ``nearfield embed`` with the tiny model, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    model = ("--model", tiny.recipe.folder, "--precision", "float32")
    return lambda *words: run(capsys, monkeypatch, "embed", *words, *model)


def _write(form: str, path: Path) -> None:
    if form == "txt":
        path.write_text("\n".join(TEXTS), encoding="utf-8")
    elif form == "jsonl":
        path.write_text("".join(json.dumps({"id": f"n{i}", "text": t}) + "\n" for i, t in enumerate(TEXTS)))
    elif form in ("csv", "tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="," if form == "csv" else "\t")
            writer.writerows([["id", "text"], *([f"n{i}", text] for i, text in enumerate(TEXTS))])
    else:
        ids = [f"n{i}" for i in range(len(TEXTS))]
        parquet.write_table(arrow.table({"id": ids, "text": TEXTS}), path)


@pytest.mark.parametrize(("output", "stdin"), [("out.parquet", False), ("out.parquet", True), ("out/", False)])
def test_repeated_ids_are_named_and_all_rows_written(
    embed: Run, monkeypatch: pytest.MonkeyPatch, output: str, stdin: bool
) -> None:
    keys = ["a", 1, "b", "a", "1", "c", "a"]
    lines = "".join(json.dumps({"id": key, "text": f"cat {at}"}) + "\n" for at, key in enumerate(keys))
    Path("in.jsonl").write_text(lines, encoding="utf-8")
    if stdin:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    ran = embed("-" if stdin else "in.jsonl", "--format", "jsonl", "--id-field", "id", "-o", output)
    assert ran.code == 0
    warnings = [line for line in ran.err.splitlines() if "Repeated" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: Repeated ids: 2. The first is 'a', with 3 rows. All rows are written; ")
    assert warnings[0].endswith(" one row for each id would lose 3 rows.")
    assert parquet.read_table(output)["id"].to_pylist() == list(map(str, keys))


@pytest.mark.parametrize("output", ["out.jsonl", "out/"])
def test_ids_that_occur_once_bring_no_warning(embed: Run, output: str) -> None:
    Path("in.jsonl").write_text("".join(f'{{"id": {at}, "text": "cat"}}\n' for at in range(50)), encoding="utf-8")
    ran = embed("in.jsonl", "--id-field", "id", "-o", output)
    assert (ran.code, ran.err) == (0, "")


def test_two_ids_with_one_digest_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_ids, "_digest", lambda key: len(str(key)))
    digests = repeated_ids.IdDigests()
    for key in ("a", "b", "cc", None, None):
        digests.add(key)
    assert digests.repeated() == {1}
    assert digests.warning(["a", "b", "cc", None, None]) is None


def _read(path: Path) -> np.ndarray[Any, np.dtype[Any]]:
    if path.suffix == ".npy":
        return np.asarray(np.load(path))
    if path.suffix == ".jsonl":
        return np.array([json.loads(line)["embedding"] for line in path.read_text().splitlines()], np.float32)
    return np.array(parquet.read_table(path)["embedding"].to_pylist(), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("output", ["npy", "jsonl", "parquet"])
@pytest.mark.parametrize("form", ["txt", "jsonl", "csv", "tsv", "parquet"])
def test_every_format_gives_the_vectors_of_encode(embed: Run, tiny: Encoder, form: str, output: str) -> None:
    _write(form, Path(f"texts.{form}"))
    ran = embed(f"texts.{form}", "-o", f"out.{output}")
    assert ran.code == 0, ran.err
    np.testing.assert_allclose(_read(Path(f"out.{output}")), np.asarray(tiny.encode(TEXTS)), atol=2e-6)
    assert not Path(f"out.{output}.partial").exists()


@pytest.mark.slow
def test_ids_and_counts_travel_with_the_rows(embed: Run, tiny: Encoder) -> None:
    _write("jsonl", Path("texts.jsonl"))
    assert embed("texts.jsonl", "-o", "out.jsonl", "--id-field", "id").code == 0
    assert embed("texts.jsonl", "-o", "out.parquet", "--id-field", "id").code == 0
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    table = parquet.read_table("out.parquet").to_pylist()
    whole = tiny.encode(TEXTS)
    for got in (rows, table):
        assert [row["id"] for row in got] == [f"n{i}" for i in range(len(TEXTS))]
        assert [row["tokens"] for row in got] == np.asarray(whole.tokens).tolist()
        assert [row["truncated"] for row in got] == np.asarray(whole.dropped).tolist()
    assert parquet.read_metadata("out.parquet").metadata[b"nearfield.fingerprint"].decode() == whole.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "int8", "uint8", "binary", "ubinary"])
def test_options_reach_the_vectors(embed: Run, tiny: Encoder, dtype: str) -> None:
    _write("txt", Path("texts.txt"))
    options = ["--dims", "16", "--force-dims", "--role", "query", "--dtype", dtype]
    assert embed("texts.txt", "-o", "out.npy", *options).code == 0
    expected = tiny.encode(TEXTS, role="query", truncate_dim=16, force_truncate_dim=True, precision=dtype).data
    got = np.load("out.npy")
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if dtype == "float16":
        np.testing.assert_allclose(got, expected, atol=1e-3)
    else:
        assert (got != expected).mean() < 0.05  # a value on the edge of a step may round either way in another batch


def test_the_report_counts_what_was_cut(embed: Run, tiny: Encoder) -> None:
    _write("txt", Path("texts.txt"))
    report = json.loads(embed("texts.txt", "-o", "out.npy", "--json").out)
    dropped = np.asarray(tiny.encode(TEXTS).dropped)
    assert report["texts"] == len(TEXTS)
    assert report["truncated_texts"] == int((dropped > 0).sum()) == 1
    assert report["truncated_tokens"] == int(dropped.sum())
    assert report["fingerprint"] == tiny.fingerprint
    assert json.loads(Path("out.npy.json").read_text())["fingerprint"] == tiny.fingerprint
    assert "1 text too long; " in embed("texts.txt", "-o", "out.npy").out


def test_the_report_counts_what_the_model_cannot_read(embed: Run) -> None:
    texts = ["the cat", "ร้านกาแฟ", "the cat 猫", "การประชุม ที่", "\x01\x02"] * 100
    Path("texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    report = json.loads(embed("texts.jsonl", "-o", "out.npy", "--json").out)
    assert (report["unknown_tokens"], report["unread_texts"]) == (400, 300)
    assert "Unknown:      400 tokens; the model cannot read 300 texts" in embed("texts.jsonl", "-o", "out.npy").out
    shards = json.loads(embed("texts.jsonl", "-o", "out/", "--shard-rows", 200, "--json").out)
    assert (shards["unknown_tokens"], shards["unread_texts"]) == (400, 300)
    again = json.loads(embed("texts.jsonl", "-o", "out/", "--shard-rows", 200, "--json").out)
    assert (again["skipped"], again["unknown_tokens"], again["unread_texts"]) == (3, 400, 300)


def test_stdin(embed: Run, tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    _pipe(monkeypatch, "\ufeffthe cat\nblau über 猫\r\n")
    assert embed("-", "-o", "out.npy").code == 0
    np.testing.assert_allclose(np.load("out.npy"), np.asarray(tiny.encode(["the cat", "blau über 猫"])), atol=2e-6)


@pytest.mark.parametrize("form", ["jsonl", "csv", "tsv"])
def test_stdin_keeps_its_ids(embed: Run, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    _write(form, Path(f"texts.{form}"))
    _pipe(monkeypatch, Path(f"texts.{form}").read_text(encoding="utf-8"))
    assert embed("-", "--format", form, "--id-field", "id", "-o", "piped.jsonl").code == 0
    assert embed(f"texts.{form}", "--id-field", "id", "-o", "read.jsonl").code == 0
    piped, read = (_json_lines(Path(f"{name}.jsonl")) for name in ("piped", "read"))
    assert [(row["id"], row["tokens"]) for row in piped] == [(row["id"], row["tokens"]) for row in read]


@pytest.mark.slow
def test_stdin_is_utf8_whatever_the_locale(tiny: Encoder, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nearfield.cli", "embed", "-", "-o", str(tmp_path / "out.npy"), "--json"]
    for given, code in (("über".encode(), 0), (b"\xff\xfe", 2)):
        done = subprocess.run(
            [*command, "--model", str(tiny.recipe.folder)],
            input=given,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
    assert b"not UTF-8" in done.stderr


def test_parquet_does_not_come_through_stdin(embed: Run) -> None:
    assert "cannot be read from stdin" in embed("-", "--format", "parquet", "-o", "out.npy").err


@pytest.mark.parametrize("form", ["txt", "jsonl", "csv", "tsv"])
def test_a_byte_order_mark_is_no_text(form: str, tmp_path: Path) -> None:
    _write(form, tmp_path / f"plain.{form}")
    marked = tmp_path / f"marked.{form}"
    marked.write_bytes(b"\xef\xbb\xbf" + (tmp_path / f"plain.{form}").read_bytes())
    assert [text for _, text in TextSource((marked,)).rows()] == TEXTS


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"a\r\n\r\n", ["a", ""]),
        ("a\u2028b\x0bc\rd\n".encode(), ["a\u2028b\x0bc\rd"]),
    ],
)
def test_each_line_is_a_text_and_so_is_an_empty_one(content: bytes, texts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    assert [text for _, text in TextSource((path,)).rows()] == texts
    assert TextSource((path,)).count() == len(texts)


def test_a_parquet_row_is_named(tmp_path: Path) -> None:
    parquet.write_table(arrow.table({"text": ["a", None], "body": ["a", "b"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="row 2: field 'text' holds nothing"):
        TextSource((tmp_path / "a.parquet",)).count()
    with pytest.raises(InputError, match=r"no column 'bdy'\. Did you mean 'body'"):
        TextSource((tmp_path / "a.parquet",), field="bdy").count()


@pytest.mark.slow
@pytest.mark.parametrize("output", ["jsonl", "parquet"])
def test_ids_of_any_kind_arrive(embed: Run, output: str) -> None:
    ids = {
        "number": arrow.array([1, -(2**63)]),
        "decimal": arrow.array([Decimal("1.50"), Decimal("2.00")]),
        "bytes": arrow.array([b"\x00\xff", b"\x10"]),
        "day": arrow.array([date(2026, 1, 2), date(2026, 1, 3)]),
    }
    parquet.write_table(arrow.table({"text": ["a", "b"], **ids}), "a.parquet")
    wanted: dict[str, list[Any]] = {"number": [1, -(2**63)], "decimal": ["1.50", "2.00"], "bytes": ["00ff", "10"]}
    wanted["day"] = ["2026-01-02", "2026-01-03"]
    for field, expected in wanted.items():
        assert embed("a.parquet", "-o", f"out.{output}", "--id-field", field).code == 0
        if output == "jsonl":
            assert [row["id"] for row in _json_lines(Path("out.jsonl"))] == expected
        else:
            assert parquet.read_table("out.parquet")["id"].to_pylist() == [str(key) for key in expected]


def test_an_id_of_many_digits_is_kept(embed: Run) -> None:
    Path("a.jsonl").write_text(json.dumps({"id": 2**70, "text": "a"}) + "\n", encoding="utf-8")
    assert embed("a.jsonl", "-o", "out.jsonl", "--id-field", "id").code == 0
    assert json.loads(Path("out.jsonl").read_text())["id"] == str(2**70)


def test_the_sidecar_tells_how_the_vectors_were_made(embed: Run) -> None:
    _write("txt", Path("texts.txt"))
    assert embed("texts.txt", "-o", "out.npy", "--role", "query", "--dtype", "int8").code == 0
    report = json.loads(Path("out.npy.json").read_text(encoding="utf-8"))
    assert (report["texts"], report["role"], report["precision"]) == (len(TEXTS), "query", "int8")
    assert np.array(report["ranges"]).shape == (2, 32)


def test_a_prompt_reaches_the_text(embed: Run, tiny: Encoder) -> None:
    Path("a.txt").write_text("the cat\n", encoding="utf-8")
    for words, expected in (
        (["--prompt", "blue "], tiny.encode(["blue the cat"])),
        (["--prompt-name", "query"], tiny.encode(["the cat"], prompt_name="query")),
    ):
        assert embed("a.txt", "-o", "out.npy", *words).code == 0
        np.testing.assert_allclose(np.load("out.npy"), np.asarray(expected), atol=2e-6)


def test_the_bar_knows_how_many_are_left(embed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    totals: list[int | None] = []

    class Watched(Progress):
        def __init__(self, total: int | None, **options: Any) -> None:
            totals.append(total)
            super().__init__(total, **options)

    monkeypatch.setattr(file_job, "Progress", Watched)
    _write("csv", Path("texts.csv"))
    assert embed("texts.csv", "-o", "out.npy").code == 0
    with monkeypatch.context() as broken:
        _break(broken)
        assert embed("texts.csv", "-o", "out.npy").code == 1
    assert embed("texts.csv", "-o", "out.npy").code == 0
    _pipe(monkeypatch, "a\nb\n")
    assert embed("-", "-o", "out.npy").code == 0
    assert totals == [len(TEXTS), len(TEXTS), 0, None]


def test_the_bar_shows_speed_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(4, label="notes.npy") as progress:
        progress.advance(2, 30)
    shown = capsys.readouterr().err
    assert all(word in shown for word in ("notes.npy", "2/4", "texts/s", "tokens/s", "0:00:00"))


def _json_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _pipe(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_several_files_are_one_after_the_other(embed: Run) -> None:
    Path("a.txt").write_text("the cat\n", encoding="utf-8")
    Path("b.csv").write_text("text\na dog\n", encoding="utf-8")
    assert embed("a.txt", "b.csv", "-o", "out.npy").code == 0
    assert np.load("out.npy").shape == (2, 32)


def test_no_texts_give_no_vectors(embed: Run) -> None:
    Path("empty.txt").touch()
    for output in ("out.npy", "out.jsonl", "out.parquet"):
        assert embed("empty.txt", "-o", output).code == 0
    assert np.load("out.npy").shape == (0, 32)
    assert Path("out.jsonl").read_text() == ""
    assert parquet.read_table("out.parquet").num_rows == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "words", "message"),
    [
        ("bad.jsonl", b'{"text": "a"}\n{"text": \n', [], "bad.jsonl, line 2: not JSON"),
        ("bad.jsonl", b'{"txt": "a"}\n', [], "Did you mean 'txt'"),
        ("bad.jsonl", b'{"text": 5}\n', [], "holds int, not text"),
        ("bad.jsonl", b"[1]\n", [], "list, not an object"),
        ("bad.jsonl", b'{"text": "a"}\n', ["--id-field", "key"], "no field 'key'"),
        ("bad.txt", b"fine\n\xff\xfe\n", [], "not UTF-8"),
        ("bad.csv", b"id,text\n1\n", [], "bad.csv, line 2"),
        ("bad.csv", b"id,body\n1,a\n", [], "bad.csv: no column 'text'"),
        ("bad.csv", b"id,texts\n", [], "Did you mean 'texts'"),
        ("bad.jsonl", b'{"text": null}\n', [], "line 1: field 'text' holds nothing"),
        ("bad.jsonl", b'{"text": "\\ud800"}\n', [], "line 1: field 'text' is not Unicode"),
        ("bad.jsonl", b'"\\ud800"\n', [], "line 1: field 'text' is not Unicode"),
        ("bad.jsonl", b"[" * 100_000, [], "line 1: not JSON"),
        ("bad.jsonl", b"9" * 5_000, [], "line 1: not JSON"),
        ("bad.jsonl", b'{"text": "a", "id": null}\n', ["--id-field", "id"], "'id' holds nothing"),
        ("bad.jsonl", b'{"text": "a", "id": {}}\n', ["--id-field", "id"], "'id' holds dict"),
        ("bad.jsonl", b'{"text": "a", "id": "\\ud800"}\n', ["--id-field", "id"], "'id' is not Unicode"),
        ("bad.jsonl", b'"a"\n', ["--id-field", "id"], "str, not an object"),
        ("good.txt", b"a\n", ["--id-field", "id"], "plain text holds no ids"),
        ("bad.csv", b'text\n"' + b"a" * 10 + b"\xff", [], "bad.csv, after line"),
        ("good.txt", b"a\n", ["--dims", "0"], "0"),
        ("good.txt", b"a\n", ["--truncate", "rigth"], "Did you mean 'right'"),
        ("good.txt", b"a\n", ["--format", "jsnol"], "Did you mean 'jsonl'"),
        ("good.txt", b"a\n", ["--prompt-name", "serach"], "serach"),
        ("bad.parquet", b"PAR1 nothing of the kind", [], "bad.parquet"),
        ("bad.xyz", b"a\n", [], "unknown format 'xyz'"),
        ("good.txt", b"a\n", ["--role", "quary"], "Did you mean 'query'"),
        ("good.txt", b"a\n", ["--dtype", "int4"], "Did you mean 'int8'"),
        ("good.txt", b"a\n", ["--dims", "16"], "Leave --dims out, or force it (--force-dims)"),
        ("good.txt", b"the " * 90, ["--truncate", "error"], "tokens"),
    ],
)
def test_bad_input_is_named_and_leaves_no_output(
    embed: Run, name: str, content: bytes, words: list[str], message: str
) -> None:
    Path(name).write_bytes(content)
    ran = embed(name, "-o", "out.jsonl", *words)
    assert ran.code == 2
    assert message in ran.err
    assert not Path("out.jsonl").exists()


@pytest.mark.parametrize(
    ("output", "words", "message"),
    [
        ("out.xyz", [], "cannot write 'xyz'"),
        ("texts.jsonl", [], "would be overwritten"),
        ("out.npy", ["--id-field", "id"], "NPY holds no ids"),
        ("out", [], "a file without suffix"),
        ("folder.npy", [], "is a folder"),
    ],
)
def test_an_output_that_cannot_be_is_refused_first(embed: Run, output: str, words: list[str], message: str) -> None:
    _write("jsonl", Path("texts.jsonl"))
    before = Path("texts.jsonl").read_bytes()
    Path("folder.npy").mkdir()
    ran = embed("texts.jsonl", "-o", output, *words)
    assert ran.code == 2
    assert message in ran.err
    assert Path("texts.jsonl").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_one_line(embed: Run) -> None:
    Path("a.txt").write_text("a\n")
    Path("file").touch()
    ran = embed("a.txt", "-o", "file/out.npy")
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)


def test_a_bad_line_shows_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "late.jsonl"
    path.write_text('{"text": "a"}\n' * 5000 + "{\n")
    with pytest.raises(InputError, match="line 5001"):
        TextSource((path,)).count()


# -- killed ----------------------------------------------------------------------------------------------------


def _kill_midway(folder: Path, texts: Path, output: Path) -> int:
    """Start a run, kill it once a part is safe, and return how many rows were; 0 when it was too quick."""
    command = [sys.executable, "-m", "nearfield.cli", "embed", str(texts), "-o", str(output), "--model", str(folder)]
    process = subprocess.Popen([*command, "--precision", "float32"], stdout=subprocess.DEVNULL)
    state = output.with_name(output.name + ".partial") / "state.json"
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        rows = json.loads(state.read_text())["counts"]["rows"] if state.exists() else 0
        if rows:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return int(rows)
        time.sleep(0.001)
    process.wait()
    return 0


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of texts that takes a moment."""
    path = tmp_path_factory.mktemp("many") / "many.txt"
    rng = np.random.default_rng(7)
    words = np.array(["the", "cat", "dog", "sat", "on", "mat", "blue", "red", "hello", "world"])
    path.write_text("\n".join(" ".join(rng.choice(words, rng.integers(1, 40))) for _ in range(COUNT)))
    return path


@pytest.fixture(scope="module")
def whole(tiny: Encoder, many: Path) -> Path:
    """What a run gives that is not killed."""
    path = many.with_name("whole.npy")
    file_job.FileJob(tiny, TextSource((many,)), path, {}).run()
    return path


@pytest.mark.slow
@pytest.mark.parametrize("output", ["npy", "jsonl", "parquet"])
def test_a_killed_run_goes_on_and_ends_the_same(
    embed: Run, tiny: Encoder, many: Path, whole: Path, output: str
) -> None:
    safe = _kill_midway(tiny.recipe.folder, many, Path(f"out.{output}"))
    assert 0 < safe < COUNT
    assert not Path(f"out.{output}").exists()
    kept = np.fromfile(f"out.{output}.partial/rows.bin", np.float32)[: safe * 32].reshape(safe, 32)
    report = json.loads(embed(many, "-o", f"out.{output}", "--json").out)
    assert report["resumed_at"] >= safe
    assert report["texts"] == COUNT
    resumed, expected = _read(Path(f"out.{output}")), np.load(whole)
    np.testing.assert_array_equal(resumed[:safe], kept)  # what was safe is not done again
    # Which texts share a batch is a matter of time, and moves the last bit of a few rows: in whole runs too.
    np.testing.assert_allclose(resumed, expected, atol=2e-6)
    assert (resumed == expected).all(1).mean() > 0.99
    told = [json.loads(Path(f"{name}.json").read_text()) for name in (f"out.{output}", whole)]
    for name in ("tokens", "truncated_texts", "truncated_tokens", "fingerprint"):
        assert told[0][name] == told[1][name]


@pytest.fixture(scope="module")
def killed(tiny: Encoder, many: Path) -> Path:
    """The folder that a killed run left."""
    output = many.with_name("out.npy")
    assert _kill_midway(tiny.recipe.folder, many, output)
    return output.with_name("out.npy.partial")


@pytest.fixture
def halted(embed: Run, killed: Path) -> Path:
    """A copy of that folder, where the next run finds it."""
    return Path(shutil.copytree(killed, "out.npy.partial"))


@pytest.mark.slow
def test_bytes_after_the_last_state_are_not_trusted(embed: Run, halted: Path, many: Path, whole: Path) -> None:
    for name in ("rows.bin", "counts.bin"):
        with (halted / name).open("ab") as file:
            file.write(b"\x7f" * 77)
    assert json.loads(embed(many, "-o", "out.npy", "--json").out)["resumed_at"] > 0
    np.testing.assert_allclose(np.load("out.npy"), np.load(whole), atol=2e-6)


def _shorten(halted: Path) -> None:
    os.truncate(halted / "rows.bin", 10)


def _lose(halted: Path) -> None:
    (halted / "counts.bin").unlink()


def _garble(halted: Path) -> None:
    (halted / "state.json").write_text("{")


@pytest.mark.slow
@pytest.mark.parametrize("damage", [_shorten, _lose, _garble])
def test_a_damaged_rest_is_done_again(embed: Run, halted: Path, many: Path, damage: Callable[[Path], None]) -> None:
    damage(halted)
    report = json.loads(embed(many, "-o", "out.npy", "--json").out)
    assert (report["resumed_at"], report["texts"]) == (0, COUNT)


@pytest.mark.slow
def test_another_job_does_not_go_on_with_it(embed: Run, halted: Path, many: Path) -> None:
    kept = halted.with_name("kept")
    for words in (["--role", "query"], ["--restart"], ["--dtype", "int8"]):
        if not kept.exists():
            shutil.copytree(halted, kept)
        shutil.rmtree(halted, ignore_errors=True)
        shutil.copytree(kept, halted)
        assert json.loads(embed(many, "-o", "out.npy", "--json", *words).out)["resumed_at"] == 0
    before = many.stat()
    os.utime(many)
    shutil.copytree(kept, halted)
    assert json.loads(embed(many, "-o", "out.npy", "--json").out)["resumed_at"] == 0
    os.utime(many, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_input_that_changes_on_the_way_is_refused(embed: Run, tiny: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("the cat\n" * 300, encoding="utf-8")
    job = file_job.FileJob(tiny, TextSource((path,)), tmp_path / "out.npy", {})
    path.write_text("a dog\n" * 300, encoding="utf-8")
    with pytest.raises(InputError, match="changed while it was read"):
        job.run()
    assert not (tmp_path / "out.npy").exists()
    assert json.loads(embed(path, "-o", "out.npy", "--json").out)["resumed_at"] == 0


def test_stdin_begins_anew(embed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(_rest_of_stdin(embed, monkeypatch), "out.npy.partial")
    _pipe(monkeypatch, "c\n")
    report = json.loads(embed("-", "-o", "out.npy", "--json").out)
    assert (report["resumed_at"], report["texts"]) == (0, 1)


def _break(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full when the output is to be put in place."""

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(file_job.FileJob, "_finish", full)


def _rest_of_stdin(embed: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return what a run of stdin leaves when it cannot be finished."""
    _pipe(monkeypatch, "a\nb\n")
    with monkeypatch.context() as broken:
        _break(broken)
        assert embed("-", "-o", "out.npy").code == 1
    return Path("out.npy.partial").rename("rest")
