"""Near-duplicate chunks: candidates by MinHash (Broder 1997) and LSH bands, then compared by their shingles.

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
from typing import TYPE_CHECKING

import numpy as np

from nearfield.arrays import Array
from nearfield.corpus.manifest.sqlite import Row, SharedConnection
from nearfield.corpus.word_count import UNSPACED
from nearfield.errors import MissingExtra

if TYPE_CHECKING:
    from datasketch import MinHash


#: Minimum Jaccard similarity of the shingles of near-duplicates.
THRESHOLD = 0.9
#: Words of a shingle.
SHINGLE = 5
#: With fewer shingles, one word makes a large difference: only equal texts are duplicates.
MIN_SHINGLES = 8
#: Bands of a signature and values per band: 99.4% of pairs at the threshold share a band.
BANDS, ROWS = 12, 10
#: Maximum number of chunks with the same value of a band: of thousands from one template, each resembles all others.
BUCKET = 64

_TOKEN = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
_TABLES = (
    """CREATE TABLE IF NOT EXISTS near_chunks(number INTEGER PRIMARY KEY, chunk TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL, exact INTEGER NOT NULL, shingles BLOB, family TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS near_chunks_document ON near_chunks(document)",
    "CREATE INDEX IF NOT EXISTS near_chunks_exact ON near_chunks(exact)",
    "CREATE TABLE IF NOT EXISTS near_bands(band INTEGER, number INTEGER, PRIMARY KEY(band, number)) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS near_repeats(document TEXT, kept_chunk INTEGER, PRIMARY KEY(document, kept_chunk))
    WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS near_repeats_kept_chunk ON near_repeats(kept_chunk)",
)


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
        normalized = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
        exact = _hash(f"{family}\0{normalized}".encode("utf-8", "replace"))
        matches = self._rows("SELECT number, chunk FROM near_chunks WHERE exact = ? ORDER BY number LIMIT 1", exact)
        hashes = None if matches else shingles(normalized)
        bands = [] if hashes is None else _bands(hashes, family)
        full: set[int] = set()
        if hashes is not None:
            matches = self._most_similar(hashes, bands, full)
        if matches:
            self._rows("INSERT OR IGNORE INTO near_repeats VALUES (?, ?)", document, matches[0][0])
            return str(matches[0][1])
        self._insert((chunk, document, exact, None if hashes is None else hashes.tobytes(), family), bands, full)
        return None

    def remove(self, documents: Sequence[str]) -> list[str]:
        """Remove all chunks of documents; return the other documents with duplicates of them, sorted.

        These documents must be processed again, because the chunks that they duplicated no longer exist.
        """
        orphans: set[str] = set()
        for document in documents:
            sql = "SELECT number, shingles, family FROM near_chunks WHERE document = ?"
            for number, hashes, family in self._rows(sql, document):
                sql = "SELECT document FROM near_repeats WHERE kept_chunk = ?"
                orphans |= {name for (name,) in self._rows(sql, number)}
                self._rows("DELETE FROM near_repeats WHERE kept_chunk = ?", number)
                bands = [] if hashes is None else _bands(np.frombuffer(hashes, np.uint32), family)
                self._connection.executemany(
                    "DELETE FROM near_bands WHERE band = ? AND number = ?", [(band, number) for band in bands]
                )
            self._rows("DELETE FROM near_repeats WHERE document = ?", document)
            self._rows("DELETE FROM near_chunks WHERE document = ?", document)
        return sorted(orphans.difference(documents))

    def _rows(self, statement: str, *values: object) -> list[Row]:
        return self._connection.execute(statement, values).fetchall()

    def _most_similar(self, hashes: Array, bands: Sequence[int], full: set[int]) -> list[Row]:
        """Return number and id of the most similar chunk above the threshold; add full bands to ``full``."""
        numbers: set[int] = set()
        for band in bands:
            rows = self._rows("SELECT number FROM near_bands WHERE band = ? LIMIT ?", band, BUCKET)
            numbers.update(number for (number,) in rows)
            if len(rows) == BUCKET:
                full.add(band)
        best: list[Row] = []
        highest = THRESHOLD
        for number in sorted(numbers):
            ((chunk, other),) = self._rows("SELECT chunk, shingles FROM near_chunks WHERE number = ?", number)
            similarity = _jaccard(hashes, np.frombuffer(other, np.uint32))
            if similarity > highest or (similarity == highest and not best):
                best, highest = [(number, chunk)], similarity
        return best

    def _insert(self, row: Row, bands: Sequence[int], full: set[int]) -> None:
        result = self._connection.execute(
            "INSERT INTO near_chunks(chunk, document, exact, shingles, family) VALUES (?, ?, ?, ?, ?)", row
        )
        self._connection.executemany(
            "INSERT OR IGNORE INTO near_bands VALUES (?, ?)",
            [(band, result.lastrowid) for band in bands if band not in full],
        )


def shingles(text: str) -> Array | None:
    """Return the distinct hashes of a text's shingles, uint32, sorted; None if it has too few.

    A shingle is five words, or five characters in scripts without spaces. Hashes are the same in every process.
    """
    tokens = _TOKEN.findall(text)
    count = len(tokens) - SHINGLE + 1
    if count < MIN_SHINGLES:
        return None
    hashes = np.array([zlib.crc32(token.encode("utf-8", "replace")) for token in tokens], np.uint64)
    mixed = np.zeros(count, np.uint64)
    for at in range(SHINGLE):
        # An odd number (of the golden ratio), so that the upper half depends on all words and their order.
        mixed = (mixed + hashes[at : at + count]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return np.unique((mixed >> np.uint64(32)).astype(np.uint32))


def signature(hashes: Array) -> Array:
    """Return the MinHash signature, uint32 [120], of a text's shingles."""
    minhash = _empty_minhash().copy()
    minhash.update_batch(hashes.tolist())
    return np.asarray(minhash.hashvalues, np.uint32)


def _jaccard(one: Array, other: Array) -> float:
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)


@cache
def _empty_minhash() -> MinHash:
    try:
        from datasketch import MinHash
    except ModuleNotFoundError as error:
        raise MissingExtra("Near-duplicate detection needs 'datasketch': pip install 'nearfield[corpus]'") from error
    # Changing any of these changes the bands, which are stored and compared with those of later runs.
    return MinHash(num_perm=BANDS * ROWS, seed=1, hashfunc=int, scheme="affine32")


def _bands(hashes: Array, family: str) -> list[int]:
    values = signature(hashes)
    parts = ((band, values[band * ROWS : (band + 1) * ROWS].tobytes()) for band in range(BANDS))
    return [_hash(f"{family}\0{band}\0".encode("utf-8", "replace") + part) for band, part in parts]


def _hash(data: bytes) -> int:
    """Return a hash that fits into a SQLite integer."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)
