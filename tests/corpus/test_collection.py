"""Collections from files to search: what is read, reused, computed again, left out and refused."""

from __future__ import annotations

import json
import multiprocessing
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.corpus.collection import Collection, list_collections
from nearfield.corpus.directory import CollectionDirectory
from nearfield.corpus.extractors.reader import DocumentReader
from nearfield.corpus.features import table_from_dict
from nearfield.corpus.indexing.run import IndexRun
from nearfield.corpus.sources import Source, open_source
from nearfield.corpus.sources.spec import ColumnSpec, parse_source
from nearfield.encoder import Encoder
from nearfield.errors import (
    CollectionBusy,
    CollectionNotFound,
    InputError,
    MissingExtra,
    NearfieldError,
    ShuttingDown,
    SpaceMismatch,
    StoreFailed,
)
from nearfield.progress import Progress
from nearfield.stores.filters import equals
from nearfield.testing import write_tiny_model
from tests.parity.m3 import write as write_m3

CAT = "The cat sat on the mat. A blue dog said hello to the world."
DOG = "A red dog sat on a blue mat and said hello to the other dog."
WORLD = "Hello world. Search the world for a red mat, a blue cat and a dog."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(
        tmp_path_factory.mktemp("model") / "tiny", prompts={"query": "query ", "document": "passage "}
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "collections"
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(place))
    return place


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, text in (("cat.txt", CAT), ("dog.txt", DOG), ("world.txt", WORLD)):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def config(model: Path, tmp_path: Path) -> dict[str, Any]:
    return {"features": {"dense": {"model": str(model)}}, "store": f"memory:{tmp_path}"}


@pytest.fixture
def collection(home: Path, files: Path, config: dict[str, Any]) -> Iterator[Collection]:
    with Collection.create("docs", config) as made:
        made.index([folder_of(files)])
        yield made


def folder_of(path: Path) -> Source:
    return parse_source(str(path))


def keys(found: Any) -> list[str]:
    return [each.document.partition("#")[2] for each in found]


