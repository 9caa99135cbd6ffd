"""nearfield index a second time: options of the first run that are not stated again, and dry runs."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.sources import open_source
from nearfield.errors import InputError
from nearfield.testing import write_tiny_model
from tests.support.cli_runner import run

COUNTS = ("new", "changed", "unchanged", "removed", "failed", "skipped", "unlisted", "held_removals")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def nearfield(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(tmp_path / "collections"))
    return lambda *words: run(capsys, monkeypatch, *words)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "papers.csv"
    rows = [f"k{n},The {word} sat on the mat.,Note {n} of the rows.,{2000 + n}" for n, word in enumerate(WORDS)]
    path.write_text("\n".join(["key,body,text,year", *rows]) + "\n")
    return path


WORDS = ("cat", "dog", "bird", "horse")


def counts(ran: Any) -> dict[str, Any]:
    report = json.loads(ran.out)
    return {name: report[name] for name in COUNTS}


def first(nearfield: Any, model: Path, *words: object) -> None:
    ran = nearfield("index", "docs", "-m", model, "--store", f"memory:{words[0]}", "--keep-duplicates", *words)
    assert ran.code == 0, ran.err


def predicted(nearfield: Any, *words: object) -> dict[str, Any]:
    """Return what a run did, after a dry run that said the same, with the same exit status."""
    dry = nearfield("index", "docs", *words, "--dry-run", "--json")
    real = nearfield("index", "docs", *words, "--json")
    assert counts(dry) == counts(real) and dry.code == real.code
    return counts(real)


def test_a_table_is_read_again_by_the_columns_of_the_first_run(nearfield: Any, model: Path, table: Path) -> None:
    first(nearfield, model, table, "--text", "body", "--id", "key", "--meta", "year:int")
    ran = nearfield("index", "docs", table)
    assert ran.out == "docs: 4 documents unchanged\n"
    assert ran.err == f"{table} is read as before: --text body --id key --meta year\n"
    assert nearfield("index", "docs", table, "--dry-run").err == ran.err
    assert nearfield("index", "docs", table, "-q").err == ""
    assert predicted(nearfield, table)["unchanged"] == 4
    with Collection.open("docs") as docs:
        assert docs.search("mat", k=9, where={"year": 2001}, mode="bm25")[0].text == "The dog sat on the mat."


def test_an_option_that_is_stated_replaces_the_earlier_one_alone(nearfield: Any, model: Path, table: Path) -> None:
    first(nearfield, model, table, "--text", "body", "--id", "key")
    assert predicted(nearfield, table, "--text", "text")["changed"] == 4
    with Collection.open("docs") as docs:
        assert {info.key for info in docs.documents()} == {"k0", "k1", "k2", "k3"}
        (source,) = docs.config.sources
        assert (source.options["text"], source.options["id"]) == ("text", "key")


def test_a_dry_run_says_which_documents_are_replaced(nearfield: Any, model: Path, table: Path) -> None:
    first(nearfield, model, table)
    done = predicted(nearfield, table, "--text", "body")
    assert (done["new"], done["removed"], done["held_removals"]) == (4, 4, [])


def test_a_dry_run_says_what_is_held_back_and_what_a_flag_allows(nearfield: Any, model: Path, table: Path) -> None:
    first(nearfield, model, table, "--id", "key")
    table.write_text(table.read_text().splitlines()[0] + "\n")
    assert predicted(nearfield)["held_removals"] == [[f"table:{table}", 4, 4]]
    assert predicted(nearfield, "--allow-removal")["removed"] == 4


def test_a_dry_run_of_other_chunk_settings_counts_all_documents(nearfield: Any, model: Path, table: Path) -> None:
    first(nearfield, model, table, "--id", "key")
    assert predicted(nearfield, "--chunk-tokens", "24")["new"] == 4
    table.write_text(table.read_text().splitlines()[0] + "\n")
    assert predicted(nearfield, "--chunk-tokens", "32")["held_removals"] == [[f"table:{table}", 4, 4]]


def test_a_dry_run_reads_the_sources_of_the_definition_too(nearfield: Any, model: Path, table: Path) -> None:
    first(nearfield, model, table)
    notes = table.with_name("notes")
    notes.mkdir()
    (notes / "a.txt").write_text("A note about a horse.")
    config = table.with_name("docs.json")
    config.write_text(json.dumps({"sources": [{"kind": "files", "location": str(notes)}]}))
    assert predicted(nearfield, table, "--config", config)["new"] == 1


def test_a_dry_run_refuses_what_a_run_refuses(nearfield: Any, model: Path, table: Path) -> None:
    first(nearfield, model, table)
    runs = [nearfield("index", "docs", "--store", "memory:elsewhere", *words) for words in ((), ("--dry-run",))]
    assert runs[0].code == runs[1].code == 2
    assert "collections move docs" in runs[0].err and runs[0].err == runs[1].err


def test_a_dry_run_of_a_folder_without_documents_fails_as_the_run_does(
    nearfield: Any, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    runs = [nearfield("index", "docs", tmp_path / "empty", "-m", model, *words) for words in (("--dry-run",), ())]
    assert [(ran.code, ran.err) for ran in runs] == [(2, runs[0].err)] * 2 and "nothing to index" in runs[0].err


def test_a_dry_run_of_piped_lines(nearfield: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    pipe("The cat sat.\n")
    assert nearfield("index", "docs", "-", "-m", model, "--store", f"memory:{tmp_path}").code == 0
    runs = []
    for words in (("--dry-run",), ()):
        pipe("The cat sat.\nThe dog said hello.\n")
        runs.append(counts(nearfield("index", "docs", "-", "--json", *words)))
    assert runs[0] == runs[1] and (runs[0]["new"], runs[0]["unchanged"]) == (1, 1)


def test_patterns_of_a_folder_stay(nearfield: Any, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my notes"
    folder.mkdir()
    for name in ("a.md", "b.txt", "c.md"):
        (folder / name).write_text(f"Text of the file {name}.")
    first(nearfield, model, folder, "--include", "*.md", "--exclude", "c.*")
    ran = nearfield("index", "docs", folder)
    assert ran.out == "docs: 1 document unchanged\n"
    assert ran.err == f"{folder} is read as before: --include '*.md' --exclude 'c.*'\n"
    assert predicted(nearfield, folder, "--include", "*.txt")["new"] == 1


def test_settings_of_the_first_run_stay_beside_new_ones(nearfield: Any, model: Path, table: Path) -> None:
    first(nearfield, model, table, "--chunk-tokens", "20", "--meta", "year:int")
    assert nearfield("index", "docs", "--overlap", "4", "--meta", "lang", "--keep-boilerplate").code == 0
    with Collection.open("docs") as docs:
        assert (docs.config.chunks.tokens, docs.config.chunks.overlap) == (20, 4)
        assert docs.config.fields == {"year": "int", "lang": "str"}
        assert (docs.config.clean.boilerplate, docs.config.clean.duplicates) == (False, False)


def test_sources_in_python_have_the_options_that_they_do_not_state(model: Path, table: Path, tmp_path: Path) -> None:
    config = {"features": {"dense": {"model": str(model)}}}
    with Collection.create("docs", config, home=tmp_path / "home") as docs:
        docs.index([open_source("table", str(table), text="body", id="key")])
        assert docs.index([open_source("table", str(table))], dry_run=True).unchanged == 4
        assert docs.index([open_source("table", str(table))]).unchanged == 4
        assert docs.index([open_source("table", str(table), id=None)]).new == 4
        assert docs.config.sources[0].options["text"] == "body"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--text", "body"), "--text says how a table is read"),
        (("--id", "key", "FOLDER"), "--id says how a table is read"),
        (("--include", "*.md"), "--include says how a file or folder is read"),
        (("--exclude", "*.md", "TABLE"), "--exclude says how a file or folder is read"),
        (("--encoding", "cp1252"), "--encoding says how a file or folder or a table is read"),
    ],
)
def test_flags_that_apply_to_no_source_are_refused(
    nearfield: Any, model: Path, table: Path, words: tuple[str, ...], message: str
) -> None:
    first(nearfield, model, table)
    places = {"FOLDER": str(table.parent / "folder"), "TABLE": str(table)}
    (table.parent / "folder").mkdir()
    ran = nearfield("index", "docs", *(places.get(word, word) for word in words), "-m", model)
    assert ran.code == 2
    assert message in ran.err


@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
def test_a_filter_by_a_field_that_is_not_indexed_yet_says_so(
    model: Path, table: Path, tmp_path: Path, mode: str
) -> None:
    config = {"features": {"dense": {"model": str(model)}}}
    with Collection.create("docs", config, home=tmp_path / "home") as docs:
        docs.index([open_source("table", str(table), text="body", id="key")])
        docs.configure({"fields": {"year": "int"}})
        for where in ({"year": 2001}, {"or": [{"type": "row"}, {"not": {"year": {"lt": 2001}}}]}):
            with pytest.raises(InputError, match="'year' was declared after the documents were indexed"):
                docs.search("mat", where=where, mode=mode)
        with pytest.raises(InputError, match="no field 'yaer'"):
            docs.search("mat", where={"yaer": 2001}, mode=mode)
        docs.index([open_source("table", str(table), meta=["year"])])
        assert [hit.fields["year"] for hit in docs.search("mat", where={"year": 2001}, mode=mode)] == [2001]
