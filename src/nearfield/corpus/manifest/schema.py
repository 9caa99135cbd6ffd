"""The SQLite schema of a manifest, its format number, and the migrations from older formats.

The format number is SQLite's ``user_version``. It changes in the same transaction as the tables, so that a process that
is killed during a migration leaves the old format complete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nearfield.corpus.manifest.sqlite import SharedConnection

FORMAT = 3
#: Inline documents are stored in every manifest; near-duplicate tables are created by ``NearDuplicateIndex``.
_TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE documents(
  id TEXT PRIMARY KEY, source TEXT NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL, stamp TEXT, digest TEXT NOT NULL,
  version TEXT NOT NULL, title TEXT NOT NULL, type TEXT NOT NULL, fields TEXT NOT NULL, state TEXT NOT NULL,
  error TEXT NOT NULL, chunks INTEGER NOT NULL, tokens INTEGER NOT NULL, visible_words INTEGER, kept_words INTEGER,
  losses TEXT NOT NULL DEFAULT '[]', partial INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX documents_state ON documents(state) WHERE state <> 'done';
CREATE INDEX documents_source ON documents(source);
CREATE TABLE chunks(
  rowid INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, document TEXT NOT NULL, version TEXT NOT NULL,
  ordinal INTEGER NOT NULL, text TEXT NOT NULL, context TEXT NOT NULL, fields TEXT NOT NULL, payload TEXT NOT NULL,
  tokens INTEGER NOT NULL);
CREATE INDEX chunks_document ON chunks(document);
CREATE TABLE tables(
  name TEXT PRIMARY KEY, feature TEXT NOT NULL, described TEXT NOT NULL, space TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE document_tables(
  table_name TEXT NOT NULL, document TEXT NOT NULL, version TEXT NOT NULL, PRIMARY KEY(table_name, document))
  WITHOUT ROWID;
CREATE TABLE duplicates(
  document TEXT NOT NULL, ordinal INTEGER NOT NULL, kept_chunk TEXT NOT NULL, value TEXT NOT NULL,
  PRIMARY KEY(document, ordinal)) WITHOUT ROWID;
CREATE INDEX duplicates_kept_chunk ON duplicates(kept_chunk);
CREATE TABLE boilerplate(source TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE inline_documents(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


def create(connection: SharedConnection) -> None:
    """Create the tables of the current format, in the caller's transaction."""
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    set_format(connection, FORMAT)


def read_format(connection: SharedConnection) -> int:
    """Return a manifest's format; 0 if its tables do not exist yet."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def set_format(connection: SharedConnection, number: int) -> None:
    """Set a manifest's format, in the caller's transaction."""
    connection.execute(f"PRAGMA user_version={number}")


def migrate(connection: SharedConnection) -> None:
    """Bring a manifest of an older format to the current one, in the caller's transaction.

    A manifest of the current format is left unchanged.
    """
    for number in range(read_format(connection), FORMAT):
        MIGRATIONS[number](connection)
        set_format(connection, number + 1)


def _to_format_2(connection: SharedConnection) -> None:
    """Rename tables and columns. Inline documents and near-duplicates had no tables where none were needed."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.execute("DROP INDEX IF EXISTS twins_kept")
    for old, new in (("placed", "document_tables"), ("twins", "duplicates"), ("given", "inline_documents")):
        if old in tables:
            connection.execute(f"ALTER TABLE {old} RENAME TO {new}")
    for table, old, new in (
        ("document_tables", "place", "table_name"),
        ("duplicates", "kept", "kept_chunk"),
        ("duplicates", "told", "value"),
        ("boilerplate", "told", "value"),
    ):
        connection.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
    connection.execute("CREATE INDEX duplicates_kept_chunk ON duplicates(kept_chunk)")
    if "given" in tables:
        connection.execute("ALTER TABLE inline_documents RENAME COLUMN told TO value")
    else:
        connection.execute("CREATE TABLE inline_documents(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    if "near_repeats" in tables:
        connection.execute("DROP INDEX IF EXISTS near_repeats_kept")
        connection.execute("ALTER TABLE near_repeats RENAME COLUMN kept TO kept_chunk")
        connection.execute("CREATE INDEX near_repeats_kept_chunk ON near_repeats(kept_chunk)")


def _to_format_3(connection: SharedConnection) -> None:
    """Add what each document lacks of its visible text; unknown for documents that were indexed before."""
    for column in (
        "visible_words INTEGER",
        "kept_words INTEGER",
        "losses TEXT NOT NULL DEFAULT '[]'",
        "partial INTEGER NOT NULL DEFAULT 0",
    ):
        connection.execute(f"ALTER TABLE documents ADD COLUMN {column}")


#: By format: what brings a manifest to the next one.
MIGRATIONS: Mapping[int, Callable[[SharedConnection], None]] = {1: _to_format_2, 2: _to_format_3}
