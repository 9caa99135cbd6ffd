"""Errors of collections that are dropped while they are used, and paths in messages."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.directory import FIRST_MANIFEST, CollectionDirectory
from nearfield.errors import CollectionBusy, CollectionNotFound, InputError, NearfieldError, StoreFailed
from nearfield.server.collections.collection_errors import collection_version, convert_collection_errors
from nearfield.server.logs import without_directories


def fail(error: Exception, home: Path, version: tuple[int, int]) -> None:
    """Raise an error as a request on the collection ``pets`` would."""
    with convert_collection_errors("pets", home, version):
        raise error


@pytest.mark.parametrize(
    "error", [OSError(2, "No such file", "/srv/secret"), sqlite3.OperationalError("disk I/O error"), KeyError("x")]
)
def test_a_collection_that_is_dropped_while_used(error: Exception, tmp_path: Path) -> None:
    collection = Collection.create("pets", home=tmp_path)
    version = collection_version(tmp_path, "pets")
    collection.drop()
    with pytest.raises(CollectionNotFound, match="'pets' was dropped"):
        fail(error, tmp_path, version)
    Collection.create("pets", home=tmp_path).close()
    with pytest.raises(CollectionBusy, match="created again"):
        fail(error, tmp_path, version)


def test_a_collection_that_is_being_dropped(tmp_path: Path) -> None:
    Collection.create("pets", home=tmp_path).close()
    version = collection_version(tmp_path, "pets")
    with (
        pytest.raises(CollectionNotFound, match="was dropped"),
        convert_collection_errors("pets", tmp_path, version, ["pets"]),
    ):
        raise StoreFailed("a table is missing")


def test_messages_show_no_paths(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Collection.create("pets", home=tmp_path).close()
    version = collection_version(tmp_path, "pets")
    for error in (
        PermissionError(13, "Permission denied", "/srv/secret"),
        StoreFailed("LanceDB failed at /srv/secret"),
    ):
        with pytest.raises(StoreFailed, match="see its log") as caught:
            fail(error, tmp_path, version)
        assert "secret" not in str(caught.value)
        assert "secret" in caplog.text
        caplog.clear()


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("/root/.cache/hub/models--a--b/snapshots/0f/config.json lacks x", "config.json lacks x"),
        ("'/srv/m.odel/x.bin' is damaged (~/y/z)", "'x.bin' is damaged (z)"),
        (
            "see https://huggingface.co/a/b/c or send org/name to /v1",
            "see https://huggingface.co/a/b/c or send org/name to /v1",
        ),
    ],
)
def test_directories_are_left_out(message: str, shown: str) -> None:
    assert without_directories(message) == shown


@pytest.mark.parametrize("error", [InputError("k is wrong"), ValueError("a fault")])
def test_other_errors_are_unchanged(error: Exception, tmp_path: Path) -> None:
    Collection.create("pets", home=tmp_path).close()
    with pytest.raises(type(error)) as caught:
        fail(error, tmp_path, collection_version(tmp_path, "pets"))
    assert caught.value is error


def test_a_damaged_manifest(tmp_path: Path) -> None:
    Collection.create("pets", home=tmp_path).close()
    (tmp_path / "pets" / FIRST_MANIFEST).write_bytes(b"no database" * 1000)
    for suffix in ("-wal", "-shm"):
        (tmp_path / "pets" / (FIRST_MANIFEST + suffix)).unlink(missing_ok=True)
    with pytest.raises(NearfieldError) as caught, convert_collection_errors("pets", tmp_path):
        Collection.open("pets", home=tmp_path)
    assert str(tmp_path) not in str(caught.value)


def test_an_open_collection_that_another_one_dropped(tmp_path: Path) -> None:
    collection = Collection.create("pets", home=tmp_path)
    Collection.open("pets", home=tmp_path).drop()
    with pytest.raises(CollectionNotFound):
        collection.info()
    collection.close()
    assert not (tmp_path / "pets").exists()


def test_the_rest_of_a_killed_removal_is_not_in_a_new_collection(tmp_path: Path) -> None:
    with Collection.create("pets", home=tmp_path) as collection:
        collection.manifest.set("mark", 1)
    (tmp_path / "pets" / "current").unlink()
    with pytest.raises(CollectionNotFound):
        Collection.open("pets", home=tmp_path)
    with Collection.create("pets", home=tmp_path) as collection:
        assert collection.manifest.get("mark") is None


def test_a_collection_is_created_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Collection.create("pets", home=tmp_path).close()
    exists = iter([False])
    real = CollectionDirectory.exists.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(CollectionDirectory, "exists", property(lambda folder: next(exists, real(folder))))
    with pytest.raises(InputError, match="exists already"):
        Collection.create("pets", home=tmp_path)  # as if another process had created it after the first check
    Collection.open("pets", home=tmp_path).close()
