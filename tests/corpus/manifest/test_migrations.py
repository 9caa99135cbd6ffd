"""Manifests of older formats, such as 1 of version 0.1, are migrated once, completely, and by one process."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus import transfer
from nearfield.corpus.directory import CollectionDirectory
from nearfield.corpus.manifest import manifest as manifest_module
from nearfield.corpus.manifest import schema
from nearfield.corpus.manifest.manifest import Manifest, ManifestDamaged
from nearfield.corpus.manifest.sqlite import SharedConnection
from nearfield.errors import CollectionBusy, InputError
from nearfield.fork_safety import ProcessLock
from tests.support.paths import ROOT

DATA = ROOT / "tests" / "data" / "0.1"
RENAMED = {"placed": "document_tables", "twins": "duplicates", "given": "inline_documents"}
#: Opens a manifest, and is killed by SIGKILL before the ``nth`` statement that changes the schema.
_KILLED = """
import os, signal, sys
from pathlib import Path
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.manifest.sqlite import SharedConnection
execute, changes = SharedConnection.execute, []
def killed(self, sql, values=()):
    changes.extend([sql] if sql.startswith(("ALTER", "CREATE", "DROP", "PRAGMA user_version=", "COMMIT")) else [])
    if len(changes) == {nth}:
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(self, sql, values)
SharedConnection.execute = killed
Manifest(Path(sys.argv[1]))
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of a collection's manifest of format 1."""
    (source,) = (DATA / "collections" / "papers").glob("manifest-*.db")
    return Path(shutil.copy(source, tmp_path / source.name))


