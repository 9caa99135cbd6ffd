"""Collections with OCR: what is read when the option changes, what is not read again, and what is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.config import parse_config
from nearfield.corpus.extractors import ocr
from nearfield.corpus.sources.spec import parse_source
from nearfield.errors import InputError, MissingExtra
from nearfield.testing import write_tiny_model
from tests.support import scanned_pages as scans

NOTE = "A red dog sat on a blue mat and said hello to the other dog."
SCAN = "The notice period of the contract is three months, and it is given in writing."


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(tmp_path / "collections"))
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "note.txt").write_text(NOTE, encoding="utf-8")
    (folder / "photo.png").write_bytes(scans.encode(scans.page("A receipt of the blue shop for 12.50 euros.", 28)))
    (folder / "scan.pdf").write_bytes(scans.pdf([scans.page(SCAN, 26)]))
    return folder


@pytest.fixture
def definition(tmp_path: Path) -> dict[str, Any]:
    model = write_tiny_model(tmp_path / "tiny")
    return {"features": {"dense": {"model": str(model)}}, "store": f"memory:{tmp_path}"}


def states(collection: Collection) -> dict[str, str]:
    return {info.id.rpartition("#")[2]: info.state for info in collection.documents()}


@pytest.mark.slow
def test_the_option_reads_what_needs_it_and_nothing_else(files: Path, definition: dict[str, Any]) -> None:
    with Collection.create("docs", definition) as collection:
        first = collection.index([parse_source(str(files))])
        assert states(collection) == {"note.txt": "done", "scan.pdf": "failed"}
        assert "ocr = true" in str(first.to_json()) and "--ocr" in str(first.to_json())
        collection.configure({"ocr": True})
        report = collection.index()
        assert states(collection) == {"note.txt": "done", "photo.png": "done", "scan.pdf": "done"}
        assert (report.new, report.changed, report.unchanged) == (1, 1, 1)
        cache = collection.folder.path / "ocr-pages.db"
        assert cache.stat().st_size > 0
        (hit,) = collection.search("three months in writing", k=1)
        assert hit.document.endswith("scan.pdf") and hit.page == 1
        assert " ".join(hit.text.split()) in SCAN  # the model reads few tokens: a chunk is a part of the sentence
        again = collection.index()
        assert (again.new, again.changed, again.unchanged) == (0, 0, 3)
        # Without OCR, pictures are no longer documents.
        collection.configure({"ocr": False})
        collection.index()
        assert states(collection) == {"note.txt": "done", "scan.pdf": "failed"}


def test_without_the_packages_the_run_says_what_to_install(
    files: Path, definition: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ocr, "find_spec", lambda _: None)
    with Collection.create("docs", {**definition, "ocr": True}) as collection:
        with pytest.raises(MissingExtra, match=r"^OCR needs 'rapidocr': pip install 'nearfield\[ocr\]'$"):
            collection.index([parse_source(str(files))])
        assert not states(collection)


def test_values_of_the_option() -> None:
    assert [parse_config({"ocr": value}).ocr for value in (True, False, "damaged")] == [True, False, "damaged"]
    assert parse_config({}).ocr is False and "ocr" not in parse_config({"ocr": False}).to_dict()
    with pytest.raises(InputError, match="ocr"):
        parse_config({"ocr": "always"})
