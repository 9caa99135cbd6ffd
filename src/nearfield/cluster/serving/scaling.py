"""How many engines there should be: by the seconds that the queued tokens take, and by how long engines were idle."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Seconds for which the queue must be long before an engine is started: a burst ends sooner than one has loaded.
_LONG_SECONDS = 5.0
#: Tokens a second of an engine until it was measured.
_ASSUMED_SPEED = 1000.0


@dataclass(frozen=True)
class EngineLoad:
    """The work of a group of engines.

    Attributes:
        engines: how many there are, those that are starting included.
        queued: tokens that wait, in engines and for one.
        speed: tokens a second of one engine; 0 if that is unknown.
        busy: how many engines compute now; one that uses half of its lanes is a half.
    """

    engines: int
    queued: int
    speed: float = 0.0
    busy: float = 0.0


class ScalingPolicy:
    """Decides the number of engines of one group.

    Args:
        min_count, max_count: bounds of the number.
        queue_seconds: length of the queue from which on there are too few.
        idle_seconds: seconds after which an engine that is not needed ends.
    """

    def __init__(self, min_count: int, max_count: int, queue_seconds: float, idle_seconds: float) -> None:
        self._min_count = min_count
        self._max_count = max_count
        self._queue_seconds = queue_seconds
        self._idle_seconds = idle_seconds
        self._long_since: float | None = None
        self._spare_since: float | None = None

    def decide(self, load: EngineLoad, now: float) -> int:
        """Return how many engines there should be; ``now`` is a time of ``time.monotonic``.

        As many are started as shorten the queue to ``queue_seconds``; they end one at a time.
        """
        speed = load.speed or _ASSUMED_SPEED
        needed = math.ceil(load.queued / (speed * self._queue_seconds))
        if not load.engines:
            return self._bounded(needed)
        self._record_time(load, needed, now)
        if self._long_since is not None and now - self._long_since >= _LONG_SECONDS:
            self._long_since = None
            return self._bounded(max(needed, load.engines))
        if self._spare_since is not None and now - self._spare_since >= self._idle_seconds:
            self._spare_since = None
            return self._bounded(load.engines - 1)
        return self._bounded(load.engines)

    def _record_time(self, load: EngineLoad, needed: int, now: float) -> None:
        """Record since when the queue is long, and since when one engine less would do."""
        if needed <= load.engines:
            self._long_since = None
        elif self._long_since is None:
            self._long_since = now
        spare = needed + math.ceil(load.busy) < load.engines
        if not spare:
            self._spare_since = None
        elif self._spare_since is None:
            self._spare_since = now

    def _bounded(self, count: int) -> int:
        return min(max(count, self._min_count), self._max_count)
