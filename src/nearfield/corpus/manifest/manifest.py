"""The manifest of a collection: the documents, their states and chunks, in one SQLite file.

The store has the vectors; the manifest records which vectors it should have. The rows of a document change in one
transaction, after the store has written its vectors. Until then the document is ``writing``, and the next run processes
it again if the process dies.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nearfield.argument_checks import require_count, require_optional_texts
from nearfield.corpus.document import TEXT
from nearfield.corpus.manifest import schema, sqlite
from nearfield.corpus.manifest.keyword_index import KeywordIndex
from nearfield.corpus.manifest.records import ChunkRecord, DocumentRecord, DuplicateChunk, State, VectorTable
from nearfield.corpus.manifest.row_format import (
    CHUNK_COLUMNS,
    DOCUMENT_COLUMNS,
    chunk_record,
    chunk_row,
    document_record,
    document_row,
)
from nearfield.corpus.manifest.sqlite import Row, closing_on_error
from nearfield.errors import CollectionBusy, InputError, NearfieldError, nearest
from nearfield.fileio.disk_space import is_disk_full
from nearfield.fork_safety import ProcessLock
from nearfield.text_inputs import one_text

#: Listed documents that are written to the temporary table together.
_LISTED_PER_WRITE = 1000
#: Seconds that opening waits for a writer, if the manifest must be migrated; and between two tries.
_MIGRATION_WAIT, _MIGRATION_PAUSE = 60.0, 0.1
#: The states that users see, as SQL conditions.
_USER_STATES = {
    "done": "state IN ('done', 'stale') AND error = '' AND NOT partial",
    "partial": "state IN ('done', 'stale') AND error = '' AND partial",
    "failed": "(state = 'failed' OR error <> '')",
    "writing": "state IN ('new', 'writing')",
    "deleting": "state = 'deleting'",
}

WriteLock = Callable[[], AbstractContextManager[None]]


class ManifestDamaged(NearfieldError):
    """The manifest cannot be used: it is damaged, of a newer format, or needs a migration and cannot be written."""


class Manifest:
    """The manifest of one collection; it is created if its file does not exist.

    Threads may share it: statements and ``writing`` blocks run one at a time.

    Args:
        path: the file.
        language: of the texts, for the keyword index of a new manifest.
        write_lock: returns the collection's write lock, which a migration takes. Leave it out if the caller has it.

    Raises:
        ManifestDamaged: see there.
        CollectionBusy: the manifest has an older format, and a writer has the lock for over a minute.
    """

    def __init__(self, path: Path, *, language: str = "en", write_lock: WriteLock = nullcontext) -> None:
        self.path = path
        self._lock = ProcessLock()
        self._listed: list[str] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.connection = sqlite.connect(path, self._lock)
            with closing_on_error(self.connection):
                self._open(language, write_lock)
        except sqlite3.DatabaseError as error:
            raise ManifestDamaged(_explain(path, error)) from error

    def _open(self, language: str, write_lock: WriteLock) -> None:
        self.connection.execute("PRAGMA journal_mode=WAL")
        number = schema.read_format(self.connection)
        if number > schema.FORMAT:
            raise ManifestDamaged(
                f"{self.path} has format {number}, and this version of Nearfield reads formats up to {schema.FORMAT}: "
                "a newer version wrote it. Update Nearfield."
            )
        self.keywords = KeywordIndex(self.connection, language=language)
        if number == 0:
            self._create()
        elif number < schema.FORMAT:
            self._migrate(number, write_lock)
        #: The keyword index for searches, on a connection that reads committed rows and never waits for a writer.
        self._reader = sqlite.connect(self.path, ProcessLock())
        self.search_index = KeywordIndex(self._reader, language=language)

    def _create(self) -> None:
        with self.writing():
            if schema.read_format(self.connection) == 0:  # else another process was faster
                schema.create(self.connection)
                self.keywords.create()

    def _migrate(self, number: int, write_lock: WriteLock) -> None:
        """Migrate an older format under the write lock, so that no older version is writing at the same time.

        While another process has the lock, wait: it may be doing this very migration.
        """
        give_up = time.monotonic() + _MIGRATION_WAIT
        while schema.read_format(self.connection) < schema.FORMAT:
            try:
                with write_lock(), self.writing():
                    schema.migrate(self.connection)
            except CollectionBusy as error:
                if time.monotonic() > give_up:
                    raise CollectionBusy(
                        f"{error} After that, the manifest is migrated from format {number} to {schema.FORMAT}."
                    ) from error
                time.sleep(_MIGRATION_PAUSE)
            except (OSError, sqlite3.OperationalError) as error:
                raise ManifestDamaged(
                    f"{self.path} has format {number} and must be migrated to format {schema.FORMAT}, but it cannot be "
                    f"written ({error}). Make its folder writable, or open a copy of it."
                ) from error

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self.connection.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Run the block in one transaction. A block inside another one joins its transaction."""
        with self._lock:
            if self.connection.in_transaction:
                yield
                return
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # SQLite may have rolled it back, for example on a full disk
                    self.connection.execute("ROLLBACK")
                raise

    def rows(self, sql: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[Row]:
        """Run one statement and return its rows."""
        return self.connection.execute(sql, values).fetchall()

    # -- values of the collection ------------------------------------------------------------------------------

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key."""
        rows = self.rows("SELECT value FROM meta WHERE key = ?", (key,))
        return json.loads(rows[0][0]) if rows else default

    def set(self, key: str, value: object) -> None:
        """Store a JSON value under a key."""
        with self.writing():
            self.rows("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def set_recognition(self, **modes: object) -> None:
        """Store the modes of OCR and speech of the next run. If one has changed, that run compares all contents."""
        with self.writing():
            if any(self.get(name, False) != mode for name, mode in modes.items()):
                self.rows("UPDATE documents SET stamp = NULL")
                for name, mode in modes.items():
                    self.set(name, mode)

    def boilerplate(self, source: str) -> list[tuple[str, float, str]] | None:
        """Return the boilerplate of a source: lines, their shares and digests; None if it was not detected yet."""
        rows = self.rows("SELECT value FROM boilerplate WHERE source = ?", (source,))
        return [(line, share, digest) for line, share, digest in json.loads(rows[0][0])] if rows else None

    def set_boilerplate(self, source: str, lines: Sequence[tuple[str, float, str]]) -> None:
        """Store the boilerplate of a source."""
        with self.writing():
            self.rows("INSERT OR REPLACE INTO boilerplate VALUES (?, ?)", (source, json.dumps(lines)))

    # -- vector tables -----------------------------------------------------------------------------------------

    def vector_tables(self) -> list[VectorTable]:
        """Return all vector tables, the oldest first."""
        rows = self.rows("SELECT name, feature, described, space, state FROM tables ORDER BY rowid")
        return [VectorTable(name, feature, json.loads(a), json.loads(b), state) for name, feature, a, b, state in rows]

    def live_tables(self) -> dict[str, VectorTable]:
        """Return by feature the vector tables that are complete."""
        return {table.feature: table for table in self.vector_tables() if table.state == "live"}

    def add_vector_table(self, table: VectorTable) -> None:
        """Add a vector table."""
        described, space = json.dumps(dict(table.described)), json.dumps(dict(table.space))
        with self.writing():
            row = (table.name, table.feature, described, space, table.state)
            self.rows("INSERT INTO tables VALUES (?, ?, ?, ?, ?)", row)

    def remove_vector_table(self, name: str) -> None:
        """Remove a vector table from the manifest."""
        with self.writing():
            self.rows("DELETE FROM tables WHERE name = ?", (name,))
            self.rows("DELETE FROM document_tables WHERE table_name = ?", (name,))

    def activate(self, names: Sequence[str]) -> None:
        """Make these vector tables live, and remove all others from the manifest."""
        with self.writing():
            old = [table.name for table in self.vector_tables() if table.name not in names]
            for name in names:
                self.rows("UPDATE tables SET state = 'live' WHERE name = ?", (name,))
            for name in old:
                self.remove_vector_table(name)

    # -- documents ---------------------------------------------------------------------------------------------

    def document(self, document: str) -> DocumentRecord | None:
        """Return a document by its id, or None."""
        document = one_text(document, "document")
        rows = self.rows(f"SELECT {DOCUMENT_COLUMNS} FROM documents WHERE id = ?", (document,))
        return document_record(rows[0]) if rows else None

    def documents(self, *, state: str | None = None, after: str = "", limit: int = 1000) -> list[DocumentRecord]:
        """Return at most ``limit`` documents whose ids come after ``after``, in the order of their ids.

        ``state`` is one of the states that users see: done, partial, failed, writing, deleting. A document that could
        not be read again counts as failed.

        Raises:
            InputError: there is no such state.
        """
        require_optional_texts(state=state)
        require_count("limit", limit, 0)
        if state is not None and state not in _USER_STATES:
            raise InputError(f"Unknown state {state!r} of documents. {nearest(state, _USER_STATES)}", param="state")
        where = f"AND {_USER_STATES[state]}" if state else ""
        sql = f"SELECT {DOCUMENT_COLUMNS} FROM documents WHERE id > ? {where} ORDER BY id LIMIT ?"
        return [document_record(row) for row in self.rows(sql, [after, limit])]

    def save(self, documents: Iterable[DocumentRecord]) -> None:
        """Add documents, or replace the rows of the same ids."""
        with self.writing():
            self.connection.executemany(
                f"INSERT OR REPLACE INTO documents({DOCUMENT_COLUMNS}) VALUES ({', '.join('?' * 18)})",
                map(document_row, documents),
            )

    def set_state(self, documents: Sequence[str], state: State, error: str = "") -> None:
        """Set the state of documents."""
        with self.writing():
            self.connection.executemany(
                "UPDATE documents SET state = ?, error = ? WHERE id = ?", [(state, error, key) for key in documents]
            )

    def begin(self, document: DocumentRecord) -> None:
        """Record that a document is being written; an earlier version's row stays until it is done."""
        with self.writing():
            old = self.document(document.id)
            if old is None:
                self.save([replace(document, state="new")])
            elif old.state != "new":
                self.set_state([document.id], "writing")

    def in_state(self, *states: State) -> list[str]:
        """Return the ids of the documents in these states, in order."""
        marks = ", ".join("?" * len(states))
        return [row[0] for row in self.rows(f"SELECT id FROM documents WHERE state IN ({marks}) ORDER BY id", states)]

    def states(self) -> dict[str, int]:
        """Return the number of documents by state; done documents that lack a part of their text are ``partial``."""
        state = "CASE WHEN partial AND state = 'done' THEN 'partial' ELSE state END"
        return dict(self.rows(f"SELECT {state} AS shown, count(*) FROM documents GROUP BY shown ORDER BY shown"))

    def tables_without(self, tables: Sequence[str], document: str, version: str) -> list[str]:
        """Return those vector tables that lack a version of a document."""
        sql = "SELECT table_name FROM document_tables WHERE document = ? AND version = ?"
        complete = {row[0] for row in self.rows(sql, (document, version))}
        return [name for name in tables if name not in complete]

    def incomplete_documents(self, tables: Sequence[str], after: str = "", limit: int = 500) -> list[DocumentRecord]:
        """Return documents of any source that are done, but whose version is missing from one of these tables."""
        marks = ", ".join("?" * len(tables))
        sql = (
            f"SELECT {DOCUMENT_COLUMNS} FROM documents d WHERE state = 'done' AND id > ? AND "
            "(SELECT count(*) FROM document_tables t WHERE t.document = d.id AND t.version = d.version "
            f"AND t.table_name IN ({marks})) < ? ORDER BY id LIMIT ?"
        )
        return [document_record(row) for row in self.rows(sql, [after, *tables, len(tables), limit])]

    # -- listings of sources -----------------------------------------------------------------------------------

    def begin_listing(self) -> None:
        """Start to record which documents the sources list, in a temporary table of this connection."""
        with self.writing():
            self.connection.execute("CREATE TEMP TABLE IF NOT EXISTS seen(id TEXT PRIMARY KEY) WITHOUT ROWID")
            self.connection.execute("DELETE FROM seen")
            self._listed = []

    def add_listed(self, document: str) -> None:
        """Record that a document is listed."""
        self._listed.append(document)
        if len(self._listed) >= _LISTED_PER_WRITE:
            self.flush_listed()

    def add_all_listed(self, documents: Sequence[str]) -> None:
        """Record that documents are listed."""
        with self.writing():
            self.connection.executemany("INSERT OR IGNORE INTO seen VALUES (?)", [(key,) for key in documents])

    def flush_listed(self) -> None:
        """Write the last listed documents to the temporary table."""
        self.add_all_listed(self._listed)
        self._listed = []

    def not_listed(self, source: str, limit: int) -> list[str]:
        """Return at most ``limit`` documents of a source that were not listed."""
        sql = "SELECT id FROM documents WHERE source = ? AND id NOT IN (SELECT id FROM seen) ORDER BY id LIMIT ?"
        return [row[0] for row in self.rows(sql, (source, limit))]

    def count_not_listed(self, source: str) -> tuple[int, int]:
        """Return how many documents of a source were not listed, and how many it has."""
        sql = "SELECT count(*) FILTER (WHERE id NOT IN (SELECT id FROM seen)), count(*) FROM documents WHERE source = ?"
        gone, total = self.rows(sql, (source,))[0]
        return gone, total

    def count_by_source(self) -> dict[str, int]:
        """Return the number of documents of each source."""
        return dict(self.rows("SELECT source, count(*) FROM documents GROUP BY source"))

    # -- chunks ------------------------------------------------------------------------------------------------

    def replace(
        self,
        document: DocumentRecord,
        chunks: Sequence[ChunkRecord],
        duplicates: Sequence[DuplicateChunk],
        tables: Sequence[str],
        *,
        new_chunks: bool,
    ) -> None:
        """Write a document's row and the vector tables that have it; with ``new_chunks`` replace its chunks too."""
        with self.writing():
            if new_chunks:
                self._replace_chunks(document.id, chunks, duplicates)
            self._finish(document, tables, new_chunks=new_chunks)

    def _finish(self, document: DocumentRecord, tables: Sequence[str], *, new_chunks: bool) -> None:
        self.save([document])
        if new_chunks:
            sql = "DELETE FROM document_tables WHERE document = ? AND version <> ?"
            self.rows(sql, (document.id, document.version))
        self.connection.executemany(
            "INSERT OR REPLACE INTO document_tables VALUES (?, ?, ?)",
            [(name, document.id, document.version) for name in tables],
        )

    def add_part(
        self, document: str, chunks: Sequence[ChunkRecord], duplicates: Sequence[DuplicateChunk], *, is_first: bool
    ) -> None:
        """Add a part of a document's chunks; other chunks of the document stay until ``finish_parts``."""
        with self.writing():
            if is_first:
                self.rows("DELETE FROM duplicates WHERE document = ?", (document,))
            for chunk in chunks:
                if not self._update_chunk(chunk):
                    self._add_chunk(chunk)
            self._add_duplicates(document, duplicates)

    def finish_parts(self, document: DocumentRecord, tables: Sequence[str], *, new_chunks: bool) -> None:
        """Write the row of a document whose parts are all written, and remove the chunks of its earlier versions."""
        with self.writing():
            if new_chunks:
                sql = "SELECT rowid FROM chunks WHERE document = ? AND version <> ?"
                numbers = [row[0] for row in self.rows(sql, (document.id, document.version))]
                self.keywords.remove(numbers)
                self.connection.executemany("DELETE FROM chunks WHERE rowid = ?", [(number,) for number in numbers])
            self._finish(document, tables, new_chunks=new_chunks)

    def _update_chunk(self, chunk: ChunkRecord) -> bool:
        """Update the row of a chunk that an earlier version has too: its text, and so its keywords, are the same."""
        if not self.rows("SELECT 1 FROM chunks WHERE id = ?", (chunk.id,)):
            return False
        names = [name for name in CHUNK_COLUMNS.split(", ") if name != "id"]
        sql = f"UPDATE chunks SET {', '.join(f'{name} = ?' for name in names)} WHERE id = ?"
        self.rows(sql, (*chunk_row(chunk)[1:], chunk.id))
        return True

    def _replace_chunks(
        self, document: str, chunks: Sequence[ChunkRecord], duplicates: Sequence[DuplicateChunk]
    ) -> None:
        self._remove_chunks([document])
        for chunk in chunks:
            self._add_chunk(chunk)
        self._add_duplicates(document, duplicates)

    def _add_chunk(self, chunk: ChunkRecord) -> None:
        sql = f"INSERT INTO chunks({CHUNK_COLUMNS}) VALUES ({', '.join('?' * 9)})"
        added = self.connection.execute(sql, chunk_row(chunk))
        if chunk.kind == TEXT:
            self.keywords.put([(int(added.lastrowid or 0), chunk.embedded)])

    def _add_duplicates(self, document: str, duplicates: Sequence[DuplicateChunk]) -> None:
        self.connection.executemany(
            "INSERT INTO duplicates VALUES (?, ?, ?, ?)",
            [
                (document, duplicate.chunk.ordinal, duplicate.original, json.dumps(asdict(duplicate.chunk)))
                for duplicate in duplicates
            ],
        )

    def _remove_chunks(self, documents: Sequence[str]) -> None:
        for document in documents:
            rows = self.rows("SELECT rowid FROM chunks WHERE document = ?", (document,))
            self.keywords.remove([row[0] for row in rows])
            self.rows("DELETE FROM chunks WHERE document = ?", (document,))
            self.rows("DELETE FROM duplicates WHERE document = ?", (document,))

    def remove(self, documents: Sequence[str]) -> None:
        """Remove documents and their chunks."""
        with self.writing():
            self.remove_chunks(documents)
            self.connection.executemany("DELETE FROM documents WHERE id = ?", [(key,) for key in documents])

    def remove_chunks(self, documents: Sequence[str]) -> None:
        """Remove the chunks of documents; the documents' rows stay."""
        with self.writing():
            self._remove_chunks(documents)
            for document in documents:
                self.rows("DELETE FROM document_tables WHERE document = ?", (document,))

    def chunks(self, document: str) -> list[ChunkRecord]:
        """Return a document's chunks, in order."""
        rows = self.rows(f"SELECT {CHUNK_COLUMNS} FROM chunks WHERE document = ? ORDER BY ordinal", (document,))
        return [chunk_record(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """Return the numbers of searchable documents, their chunks and tokens, and of near-duplicates left out."""
        documents = self.rows("SELECT count(*), coalesce(sum(tokens), 0) FROM documents WHERE state = 'done'")[0]
        return {
            "documents": documents[0],
            "chunks": self.rows("SELECT count(*) FROM chunks")[0][0],
            "tokens": documents[1],
            "repeats": self.rows("SELECT count(*) FROM duplicates")[0][0],
        }

    def duplicates(self, document: str) -> list[DuplicateChunk]:
        """Return a document's chunks that are near-duplicates of others, in order."""
        rows = self.rows("SELECT kept_chunk, value FROM duplicates WHERE document = ? ORDER BY ordinal", (document,))
        return [DuplicateChunk(original, ChunkRecord(**json.loads(value))) for original, value in rows]

    def all_chunks(self, document: str) -> list[ChunkRecord]:
        """Return a document's chunks, near-duplicates included, in order."""
        chunks = [*self.chunks(document), *(duplicate.chunk for duplicate in self.duplicates(document))]
        return sorted(chunks, key=lambda chunk: chunk.ordinal)

    def mark_orphans(self) -> None:
        """Mark documents as stale that have near-duplicates of chunks that do not exist, since a document failed."""
        orphans = "SELECT document FROM duplicates WHERE kept_chunk NOT IN (SELECT id FROM chunks)"
        with self.writing():
            self.rows(f"UPDATE documents SET state = 'stale' WHERE state = 'done' AND id IN ({orphans})")

    def duplicates_of(self, chunk: str) -> list[ChunkRecord]:
        """Return the near-duplicates of a chunk, in the order of their documents."""
        rows = self.rows("SELECT value FROM duplicates WHERE kept_chunk = ? ORDER BY document, ordinal", (chunk,))
        return [ChunkRecord(**json.loads(row[0])) for row in rows]

    def chunk(self, chunk: str) -> ChunkRecord | None:
        """Return a chunk by its id, or None."""
        rows = self.rows(f"SELECT {CHUNK_COLUMNS} FROM chunks WHERE id = ?", (chunk,))
        return chunk_record(rows[0]) if rows else None

    def read(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Run a query on the connection for searches, which never waits for a writer."""
        return self._reader.execute(sql, values).fetchall()


def _explain(path: Path, error: sqlite3.DatabaseError) -> str:
    if is_disk_full(error):
        return f"{path} cannot be opened: the disk is full. Free some space."
    if isinstance(error, sqlite3.OperationalError) and ("unable to open" in str(error) or "readonly" in str(error)):
        return f"{path} cannot be opened ({error}). SQLite also writes files beside it: its folder must be writable."
    return f"{path} cannot be read ({error}). Restore it, or drop the collection."
