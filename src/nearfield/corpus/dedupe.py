"""Dedupe: chunks that nearly repeat others, found by MinHash (Broder 1997) and banding (Leskovec et al. 2014, chapter 3)."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import unicodedata
import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from nearfield.corpus.clean import WIDE
from nearfield.errors import MissingExtra

Array = np.ndarray[Any, np.dtype[Any]]

#: Two chunks nearly repeat each other from this share of common shingles on (Jaccard).
THRESHOLD = 0.9
#: Words of a shingle.
SHINGLE = 5
#: With fewer shingles a word makes all the difference: only equal texts repeat each other.
LEAST_SHINGLES = 8
#: Bands of a signature and values of each: 99.4% of pairs at the threshold have a band in common.
BANDS, ROWS = 12, 10
#: Chunks that one value of a band leads to, at most: where a template stands behind thousands, each is like all others.
BUCKET = 64

_TOKEN = re.compile(rf"[{WIDE}]|[^\W{WIDE}]+")
_TABLES = (
    """CREATE TABLE IF NOT EXISTS near_chunks(number INTEGER PRIMARY KEY, chunk TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL, exact INTEGER NOT NULL, signature BLOB, family TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS near_chunks_document ON near_chunks(document)",
    "CREATE INDEX IF NOT EXISTS near_chunks_exact ON near_chunks(exact)",
    "CREATE TABLE IF NOT EXISTS near_bands(band INTEGER, number INTEGER, PRIMARY KEY(band, number)) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS near_repeats(document TEXT, kept INTEGER, PRIMARY KEY(document, kept))
    WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS near_repeats_kept ON near_repeats(kept)",
)


class Duplicates:
    """The chunks that were kept, in tables of a database; all is done in the caller's transaction.

    What is kept depends on the order in which chunks come, and on nothing else: the same chunks in the same order give the
    same answers in each run and on each machine.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def create(self) -> None:
        """Make the tables, where they are not there."""
        for table in _TABLES:
            self._connection.execute(table)

    def add(self, chunk: str, document: str, text: str, family: str = "") -> str | None:
        """Return the id of the kept chunk that a text repeats, or None: it repeats none, and is kept itself.

        A chunk that is kept already stays so. Chunks of different families do not repeat each other.
        """
        if self._rows("SELECT 1 FROM near_chunks WHERE chunk = ?", chunk):
            return None
        told = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
        exact = _number(f"{family}\0{told}".encode("utf-8", "replace"))
        same = self._rows("SELECT number, chunk FROM near_chunks WHERE exact = ? ORDER BY number LIMIT 1", exact)
        values = None if same else signature(told)
        bands = [] if values is None else _bands(values, family)
        full: set[int] = set()
        if values is not None:
            same = self._nearest(values, bands, full)
        if same:
            self._rows("INSERT OR IGNORE INTO near_repeats VALUES (?, ?)", document, same[0][0])
            return str(same[0][1])
        kept = None if values is None else values.tobytes()
        self._keep((chunk, document, exact, kept, family), bands, full)
        return None

    def forget(self, documents: Sequence[str]) -> list[str]:
        """Remove all chunks of documents; return the other documents that had repeated one of them, sorted.

        These have to be indexed anew, since what they repeat is there no more.
        """
        orphans: set[str] = set()
        for document in documents:
            sql = "SELECT number, signature, family FROM near_chunks WHERE document = ?"
            for number, values, family in self._rows(sql, document):
                orphans |= {name for (name,) in self._rows("SELECT document FROM near_repeats WHERE kept = ?", number)}
                self._rows("DELETE FROM near_repeats WHERE kept = ?", number)
                bands = [] if values is None else _bands(np.frombuffer(values, np.uint32), family)
                self._connection.executemany(
                    "DELETE FROM near_bands WHERE band = ? AND number = ?", [(band, number) for band in bands]
                )
            self._rows("DELETE FROM near_repeats WHERE document = ?", document)
            self._rows("DELETE FROM near_chunks WHERE document = ?", document)
        return sorted(orphans.difference(documents))

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()

    def _nearest(self, values: Array, bands: Sequence[int], full: set[int]) -> list[Any]:
        """Return the number and id of the kept chunk that is most alike, where it is enough; note bands that are full."""
        numbers: set[int] = set()
        for band in bands:
            found = self._rows("SELECT number FROM near_bands WHERE band = ? LIMIT ?", band, BUCKET)
            numbers.update(number for (number,) in found)
            if len(found) == BUCKET:
                full.add(band)
        best: list[Any] = []
        least = THRESHOLD
        for number in sorted(numbers):
            ((chunk, other),) = self._rows("SELECT chunk, signature FROM near_chunks WHERE number = ?", number)
            alike = float(np.mean(np.frombuffer(other, np.uint32) == values))
            if alike > least or (alike == least and not best):
                best, least = [(number, chunk)], alike
        return best

    def _keep(self, row: tuple[Any, ...], bands: Sequence[int], full: set[int]) -> None:
        made = self._connection.execute(
            "INSERT INTO near_chunks(chunk, document, exact, signature, family) VALUES (?, ?, ?, ?, ?)", row
        )
        self._connection.executemany(
            "INSERT OR IGNORE INTO near_bands VALUES (?, ?)",
            [(band, made.lastrowid) for band in bands if band not in full],
        )


def signature(text: str) -> Array | None:
    """Return the MinHash values uint32 [120] of a text's shingles; None where it has too few.

    Shingles are of five words, or characters in scripts that part no words.
    """
    tokens = _TOKEN.findall(text)
    if len(tokens) < SHINGLE + LEAST_SHINGLES - 1:
        return None
    made = _blank().copy()
    made.update_batch(_shingles(tokens).tolist())
    return np.asarray(made.hashvalues, np.uint32)


def _shingles(tokens: Sequence[str]) -> Array:
    """Return a hash of each shingle, which is the same in each process."""
    hashes = np.array([zlib.crc32(token.encode("utf-8", "replace")) for token in tokens], np.uint64)
    count = len(hashes) - SHINGLE + 1
    mixed = np.zeros(count, np.uint64)
    for at in range(SHINGLE):
        # A polynomial in an odd number (that of the golden ratio), whose upper half depends on all words and their order.
        mixed = (mixed + hashes[at : at + count]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return np.unique(mixed >> np.uint64(32))


@cache
def _blank() -> Any:
    try:
        from datasketch import MinHash
    except ModuleNotFoundError as error:
        raise MissingExtra("Finding duplicates needs 'datasketch': pip install 'nearfield[corpus]'") from error
    # All of these fix the values: signatures are kept, and compared with those of later runs.
    return MinHash(num_perm=BANDS * ROWS, seed=1, hashfunc=int, scheme="affine32")


def _bands(values: Array, family: str) -> list[int]:
    salt = family.encode("utf-8", "replace")
    return [_number(salt + bytes([band]) + values[band * ROWS : (band + 1) * ROWS].tobytes()) for band in range(BANDS)]


def _number(told: bytes) -> int:
    """Return a number that SQLite can hold."""
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "little", signed=True)
