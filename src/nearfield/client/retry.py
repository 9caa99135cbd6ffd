"""The retry rule of the HTTP clients: which failed requests are sent again, and after how many seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nearfield.errors import NearfieldError

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a request is sent again.

    The client waits for the seconds in ``Retry-After``, else for ``delay`` seconds, which grow ``growth`` times with
    each attempt; always at least ``min_delay`` and at most ``max_delay``.

    Args:
        max_attempts: requests in all; None: no limit.
        patience: seconds after the first request from which a refusal is final; None: no limit.
        statuses: HTTP statuses that are retried.
        broken_connections: also retry when an open connection breaks.
        unreachable: also retry while no connection can be opened, such as to a server that restarts. Otherwise a
            server that cannot be reached is an error at once.
    """

    max_attempts: int | None = 6
    patience: float | None = None
    statuses: frozenset[int] = frozenset({429, 502, 503, 504})
    broken_connections: bool = True
    unreachable: bool = False
    delay: float = 0.5
    growth: float = 2.0
    min_delay: float = 0.0
    max_delay: float = 60.0

    def wait_seconds(self, retry_after: str | None, attempt: int) -> float:
        """Return how long to wait after attempt number ``attempt``, counted from 0."""
        try:
            seconds = float(retry_after or "")
        except ValueError:
            seconds = self.delay * self.growth**attempt
        return min(self.max_delay, max(self.min_delay, seconds))


#: Every refusal is an error at once.
NO_RETRY = RetryPolicy(max_attempts=1)


class Attempts:
    """The attempts at one request: raise the error that is final, else return the seconds before the next."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._started = time.monotonic()
        self._failed = 0

    def after_response(self, response: httpx.Response, accepted: frozenset[int]) -> float | None:
        """Return the seconds before the next attempt, or None where the response is the last one."""
        status = response.status_code
        if status not in self._policy.statuses or status in accepted or self._exhausted():
            return None
        return self._wait_seconds(response.headers.get("retry-after"))

    def after_error(self, error: httpx.HTTPError, url: str) -> float:
        """Return the seconds before the next attempt.

        Raises:
            NearfieldError: the server cannot be reached, or too many attempts failed.
        """
        if not self._may_retry(error) or self._exhausted():
            reason = str(error) or type(error).__name__
            raise NearfieldError(f"{url} does not answer: {reason}. Is a server running?") from error
        return self._wait_seconds(None)

    def _may_retry(self, error: httpx.HTTPError) -> bool:
        import httpx

        broken = isinstance(error, (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError))
        return (broken and self._policy.broken_connections) or (
            isinstance(error, httpx.ConnectError) and self._policy.unreachable
        )

    def _exhausted(self) -> bool:
        policy = self._policy
        if policy.max_attempts is not None and self._failed + 1 >= policy.max_attempts:
            return True
        return policy.patience is not None and time.monotonic() > self._started + policy.patience

    def _wait_seconds(self, retry_after: str | None) -> float:
        self._failed += 1
        return self._policy.wait_seconds(retry_after, self._failed - 1)