def records(collection: Collection, feature: str = "dense") -> list[Any]:
    placement = next(each for each in collection.manifest.vector_tables() if each.feature == feature)
    return [each for part in collection.store.scan(table_from_dict(placement.described), vectors=True) for each in part]


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which every text is added that is embedded as a document from now on."""
    seen: list[str] = []
    stream = Encoder.stream

    def spy(self: Encoder, texts: Any, **options: Any) -> Any:
        def told() -> Iterator[str]:
            for text in texts:
                seen.append(text)
                yield text

        return stream(self, told(), **options)

    monkeypatch.setattr(Encoder, "stream", spy)
    return seen


# -- indexing ----------------------------------------------------------------------------------------------------


def test_files_become_chunks_with_their_places(collection: Collection, files: Path) -> None:
    assert list_collections() == ["docs"]
    chunks = [chunk for each in collection.documents() for chunk in collection.manifest.chunks(each.id)]
    for chunk in chunks:
        text = (files / str(chunk.fields["path"])).read_text(encoding="utf-8")
        assert text[chunk.payload["start"] : chunk.payload["end"]] == chunk.text
    assert {chunk.fields["path"] for chunk in chunks} == {"cat.txt", "dog.txt", "world.txt"}
    assert {chunk.id for chunk in chunks} == {record.id for record in records(collection)}


def test_vectors_are_those_of_the_model_with_its_document_prompt(collection: Collection, model: Path) -> None:
    encoder = Encoder(str(model), compile_cache=False)
    for record in records(collection):
        wanted = np.asarray(encoder.encode_document(record.text))
        assert np.abs(np.asarray(record.vector) - wanted).max() < 1e-5
        assert np.abs(np.asarray(record.vector) - np.asarray(encoder.encode(record.text, prompt=""))).max() > 1e-3


def test_queries_get_the_query_prompt(collection: Collection, model: Path) -> None:
    encoder = Encoder(str(model), compile_cache=False)
    query = np.asarray(encoder.encode_query("blue cat"))
    best = max(records(collection), key=lambda each: float(np.asarray(each.vector) @ query))
    found = collection.search("blue cat", 1, mode="dense", explain=True)
    assert [each.id for each in found] == [best.id]
    assert found[0].stages["dense"]["score"] == pytest.approx(float(np.asarray(best.vector) @ query), abs=1e-5)


def test_only_what_changed_is_embedded(collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = counting(monkeypatch)
    assert collection.index().unchanged == 3
    assert seen == []
    (files / "dog.txt").write_text("A dog and another dog said hello to the blue world.", encoding="utf-8")
    (files / "cat.txt").unlink()
    (files / "new.txt").write_text("Search the mat for a passage.", encoding="utf-8")
    report = collection.index()
    assert (report.new, report.changed, report.removed, report.unchanged) == (1, 1, 1, 1)
    assert sorted(seen) == [
        "A dog and another dog said hello to the blue world.",
        "Search the mat for a passage.",
    ]
    assert {each.fields["path"] for each in records(collection)} == {"dog.txt", "new.txt", "world.txt"}
    assert collection.verify()["whole"]
    assert "cat.txt" not in keys(collection.search("cat", 10, mode="bm25"))


@pytest.mark.slow
def test_five_percent_changed_two_deleted_three_added(
    home: Path, tmp_path: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(100):
        (folder / f"{number:03}.txt").write_text(_line(number), encoding="utf-8")
    with Collection.create("docs", config) as collection:
        collection.index([folder_of(folder)])
        seen = counting(monkeypatch)
        changed = {number: _line(number + 1000) for number in (3, 20, 41, 62, 83)}
        added = {number: _line(number) for number in (200, 201, 202)}
        for number, text in {**changed, **added}.items():
            (folder / f"{number:03}.txt").write_text(text, encoding="utf-8")
        for number in (10, 99):
            (folder / f"{number:03}.txt").unlink()
        report = collection.index()
        assert (report.new, report.changed, report.removed, report.unchanged) == (3, 5, 2, 93)
        assert sorted(seen) == sorted([*changed.values(), *added.values()])
        with Collection.create("fresh", {**config, "store": f"memory:{tmp_path}-fresh"}) as fresh:
            fresh.index([folder_of(folder)])
            for query in ("search the red world", _line(1003), _line(201), _line(10)):
                for mode in ("dense", "bm25"):
                    wanted = {each.document: (each.text, each.score) for each in fresh.search(query, 200, mode=mode)}
                    found = {
                        each.document: (each.text, each.score) for each in collection.search(query, 200, mode=mode)
                    }
                    assert found.keys() == wanted.keys()
                    for document, (text, score) in wanted.items():
                        assert found[document][0] == text, mode
                        assert found[document][1] == pytest.approx(score, abs=1e-4), mode


def _line(number: int) -> str:
    """Return a text that nearly repeats no other."""
    chance = np.random.default_rng(number)
    words = ("cat", "dog", "mat", "world", "passage", "query", "hello", "search", "blue", "red")
    return f"{number} " + " ".join(chance.choice(words, 9))


def test_a_touched_file_is_read_but_not_embedded(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = counting(monkeypatch)
    (files / "dog.txt").write_text(DOG, encoding="utf-8")
    assert collection.index().unchanged == 3
    assert seen == []


def test_a_changed_file_keeps_the_vectors_of_chunks_that_stayed(
    home: Path, files: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [f"{word} dog sat on the mat with a red cat." for word in ("hello", "blue", "red", "the", "search")]
    (files / "long.txt").write_text("\n\n".join(parts), encoding="utf-8")
    with Collection.create("docs", {**config, "chunks": {"tokens": 14, "by": "sentence"}}) as collection:
        collection.index([folder_of(files)])
        seen = counting(monkeypatch)
        (files / "long.txt").write_text("\n\n".join([*parts, "One more passage to search."]), encoding="utf-8")
        report = collection.index()
        assert report.reused == 5
        assert seen == ["One more passage to search."]
        assert collection.verify()["whole"]


def test_dry_run_writes_nothing(collection: Collection, files: Path) -> None:
    (files / "cat.txt").unlink()
    (files / "new.txt").write_text("Search the mat for a passage.", encoding="utf-8")
    report = collection.index(dry_run=True)
    assert (report.new, report.removed, report.unchanged, report.dry_run) == (1, 1, 2, True)
    assert len(collection.documents()) == 3
    assert collection.index().new == 1


@pytest.mark.slow
def test_a_file_that_cannot_be_read_is_set_aside(collection: Collection, files: Path) -> None:
    (files / "broken.pdf").write_bytes(b"%PDF-1.4 nothing of the kind")
    report = collection.index()
    assert report.failed == 1
    (failed,) = collection.documents(state="failed")
    assert failed.key == "broken.pdf"
    assert failed.error
    again = collection.index()
    assert (again.failed, again.unchanged) == (1, 3), "it did not change, and is reported again, but not read"
    assert again.failures == report.failures
    assert collection.index(retry_failed=True).failed == 1
    (files / "broken.pdf").unlink()
    assert collection.index().removed == 1


def test_a_document_that_breaks_takes_its_old_chunks_with_it(collection: Collection, files: Path) -> None:
    (files / "cat.txt").write_bytes(b"\x00\xff\xfe\x00 no text \x00\x01\x02")
    report = collection.index()
    assert report.failed == 1
    assert "cat.txt" not in {each.fields["path"] for each in records(collection)}
    assert collection.verify()["whole"]


def test_an_input_that_fails_in_the_model_costs_no_other(
    home: Path, files: Path, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearfield.errors import ExecutionFailed

    stream, encode = Encoder.stream, Encoder.encode

    def failing(self: Encoder, texts: Any, **options: Any) -> Any:
        for part in [list(texts)]:
            if any("red dog" in text for text in part):
                raise ExecutionFailed("poison")
            yield from stream(self, part, **options)

    def alone(self: Encoder, texts: Any, **options: Any) -> Any:
        if any("red dog" in str(text) for text in texts):
            raise ExecutionFailed("poison")
        return encode(self, texts, **options)

    monkeypatch.setattr(Encoder, "stream", failing)
    monkeypatch.setattr(Encoder, "encode", alone)
    with Collection.create("docs", config) as collection:
        report = collection.index([folder_of(files)])
        assert report.failed == 1
        assert report.failures[0][1] == "poison"
        assert {each.fields["path"] for each in records(collection)} == {"cat.txt", "world.txt"}


def test_a_store_that_fails_once_is_asked_again(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearfield.corpus.indexing.context._RETRY_PAUSES", (0.0, 0.0))
    upsert, calls = type(collection.store).upsert, []

    def flaky(self: Any, *rest: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise StoreFailed("gone for a moment")
        upsert(self, *rest)

    monkeypatch.setattr(type(collection.store), "upsert", flaky)
    (files / "new.txt").write_text("Search the mat for a passage.", encoding="utf-8")
    assert collection.index().new == 1
    assert collection.verify()["whole"]


def test_a_store_that_goes_on_failing_ends_the_run_and_the_next_finishes_it(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearfield.corpus.indexing.context._RETRY_PAUSES", (0.0,))
    (files / "new.txt").write_text("Search the mat for a passage.", encoding="utf-8")
    with monkeypatch.context() as broken:
        broken.setattr(type(collection.store), "upsert", _fail)
        with pytest.raises(StoreFailed, match="no more"):
            collection.index()
    assert collection.index().new == 1
    assert collection.verify()["whole"]


def _fail(*_: Any) -> None:
    raise StoreFailed("no more")


# -- what is left out --------------------------------------------------------------------------------------------


def test_boilerplate_is_left_out_and_reported(home: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    folder = tmp_path / "letters"
    folder.mkdir()
    words = ("cat", "dog", "mat", "world", "passage", "query")
    for word in words:
        body = f"The {word} sat on the red {word} and said hello.\nAll rights reserved\n"
        (folder / f"{word}.txt").write_text(body, encoding="utf-8")
    with Collection.create("letters", config) as collection:
        report = collection.index([folder_of(folder)])
        assert report.boilerplate == len(words)
        assert report.dropped_lines == [("All rights reserved", 1.0)]
        assert [each.text for each in records(collection) if "rights" in each.text] == ["All rights reserved"]
    with Collection.create("kept", {**config, "clean": {"boilerplate": False}}) as collection:
        collection.index([folder_of(folder)])
        assert all("rights" in each.text for each in records(collection))


def test_duplicates_are_stored_once_with_all_their_places(collection: Collection, files: Path) -> None:
    (files / "copy.txt").write_text(CAT, encoding="utf-8")
    report = collection.index()
    assert report.duplicates == 1
    (found,) = collection.search("cat sat mat", 1, mode="bm25")
    assert keys([found]) == ["cat.txt"]
    assert [(keys([each]), each.start, each.end) for each in found.also] == [(["copy.txt"], 0, len(CAT))]
    assert collection.text(found.also[0].document) == CAT


def test_a_repeat_takes_the_place_of_the_one_that_goes(collection: Collection, files: Path) -> None:
    (files / "copy.txt").write_text(CAT, encoding="utf-8")
    collection.index()
    (files / "cat.txt").unlink()
    assert collection.index().removed == 1
    (found,) = collection.search("cat sat mat", 1, mode="bm25")
    assert keys([found]) == ["copy.txt"]
    assert collection.verify()["whole"]


def test_duplicates_with_different_fields_are_both_stored(home: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    table = tmp_path / "rows.jsonl"
    rows = [{"id": str(year), "text": CAT, "year": year} for year in (2020, 2021)]
    table.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with Collection.create("years", {**config, "fields": {"year": "int"}}) as collection:
        collection.index([parse_source(str(table), columns=ColumnSpec(id="id", meta=("year",)))])
        assert len(records(collection)) == 2
        assert keys(collection.search("cat", where={"year": {"gte": 2021}})) == ["2021"]
        with pytest.raises(InputError, match="no field 'yaer'"):
            collection.search("cat", where={"yaer": 2021})
        with pytest.raises(InputError, match=r"Document 0 \('a'\): Field 'year' has") as raised:
            collection.put([{"id": "a", "text": "x", "year": "red"}])
        assert raised.value.param == "documents[0].year"


def test_tables_of_texts_give_numbers_to_filter_by(home: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    table = tmp_path / "rows.csv"
    table.write_text(
        f'id,text,year,open\na,"{CAT}",2020,yes\nb,"{DOG}",2021,no\nc,"{WORLD}",soon,no\n', encoding="utf-8"
    )
    with Collection.create("years", {**config, "fields": {"year": "int", "open": "bool"}}) as collection:
        report = collection.index([parse_source(str(table), columns=ColumnSpec(id="id", meta=("year", "open")))])
        assert report.failed == 1
        assert "'year' has a whole number as its value, and not 'soon'" in report.failures[0][1]
        assert keys(collection.search("the", where={"year": {"gt": 2020}})) == ["b"]
        assert keys(collection.search("the", where={"open": True})) == ["a"]


def test_front_matter_gives_title_and_no_chunk(collection: Collection, files: Path) -> None:
    (files / "page.md").write_text(
        "---\ntitle: About cats\nlayout: post\n---\n\nA cat and a passage.\n", encoding="utf-8"
    )
    collection.index()
    (chunk,) = [each for each in records(collection) if each.fields["path"] == "page.md"]
    assert chunk.text == "A cat and a passage."
    assert chunk.payload["context"] == "About cats"


def test_a_page_is_read_once_though_a_sample_is_drawn_first(home: Path, config: dict[str, Any]) -> None:
    from nearfield.corpus.document import SourceItem

    reads: list[str] = []

    class Counted(Source):
        kind = "files"

        def items(self) -> Iterator[SourceItem]:
            for name in ("one", "two"):
                yield SourceItem(name, f"{name}.txt", lambda name=name: reads.append(name) or f"{CAT} {name}".encode())  # type: ignore[misc,func-returns-value]

    with Collection.create("pages", config) as collection:
        collection._index([Counted("nowhere")])
    assert sorted(reads) == ["one", "two"]


# -- features ----------------------------------------------------------------------------------------------------


def test_a_feature_that_is_added_is_made_beside_the_others(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = counting(monkeypatch)
    before = {record.id: record.vector for record in records(collection)}
    told = collection.config.to_dict()["features"]
    collection.configure({"features": {**told, "short": {"of": "dense", "dtype": "binary"}}})
    report = collection.index()
    assert report.completed == 3
    assert seen == [], "a form of vectors that are there costs no pass"
    for record in records(collection, "short"):
        assert np.array_equal(record.vector, np.packbits(before[record.id] > 0))
    assert len(collection.search("blue cat", 3, mode="two-stage")) == 3


def test_another_model_is_refused_until_vectors_are_computed_again(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_tiny_model(tmp_path / "other", size=16, layers=1)
    collection.configure({"features": {"dense": {"model": str(other)}}})
    with pytest.raises(SpaceMismatch, match="nearfield index docs"):
        collection.search("blue cat", mode="dense")
    old = {each.name for each in collection.manifest.vector_tables()}
    collection.index()
    assert len(collection.search("blue cat", 3, mode="dense")) == 3
    assert {record.vector.shape for record in records(collection)} == {(16,)}
    assert not old & set(collection.store.tables())


def test_verify_reports_vectors_of_another_model(collection: Collection, tmp_path: Path) -> None:
    collection.configure(other_model(tmp_path))
    told = collection.verify()
    assert (told["outdated"], told["missing"], told["whole"]) == (["dense"], [], False)
    collection.index()
    assert collection.verify()["whole"]


def test_other_prompts_are_refused(collection: Collection, model: Path, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", prompts={"query": "search ", "document": "passage "})
    collection.configure({"features": {"dense": {"model": str(other)}}})
    with pytest.raises(SpaceMismatch, match="prompts"):
        collection.search("blue cat", mode="dense")


def test_other_chunks_are_made_beside_the_old_and_then_switched_to(
    collection: Collection, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection.put([{"id": "given", "text": "A passage that no file has."}])
    reader = Collection.open("docs")
    before = [record.text for record in records(collection)]
    collection.configure({"chunks": {"tokens": 12}})
    run = IndexRun.run

    def looking(self: IndexRun, **options: Any) -> Any:
        report = run(self, **options)
        assert sorted(each.text for each in reader.search("blue cat", 10)) == sorted(before)
        return report

    monkeypatch.setattr(IndexRun, "run", looking)
    report = collection.index()
    assert report.new == 4
    assert len(records(collection)) > len(before)
    assert len(reader.search("blue cat", 100)) == len(records(collection))
    assert keys(collection.search("no file", 1, mode="bm25")) == ["given"]
    assert len(collection.store.tables()) == 1
    assert len(list((home / "docs").glob("manifest-*.db"))) == 1
    reader.manifest.close()


@pytest.mark.parametrize("scheme", ["lancedb", "chroma", "qdrant"])
def test_what_a_store_keeps_among_the_documents_is_none(scheme: str, model: Path, home: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "cat.txt").write_text("A blue cat.")
    config = {"features": {"dense": {"model": str(model)}}, "store": f"{scheme}://{files / 'vectors'}"}
    with Collection.create("docs", config) as collection:
        collection.index([open_source("files", str(files))])
        (files / "vectors" / "meta.json").write_text("{}")
        report = collection.index()
        assert (report.unchanged, report.new, report.skipped) == (1, 0, 0)
        paths, own = collection.watched(), collection.own_folders()
        assert paths == [str(files)] and own == [home / "docs", files / "vectors"]


def test_a_switch_that_was_cut_off_leaves_nothing_behind(
    collection: Collection, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection.configure({"chunks": {"tokens": 12}})
    with monkeypatch.context() as killed:
        killed.setattr(Collection, "_reopen", _fail)
        with pytest.raises(StoreFailed):
            collection.index()
    assert len(list((home / "docs").glob("manifest-*.db"))) == 2 and len(collection.store.tables()) == 2
    collection.close()
    with Collection.open("docs") as again:
        assert len(records(again)) > 3
        again.index()
        assert [path.name for path in (home / "docs").glob("manifest-*.db")] == ["manifest-2.db"]
        assert len(again.store.tables()) == 1


@pytest.mark.slow
def test_three_outputs_of_one_model_share_a_pass(
    home: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_m3(tmp_path)
    kinds = {"dense": "dense", "sparse": "sparse", "tokens": "multivector"}
    features = {name: {"model": str(model), "kind": kind} for name, kind in kinds.items()}
    seen = counting(monkeypatch)
    with Collection.create("m3", {"features": features, "store": f"memory:{tmp_path}"}) as collection:
        collection.index([folder_of(files)])
        assert len(seen) == len(records(collection, "dense"))
        for mode in ("dense", "sparse", "multivector", "hybrid"):
            assert len(collection.search("blue cat", 3, mode=mode)) >= 1, mode
        outputs = collection.features["tokens"].encoder.encode([seen[0]], role="document", outputs=("multivector",))
        held = {record.text: record.vector for record in records(collection, "tokens")}
        assert np.abs(held[seen[0]] - outputs.multivector[0]).max() < 1e-4


def test_late_chunks_know_what_stands_around_them(home: Path, files: Path, config: dict[str, Any]) -> None:
    with Collection.create("late", {**config, "chunks": {"by": "late", "tokens": 10}}) as collection:
        collection.index([folder_of(files)])
        found = [each for each in records(collection) if each.fields["path"] == "cat.txt"]
        assert len(found) > 1
        encoder = collection.features["dense"].encoder
        alone = np.asarray(encoder.encode_document(found[0].text))
        assert np.abs(alone - found[0].vector).max() > 1e-3
        assert collection.index().unchanged == 3


def test_chunks_that_the_model_would_cut_are_refused(home: Path, files: Path, config: dict[str, Any]) -> None:
    with (
        Collection.create("docs", {**config, "chunks": {"tokens": 64}}) as collection,
        pytest.raises(InputError, match="do not fit the model"),
    ):
        collection.index([folder_of(files)])


# -- documents that are put --------------------------------------------------------------------------------------


def test_documents_are_put_replaced_and_removed(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    collection.put(
        [{"id": "one", "text": "A query about a passage.", "title": "One"}, {"id": "two", "text": DOG + " No."}]
    )
    assert keys(collection.search("query passage", 1, mode="bm25")) == ["one"]
    seen = counting(monkeypatch)
    collection.put([{"id": "one", "text": "Something else about the cat."}])
    assert seen == ["Something else about the cat."]
    assert collection.index().unchanged == 5
    assert collection.remove(["one", "nobody"]) == 1
    assert "one" not in keys(collection.search("cat", 10))
    assert collection.verify()["whole"]


@pytest.mark.parametrize(
    ("document", "field", "message"),
    [
        ({"text": "x"}, ".id", "'id'"),
        ({"id": "a"}, ".text", "'text'"),
        ({"id": "a", "text": " "}, ".text", "'text'"),
        ({"id": "a", "text": "x", "colour": "red"}, ".colour", "no field 'colour'"),
        ({"id": "a", "text": "\ud800 x"}, ".text", "surrogate"),
        ({"id": "good", "text": "x"}, ".id", "of document 0"),
        ("x", "", "a mapping with id and text"),
    ],
)
def test_a_wrong_document_puts_none(collection: Collection, document: Any, field: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        collection.put([{"id": "good", "text": "A good passage."}, document])
    assert raised.value.param == f"documents[1]{field}"
    assert len(collection.documents()) == 3


# -- the whole ---------------------------------------------------------------------------------------------------


def test_export_and_import_give_the_same_answers(collection: Collection, files: Path, tmp_path: Path) -> None:
    (files / "copy.txt").write_text(CAT, encoding="utf-8")
    collection.index()
    collection.export(tmp_path / "out")
    with pytest.raises(InputError, match="exists already"):
        collection.export(tmp_path / "out")
    with Collection.import_("again", tmp_path / "out", store=f"memory:{tmp_path}-2") as again:
        assert again.search("blue cat", 5) == collection.search("blue cat", 5)
        assert again.verify()["whole"]
        assert again.index().unchanged == 4
        (files / "cat.txt").unlink()
        again.index()
        assert keys(again.search("cat sat mat", 1, mode="bm25")) == ["copy.txt"], "it knows of repeats"


def test_moving_takes_the_vectors_along(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = counting(monkeypatch)
    before, old = collection.search("blue cat", 5), collection.store
    with pytest.raises(InputError, match="collections move docs"):
        collection.configure({"store": f"memory:{tmp_path}-2"})
    collection.move(f"memory:{tmp_path}-2")
    assert collection.search("blue cat", 5) == before
    assert old.tables() == []
    assert collection.index().unchanged == 3
    assert seen == []


def test_verify_finds_what_is_wrong(collection: Collection) -> None:
    (placement,) = collection.manifest.vector_tables()
    table, found = table_from_dict(placement.described), records(collection)
    collection.store.delete(table, equals("id", found[0].id))
    collection.store.upsert(table, [replace(found[1], vector=-np.asarray(found[1].vector))])
    collection.store.upsert(table, [replace(found[2], id="00000000-0000-0000-0000-000000000001")])
    told = collection.verify()
    assert not told["whole"]
    assert told["missing"] == [f"dense: {found[0].id}"]
    assert told["foreign"] == ["dense: 00000000-0000-0000-0000-000000000001"]
    assert told["unlike"] == [f"dense: {found[1].id}"]


def test_an_unknown_name_is_refused_with_the_nearest(collection: Collection) -> None:
    with pytest.raises(CollectionNotFound, match="Did you mean 'docs'"):
        Collection.open("dosc")
    with pytest.raises(InputError, match="already"):
        Collection.create("docs")
    with pytest.raises(InputError, match="name is 1 to 63"):
        Collection.create("../docs")


@pytest.mark.parametrize("name", ["document", "text", "document_file", "chunks"])
def test_an_id_that_is_not_unicode(collection: Collection, name: str) -> None:
    with pytest.raises(InputError, match="lone surrogate"):
        getattr(collection, name)("\ud800")


def test_an_empty_collection_says_how_to_fill_it(home: Path, config: dict[str, Any]) -> None:
    with Collection.create("docs", config) as collection, pytest.raises(InputError, match="nearfield index docs"):
        collection.search("cat")


def test_dropping_leaves_nothing(collection: Collection, home: Path) -> None:
    store = collection.store
    collection.drop()
    assert list_collections() == []
    assert store.tables() == []
    assert not (home / "docs").exists()


def _hold(folder: Path, ready: Any, done: Any) -> None:
    with CollectionDirectory("docs", folder).write_lock():
        ready.set()
        done.wait(30)


@pytest.mark.process
def test_two_processes_do_not_write_at_once(collection: Collection, home: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(home / "docs", ready, done))
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(CollectionBusy, match="another process"):
            collection.index()
        assert len(collection.search("blue cat", 3)) == 3
    finally:
        done.set()
        other.join()
    assert collection.index().unchanged == 3


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"features": {}}, "at least one"),
        ({"features": {"a": {"modle": "x"}}}, "modle"),
        ({"features": {"a": {}, "b": {"of": "c", "dimensions": 8}}}, "not a full dense"),
        ({"features": {"a": {}, "b": {"of": "a"}}}, "the same as"),
        ({"features": {"a": {"kind": "sparse", "dtype": "binary"}}}, "for dense"),
        ({"chunks": {"by": "sentense"}}, "Did you mean 'sentence'"),
        ({"fields": {"path": "str"}}, "built in"),
        ({"fields": {"year": "date"}}, "'date'"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_definition_is_checked(home: Path, told: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        Collection.create("docs", told)
    assert list_collections() == []


def test_dimensions_of_a_definition_are_named_as_there(home: Path, tmp_path: Path) -> None:
    definition = other_model(tmp_path)
    definition["features"]["dense"]["dimensions"] = 8
    message = r"Feature 'dense': .* Leave dimensions out, or force it \(force: true\)"
    with Collection.create("docs", definition) as collection, pytest.raises(InputError, match=message):
        collection.put([{"id": "a", "text": "a cat"}])


# -- what must not be lost, or be done in silence ----------------------------------------------------------------


def other_model(tmp_path: Path) -> dict[str, Any]:
    """Return a definition with another model, of the same tokens: documents are cut as before."""
    prompts = {"query": "query ", "document": "passage "}
    made = write_tiny_model(tmp_path / "other", prompts=prompts, size=16, layers=1)
    return {"features": {"dense": {"model": str(made)}}}


def test_putting_one_document_brings_all_into_a_new_table(collection: Collection, tmp_path: Path) -> None:
    collection.configure(other_model(tmp_path))
    report = collection.put([{"id": "given", "text": "A passage that no file has."}])
    assert (report.new, report.completed) == (1, 3)
    assert len(records(collection)) == 4
    assert {record.vector.shape for record in records(collection)} == {(16,)}
    assert collection.verify()["whole"]


def test_a_source_that_cannot_be_listed_loses_nothing_when_features_change(
    collection: Collection, files: Path, tmp_path: Path
) -> None:
    collection.configure(other_model(tmp_path))
    files.rename(tmp_path / "elsewhere")
    report = collection.index()
    assert report.unlisted == [f"files:{files}"]
    assert report.completed == 3
    assert len(collection.search("blue cat", 3, mode="dense")) == 3


def test_a_source_that_cannot_be_listed_keeps_the_old_chunks(
    collection: Collection, files: Path, tmp_path: Path
) -> None:
    before = sorted(record.text for record in records(collection))
    collection.configure({"chunks": {"tokens": 12}})
    files.rename(tmp_path / "elsewhere")
    assert "collections forget docs" in collection.index().held_back
    assert sorted(each.text for each in collection.search("blue cat", 10)) == before
    (tmp_path / "elsewhere").rename(files)
    report = collection.index()
    assert (report.held_back, report.new) == ("", 3)
    assert len(collection.search("blue cat", 100)) > len(before)


def test_a_source_is_removed_with_its_documents(collection: Collection, files: Path) -> None:
    collection.put([{"id": "given", "text": "A passage that no file has."}])
    with pytest.raises(InputError, match="no source 'nowhere'"):
        collection.forget("nowhere")
    assert collection.forget(str(files)) == 3
    assert collection.config.sources == ()
    assert collection.index().unchanged == 1
    assert [record.document for record in records(collection)] == ["put:#given"]


def test_threads_end_where_the_store_fails(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearfield.corpus.indexing.context._RETRY_PAUSES", ())
    monkeypatch.setattr("nearfield.corpus.indexing.workers.IndexSession.capacity", 1)
    for number in range(50):
        (files / f"{number}.txt").write_text(f"{number} Search the mat for a passage. {CAT * number}", encoding="utf-8")
    monkeypatch.setattr(type(collection.store), "upsert", _fail)
    monkeypatch.setattr(type(collection.store), "batch", 1)
    with pytest.raises(StoreFailed) as kept:  # with its traceback, which holds what is not closed
        collection.index()
    assert not [each for each in threading.enumerate() if each.name == "nearfield-pipeline"]
    assert kept.value


def test_what_is_no_documents_fault_ends_the_run(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closing(*_: Any, **__: Any) -> Any:
        raise ShuttingDown("draining")

    (files / "new.txt").write_text("Search the mat for a passage.", encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(Encoder, "stream", closing)
        with pytest.raises(ShuttingDown):
            collection.index()
    assert collection.documents(state="failed") == []
    assert collection.index().new == 1


def test_a_library_that_is_missing_is_asked_for_again(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> Any:
        raise MissingExtra("pip install it")

    (files / "new.txt").write_text("Search the mat for a passage.", encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(DocumentReader, "windows", missing)
        assert collection.index().failures == [(f"files:{files}#new.txt", "pip install it")]
    assert collection.index().changed == 1
    assert collection.documents(state="failed") == []


def test_a_file_that_can_be_read_again_has_no_error_any_more(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = collection.manifest.document(f"files:{files}#cat.txt")
    assert entry is not None
    collection.manifest.save([replace(entry, error="gone", stamp=None)])
    assert [each.error for each in collection.documents(state="failed")] == ["gone"]
    assert len(collection.documents(state="done")) == 2
    assert collection.index().unchanged == 3
    assert collection.documents(state="failed") == []
    with pytest.raises(InputError, match="Did you mean 'failed'"):
        collection.documents(state="faild")


def test_progress_counts_what_did_not_change(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "new.txt").write_text("Search the mat for a passage.", encoding="utf-8")
    counted: list[int] = []
    monkeypatch.setattr(Progress, "advance", lambda self, texts, *_: counted.append(texts))
    collection.index()
    assert sum(counted) == 4


def test_a_dry_run_reports_and_writes_nothing(
    collection: Collection, files: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / "one.txt").write_text("Search the mat for a passage.", encoding="utf-8")
    before = collection.manifest.rows("SELECT * FROM meta"), collection.manifest.vector_tables()
    report = collection.index([folder_of(more)], dry_run=True)
    assert (report.new, report.unchanged, report.completed) == (1, 3, 0)
    report = collection.plan(config=other_model(tmp_path))
    assert (report.new, report.unchanged, report.completed) == (0, 0, 3)
    report = collection.plan([folder_of(more)], {"chunks": {"tokens": 12}})
    assert (report.new, report.unchanged) == (4, 0)
    assert (collection.manifest.rows("SELECT * FROM meta"), collection.manifest.vector_tables()) == before
    assert len(collection.store.tables()) == 1
    assert collection.index().unchanged == 3


def test_a_definition_is_accepted_under_the_earlier_name_of_the_keyword(collection: Collection) -> None:
    earlier: dict[str, Any] = {"told": {"chunks": {"tokens": 12}}}
    with pytest.warns(DeprecationWarning, match=r"'told' of Collection.plan is called 'config' now") as warned:
        report = collection.plan(**earlier)
    assert report.new == 3 and warned[0].filename == __file__
    with pytest.warns(DeprecationWarning, match=r"'told' of Collection.configure is called 'config' now"):
        collection.configure(**earlier)
    assert collection.config.chunks.tokens == 12
    with pytest.raises(TypeError, match="told"):
        collection.configure(config={}, **earlier)


def test_a_collection_that_is_dropped_is_not_found_any_more(collection: Collection) -> None:
    with Collection.open("docs") as other:
        other.search("blue cat", 1)
        collection.drop()
        with pytest.raises(CollectionNotFound, match="dropped"):
            other.search("blue cat", 1)


def test_a_store_that_cannot_be_had_leaves_no_collection(home: Path, config: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="is no store"):
        Collection.create("docs", {**config, "store": "nosuch://here"})
    assert list_collections() == []
    assert not (home / "docs").exists()


def test_another_store_is_refused_with_the_command_that_moves(collection: Collection, home: Path) -> None:
    with pytest.raises(InputError, match=f"move docs lancedb://{home}/docs/vectors"):
        collection.configure({"store": ""})


@pytest.mark.parametrize("told", [{"features": {"dense": {"model": "/no/such/model"}}}, {"chunks": {"tokens": 10**6}}])
def test_a_definition_that_cannot_work_is_not_saved(collection: Collection, told: dict[str, Any]) -> None:
    if "features" not in told:
        told = {**told, "features": collection.config.to_dict()["features"]}
    before = collection.config
    with pytest.raises(NearfieldError):
        collection.configure(told)
    assert collection.config == before
    assert len(collection.search("blue cat", 3)) == 3
