"""A full disk ends a run with one plain error, and the next run goes on."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.extractors.reader import DocumentReader
from nearfield.corpus.manifest.manifest import ManifestDamaged
from nearfield.errors import InputError, StorageFull, StoreFailed
from nearfield.fileio.disk_space import is_disk_full
from nearfield.testing import write_tiny_model


@pytest.fixture
def collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NEARFIELD_COLLECTIONS", str(tmp_path / "collections"))
    monkeypatch.setattr("nearfield.corpus.indexing.context._RETRY_PAUSES", (0.0,))
    model = write_tiny_model(tmp_path / "tiny")
    (tmp_path / "files").mkdir()
    for number in range(40):
        text = f"{number} The cat sat on mat {number}. " * 20
        (tmp_path / "files" / f"{number}.txt").write_text(text, encoding="utf-8")
    config = {"features": {"dense": {"model": str(model)}}, "store": f"memory:{tmp_path}"}
    with Collection.create("docs", config) as created:
        created.configure({"sources": [{"kind": "files", "location": str(tmp_path / "files"), "options": {}}]})
        yield created


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_manifest_cannot_grow(collection: Collection) -> None:
    (pages,) = collection.manifest.rows("PRAGMA page_count")[0]
    collection.manifest.rows(f"PRAGMA max_page_count={pages + 5}")
    with pytest.raises(StorageFull, match=r"The disk is full .* it continues where it stopped"):
        collection.index()
    collection.manifest.rows("PRAGMA max_page_count=1000000")
    report = collection.index()
    assert report.unchanged + report.new == 40
    assert collection.verify()["whole"]


class SharedMemoryFull(sqlite3.OperationalError):
    """What SQLite reports where no room is left for the file beside a database."""

    sqlite_errorname = "SQLITE_IOERR_SHMSIZE"


def test_a_manifest_beside_which_no_file_can_be_written(collection: Collection) -> None:
    home, log = collection.folder.path.parent, Path(f"{collection.manifest.path}-wal")
    collection.close()
    log.unlink(missing_ok=True)
    log.mkdir()
    with pytest.raises(ManifestDamaged, match="its folder must be writable"):
        Collection.open("docs", home=home)


def test_the_store_cannot_grow(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise StoreFailed("LanceDB failed: IO error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(type(collection.store), "upsert", fail)
        with pytest.raises(StorageFull, match="The disk is full"):
            collection.index()
    assert collection.index().new == 40
    assert collection.verify()["whole"]


def test_the_temporary_folder_is_full(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: DocumentReader, data: bytes, name: str) -> None:
        try:
            no_space()
        except OSError as error:
            raise InputError(f"{name}: cannot be read ({error}).") from error

    with monkeypatch.context() as patch:
        for name in ("document", "windows"):
            patch.setattr(DocumentReader, name, fail)
        with pytest.raises(StorageFull):
            collection.index()
    report = collection.index()
    assert (report.failed, report.new) == (0, 40), "no document is at fault"


def test_a_collection_cannot_be_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfield.corpus.directory.create_manifest", no_space)
    with pytest.raises(StorageFull):
        Collection.create("docs", {"store": "memory:x"}, home=tmp_path)
    assert not (tmp_path / "docs").exists()


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (OSError(errno.EACCES, "x"), False),
        (RuntimeError("lance error: No space left on device"), True),
        (SharedMemoryFull("disk I/O error"), True),
        (ValueError("x"), False),
    ],
)
def test_errors_are_recognised(error: Exception, full: bool) -> None:
    assert is_disk_full(error) is full
