"""What is missing from documents is counted, stored and reported; nothing is removed by mistake."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.collection_models import ModelProvider
from nearfield.corpus.document import Document, Loss, MissingText
from nearfield.corpus.extractors.document_builder import DocumentBuilder
from nearfield.corpus.extractors.text import TextExtractor
from nearfield.corpus.indexing.accounting import MissingTexts, WordCount, account
from nearfield.corpus.indexing.report import IndexReport
from nearfield.corpus.manifest.records import DocumentRecord
from nearfield.corpus.sources.spec import parse_source
from nearfield.corpus.sources.unread_types import describe_skipped
from nearfield.errors import InputError
from nearfield.testing import write_tiny_model

CAT = "The cat sat on the mat. A blue dog said hello to the world."
SCANNED = Loss("4 pages without text", pages=(3, 4, 5, 6), advice="They look scanned: set ocr = true.")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def collection(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collection]:
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(tmp_path / "collections"))
    config = {"features": {"dense": {"model": str(model)}}, "store": f"memory:{tmp_path}"}
    with Collection.create("docs", config) as created:
        yield created


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def record() -> DocumentRecord:
    return DocumentRecord("files:/x#a.txt", "files:/x", "a.txt", "a.txt", "", "")


def extract_as(change: Callable[[Document], Document], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the extractor of texts return changed documents."""
    parse = TextExtractor.parse
    monkeypatch.setattr(TextExtractor, "parse", lambda self, data, name: change(parse(self, data, name)))


# -- the share of visible words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "words", "share", "partial"),
    [
        pytest.param(Document("x"), WordCount(100), 1.0, False, id="text-is-all-there-is"),
        pytest.param(Document("x"), WordCount(100, tiny=MissingTexts(4)), 0.96, False, id="a-few-tiny-parts"),
        pytest.param(Document("x"), WordCount(100, MissingTexts(6)), 0.94, True, id="too-many-tiny-parts"),
        pytest.param(Document("x", visible_words=200), WordCount(150), 0.75, True, id="not-extracted"),
        pytest.param(Document("x", visible_words=100), WordCount(140), 1.0, False, id="more-than-visible"),
        pytest.param(Document("x", losses=(Loss("1 table", words=100),)), WordCount(100), 0.5, True, id="declared"),
        pytest.param(
            Document("x", visible_words=100, losses=(Loss("1 chart", words=1),)), WordCount(100), 0.99, True, id="chart"
        ),
        pytest.param(Document("x", losses=(SCANNED,)), WordCount(100), 1.0, True, id="pages-without-text"),
        pytest.param(Document("x", losses=(Loss("2 attachments"),)), WordCount(100), 1.0, True, id="unknown-words"),
        pytest.param(
            Document("x", losses=(Loss("1 picture without a description", pages=(1,)),)),
            WordCount(100),
            1.0,
            False,
            id="pictures",
        ),
    ],
)
def test_share_and_state(document: Document, words: WordCount, share: float, partial: bool) -> None:
    result = account(record(), document, words, has_chunks=True)
    assert result.visible_words is not None
    assert result.kept_words is not None
    assert min(1.0, result.kept_words / result.visible_words) == pytest.approx(share, abs=0.005)
    assert result.partial is partial


def test_what_no_extractor_declared_is_named() -> None:
    words = WordCount(150, MissingTexts(10))
    result = account(record(), Document("x", visible_words=200), words, has_chunks=True)
    assert [loss.reason for loss in result.losses] == [
        "about 50 words that the file shows",
        "10 words in parts that are too short to be searched",
    ]


def test_the_first_missing_words_are_named_in_a_complete_document() -> None:
    tiny = MissingTexts.from_texts([MissingText("Thank\n you", 4), MissingText("x" * 60), MissingText("Berlin", 9)])
    document = Document("x", visible_words=1010, missing=tuple(MissingText(f"word{at}", at) for at in range(6)))
    result = account(record(), document, WordCount(1000, tiny), has_chunks=True)
    assert not result.partial
    assert result.losses == (
        Loss('about 10 words that the file shows: "word0", "word1", "word2", "word3", ...', 10, (0, 1, 2, 3, 4, 5)),
        Loss(f'4 words in parts that are too short to be searched: "Thank you", "{"x" * 40}...", "Berlin"', 4, (4, 9)),
    )


