"""Manifest: the books of a collection, in one SQLite file: which document is where, in which state, cut into what.

The store holds vectors; the manifest knows what they should be. A document's rows change in one transaction, after the
store has taken its vectors: until then it is ``writing``, and is done again if the process dies.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from nearfield.corpus.document import embedded
from nearfield.corpus.manifest import sqlite
from nearfield.corpus.manifest.keyword_index import KeywordIndex
from nearfield.errors import InputError, NearfieldError, nearest

State = Literal["new", "writing", "done", "failed", "deleting", "stale"]
FORMAT = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents(
  id TEXT PRIMARY KEY, source TEXT NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL, stamp TEXT, digest TEXT NOT NULL,
  version TEXT NOT NULL, title TEXT NOT NULL, type TEXT NOT NULL, fields TEXT NOT NULL, state TEXT NOT NULL,
  error TEXT NOT NULL, chunks INTEGER NOT NULL, tokens INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS documents_state ON documents(state) WHERE state <> 'done';
CREATE INDEX IF NOT EXISTS documents_source ON documents(source);
CREATE TABLE IF NOT EXISTS chunks(
  rowid INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, document TEXT NOT NULL, version TEXT NOT NULL,
  ordinal INTEGER NOT NULL, text TEXT NOT NULL, context TEXT NOT NULL, fields TEXT NOT NULL, payload TEXT NOT NULL,
  tokens INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS chunks_document ON chunks(document);
CREATE TABLE IF NOT EXISTS tables(
  name TEXT PRIMARY KEY, feature TEXT NOT NULL, described TEXT NOT NULL, space TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS placed(
  place TEXT NOT NULL, document TEXT NOT NULL, version TEXT NOT NULL, PRIMARY KEY(place, document)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS twins(
  document TEXT NOT NULL, ordinal INTEGER NOT NULL, kept TEXT NOT NULL, told TEXT NOT NULL,
  PRIMARY KEY(document, ordinal)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS twins_kept ON twins(kept);
CREATE TABLE IF NOT EXISTS boilerplate(source TEXT PRIMARY KEY, told TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class DocumentRecord:
    """A document as the manifest knows it. ``version`` tells one content, cut in one way, from another."""

    id: str
    source: str
    key: str
    name: str
    digest: str
    version: str
    stamp: str | None = None
    title: str = ""
    type: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    state: State = "done"
    error: str = ""
    chunks: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class ChunkRecord:
    """A chunk as the manifest keeps it."""

    id: str
    document: str
    version: str
    ordinal: int
    text: str
    context: str
    fields: Mapping[str, Any]
    payload: Mapping[str, Any]
    tokens: int

    @property
    def embedded(self) -> str:
        """The text that the model reads."""
        return embedded(self.text, self.context)


@dataclass(frozen=True)
class VectorTable:
    """A table of the store and the feature it holds: ``building`` until each document is in it, then ``live``."""

    name: str
    feature: str
    described: Mapping[str, Any]
    space: Mapping[str, Any]
    state: Literal["building", "live"]


@dataclass(frozen=True)
class DuplicateChunk:
    """A chunk that has no vectors of its own, since it nearly repeats the one whose id is ``kept``."""

    kept: str
    chunk: ChunkRecord


class ManifestDamaged(NearfieldError):
    """The manifest's file is no manifest, or of a newer Nearfield."""


_SEEN_AT_ONCE = 1000
#: What people call the states of documents.
_SHOWN = {
    "done": "state IN ('done', 'stale') AND error = ''",
    "failed": "(state = 'failed' OR error <> '')",
    "writing": "state IN ('new', 'writing')",
    "deleting": "state = 'deleting'",
}
_ENTRY = "id, source, key, name, digest, version, stamp, title, type, fields, state, error, chunks, tokens"
_STORED = "id, document, version, ordinal, text, context, fields, payload, tokens"