def read(path: Path) -> dict[str, Any]:
    """Return format, columns and rows of all tables but the keyword index."""
    with closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        names = [name for name in names if not name.startswith(("keywords", "terms", "sqlite_"))]
        (version,) = database.execute("PRAGMA user_version").fetchone()
        return {
            "format": version,
            "columns": {name: [row[1] for row in database.execute(f"PRAGMA table_info({name})")] for name in names},
            "rows": {name: sorted(map(repr, database.execute(f"SELECT * FROM {name}"))) for name in names},
            "indexes": {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'index'")},
        }


def migrated(rows: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return rows as they are after a migration: documents get four columns, whose values are not known."""
    result = {RENAMED.get(name, name): values for name, values in rows.items()}
    return {**result, "documents": [f"{row[:-1]}, None, None, '[]', 0)" for row in result["documents"]]}


def test_a_migrated_manifest_has_the_tables_of_a_new_one_and_all_rows(old: Path, tmp_path: Path) -> None:
    before = read(old)
    assert before["format"] == 1
    assert before["rows"]["twins"]
    Manifest(old).close()
    after = read(old)
    assert after["format"] == schema.FORMAT
    assert after["rows"] == migrated(before["rows"])
    Manifest(tmp_path / "new.db").close()
    new = read(tmp_path / "new.db")
    assert {name: columns for name, columns in after["columns"].items() if name in new["columns"]} == new["columns"]
    assert new["indexes"] <= after["indexes"]
    assert not {name for columns in after["columns"].values() for name in columns} & {"told", "kept", "place"}
    assert not [name for name in after["indexes"] if name.endswith("_kept")]


def test_a_manifest_of_format_2_is_migrated(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(schema, "FORMAT", 2)
        patch.setattr(manifest_module, "DOCUMENT_COLUMNS", "id")
        Manifest(old).close()
    before = read(old)
    assert before["format"] == 2
    with closing(Manifest(old)) as manifest:
        document, *_ = manifest.documents()
        assert (document.visible_words, document.losses, document.partial) == (None, (), False)
    assert read(old)["format"] == 3
    assert read(old)["rows"] == migrated(before["rows"])


def test_opening_a_migrated_manifest_again_changes_nothing(old: Path) -> None:
    with closing(Manifest(old)) as manifest:
        assert manifest.keywords.is_consistent()
    before = read(old)
    with closing(Manifest(old)) as manifest, manifest.writing():
        schema.migrate(manifest.connection)
    assert read(old) == before


@pytest.mark.process
@pytest.mark.parametrize("nth", [2, 5, 9, 13, 17])
def test_a_migration_that_is_killed_leaves_the_old_format_complete(nth: int, old: Path) -> None:
    before = read(old)
    command = [sys.executable, "-c", _KILLED.format(nth=nth), str(old)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert read(old) == before
    Manifest(old).close()
    assert read(old)["rows"] == migrated(before["rows"])


def test_an_error_during_a_migration_leaves_the_old_format_complete(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(old)

    def fail(connection: SharedConnection) -> None:
        connection.execute("DROP TABLE twins")
        raise RuntimeError("stopped")

    monkeypatch.setattr(schema, "MIGRATIONS", {**schema.MIGRATIONS, 1: fail})
    with pytest.raises(RuntimeError):
        Manifest(old)
    assert read(old) == before


def test_a_newer_format_is_refused(old: Path) -> None:
    with closing(sqlite3.connect(old)) as database:
        database.execute(f"PRAGMA user_version={schema.FORMAT + 1}")
    before = read(old)
    with pytest.raises(ManifestDamaged, match=rf"has format {schema.FORMAT + 1}.* Update Nearfield"):
        Manifest(old)
    assert read(old) == before


def test_several_readers_of_an_old_manifest_migrate_it_once(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CollectionDirectory("papers", old.parent)
    migrations: list[int] = []

    def migrate(connection: SharedConnection) -> None:
        migrations.append(1)
        time.sleep(0.2)
        schema._to_format_2(connection)

    monkeypatch.setattr(schema, "MIGRATIONS", {**schema.MIGRATIONS, 1: migrate})
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: Manifest(old, write_lock=folder.write_lock), range(4)))
    assert migrations == [1]
    assert len({manifest.counts()["documents"] for manifest in opened}) == 1
    for manifest in opened:
        manifest.close()


def test_opening_an_old_manifest_waits_for_a_writer(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CollectionDirectory("papers", old.parent)
    locked = threading.Event()

    def write() -> None:
        with folder.write_lock():
            locked.set()
            time.sleep(0.5)

    writer = threading.Thread(target=write)
    writer.start()
    locked.wait()
    with monkeypatch.context() as patch:
        patch.setattr(manifest_module, "_MIGRATION_WAIT", 0.0)
        with pytest.raises(CollectionBusy, match=r"being written .* migrated from format 1 to 3"):
            Manifest(old, write_lock=folder.write_lock)
        assert read(old)["format"] == 1
    Manifest(old, write_lock=folder.write_lock).close()
    assert not folder.path.joinpath("current").exists()
    assert read(old)["format"] == schema.FORMAT
    writer.join()


def test_an_old_manifest_that_cannot_be_written_is_refused(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(old)

    @contextmanager
    def read_only() -> Iterator[None]:
        raise OSError(errno.EROFS, "Read-only file system")
        yield

    with pytest.raises(ManifestDamaged, match=r"must be migrated to format 3, but it cannot be written .*Read-only"):
        Manifest(old, write_lock=read_only)

    def connect(path: Path, lock: ProcessLock) -> SharedConnection:
        options: dict[str, Any] = {"isolation_level": None, "check_same_thread": False}
        place = f"file:{path}?mode=ro"
        return SharedConnection(lambda: sqlite3.connect(place, uri=True, **options), lock)

    monkeypatch.setattr("nearfield.corpus.manifest.sqlite.connect", connect)
    with pytest.raises(ManifestDamaged, match=r"must be migrated to format 3, but it cannot be written .*readonly"):
        Manifest(old)
    assert read(old) == before


@pytest.mark.parametrize("header", [{"format": 99}, {"format": 2, "manifest_format": 99}, {"format": None}])
def test_an_archive_of_another_format_is_refused(header: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "collection.json").write_text(json.dumps({"config": {}, "schema": {}, **header}), encoding="utf-8")
    with pytest.raises(InputError, match="archive format"):
        transfer.read_archive(tmp_path)


def test_an_archive_of_version_0_1_is_read(tmp_path: Path) -> None:
    archive = transfer.read_archive(DATA / "export")
    assert archive.manifest_format == 1
    with closing(transfer._load_manifest(archive)) as connection:
        assert schema.read_format(connection) == schema.FORMAT
        assert connection.execute("SELECT count(*) FROM duplicates").fetchone()[0] > 0
        assert connection.execute("SELECT count(*) FROM inline_documents").fetchone()[0] > 0
