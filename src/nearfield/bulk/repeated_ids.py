"""Ids that several rows of a data set have: searched by digests in 8 bytes per row, then named exactly.

Beyond a million rows the digests lie in a temporary file, in runs that are sorted, and are compared range by range: the
memory does not grow with the rows (an external merge sort whose merge reads one of 256 ranges at a time).
"""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np

from nearfield.arrays import Array
from nearfield.message_text import count_of

#: Digests in memory, 8 MB; as many are in each run of the file.
_RUN = 1 << 20
#: Where the ranges of digests begin, which are integers of 64 bits.
_RANGES = np.array([(number << 56) - (1 << 63) for number in range(256)], np.int64)


class IdDigests:
    """Digests of the ids of a data set. Ids are compared as texts: a Parquet file holds 1 and "1" as the same id."""

    def __init__(self, run: int = _RUN) -> None:
        self._run = run
        self._digests = array("q")
        self._file: IO[bytes] | None = None
        #: Where the ranges begin in each run of the file.
        self._starts: list[Array] = []

    def add(self, key: object) -> None:
        """Include the id of a row; None is no id.

        Raises:
            OSError: the digests do not fit into the folder for temporary files.
        """
        if key is not None:
            self._digests.append(_digest(key))
            if len(self._digests) == self._run:
                self._write_run()

    def _write_run(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this object
            weakref.finalize(self, self._file.close)
        digests = np.sort(np.frombuffer(self._digests, np.int64))
        self._file.seek(0, os.SEEK_END)
        self._file.write(digests.data)
        self._starts.append(np.append(np.searchsorted(digests, _RANGES), len(digests)))
        self._digests = array("q")

    def repeated(self) -> frozenset[int]:
        """Return the digests that occur more than once."""
        return frozenset(
            digest for digests in self._sorted_ranges() for digest in digests[1:][digests[1:] == digests[:-1]].tolist()
        )

    def _sorted_ranges(self) -> Iterator[Array]:
        """Yield the digests, sorted, in ranges that follow each other."""
        rest = np.sort(np.frombuffer(self._digests, np.int64))
        if self._file is None:
            yield rest
            return
        starts = np.append(np.searchsorted(rest, _RANGES), len(rest))
        for number in range(len(_RANGES)):
            parts = [self._read(self._file, run, number) for run in range(len(self._starts))]
            yield np.sort(np.concatenate([*parts, rest[starts[number] : starts[number + 1]]]))

    def _read(self, file: IO[bytes], run: int, number: int) -> Array:
        """Return the digests of a run that lie in a range."""
        start, stop = self._starts[run][number : number + 2].tolist()
        file.seek((run * self._run + start) * _RANGES.itemsize)
        return np.frombuffer(file.read((stop - start) * _RANGES.itemsize), np.int64)

    def warning(self, ids: Iterable[object]) -> str | None:
        """Return a warning of the ids that occur more than once, or None; ``ids`` are read only if there may be some.

        Args:
            ids: the same ids again, to name the first: two ids may have one digest.
        """
        repeated = self.repeated()
        if not repeated:
            return None
        rows = Counter(str(key) for key in ids if key is not None and _digest(key) in repeated)
        names = [key for key, count in rows.items() if count > 1]
        if not names:
            return None
        first, others = count_of(rows[names[0]], "row"), count_of(sum(rows[key] - 1 for key in names), "row")
        return (
            f"Repeated ids: {len(names):,}. The first is {names[0]!r:.200}, with {first}. All rows are written; a "
            f"store that has one row for each id would lose {others}."
        )


def _digest(key: object) -> int:
    return hash(str(key))