class Manifest:
    """One collection's books. Threads may share it; each statement and each ``writing`` block runs alone."""

    def __init__(self, path: Path, *, language: str = "en") -> None:
        self.path = path
        self._lock = threading.RLock()
        self._fresh: list[str] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self.connection = sqlite.connect(path, self._lock)
        try:
            self._open(language)
        except sqlite3.DatabaseError as error:
            self.connection.close()
            raise ManifestDamaged(f"{path} cannot be read ({error}). Restore it, or drop the collection.") from error

    def _open(self, language: str) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
            self.connection.execute(f"PRAGMA {pragma}")
        found = int(self.connection.execute("PRAGMA user_version").fetchone()[0])
        if found > FORMAT:
            raise ManifestDamaged(f"{self.path} was written by a newer Nearfield: update this one.")
        self.keywords = KeywordIndex(self.connection, language=language)
        if found < FORMAT:
            with self.writing():
                for statement in _SCHEMA.split(";"):
                    self.connection.execute(statement)
                self.keywords.create()
                self.connection.execute(f"PRAGMA user_version={FORMAT}")
        #: For searches: it sees what is committed, and waits for nobody who writes.
        self._reading = sqlite.connect(self.path, threading.RLock())
        self.searched = KeywordIndex(self._reading, language=language)

    def close(self) -> None:
        """Let go of the file."""
        self._reading.close()
        self.connection.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Do all that is in the block or nothing; other processes may read meanwhile."""
        with self._lock:
            if self.connection.in_transaction:  # of a block around this one
                yield
                return
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.connection.execute("ROLLBACK")
                raise
            self.connection.execute("COMMIT")

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Run one statement and return its rows."""
        return self.connection.execute(sql, values).fetchall()

    # -- what is kept as a whole -------------------------------------------------------------------------------

    def get(self, key: str, default: Any = None) -> Any:
        """Return what was kept under a key."""
        found = self.rows("SELECT value FROM meta WHERE key = ?", (key,))
        return json.loads(found[0][0]) if found else default

    def set(self, key: str, value: Any) -> None:
        """Keep what JSON can say."""
        with self.writing():
            self.rows("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    def boilerplate(self, source: str) -> Any:
        """Return what is left out of a source's documents, as it was decided; None where it was not."""
        found = self.rows("SELECT told FROM boilerplate WHERE source = ?", (source,))
        return json.loads(found[0][0]) if found else None

    def set_boilerplate(self, source: str, told: Any) -> None:
        """Keep what is left out of a source's documents."""
        with self.writing():
            self.rows("INSERT OR REPLACE INTO boilerplate VALUES (?, ?)", (source, json.dumps(told)))

    # -- tables ------------------------------------------------------------------------------------------------

    def placements(self) -> list[VectorTable]:
        """Return all tables, the oldest first."""
        found = self.rows("SELECT name, feature, described, space, state FROM tables ORDER BY rowid")
        return [VectorTable(name, feature, json.loads(a), json.loads(b), state) for name, feature, a, b, state in found]

    def place(self, placement: VectorTable) -> None:
        """Add a table."""
        told = (json.dumps(dict(placement.described)), json.dumps(dict(placement.space)))
        with self.writing():
            row = (placement.name, placement.feature, *told, placement.state)
            self.rows("INSERT INTO tables VALUES (?, ?, ?, ?, ?)", row)

    def forget_table(self, name: str) -> None:
        """Remove a table from the books."""
        with self.writing():
            self.rows("DELETE FROM tables WHERE name = ?", (name,))
            self.rows("DELETE FROM placed WHERE place = ?", (name,))

    def go_live(self, names: Iterable[str], keep: Iterable[str]) -> list[str]:
        """Let tables that are complete take the place of all others but ``keep``; return the names of those."""
        wanted = {*names, *keep}
        with self.writing():
            old = [each.name for each in self.placements() if each.name not in wanted]
            for name in names:
                self.rows("UPDATE tables SET state = 'live' WHERE name = ?", (name,))
            for name in old:
                self.forget_table(name)
        return old

    # -- documents ---------------------------------------------------------------------------------------------

    def entry(self, document: str) -> DocumentRecord | None:
        """Return a document's entry."""
        found = self.rows(f"SELECT {_ENTRY} FROM documents WHERE id = ?", (document,))
        return _entry(found[0]) if found else None

    def entries(self, *, state: str | None = None, after: str = "", limit: int = 1000) -> list[DocumentRecord]:
        """Return documents in the order of their ids, ``limit`` at most, from the one after ``after`` on.

        ``state`` is done, failed, writing or deleting, as people see it: what could not be read again has failed too.

        Raises:
            InputError: there is no such state.
        """
        if state is not None and state not in _SHOWN:
            raise InputError(f"No document is ever {state!r}. {nearest(state, _SHOWN)}", param="state")
        where = f"AND {_SHOWN[state]}" if state else ""
        sql = f"SELECT {_ENTRY} FROM documents WHERE id > ? {where} ORDER BY id LIMIT ?"
        return [_entry(row) for row in self.rows(sql, [after, limit])]

    def save(self, entries: Iterable[DocumentRecord]) -> None:
        """Write entries, in place of those of the same ids."""
        with self.writing():
            self.connection.executemany(
                f"INSERT OR REPLACE INTO documents({_ENTRY}) VALUES ({', '.join('?' * 14)})", map(_row, entries)
            )

    def mark(self, documents: Sequence[str], state: State, error: str = "") -> None:
        """Set the state of documents."""
        with self.writing():
            self.connection.executemany(
                "UPDATE documents SET state = ?, error = ? WHERE id = ?", [(state, error, each) for each in documents]
            )

    def begin(self, entry: DocumentRecord) -> None:
        """Note that a document is being written; what was known of one that is there stays until it is done."""
        with self.writing():
            old = self.entry(entry.id)
            if old is None:
                self.save([replace(entry, state="new")])
            elif old.state != "new":
                self.mark([entry.id], "writing")

    def in_state(self, *states: State) -> list[str]:
        """Return the ids of documents in one of some states, in order."""
        marks = ", ".join("?" * len(states))
        return [row[0] for row in self.rows(f"SELECT id FROM documents WHERE state IN ({marks}) ORDER BY id", states)]

    def states(self) -> dict[str, int]:
        """Return how many documents are in each state."""
        return dict(self.rows("SELECT state, count(*) FROM documents GROUP BY state ORDER BY state"))

    def missing_from(self, places: Sequence[str], document: str, version: str) -> list[str]:
        """Return those tables that do not hold a document's version."""
        held = {
            row[0]
            for row in self.rows("SELECT place FROM placed WHERE document = ? AND version = ?", (document, version))
        }
        return [name for name in places if name not in held]

    def lacking(self, places: Sequence[str], after: str = "", limit: int = 500) -> list[DocumentRecord]:
        """Return done documents, whatever source lists them, that one of some tables does not hold as they are."""
        marks = ", ".join("?" * len(places))
        sql = (
            f"SELECT {_ENTRY} FROM documents d WHERE state = 'done' AND id > ? AND (SELECT count(*) FROM placed p "
            f"WHERE p.document = d.id AND p.version = d.version AND p.place IN ({marks})) < ? ORDER BY id LIMIT ?"
        )
        return [_entry(row) for row in self.rows(sql, [after, *places, len(places), limit])]

    # -- what a source lists -----------------------------------------------------------------------------------

    def begin_seen(self) -> None:
        """Begin to note what sources list: in a table of this connection that nobody else sees."""
        with self.writing():
            self.connection.execute("CREATE TEMP TABLE IF NOT EXISTS seen(id TEXT PRIMARY KEY) WITHOUT ROWID")
            self.connection.execute("DELETE FROM seen")
            self._fresh = []

    def see(self, document: str) -> None:
        """Note that a document is listed."""
        self._fresh.append(document)
        if len(self._fresh) >= _SEEN_AT_ONCE:
            self.end_seen()

    def see_all(self, documents: Sequence[str]) -> None:
        """Note that documents are listed."""
        with self.writing():
            self.connection.executemany("INSERT OR IGNORE INTO seen VALUES (?)", [(each,) for each in documents])

    def end_seen(self) -> None:
        """Write down what was noted last."""
        self.see_all(self._fresh)
        self._fresh = []

    def unseen(self, source: str, limit: int) -> list[str]:
        """Return documents of a source that were not listed, ``limit`` at most."""
        sql = "SELECT id FROM documents WHERE source = ? AND id NOT IN (SELECT id FROM seen) ORDER BY id LIMIT ?"
        return [row[0] for row in self.rows(sql, (source, limit))]

    # -- chunks ------------------------------------------------------------------------------------------------

    def replace(
        self,
        entry: DocumentRecord,
        chunks: Sequence[ChunkRecord],
        twins: Sequence[DuplicateChunk],
        places: Sequence[str],
        *,
        recut: bool,
    ) -> None:
        """Write a document's entry, and that these tables hold it; with ``recut`` its chunks as well."""
        with self.writing():
            self.save([entry])
            if recut:
                self._recut(entry.id, chunks, twins)
                self.rows("DELETE FROM placed WHERE document = ? AND version <> ?", (entry.id, entry.version))
            self.connection.executemany(
                "INSERT OR REPLACE INTO placed VALUES (?, ?, ?)", [(name, entry.id, entry.version) for name in places]
            )

    def _recut(self, document: str, chunks: Sequence[ChunkRecord], twins: Sequence[DuplicateChunk]) -> None:
        self._remove_chunks([document])
        for chunk in chunks:
            row = (chunk.id, chunk.document, chunk.version, chunk.ordinal, chunk.text, chunk.context)
            told = (json.dumps(dict(chunk.fields)), json.dumps(dict(chunk.payload)), chunk.tokens)
            added = self.connection.execute(
                f"INSERT INTO chunks({_STORED}) VALUES ({', '.join('?' * 9)})", (*row, *told)
            )
            self.keywords.put([(int(added.lastrowid or 0), chunk.embedded)])
        self.connection.executemany(
            "INSERT INTO twins VALUES (?, ?, ?, ?)",
            [(document, each.chunk.ordinal, each.kept, json.dumps(asdict(each.chunk))) for each in twins],
        )

    def _remove_chunks(self, documents: Sequence[str]) -> None:
        for document in documents:
            found = self.rows("SELECT rowid FROM chunks WHERE document = ?", (document,))
            self.keywords.remove([row[0] for row in found])
            self.rows("DELETE FROM chunks WHERE document = ?", (document,))
            self.rows("DELETE FROM twins WHERE document = ?", (document,))

    def remove(self, documents: Sequence[str]) -> None:
        """Remove documents with all that belongs to them."""
        with self.writing():
            self._remove_chunks(documents)
            for document in documents:
                self.rows("DELETE FROM placed WHERE document = ?", (document,))
                self.rows("DELETE FROM documents WHERE id = ?", (document,))

    def empty(self, documents: Sequence[str]) -> None:
        """Remove the chunks of documents, whose entries stay."""
        with self.writing():
            self._remove_chunks(documents)
            for document in documents:
                self.rows("DELETE FROM placed WHERE document = ?", (document,))

    def chunks(self, document: str) -> list[ChunkRecord]:
        """Return a document's chunks, in order."""
        found = self.rows(f"SELECT {_STORED} FROM chunks WHERE document = ? ORDER BY ordinal", (document,))
        return [_stored(row) for row in found]

    def counts(self) -> dict[str, int]:
        """Return the numbers of documents that can be found, their chunks, tokens, and chunks left out as repeats."""
        documents = self.rows("SELECT count(*), coalesce(sum(tokens), 0) FROM documents WHERE state = 'done'")[0]
        return {
            "documents": documents[0],
            "chunks": self.rows("SELECT count(*) FROM chunks")[0][0],
            "tokens": documents[1],
            "repeats": self.rows("SELECT count(*) FROM twins")[0][0],
        }

    def twins(self, document: str) -> list[DuplicateChunk]:
        """Return a document's chunks that repeat others, in order."""
        found = self.rows("SELECT kept, told FROM twins WHERE document = ? ORDER BY ordinal", (document,))
        return [DuplicateChunk(kept, ChunkRecord(**json.loads(told))) for kept, told in found]

    def repeats(self, kept: str) -> list[ChunkRecord]:
        """Return the chunks that repeat one, in the order of their documents."""
        found = self.rows("SELECT told FROM twins WHERE kept = ? ORDER BY document, ordinal", (kept,))
        return [ChunkRecord(**json.loads(row[0])) for row in found]


def _entry(row: Any) -> DocumentRecord:
    values = list(row)
    values[9] = json.loads(values[9])
    return DocumentRecord(*values)


def _row(entry: DocumentRecord) -> tuple[Any, ...]:
    told = [getattr(entry, name) for name in _ENTRY.split(", ")]
    told[9] = json.dumps(dict(entry.fields))
    return tuple(told)


def _stored(row: Any) -> ChunkRecord:
    values = list(row)
    values[6], values[7] = json.loads(values[6]), json.loads(values[7])
    return ChunkRecord(*values)
