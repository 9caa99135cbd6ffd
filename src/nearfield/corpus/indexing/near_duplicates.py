"""Near-duplicate chunks: the same words in the same order, with other case, spaces, quotes or punctuation between them.

Similarity is no measure of what a text says: invoices of one template differ in a number, contracts in a "not". A chunk
is therefore a duplicate only if all that a search can find in it is in the other one.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import unicodedata
from collections.abc import Iterator, Sequence

from nearfield.corpus.manifest.manifest import Manifest
from nearfield.corpus.manifest.sqlite import Row, SharedConnection

#: Manifest key of the rule by which duplicates were found, and its number. Version 0.1 (rule 1) compared similarity.
_RULE_KEY, RULE = "duplicates_rule", 2
_TABLES = (
    """CREATE TABLE IF NOT EXISTS near_chunks(number INTEGER PRIMARY KEY, chunk TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL, exact INTEGER NOT NULL, family TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS near_chunks_document ON near_chunks(document)",
    "CREATE INDEX IF NOT EXISTS near_chunks_exact ON near_chunks(exact)",
    """CREATE TABLE IF NOT EXISTS near_repeats(document TEXT, kept_chunk INTEGER, PRIMARY KEY(document, kept_chunk))
    WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS near_repeats_kept_chunk ON near_repeats(kept_chunk)",
)
#: Headings count for documents without chunks: those of others are found in their other chunks.
_DUPLICATES = """SELECT d.document, json_extract(d.value, '$.text'), c.text,
    CASE o.chunks WHEN 0 THEN json_extract(d.value, '$.context') ELSE '' END,
    CASE o.chunks WHEN 0 THEN c.context ELSE '' END
    FROM duplicates d JOIN chunks c ON c.id = d.kept_chunk JOIN documents o ON o.id = d.document"""
_CHUNKS = "SELECT n.number, n.family, c.context, c.text FROM near_chunks n JOIN chunks c ON c.id = n.chunk"
#: Quotes that look different and mean the same.
_QUOTES = str.maketrans("\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb", '\'\'\'\'""""""')
#: What may stand around a word, and after a number. Brackets around a number may mean that it is negative, and a quote
#: after one that it counts feet or inches.
_AROUND_WORD, _AFTER_WORD, _AFTER_NUMBER = "\"'()[]{}", ",.;:\"'()[]{}", ",.;:"
#: Case has a meaning within an identifier: ``readFile``.
_MIXED_CASE = re.compile(r"[a-z][A-Z]")


class NearDuplicateIndex:
    """The chunks that are no duplicates, in tables of the manifest. The caller opens the transactions.

    The result depends only on the order of the chunks: the same chunks in the same order give the same duplicates.
    """

    def __init__(self, connection: sqlite3.Connection | SharedConnection) -> None:
        self._connection = connection

    def create(self) -> None:
        """Create the tables if they do not exist."""
        for table in _TABLES:
            self._connection.execute(table)

    def add(self, chunk: str, document: str, text: str, family: str = "") -> str | None:
        """Return the id of the chunk that a text duplicates; if there is none, add the chunk and return None.

        A chunk that was added before is not a duplicate. Chunks of different families are never duplicates.
        """
        if self._rows("SELECT 1 FROM near_chunks WHERE chunk = ?", chunk):
            return None
        exact = _digest(text, family)
        matches = self._rows("SELECT number, chunk FROM near_chunks WHERE exact = ? ORDER BY number LIMIT 1", exact)
        if matches:
            self._rows("INSERT OR IGNORE INTO near_repeats VALUES (?, ?)", document, matches[0][0])
            return str(matches[0][1])
        sql = "INSERT INTO near_chunks(chunk, document, exact, family) VALUES (?, ?, ?, ?)"
        self._rows(sql, chunk, document, exact, family)
        return None

    def remove(self, documents: Sequence[str]) -> list[str]:
        """Remove all chunks of documents; return the other documents with duplicates of them, sorted.

        These documents must be processed again, because the chunks that they duplicated no longer exist.
        """
        orphans: set[str] = set()
        for document in documents:
            for (number,) in self._rows("SELECT number FROM near_chunks WHERE document = ?", document):
                sql = "SELECT document FROM near_repeats WHERE kept_chunk = ?"
                orphans |= {name for (name,) in self._rows(sql, number)}
                self._rows("DELETE FROM near_repeats WHERE kept_chunk = ?", number)
            self._rows("DELETE FROM near_repeats WHERE document = ?", document)
            self._rows("DELETE FROM near_chunks WHERE document = ?", document)
        return sorted(orphans.difference(documents))

    def update_digests(self) -> None:
        """Compute the digests of all chunks again, after a change of the rule."""
        rows = self._rows(_CHUNKS)
        digests = [(_digest(f"{context}\n{text}", family), number) for number, family, context, text in rows]
        self._connection.execute("DROP TABLE IF EXISTS near_bands")
        self._connection.executemany("UPDATE near_chunks SET exact = ? WHERE number = ?", digests)

    def _rows(self, statement: str, *values: object) -> list[Row]:
        return self._connection.execute(statement, values).fetchall()


def find_false_duplicates(manifest: Manifest) -> list[str]:
    """Return the documents with chunks that an older rule took for duplicates; call it in a transaction.

    They must be processed again. Later calls return nothing.
    """
    if manifest.get(_RULE_KEY, 1) == RULE:
        return []
    NearDuplicateIndex(manifest.connection).update_digests()
    manifest.set(_RULE_KEY, RULE)
    rows = manifest.rows(_DUPLICATES)
    return sorted({document for document, *texts in rows if not _are_same(*texts)})


def _are_same(text: str, other: str, context: str, other_context: str) -> bool:
    return normal_form(text) == normal_form(other) and normal_form(context or "") == normal_form(other_context)


def normal_form(text: str) -> str:
    """Return a text in a form that is the same for texts of the same words, numbers and signs in the same order."""
    return " ".join(_terms(unicodedata.normalize("NFC", text).translate(_QUOTES)))


def _terms(text: str) -> Iterator[str]:
    after_number = False
    for part in text.split():
        has_digit = any(map(str.isdigit, part))
        term = part.rstrip(_AFTER_NUMBER) if has_digit else part.lstrip(_AROUND_WORD).rstrip(_AFTER_WORD)
        # Case has a meaning in identifiers and in units: 5 mW and 5 MW.
        exact = has_digit or after_number or _MIXED_CASE.search(term)
        if term or part:
            yield (term if exact else term.lower()) or part
        after_number = part[-1].isdigit()


def _digest(text: str, family: str) -> int:
    """Return a digest of a text's normal form that fits into a SQLite integer."""
    data = f"{family}\0{normal_form(text)}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)
