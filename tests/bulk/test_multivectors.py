"""``nearfield embed`` of late interaction: multi-vectors of texts and pages in every format, and what reads them."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

import nearfield
from nearfield import Encoder, Image, MultiVectors, maxsim, read_multivectors
from nearfield.bulk import file_job
from nearfield.bulk.row_files import vector_rows
from nearfield.errors import InputError
from tests.parity import m3
from tests.parity.multivector import FIXED, own
from tests.support import tiny_pictures, tiny_retrievers
from tests.support.cli_runner import Ran, run
from tests.support.paths import ROOT
from tests.support.tiny_models import TEXTS

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

Run = Callable[..., Ran]
ROWS = [{"id": f"n{at}", "text": text, "vectors": at} for at, text in enumerate([*TEXTS, ""] * 3)]
FORMATS = ("parquet", "npy", "jsonl")


@pytest.fixture(scope="module")
def colbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own("bert", FIXED)(tmp_path_factory.mktemp("models") / "colbert")


@pytest.fixture(scope="module")
def encoder(colbert: Path) -> Iterator[Encoder]:
    with Encoder(str(colbert), precision="float32") as model:
        yield model


@pytest.fixture(scope="module")
def expected(encoder: Encoder) -> MultiVectors:
    vectors: MultiVectors = encoder.encode([row["text"] for row in ROWS], role="document")
    return vectors


@pytest.fixture
def embed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, colbert: Path, tmp_path: Path) -> Run:
    """Run ``nearfield embed`` with a tiny ColBERT, in a folder with rows."""
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    options = ("--precision", "float32", "--role", "document")

    def ran(*words: object, model: Path = colbert) -> Ran:
        return run(capsys, monkeypatch, "embed", "rows.jsonl", *words, "--model", model, *options)

    return ran


def _read(output: str) -> tuple[list[Any], MultiVectors]:
    """Return all ids and vectors of an output."""
    blocks = list(read_multivectors(output))
    assert all(isinstance(block.vectors, MultiVectors) for block in blocks)
    rows = [array for block in blocks for array in block.vectors]
    first = blocks[0].vectors
    vectors = MultiVectors.of(rows, first.dim, first.fingerprint, average=first.average)
    return [key for block in blocks for key in block.ids], vectors


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _assert_equal(found: MultiVectors, expected: MultiVectors, tolerance: float = 1e-5) -> None:
    np.testing.assert_array_equal(found.indptr, expected.indptr)
    np.testing.assert_allclose(found.data, expected.data, atol=tolerance)
    assert (found.fingerprint, found.average) == (expected.fingerprint, expected.average)


@pytest.mark.parametrize("form", FORMATS)
def test_one_file_is_read_again(embed: Run, form: str, expected: MultiVectors, encoder: Encoder) -> None:
    ids = [] if form == "npy" else ["--id-field", "id"]
    ran = embed("-o", f"out.{form}", "--json", *ids)
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    assert (report["texts"], report["vectors"]) == (len(ROWS), len(expected.data))
    keys, vectors = _read(f"out.{form}")
    assert keys == (list(range(len(ROWS))) if form == "npy" else [row["id"] for row in ROWS])
    _assert_equal(vectors, expected)
    query = encoder.encode(["the river by night"], role="query")
    np.testing.assert_allclose(query.similarity(vectors), maxsim(query, expected), atol=1e-4)
    if form != "npy":
        block = next(iter(read_multivectors(f"out.{form}")))
        assert block.vectors.tokens is not None and expected.tokens is not None
        np.testing.assert_array_equal(block.vectors.tokens, expected.tokens)


@pytest.mark.parametrize("form", FORMATS)
def test_shards_are_read_again_and_continued(embed: Run, form: str, expected: MultiVectors) -> None:
    words = ("-o", "out/", "--id-field", "id", "--shard-rows", 5, "--shard-format", form, "--json", "--quiet")
    assert embed(*words).code == 0
    before = _files(Path("out"))
    keys, vectors = _read("out/")
    assert keys == [row["id"] for row in ROWS]
    _assert_equal(vectors, expected)
    for path in [*Path("out").glob("part-00001.*"), Path("out/_shards/00001.json")]:
        path.unlink()
    with pytest.raises(InputError, match=r"part-00001|not complete"):
        list(read_multivectors("out/"))
    report = json.loads(embed(*words).out)
    assert (report["written"], report["vectors"], report["state"]) == (1, len(expected.data), "complete")
    assert _files(Path("out")) == before
    assert not list(Path("out/_shards").glob("*.partial"))


def test_parquet_has_a_list_of_vectors_of_each_row(embed: Run, expected: MultiVectors) -> None:
    assert embed("-o", "out.parquet", "--dtype", "float16").code == 0
    table = parquet.read_table("out.parquet")
    inner = table.schema.field("embedding").type.value_type
    assert (inner.list_size, str(inner.value_type)) == (expected.dim, "halffloat")
    assert [len(row) for row in table["embedding"].to_pylist()] == np.diff(expected.indptr).tolist()
    metadata = table.schema.metadata
    assert (metadata[b"nearfield.kind"], metadata[b"nearfield.average"]) == (b"multivector", b"false")
    _assert_equal(_read("out.parquet")[1], expected, 1e-3)


@pytest.mark.parametrize("form", FORMATS)
def test_float16_is_half_of_each_number(embed: Run, form: str, expected: MultiVectors) -> None:
    assert embed("-o", "out/", "--dtype", "float16", "--shard-format", form).code == 0
    _assert_equal(_read("out/")[1], expected, 1e-3)
    if form == "npy":
        assert np.load("out/part-00000.npy").dtype == np.float16


def test_npy_has_offsets_beside_it(embed: Run, expected: MultiVectors) -> None:
    assert embed("-o", "out.npy").code == 0
    np.testing.assert_array_equal(np.load("out.offsets.npy"), expected.indptr)
    np.testing.assert_allclose(np.load("out.npy"), expected.data, atol=1e-5)


@pytest.mark.parametrize("form", FORMATS)
def test_an_interrupted_run_continues_in_the_same_bytes(
    embed: Run, form: str, monkeypatch: pytest.MonkeyPatch, expected: MultiVectors
) -> None:
    """The run stops after the second window, and leaves bytes after the last state, as a kill does."""
    monkeypatch.setattr(vector_rows, "_MULTIVECTOR_WINDOW", 4)
    monkeypatch.setattr(file_job, "_BLOCK_INPUTS", 3)
    assert embed("-o", f"whole.{form}").code == 0
    append, count = file_job.FileJob._append, 0

    def stopping(job: Any, window: Any, files: Any) -> None:
        nonlocal count
        count += 1
        if count > 2:
            for file in files.values():
                file.write(b"half of a row")
                file.flush()
            raise OSError("the machine stopped")
        append(job, window, files)

    with monkeypatch.context() as patch:
        patch.setattr(file_job.FileJob, "_append", stopping)
        assert embed("-o", f"out.{form}").code != 0
    report = json.loads(embed("-o", f"out.{form}", "--json").out)
    assert (report["resumed_at"], report["vectors"]) == (8, len(expected.data))
    _assert_equal(_read(f"out.{form}")[1], expected)
    assert Path(f"out.{form}").read_bytes() == Path(f"whole.{form}").read_bytes()


def test_a_partial_file_that_lost_bytes_is_begun_again(embed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_rows, "_MULTIVECTOR_WINDOW", 4)
    with monkeypatch.context() as patch:
        patch.setattr(file_job.FileJob, "_finish", lambda *_: (_ for _ in ()).throw(OSError("the machine stopped")))
        assert embed("-o", "out.npy").code != 0
    for name in ("lengths.bin", "rows.bin"):
        file = Path("out.npy.partial") / name
        file.write_bytes(file.read_bytes()[:-1])
        with monkeypatch.context() as patch:
            patch.setattr(file_job.FileJob, "_finish", lambda *_: (_ for _ in ()).throw(OSError("stopped again")))
            seen = _resumed_at(patch)
            assert embed("-o", "out.npy").code != 0
        assert seen == [0]


def _resumed_at(patch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    resume = file_job.FileJob._resume

    def watched(job: Any, restart: bool) -> int:
        seen.append(resume(job, restart))
        return seen[-1]

    patch.setattr(file_job.FileJob, "_resume", watched)
    return seen


def test_a_model_with_several_outputs_writes_the_chosen_one(embed: Run, tmp_path: Path) -> None:
    folder = m3.write(tmp_path)
    assert embed("-o", "dense.parquet", model=folder).code == 0
    assert embed("-o", "many/", "--vectors", "multivector", model=folder).code == 0
    with Encoder(str(folder), precision="float32") as encoder:
        expected = encoder.encode([row["text"] for row in ROWS], role="document", outputs="multivector").multivector
    _assert_equal(_read("many/")[1], expected)
    assert expected.average
    with pytest.raises(InputError, match="one vector of each input"):
        list(read_multivectors("dense.parquet"))
    ran = embed("-o", "many/", model=folder)
    assert ran.code == 2 and "do not go with these" in ran.err
    ran = embed("-o", "x.npy", "--vectors", "sparse", model=folder)
    assert ran.code == 2 and "Choose dense or multivector" in ran.err and "Traceback" not in ran.err


def test_what_makes_no_sense_is_refused(embed: Run) -> None:
    assert "written as float32 or float16, not 'int8'" in embed("-o", "x.npy", "--dtype", "int8").err
    assert "gives no 'dense' output" in embed("-o", "x.npy", "--vectors", "dense").err
    clash = embed("-o", "x/", "--keep", "vectors", "--shard-format", "npy")
    assert clash.code == 2 and "a column of that name already" in clash.err
    assert embed("-o", "x/", "--keep", "vectors").code == 0
    cases = (
        ("none.npy", "cannot be read"),
        ("x.txt", "no file of multi-vectors"),
        (".", "cannot be"),
        ("s3://bucket/x/", "bucket: copy"),
    )
    for output, message in cases:
        with pytest.raises(InputError, match=message):
            list(nearfield.read_multivectors(output))


def test_a_dry_run_counts_the_vectors_of_a_text(embed: Run, expected: MultiVectors) -> None:
    forecast = json.loads(embed("-o", "out/", "--dry-run", "--json").out)
    size = expected.data.nbytes
    assert size / 2 < forecast["bytes_to_do"] < size * 2
    assert not Path("out").exists()


@pytest.mark.parametrize("form", FORMATS)
def test_pages(form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = tiny_retrievers.colpali(tmp_path / "colpali")
    (tmp_path / "pages").mkdir()
    for number, picture in enumerate(tiny_pictures.pictures()):
        picture.convert("RGB").save(tmp_path / "pages" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    ran = run(capsys, monkeypatch, "embed", "pages", "-o", f"out.{form}", "--model", model, "--precision", "float32")
    if form == "npy":
        assert ran.code == 2 and "NPY holds no ids" in ran.err
        return
    assert ran.code == 0, ran.err
    assert "Vectors:" in ran.out
    paths = sorted(Path("pages").iterdir())
    with Encoder(str(model), precision="float32") as encoder:
        expected = encoder.encode_document([Image(path=path) for path in paths])
        keys, vectors = _read(f"out.{form}")
        assert keys == [path.name for path in paths]
        _assert_equal(vectors, expected, 2e-5)
        assert encoder.similarity(encoder.encode_query("the river"), vectors).shape == (1, len(paths))


def test_the_page_on_bulk_work(embed: Run, colbert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "guides" / "bulk.md").read_text(encoding="utf-8").split("## Late interaction")[1]
    command = shlex.split(re.findall(r"^\$ nearfield embed data/ (.+)$", page, re.M)[0])
    assert embed(*command).code == 0
    code = re.findall(r"```python\n(.*?)```", page, re.S)[0]
    exec(code.replace("answerai-colbert-small", str(colbert)), {})
    best = ast.literal_eval(capsys.readouterr().out)
    assert len(best) == 10 and best[0][0] >= best[-1][0] and best[0][1] in {row["id"] for row in ROWS}
