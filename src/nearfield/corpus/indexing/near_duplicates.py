"""Dedupe: chunks that nearly repeat others, found by MinHash (Broder 1997) in bands, and compared by their shingles.

The bands are those of Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3.
"""

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

from nearfield.arrays import Array
from nearfield.corpus.indexing.cleaning import WIDE
from nearfield.corpus.manifest.sqlite import SharedConnection
from nearfield.errors import MissingExtra

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
    document TEXT NOT NULL, exact INTEGER NOT NULL, shingles BLOB, family TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS near_chunks_document ON near_chunks(document)",
    "CREATE INDEX IF NOT EXISTS near_chunks_exact ON near_chunks(exact)",
    "CREATE TABLE IF NOT EXISTS near_bands(band INTEGER, number INTEGER, PRIMARY KEY(band, number)) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS near_repeats(document TEXT, kept INTEGER, PRIMARY KEY(document, kept))
    WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS near_repeats_kept ON near_repeats(kept)",
)


class NearDuplicateIndex:
    """The chunks that were kept, in tables of a database; all is done in the caller's transaction.

    What is kept depends on the order in which chunks come, and on nothing else: the same chunks in the same order give
    the same answers in each run.
    """

    def __init__(self, connection: sqlite3.Connection | SharedConnection) -> None:
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
        held = None if same else shingles(told)
        bands = [] if held is None else _bands(held, family)
        full: set[int] = set()
        if held is not None:
            same = self._nearest(held, bands, full)
        if same:
            self._rows("INSERT OR IGNORE INTO near_repeats VALUES (?, ?)", document, same[0][0])
            return str(same[0][1])
        self._keep((chunk, document, exact, None if held is None else held.tobytes(), family), bands, full)
        return None

    def forget(self, documents: Sequence[str]) -> list[str]:
        """Remove all chunks of documents; return the other documents that had repeated one of them, sorted.

        These have to be indexed anew, since what they repeat is there no more.
        """
        orphans: set[str] = set()
        for document in documents:
            sql = "SELECT number, shingles, family FROM near_chunks WHERE document = ?"
            for number, held, family in self._rows(sql, document):
                orphans |= {name for (name,) in self._rows("SELECT document FROM near_repeats WHERE kept = ?", number)}
                self._rows("DELETE FROM near_repeats WHERE kept = ?", number)
                bands = [] if held is None else _bands(np.frombuffer(held, np.uint32), family)
                self._connection.executemany(
                    "DELETE FROM near_bands WHERE band = ? AND number = ?", [(band, number) for band in bands]
                )
            self._rows("DELETE FROM near_repeats WHERE document = ?", document)
            self._rows("DELETE FROM near_chunks WHERE document = ?", document)
        return sorted(orphans.difference(documents))

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()

    def _nearest(self, held: Array, bands: Sequence[int], full: set[int]) -> list[Any]:
        """Return the number and id of the kept chunk that is most alike, if it is enough; note bands that are full."""
        numbers: set[int] = set()
        for band in bands:
            found = self._rows("SELECT number FROM near_bands WHERE band = ? LIMIT ?", band, BUCKET)
            numbers.update(number for (number,) in found)
            if len(found) == BUCKET:
                full.add(band)
        best: list[Any] = []
        least = THRESHOLD
        for number in sorted(numbers):
            ((chunk, other),) = self._rows("SELECT chunk, shingles FROM near_chunks WHERE number = ?", number)
            alike = _jaccard(held, np.frombuffer(other, np.uint32))
            if alike > least or (alike == least and not best):
                best, least = [(number, chunk)], alike
        return best

    def _keep(self, row: tuple[Any, ...], bands: Sequence[int], full: set[int]) -> None:
        made = self._connection.execute(
            "INSERT INTO near_chunks(chunk, document, exact, shingles, family) VALUES (?, ?, ?, ?, ?)", row
        )
        self._connection.executemany(
            "INSERT OR IGNORE INTO near_bands VALUES (?, ?)",
            [(band, made.lastrowid) for band in bands if band not in full],
        )


def shingles(text: str) -> Array | None:
    """Return the hashes of a text's shingles, uint32, sorted, each once; None where it has too few.

    Shingles are of five words, or of characters in scripts that part no words. Hashes are the same in each process.
    """
    tokens = _TOKEN.findall(text)
    count = len(tokens) - SHINGLE + 1
    if count < LEAST_SHINGLES:
        return None
    hashes = np.array([zlib.crc32(token.encode("utf-8", "replace")) for token in tokens], np.uint64)
    mixed = np.zeros(count, np.uint64)
    for at in range(SHINGLE):
        # An odd number (of the golden ratio), so that the upper half depends on all words and their order.
        mixed = (mixed + hashes[at : at + count]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return np.unique((mixed >> np.uint64(32)).astype(np.uint32))


def signature(held: Array) -> Array:
    """Return the MinHash values, uint32 [120], of a text's shingles."""
    made = _blank().copy()
    made.update_batch(held.tolist())
    return np.asarray(made.hashvalues, np.uint32)


def _jaccard(one: Array, other: Array) -> float:
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)


@cache
def _blank() -> Any:
    try:
        from datasketch import MinHash
    except ModuleNotFoundError as error:
        raise MissingExtra("Finding duplicates needs 'datasketch': pip install 'nearfield[corpus]'") from error
    # All of these fix the values: bands are kept, and compared with those of later runs.
    return MinHash(num_perm=BANDS * ROWS, seed=1, hashfunc=int, scheme="affine32")


def _bands(held: Array, family: str) -> list[int]:
    values = signature(held)
    parts = ((band, values[band * ROWS : (band + 1) * ROWS].tobytes()) for band in range(BANDS))
    return [_number(f"{family}\0{band}\0".encode("utf-8", "replace") + part) for band, part in parts]


def _number(told: bytes) -> int:
    """Return a number that SQLite can hold."""
    return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "little", signed=True)
