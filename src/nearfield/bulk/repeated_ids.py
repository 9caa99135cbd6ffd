"""Ids that several rows of a data set have: searched by digests in 8 bytes per row, then named exactly."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable

import numpy as np

from nearfield.message_text import count_of


class IdDigests:
    """Digests of the ids of a data set. Ids are compared as texts: a Parquet file holds 1 and "1" as the same id."""

    def __init__(self) -> None:
        self._digests = array("q")

    def add(self, key: object) -> None:
        """Include the id of a row; None is no id."""
        if key is not None:
            self._digests.append(_digest(key))

    def repeated(self) -> frozenset[int]:
        """Return the digests that occur more than once."""
        digests = np.frombuffer(self._digests, np.int64)
        digests.sort()  # in place: their order says nothing
        return frozenset(digests[1:][digests[1:] == digests[:-1]].tolist())

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
