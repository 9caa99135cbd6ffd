"""Long documents are cleaned in windows, and embedded and written in parts; a run that ends early loses little."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.chunkers.chunker import section_paths
from nearfield.corpus.collection import Collection
from nearfield.corpus.document import Document
from nearfield.corpus.extractors import windows
from nearfield.corpus.extractors.markdown import MarkdownExtractor
from nearfield.corpus.extractors.reader import DocumentReader
from nearfield.corpus.extractors.text import paragraphs
from nearfield.corpus.indexing.stages.write_stage import WriteStage
from nearfield.encoder import Encoder
from nearfield.errors import ExecutionFailed, StoreFailed
from nearfield.progress import Progress
from nearfield.testing import write_tiny_model

WORDS = ("cat", "dog", "mat", "world", "passage", "query", "hello", "search", "blue", "red")
PARTS = 4


def sentences(count: int, seed: int = 0) -> list[str]:
    chance = random.Random(seed)
    return [f"{number} " + " ".join(chance.choices(WORDS, k=9)) + "." for number in range(count)]


def text_of(count: int, seed: int = 0) -> str:
    return "\n\n".join(sentences(count, seed)) + "\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture
def collection(model: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collection]:
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(tmp_path / "collections"))
    monkeypatch.setattr("nearfield.corpus.indexing.context._RETRY_PAUSES", (0.0,))
    monkeypatch.setattr("nearfield.corpus.indexing.run._FLUSH_SECONDS", 0.0)
    for module in ("stages.extract_stage", "document_task"):
        monkeypatch.setattr(f"nearfield.corpus.indexing.{module}.PART_CHUNKS", PARTS)
    chunks = {"tokens": 14, "by": "sentence", "overlap": 0}
    config = {"features": {"dense": {"model": str(model)}}, "store": f"memory:{tmp_path}", "chunks": chunks}
    with Collection.create("docs", config) as created:
        created.configure({"sources": [{"kind": "files", "location": str(files), "options": {}}]})
        yield created


def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which every text is added that is embedded from now on."""
    seen: list[str] = []
    stream = Encoder.stream

    def spy(self: Encoder, texts: Any, **options: Any) -> Any:
        def copied() -> Iterator[str]:
            for text in texts:
                seen.append(text)
                yield text

        return stream(self, copied(), **options)

    monkeypatch.setattr(Encoder, "stream", spy)
    return seen


# -- parts -----------------------------------------------------------------------------------------------------------


def test_a_document_in_parts_is_that_in_one_piece(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "long.txt").write_text(text_of(30), encoding="utf-8")
    report = collection.index()
    assert (report.new, report.chunks) == (1, 30)
    in_parts = [chunk.text for chunk in collection.manifest.chunks(collection.documents()[0].id)]
    assert in_parts == sentences(30)
    (document,) = collection.documents(state="done")
    assert (document.chunks, document.share) == (30, 1.0)
    assert collection.manifest.keywords.is_consistent()
    assert collection.verify()["whole"]
    assert collection.index().unchanged == 1