def test_parts_of_a_document_are_added_up() -> None:
    words = WordCount()
    for number in range(3):
        words.add(WordCount(10, MissingTexts.from_texts([MissingText("Berlin", number)])))
    assert (words.text, words.searchable) == (30, 27)
    assert words.tiny == MissingTexts(3, ["Berlin"], [0, 1, 2])


def test_a_builder_names_the_words_that_it_lacks() -> None:
    builder = DocumentBuilder()
    builder.see("One fine day in Oslo, one day")
    builder.see("and one night.")
    builder.add("A fine day, one night, and one day")
    document = builder.document("prose")
    assert (document.visible_words, [missing.text for missing in document.missing]) == (10, ["Oslo", "in"])
    whole = DocumentBuilder()
    whole.see("One day")
    whole.add("One day, or another")
    assert whole.document("prose").missing == ()


def test_what_a_complete_document_lacks_is_listed_and_not_reported(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = (MissingText("Oslo", 3),)
    extract_as(lambda document: replace(document, visible_words=145, missing=lacking), monkeypatch)
    (files / "cat.txt").write_text(f"{CAT}\n\n" * 10, encoding="utf-8")
    report = collection.index([parse_source(str(files))])
    assert (report.partial, report.with_pictures, report.problems()) == (0, 0, "")
    assert "Oslo" not in report.to_text()
    (document,) = collection.documents(state="done")
    assert document.losses == (Loss('about 5 words that the file shows: "Oslo"', 5, (3,)),)


def test_a_stamp_of_one_word_is_found_in_all_its_documents(collection: Collection, files: Path) -> None:
    for number, word in enumerate(("cat", "dog", "mat", "world", "query", "red", "blue")):
        stamp = "Paid" if number < 5 else f"Due {word}"
        (files / f"{word}.txt").write_text(f"The {word} of {word} is the {word}.\n\n{stamp}\n", encoding="utf-8")
    report = collection.index([parse_source(str(files))])
    assert report.boilerplate == 5
    (hit,) = collection.search("paid", mode="bm25")
    assert (hit.text, len(hit.also)) == ("Paid", 4)
    assert all((document.share, document.losses) == (1.0, ()) for document in collection.documents())


def test_a_heading_that_no_chunk_has_is_missing(model: Path, tmp_path: Path) -> None:
    config = {"features": {"dense": {"model": str(model)}}, "store": f"memory:{tmp_path}"}
    text = "# Berlin\n\n" + "## Cats\n\nThe cat sat on the mat and said hello to the dog.\n\n" * 9
    for context, missing in ((True, 0), (False, 1)):
        definition = {**config, "chunks": {"tokens": 12, "context": context}}
        with Collection.create(f"heading-{missing}", definition, home=tmp_path / "home") as created:
            (tmp_path / "page.md").write_text(text, encoding="utf-8")
            created.index([parse_source(str(tmp_path / "page.md"))])
            (document,) = created.documents()
            assert bool(created.search("berlin", mode="bm25")) is not bool(missing)
            assert sum("Berlin" in loss.reason for loss in document.losses) == missing


def test_a_document_without_words_is_partial(collection: Collection, files: Path) -> None:
    (files / "blank.txt").write_text("--- ... ---\n", encoding="utf-8")
    report = collection.index([parse_source(str(files))])
    assert report.partial == 1
    (document,) = collection.documents(state="partial")
    assert document.losses[0].reason == "anything: no words were recognised in it"


# -- documents and reports -------------------------------------------------------------------------------------------


def test_a_partial_document_is_listed_with_what_is_missing(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract_as(lambda document: replace(document, visible_words=28, losses=(SCANNED,)), monkeypatch)
    (files / "cat.txt").write_text(CAT, encoding="utf-8")
    report = collection.index([parse_source(str(files))])
    assert (report.new, report.partial) == (1, 1)
    text = report.to_text()
    assert "1 document is partial" in text
    assert "50% of its words; not read: 4 pages without text" in text
    assert SCANNED.advice in text
    (document,) = collection.documents(state="partial")
    assert (document.state, document.share, document.losses[0]) == ("partial", 0.5, SCANNED)
    assert collection.documents(state="done") == []
    assert collection.info()["states"] == {"partial": 1}
    again = collection.index()
    assert (again.unchanged, again.partial) == (1, 1), "it stays partial, and is reported again"


def test_pictures_are_counted_in_the_report(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract_as(lambda document: replace(document, losses=(Loss("2 pictures without a description"),)), monkeypatch)
    (files / "cat.txt").write_text(CAT, encoding="utf-8")
    report = collection.index([parse_source(str(files))])
    assert (report.partial, report.with_pictures) == (0, 1)
    assert "1 document has pictures without a description" in report.to_text()
    assert collection.documents(state="done")[0].losses[0].reason == "2 pictures without a description"
    assert collection.index().with_pictures == 1


def test_a_complete_document_is_done(collection: Collection, files: Path) -> None:
    (files / "cat.txt").write_text(CAT, encoding="utf-8")
    collection.index([parse_source(str(files))])
    (document,) = collection.documents(state="done")
    assert (document.share, document.visible_words, document.losses) == (1.0, 14, ())


def test_repeated_lines_are_no_loss(collection: Collection, files: Path) -> None:
    for word in ("cat", "dog", "mat", "world", "query"):
        body = f"The {word} sat on the red {word} and said hello.\nAll rights are reserved by the cat and the dog\n"
        (files / f"{word}.txt").write_text(body, encoding="utf-8")
    report = collection.index([parse_source(str(files))])
    assert report.boilerplate == 5
    assert report.partial == 0
    assert {document.share for document in collection.documents()} == {1.0}


def test_page_numbers_are_no_loss(collection: Collection, files: Path) -> None:
    words = ("cat", "dog", "mat", "world", "query", "red")
    pages = [f"The {word} sat on the {word} and said hello.\n\n{number}" for number, word in enumerate(words, 1)]
    (files / "pages.txt").write_text("\f".join(pages), encoding="utf-8")
    assert collection.index([parse_source(str(files))]).partial == 0


def test_reports_leave_out_zeros() -> None:
    report = IndexReport("docs", new=1, chunks=2, embedded=2, tokens=7, seconds=1.5, run_seconds=0.5)
    assert report.to_text() == "docs: 1 document new\n  2 chunks: 2 embedded; 7 tokens in 1.5 s (14 tokens/s)"
    assert IndexReport("docs", unchanged=3).to_text() == "docs: 3 documents unchanged"
    assert IndexReport("docs").to_text() == "docs: no documents"
    assert IndexReport("docs", unchanged=3).problems() == ""


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("no extractor for .mp3", "2 files .mp3: sound; what is said is read with 'speech = true' (--speech)"),
        ("no extractor for .exe", "2 files .exe: programs"),
        ("no extractor for .qqq", "2 files .qqq: the type is unknown; if they are text, rename them to .txt"),
        (
            "no extractor for .svg",
            "2 files .svg: vector drawings; OCR does not read them: export them as PDF, which keeps their text",
        ),
        ("a broken link", "2 files: a broken link"),
    ],
)
def test_skipped_files_are_described_by_type(reason: str, line: str) -> None:
    assert describe_skipped(reason, 2) == line


# -- failed documents ------------------------------------------------------------------------------------------------


def test_a_failed_document_is_reported_until_it_changes(collection: Collection, files: Path) -> None:
    (files / "cat.txt").write_text(CAT, encoding="utf-8")
    (files / "bad.txt").write_bytes(b"\x00\xff\xfe\x00 no text \x00\x01\x02")
    first = collection.index([parse_source(str(files))])
    again = collection.index()
    assert first.failures == again.failures
    assert (again.failed, again.unchanged) == (1, 1)
    (files / "bad.txt").write_text("The dog said hello to the world.", encoding="utf-8")
    assert collection.index().failed == 0


# -- removals --------------------------------------------------------------------------------------------------------


def write_files(folder: Path, count: int) -> None:
    for number in range(count):
        (folder / f"{number}.txt").write_text(f"The cat sat on mat {number} and said hello {number}.", encoding="utf-8")


def test_an_emptied_folder_does_not_empty_the_collection(collection: Collection, files: Path) -> None:
    write_files(files, 8)
    collection.index([parse_source(str(files))])
    for path in files.iterdir():
        path.unlink()
    report = collection.index()
    assert report.removed == 0
    assert report.held_removals == [(f"files:{files}", 8, 8)]
    assert "--allow-removal" in report.to_text()
    assert len(collection.documents()) == 8
    assert collection.plan().held_removals
    assert collection.index(allow_removal=True).removed == 8
    assert collection.documents() == []


@pytest.mark.parametrize(("total", "gone", "removed"), [(8, 5, 5), (12, 7, 0), (20, 9, 9), (3, 3, 0), (3, 2, 2)])
def test_removals_of_most_documents_must_be_allowed(
    collection: Collection, files: Path, total: int, gone: int, removed: int
) -> None:
    write_files(files, total)
    collection.index([parse_source(str(files))])
    for number in range(gone):
        (files / f"{number}.txt").unlink()
    (files / "new.txt").write_text("Search the red mat for a passage.", encoding="utf-8")
    if gone == total:
        (files / "new.txt").unlink()
    report = collection.index()
    assert report.removed == removed
    assert report.new == (gone < total), "what is new is indexed all the same"
    assert len(collection.documents()) == total - removed + (gone < total)


def test_a_missing_folder_removes_nothing(collection: Collection, files: Path) -> None:
    write_files(files, 8)
    collection.index([parse_source(str(files))])
    shutil.rmtree(files)
    report = collection.index()
    assert report.unlisted == [f"files:{files}"]
    assert len(collection.documents()) == 8


def test_a_rebuild_from_an_emptied_folder_keeps_the_old_chunks(collection: Collection, files: Path) -> None:
    write_files(files, 8)
    collection.index([parse_source(str(files))])
    for path in files.iterdir():
        path.unlink()
    collection.configure({"chunks": {"tokens": 12}})
    report = collection.index()
    assert report.held_removals == [(f"files:{files}", 8, 8)]
    assert report.held_back
    assert len(collection.documents()) == 8
    collection.index(allow_removal=True)
    assert collection.documents() == []


def test_an_empty_folder_is_named(collection: Collection, files: Path) -> None:
    report = collection.index([parse_source(str(files))])
    assert report.empty_sources == [f"files:{files}"]
    assert f"files:{files} has no documents" in report.to_text()


def test_an_unknown_state_is_refused(collection: Collection) -> None:
    with pytest.raises(InputError, match="partial"):
        collection.documents(state="parital")


# -- runs with nothing to do -----------------------------------------------------------------------------------------


def reopened(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> tuple[Collection, list[str]]:
    """Return the collection, opened again, and a list to which each model is added that is loaded."""
    loaded: list[str] = []
    encoder = ModelProvider.encoder

    def spy(self: ModelProvider, model: str, **options: Any) -> Any:
        loaded.append(model)
        return encoder(self, model, **options)

    monkeypatch.setattr(ModelProvider, "encoder", spy)
    return Collection.open(collection.name), loaded


def test_nothing_to_do_loads_no_model(collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(files, 3)
    (files / "bad.txt").write_bytes(b"\x00\xff\xfe\x00 no text \x00\x01\x02")
    (files / "sound.mp3").write_bytes(b"ID3")
    collection.put([{"id": "a", "text": "Hello world, search the red mat."}])
    first = collection.index([parse_source(str(files))])
    again, loaded = reopened(collection, monkeypatch)
    with again:
        report = again.index()
        assert (report.unchanged, report.failed, report.skipped) == (4, 1, 1)
        assert report.failures == first.failures
        assert loaded == []
        again.index([parse_source(str(files))])
        assert loaded == [], "the source is known"


@pytest.mark.parametrize("change", ["new", "changed", "removed", "retry", "definition", "model", "unfinished"])
def test_whatever_is_to_be_done_is_done(
    change: str, collection: Collection, files: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(files, 4)
    (files / "bad.txt").write_bytes(b"\x00\xff\xfe\x00 no text \x00\x01\x02")
    collection.index([parse_source(str(files))])
    if change in ("new", "changed"):
        path = files / ("0.txt" if change == "changed" else "new.txt")
        path.write_text("The dog said hello to the blue world.", encoding="utf-8")
    elif change == "removed":
        (files / "0.txt").unlink()
    elif change == "definition":
        collection.manifest.set("config", {**collection.config.to_dict(), "chunks": {"tokens": 12}})
    elif change == "model":
        (model / "added.txt").write_text("x", encoding="utf-8")
    elif change == "unfinished":
        collection.manifest.set_state([f"files:{files}#0.txt"], "writing")
    again, loaded = reopened(collection, monkeypatch)
    with again:
        report = again.index(retry_failed=change == "retry")
    assert loaded
    counts = {"new": report.new, "changed": report.changed, "removed": report.removed, "definition": report.new}
    assert counts.get(change, 1) == (5 if change == "definition" else 1)
    assert report.failed == 1
