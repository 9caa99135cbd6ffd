"""nearfield index and nearfield collections, as a user meets them."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.collection import Collection, list_collections
from nearfield.testing import write_tiny_model
from tests.support.cli_runner import Ran, run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(tmp_path / "collections"))
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "cat.md").write_text("# The cat\n\nThe cat sat on the blue mat.\n\n## A dog\n\nThe dog said hello.\n")
    (folder / "world.txt").write_text("Hello world. Search the red mat.")
    return folder


@pytest.fixture
def nearfield(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *words: run(capsys, monkeypatch, *words)


def indexed(nearfield: Any, files: Path, model: Path, *words: object) -> Ran:
    ran: Ran = nearfield("index", "docs", files, "--model", model, "--store", f"memory:{files}", *words)
    assert ran.code == 0, ran.err
    return ran


def test_index_says_what_it_did_and_what_it_does_again(nearfield: Any, files: Path, model: Path) -> None:
    ran = indexed(nearfield, files, model)
    assert ran.out.startswith("docs: 2 documents new\n")
    assert not re.search(r"(?<![\d.,])0 [a-z]", ran.out), "counts of zero are left out"
    again = nearfield("index", "docs")
    assert again.out == "docs: 2 documents unchanged\n"


@pytest.mark.slow
def test_index_reports_as_json_and_dry(nearfield: Any, files: Path, model: Path) -> None:
    indexed(nearfield, files, model)
    (files / "world.txt").unlink()
    report = json.loads(nearfield("index", "docs", "--dry-run", "--json").out)
    assert (report["removed"], report["unchanged"], report["dry_run"]) == (1, 1, True)
    assert json.loads(nearfield("index", "docs", "--json").out)["removed"] == 1


def test_tables_take_columns_and_fields(nearfield: Any, files: Path, model: Path, tmp_path: Path) -> None:
    table = tmp_path / "papers.jsonl"
    rows = [
        {"key": n, "body": f"The {word} sat on the mat.", "year": 2000 + n} for n, word in enumerate(("cat", "dog"))
    ]
    table.write_text("\n".join(map(json.dumps, rows)))
    words = ("--text", "body", "--id", "key", "--meta", "year:int", "--keep-duplicates")
    ran = nearfield("index", "papers", table, "-m", model, "--store", f"memory:{table}", *words)
    assert ran.code == 0, ran.err
    with Collection.open("papers") as papers:
        (hit,) = papers.search("mat", where={"year": 2001})
        assert (hit.fields["year"], hit.document.partition("#")[2]) == (2001, "1")


def test_what_is_piped_in_stays(nearfield: Any, files: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    piped = io.TextIOWrapper(io.BytesIO(b"The cat sat on the mat.\nThe dog said hello to the world.\n"))
    monkeypatch.setattr(sys, "stdin", piped)
    ran = nearfield("index", "lines", "-", "-m", model, "--store", f"memory:{files}-lines")
    assert "2 documents new" in ran.out, ran.err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert "2 documents unchanged" in nearfield("index", "lines").out


@pytest.mark.slow
def test_a_definition_from_a_file(nearfield: Any, files: Path, model: Path, tmp_path: Path) -> None:
    report = f'store = "memory:{files}"\n[features.dense]\nmodel = "{model}"\n[chunks]\ntokens = 12\n'
    (tmp_path / "docs.toml").write_text(report)
    assert nearfield("index", "docs", files, "--config", tmp_path / "docs.toml").code == 0
    with Collection.open("docs") as docs:
        assert docs.config.chunks.tokens == 12
    (tmp_path / "bad.yaml").write_text("features:\n  dense: {modle: x}\n")
    ran = nearfield("index", "docs", files, "--config", tmp_path / "bad.yaml")
    assert ran.code == 2
    assert "modle" in ran.err


def test_features_in_a_line(nearfield: Any, files: Path, model: Path) -> None:
    words = ("--feature", f"dense={model}", "--feature", "short=dense:16", "--feature", "bits=dense:binary")
    ran = nearfield("index", "docs", files, "--store", f"memory:{files}", *words)
    assert ran.code == 0, ran.err
    with Collection.open("docs") as docs:
        report = {table["feature"]: (table["dimensions"], table["dtype"]) for table in docs.info()["tables"]}
    assert report == {"dense": (32, "float32"), "short": (16, "float32"), "bits": (32, "binary")}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("index", "docs", "/nowhere/at/all"), "/nowhere/at/all"),
        (("index", "Bad Name", "."), "not a valid name of a collection"),
        (("index", "docs", ".", "--feature", "dense"), "NAME=MODEL"),
        (("index", "docs", ".", "--store", "oracle://x"), "no store"),
        (("collections", "show", "nothing"), "no collection"),
    ],
)
def test_the_error_names_what_is_wrong(nearfield: Any, files: Path, words: tuple[str, ...], message: str) -> None:
    ran = nearfield(*words)
    assert ran.code in (1, 2)
    assert message in ran.err + ran.out
    assert "Traceback" not in ran.err


@pytest.mark.slow
def test_collections_are_listed_shown_verified_and_dropped(nearfield: Any, files: Path, model: Path) -> None:
    assert "There are no collections" in nearfield("collections", "list").out
    indexed(nearfield, files, model)
    assert "docs: 2 documents" in nearfield("collections", "list").out
    shown = nearfield("collections", "show", "docs").out
    assert "dense" in shown
    assert str(files) in shown
    assert nearfield("collections", "verify", "docs").out.endswith("No problems.\n")
    listed = nearfield("collections", "documents", "docs").out
    assert "cat.md" in listed
    assert nearfield("collections", "drop", "docs", "--yes").code == 0
    assert "There are no collections" in nearfield("collections", "list").out


@pytest.mark.slow
def test_export_import_and_move(nearfield: Any, files: Path, model: Path, tmp_path: Path) -> None:
    indexed(nearfield, files, model)
    assert nearfield("collections", "export", "docs", tmp_path / "out").code == 0
    ran = nearfield("collections", "import", "again", tmp_path / "out", "--store", f"memory:{files}-2")
    assert ran.code == 0, ran.err
    assert nearfield("collections", "move", "again", f"memory:{files}-3").code == 0
    assert nearfield("collections", "verify", "again").code == 0


def test_help_has_examples(nearfield: Any) -> None:
    assert "nearfield index papers papers.jsonl" in nearfield("index", "--help").out.replace("\n", " ")


def test_a_dry_run_makes_no_collection(nearfield: Any, files: Path, model: Path) -> None:
    result = nearfield("index", "docs", str(files), "-m", str(model), "--dry-run")
    assert "would be new" in result.out
    assert "There are no" in nearfield("collections", "list").out


@pytest.mark.slow
def test_a_source_is_let_go(nearfield: Any, files: Path, model: Path) -> None:
    nearfield("index", "docs", str(files), "-m", str(model))
    assert "removed the source" in nearfield("collections", "forget", "docs", str(files)).out
    assert nearfield("collections", "documents", "docs").out.strip() == ""


@pytest.mark.parametrize("words", [("/no/such/folder",), ("--model", "/no/such/model")])
def test_what_cannot_begin_leaves_no_collection(nearfield: Any, files: Path, words: tuple[str, ...]) -> None:
    assert nearfield("index", "docs", str(files), *words).code != 0
    assert "There are no" in nearfield("collections", "list").out


def test_quiet_prints_problems_only(nearfield: Any, files: Path, model: Path) -> None:
    ran = indexed(nearfield, files, model, "-q")
    assert (ran.out, ran.err) == ("", "")
    (files / "bad.txt").write_bytes(b"\x00\xff\xfe\x00 no text \x00\x01\x02")
    ran = nearfield("index", "docs", "-q")
    assert (ran.out, ran.code) == ("", 0)
    assert "1 failed" in ran.err


def test_most_documents_are_removed_only_with_a_flag(nearfield: Any, files: Path, model: Path) -> None:
    indexed(nearfield, files, model)
    for path in files.iterdir():
        path.unlink()
    ran = nearfield("index", "docs")
    assert ran.code == 1
    assert "not removed: 2 of 2 documents" in ran.out
    assert "has no documents" in ran.out
    ran = nearfield("index", "docs", "--allow-removal")
    assert "docs: 2 documents removed" in ran.out
    assert ran.code == 0


def test_a_missing_folder_is_an_error_on_every_run(nearfield: Any, files: Path, model: Path) -> None:
    indexed(nearfield, files, model)
    files.rename(files.with_name("elsewhere"))
    ran = nearfield("index", "docs")
    assert ran.code == 1
    assert f"There is no file or folder {files}" in ran.out
    ran = nearfield("index", "docs", files.with_name("never"))
    assert ran.code == 2
    assert "There is no file or folder" in ran.err


def test_documents_show_what_is_missing(nearfield: Any, files: Path, model: Path) -> None:
    (files / "blank.txt").write_text("... --- ...")
    indexed(nearfield, files, model)
    listed = nearfield("collections", "documents", "docs").out
    assert "100%  files:" in listed
    assert "not read: anything: no words were recognised in it" in listed
    (partial,) = map(
        json.loads, nearfield("collections", "documents", "docs", "--state", "partial", "--json").out.splitlines()
    )
    assert partial["state"] == "partial"
    assert partial["losses"][0]["reason"].startswith("anything")


# -- nothing to index --------------------------------------------------------------------------------------------------


def test_a_slip_in_a_name_creates_nothing(nearfield: Any, files: Path, model: Path) -> None:
    indexed(nearfield, files, model)
    for words in (("index", "dosc"), ("index", "dosc", "--dry-run"), ("index", "dosc", "--model", model, "--json")):
        ran = nearfield(*words)
        assert ran.code == 2 and not ran.out
        assert "no collection 'dosc'. Did you mean 'docs'?" in ran.err and "nearfield index dosc FOLDER" in ran.err
    assert list_collections() == ["docs"]


def test_a_folder_in_the_place_of_the_name_is_recognised(
    nearfield: Any, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files.parent)
    ran = nearfield("index", "files")
    assert ran.code == 2 and "nearfield index NAME files" in ran.err


@pytest.mark.parametrize("source", ["empty", "files/*.pdf", "pictures"])
def test_a_new_collection_without_documents_is_not_created(
    nearfield: Any, files: Path, model: Path, source: str
) -> None:
    for name in ("empty", "pictures"):
        (files.parent / name).mkdir()
    (files.parent / "pictures" / "a.xyz").write_bytes(b"\0\1")
    ran = nearfield("index", "new", files.parent / source, "--model", model)
    assert ran.code == 2 and "There is nothing to index" in ran.err
    assert ran.out.startswith("new: no documents"), "the report says why"
    assert list_collections() == []


def test_an_existing_collection_may_become_empty(nearfield: Any, files: Path, model: Path) -> None:
    indexed(nearfield, files, model)
    for path in files.iterdir():
        path.unlink()
    assert nearfield("index", "docs", "--allow-removal").code == 0
    assert nearfield("index", "docs").code == 0
    assert list_collections() == ["docs"]


# -- what show says ----------------------------------------------------------------------------------------------------


def test_show_names_ocr_language_and_fields(nearfield: Any, files: Path, model: Path) -> None:
    with Collection.create("docs", {"features": {"dense": {"model": str(model)}}, "fields": {"year": "int"}}):
        pass
    shown = nearfield("collections", "show", "docs").out
    assert "Language:   en (--language)" in shown and "OCR:        off (--ocr)" in shown
    assert "Speech:     off (--speech)" in shown
    fields = "source (text), path (text), type (text), page (whole number), year (whole number)"
    assert f"Filter by:  {fields}" in shown
    with Collection.open("docs") as docs:
        docs.configure({"ocr": "damaged", "language": "de"})
    shown = nearfield("collections", "show", "docs").out
    assert "Language:   de" in shown and "damaged" in shown
    assert "docs: 0 documents, 0 chunks; empty" in nearfield("collections", "list").out


def test_counts_of_one_have_no_s(nearfield: Any, files: Path, model: Path) -> None:
    (files / "cat.md").unlink()
    indexed(nearfield, files, model)
    assert "docs: 1 document, 1 chunk; dense" in nearfield("collections", "list").out
    assert nearfield("collections", "verify", "docs").out.startswith("docs: 1 chunk; ")
    assert "and 1 document." in nearfield("collections", "forget", "docs", files).out
