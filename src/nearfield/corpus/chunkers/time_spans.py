"""The times of a recording in which parts of a document are said, from the times of its blocks."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable

from nearfield.corpus.document import Block, Document

#: Start and end in seconds; None for a text without a recording.
Times = tuple[float | None, float | None]
_NO_TIMES: Times = (None, None)
#: Parts of a second to which times are rounded outwards.
_PARTS = 10


def times_between(document: Document) -> Callable[[int, int], Times]:
    """Return a function that returns the times of a part of the text, from start to end.

    Inside of a block, a time is estimated by the share of the block's characters, and rounded outwards to 0.1 seconds.
    """
    timed = [block for block in document.blocks if block.start_time is not None and block.end_time is not None]
    starts, ends = [block.start for block in timed], [block.end for block in timed]

    def times(start: int, end: int) -> Times:
        first, last = bisect.bisect_right(ends, start), bisect.bisect_left(starts, end) - 1
        if first > last:
            return _NO_TIMES
        start_time = math.floor(_time_at(timed[first], start) * _PARTS) / _PARTS
        end_time = math.ceil(_time_at(timed[last], end) * _PARTS) / _PARTS
        return start_time, max(start_time, end_time)

    return times


def _time_at(block: Block, position: int) -> float:
    assert block.start_time is not None
    assert block.end_time is not None
    share = (position - block.start) / max(block.end - block.start, 1)
    return block.start_time + min(max(share, 0.0), 1.0) * (block.end_time - block.start_time)
