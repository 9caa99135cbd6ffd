"""Detection of sick back-ends by the requests that they fail; their ejection, and their slow start afterwards."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

#: Failures in a row, without a success between them, that eject.
_IN_A_ROW = 5
#: Seconds whose results count, their minimum number, and the share of failures that ejects.
_WINDOW_SECONDS, _MIN_RESULTS, _FAILURE_SHARE = 10.0, 10, 0.3
#: Results that are stored at most.
_MAX_RESULTS = 512
#: Seconds of the first ejection, which double with each further one, and their maximum.
_FIRST_SECONDS, _MAX_SECONDS = 5.0, 300.0
#: Seconds in health after which the next ejection is a first one again.
_FORGIVEN_SECONDS = 120.0
#: Seconds until a back-end that returns has its full share, and the share that it begins with.
_SLOW_START_SECONDS, _FIRST_SHARE = 10.0, 0.1


class OutlierDetector:
    """Counts the results of one back-end's requests, and decides when it is ejected and when it may return.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._results: deque[tuple[float, bool]] = deque(maxlen=_MAX_RESULTS)
        self._failures_in_a_row = 0
        self.ejections = 0
        self._ejected_until = -math.inf
        #: Ejections in a row, which decide how long the next one lasts.
        self._level = 0
        self._slow_since = -math.inf

    @property
    def ejected(self) -> bool:
        """Whether it gets no requests now."""
        return self._clock() < self._ejected_until

    @property
    def ejected_seconds(self) -> float:
        """Seconds until it may return; 0 if it is not ejected."""
        return max(0.0, self._ejected_until - self._clock())

    @property
    def share(self) -> float:
        """The share of its turns that it takes: below 1 for some seconds after it returned."""
        passed = self._clock() - max(self._slow_since, self._ejected_until)
        return min(1.0, _FIRST_SHARE + (1 - _FIRST_SHARE) * max(0.0, passed) / _SLOW_START_SECONDS)

    def start_slowly(self) -> None:
        """Let it take its first requests slowly: it was unreachable, or is new."""
        self._slow_since = self._clock()

    def record_success(self) -> None:
        """Count a request that was answered."""
        self._results.append((self._clock(), True))
        self._failures_in_a_row = 0

    def record_failure(self) -> bool:
        """Count a failed request; return whether this ejects the back-end."""
        now = self._clock()
        self._results.append((now, False))
        self._failures_in_a_row += 1
        if self.ejected or not self._is_sick(now):
            return False
        self._eject(now)
        return True

    def _is_sick(self, now: float) -> bool:
        if self._failures_in_a_row >= _IN_A_ROW:
            return True
        recent = [success for at, success in self._results if now - at < _WINDOW_SECONDS]
        return len(recent) >= _MIN_RESULTS and recent.count(False) >= _FAILURE_SHARE * len(recent)

    def _eject(self, now: float) -> None:
        if now - self._ejected_until > _FORGIVEN_SECONDS:
            self._level = 0
        self._ejected_until = now + min(_MAX_SECONDS, _FIRST_SECONDS * 2**self._level)
        self._level += 1
        self.ejections += 1
        self._results.clear()
        self._failures_in_a_row = 0
