"""Rate limit of an API key: a token bucket that refills continuously."""

from __future__ import annotations

import time


class TokenBucket:
    """The tokens that a key may still use; it starts with those of one minute.

    The last request before it is empty may use more than is left: the balance is then negative.
    """

    def __init__(self, tokens_per_minute: int) -> None:
        self.tokens_per_minute = tokens_per_minute
        self._balance = 0.0
        #: When the balance was computed; 0 for a bucket that was never used, which is full.
        self._updated = 0.0

    def wait_seconds(self) -> float:
        """Return the seconds until the key may be used again; 0 if it may be used now."""
        self._refill()
        return 0.0 if self._balance > 0 else (1 - self._balance) * 60 / self.tokens_per_minute

    def used(self) -> float:
        """Return the tokens that are missing until the bucket is full again."""
        self._refill()
        return self.tokens_per_minute - self._balance

    def spend(self, tokens: int) -> None:
        """Subtract the tokens that a request used."""
        self._refill()
        self._balance -= tokens

    def copy_balance(self, other: TokenBucket) -> None:
        """Continue from the balance of another bucket of the same key."""
        self._balance, self._updated = other._balance, other._updated

    def _refill(self) -> None:
        now, rate = time.monotonic(), self.tokens_per_minute
        refilled = self._balance + (now - self._updated) * rate / 60
        self._balance = min(rate, refilled) if self._updated else float(rate)
        self._updated = now