def test_an_interrupted_document_is_not_done_and_its_vectors_are_used(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "long.txt").write_text(text_of(60), encoding="utf-8")
    upsert, calls = type(collection.store).upsert, []

    def failing(self: Any, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) > 3:
            raise StoreFailed("gone")
        upsert(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(type(collection.store), "upsert", failing)
        with pytest.raises(StoreFailed):
            collection.index()
    (document,) = collection.documents()
    assert document.state == "writing"
    assert collection.documents(state="done") == []
    written = collection.manifest.counts()["chunks"]
    assert 0 < written < 60
    assert collection.manifest.counts()["documents"] == 0
    seen = embedded(monkeypatch)
    report = collection.index()
    assert report.reused >= written
    assert len(seen) == 60 - report.reused
    assert [document.state for document in collection.documents()] == ["done"]
    assert collection.verify()["whole"]
    assert collection.manifest.keywords.is_consistent()


def test_a_changed_long_document_keeps_the_vectors_of_chunks_that_stayed(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = sentences(40)
    (files / "long.txt").write_text("\n\n".join(old), encoding="utf-8")
    collection.index()
    seen = embedded(monkeypatch)
    new = [old[0], sentences(46, 7)[45], *old[5:]]
    (files / "long.txt").write_text("\n\n".join(new), encoding="utf-8")
    report = collection.index()
    assert (report.changed, report.reused, report.embedded) == (1, 36, 1)
    assert seen == [new[1]]
    assert [chunk.text for chunk in collection.manifest.chunks(collection.documents()[0].id)] == new
    assert collection.verify()["whole"]
    assert collection.manifest.keywords.is_consistent()


def test_a_part_that_fails_fails_the_document(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "a-long.txt").write_text(text_of(40), encoding="utf-8")
    same = sentences(40)[30]
    (files / "b.txt").write_text(same, encoding="utf-8")
    encode, stream = Encoder.encode, Encoder.stream

    def fail_alone(self: Encoder, texts: Any, **options: Any) -> Any:
        if any(str(text).startswith("17 ") for text in texts):
            raise ExecutionFailed("poison")
        return encode(self, texts, **options)

    def fail_in_stream(self: Encoder, texts: Any, **options: Any) -> Any:
        for text in texts:
            if text.startswith("17 "):
                raise ExecutionFailed("poison")
            yield from stream(self, [text], **options)

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode", fail_alone)
        patch.setattr(Encoder, "stream", fail_in_stream)
        report = collection.index()
    assert report.failures == [(f"files:{files}#a-long.txt", "poison")]
    states = {document.key: (document.state, document.chunks) for document in collection.documents()}
    assert states == {"a-long.txt": ("failed", 0), "b.txt": ("done", 1)}
    assert [chunk for (chunk,) in collection.manifest.rows("SELECT text FROM chunks")] == [same]
    assert collection.verify()["whole"]
    assert collection.index(retry_failed=True).failed == 0
    assert collection.verify()["whole"]


def test_another_model_computes_long_documents_in_parts(
    collection: Collection, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "long.txt").write_text(text_of(30), encoding="utf-8")
    collection.index()
    other = write_tiny_model(tmp_path / "other", size=16)
    batches: list[int] = []
    write = WriteStage.write

    def spy(self: WriteStage, batch: Any) -> None:
        batches.extend(len(task.chunks) for task in batch)
        write(self, batch)

    monkeypatch.setattr(WriteStage, "write", spy)
    collection.configure({"features": {"dense": {"model": str(other)}}})
    report = collection.index()
    assert report.completed + report.changed + report.new == 1
    assert max(batches) <= PARTS
    assert [document.chunks for document in collection.documents(state="done")] == [30]
    assert collection.verify()["whole"]


def test_progress_moves_within_a_long_document(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "long.txt").write_text(text_of(40), encoding="utf-8")
    steps: list[float] = []
    labels: list[str] = []
    monkeypatch.setattr(Progress, "advance", lambda self, texts, *_: steps.append(texts))
    monkeypatch.setattr(Progress, "relabel", lambda self, label: labels.append(label))
    collection.index()
    assert len(steps) == 10
    assert sum(steps) == pytest.approx(1)
    assert max(steps) < 0.2
    assert "docs: long.txt, 8 chunks" in labels
    assert labels[-1] == "docs"


# -- windows ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW", 400)
    monkeypatch.setattr(windows, "LONG", 800)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("separator", ["\n\n", "\n", " ", ""])
def test_windows_have_all_of_the_text(separator: str) -> None:
    text = separator.join(sentences(100))
    document = Document(text, tuple(paragraphs(text)))
    parts = list(windows.split_windows(document))
    assert "".join(part.document.text for part in parts) == text
    assert [part.start for part in parts] == [0, *(part.end for part in parts[:-1])]
    assert max(len(part.document.text) for part in parts) <= 400
    for part in parts:
        for block in part.document.blocks:
            assert 0 <= block.start < block.end <= len(part.document.text)
    blocks = [part.document.text[b.start : b.end] for part in parts for b in part.document.blocks]
    assert "".join("".join(blocks).split()) == "".join(text.split())
    if separator == "\n\n":
        assert blocks == sentences(100), "windows end between blocks"


@pytest.mark.parametrize("name", ["long.txt", "long.md", "long.py"])
def test_windows_of_a_process_are_those_of_the_whole_document(name: str) -> None:
    sections = (f"# Part {number}\n\n" + f"The *river* flooded meadow {number}. " * 40 for number in range(4_000))
    data = "\n\n".join(sections).encode()
    with DocumentReader() as reader:
        document, kind = reader.document(data, name)
        read, same_kind = reader.windows(data, name)
    parts = list(read.windows)
    assert len(parts) > 10
    assert parts == list(windows.split_windows(document))
    assert (read.length, read.document.has_lines, same_kind) == (len(document.text), True, kind)


@pytest.mark.usefixtures("small_windows")
def test_headings_of_windows_are_those_of_the_whole_document() -> None:
    text = "".join(f"{'#' * (1 + number % 3)} Part {number}\n\n" + text_of(9, number) + "\n\n" for number in range(9))
    document = MarkdownExtractor().extract(text.encode(), "long.md")
    whole = section_paths(document)
    for window in windows.split_windows(document):
        path_at = section_paths(window.document, window.paths)
        for start in range(0, window.end - window.start, 7):
            end = min(start + 50, window.end - window.start)
            assert path_at(start, end) == whole(window.start + start, window.start + end)
        assert window.line == 1 + text.count("\n", 0, window.start)


@pytest.mark.usefixtures("small_windows")
def test_windows_give_the_same_chunks_places_and_headings(
    collection: Collection, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chapters = [
        f"# Chapter {number}\n\n"
        + "\n\n".join(f"## Part {part}\n\n{text_of(12, 10 * number + part)}" for part in (1, 2))
        for number in range(4)
    ]
    text = "\n\n".join(chapters)
    (files / "long.md").write_text(text, encoding="utf-8")
    collection.index()
    (document,) = collection.documents()
    chunks = collection.manifest.all_chunks(document.id)
    assert document.share is not None
    assert document.share > 0.99
    for chunk in chunks:
        place = text[chunk.payload["start"] : chunk.payload["end"]]
        assert chunk.text in place or place in chunk.text
    extracted = MarkdownExtractor().extract(text.encode(), "long.md")
    assert len(extracted.text) > windows.LONG
    for number in range(4):
        for part in (1, 2):
            first = sentences(12, 10 * number + part)[5]
            (match,) = [chunk for chunk in chunks if first in chunk.text and f"Chapter {number}" in str(chunk.payload)]
            assert match.payload["headings"] == [f"Chapter {number}", f"Part {part}"]
    assert collection.verify()["whole"]


READ_WINDOWS = """
import sys
from pathlib import Path
from nearfield.corpus.extractors.reader import DocumentReader

def used():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024

with DocumentReader() as reader:
    data = Path(sys.argv[1]).read_bytes()
    list(reader.windows(data[:2**19], "long.txt")[0].windows)
    before = used()
    document, _ = reader.windows(data, "long.txt")
    print(sum(len(window.document.text) for window in document.windows), used() - before)
"""


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the memory of a process")
def test_only_one_window_of_a_long_document_is_in_memory(tmp_path: Path) -> None:
    text = (text_of(9) + "\U0001f600\n\n") * 20_000
    (tmp_path / "long.txt").write_text(text, encoding="utf-8")
    command = [sys.executable, "-c", READ_WINDOWS, str(tmp_path / "long.txt")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    length, taken = map(int, ran.stdout.split())
    assert length == len(text) > 8e6
    assert taken < 8e6
