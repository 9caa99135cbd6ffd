"""Parts of videos and sounds, in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from nearfield.errors import InputError

#: Share of a segment below which what is left at the end belongs to the segment before.
_SHORTEST = 0.1
#: The largest number of seconds, or frames a second: ticks of any container are counted in 64 bits.
_LARGEST = 10**9


@dataclass(frozen=True)
class FramePlace:
    """Where a frame is in a video: its number, from 0, or None if that is unknown; and the second when it is shown."""

    number: int | None
    seconds: float


def segment_times(start: float, end: float, seconds: float) -> list[tuple[float, float]]:
    """Return start and end of the parts of so many seconds; see `Video.segments`.

    Raises:
        InputError: ``seconds`` is not positive.
    """
    check_seconds_number("seconds", seconds)
    if not seconds:
        raise InputError("seconds must be more than 0.", param="seconds")
    count = max(1, math.ceil((end - start) / seconds - _SHORTEST))
    starts = [start + number * seconds for number in range(count)]
    return list(zip(starts, [*starts[1:], end], strict=True))


def times_within(
    length: float, start: float, end: float | None, seconds: float, noun: str
) -> list[tuple[float, float]]:
    """Return start and end of the parts of so many seconds between ``start`` and ``end`` of a video or sound.

    Args:
        length: seconds of the whole.
        start: where the parts begin.
        end: where they end; None for the end of the whole.
        seconds: length of a part.
        noun: what it is, for errors.

    Raises:
        InputError: ``seconds`` is not positive, or nothing lies behind ``start``.
    """
    finish = length if end is None else min(end, length)
    if finish <= start:
        raise InputError(f"start is {start:g} s, and the {noun} ends at {finish:g} s.", param="start")
    return segment_times(start, finish, seconds)


def check_range(start: float, end: float | None) -> None:
    """Raise InputError unless ``start`` and ``end`` are seconds, and ``end`` is later, or None."""
    for name, value in (("start", start), ("end", end)):
        check_seconds_number(name, value)
    if end is not None and end <= start:
        raise InputError(f"end is {end:g} s, and must be after start, which is {start:g} s.", param="end")


def check_seconds_number(name: str, value: object) -> None:
    """Raise InputError unless a value is None, or a number that is neither negative nor too large."""
    if value is None:
        return
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not is_number or not 0 <= cast(Any, value) <= _LARGEST:
        shown = f"{value!r:.100}"
        raise InputError(f"{name} must be a number from 0 to {_LARGEST:,}, and is {shown}.", param=name)
