"""`RequestAccount`: what one request has cost its key."""

from __future__ import annotations

from nearfield.server.auth.api_key import ApiKey


class RequestAccount:
    """Counts the tokens of one request against its key's rate limit, before they are queued.

    A request may use more tokens than are left, once: requests that are submitted after it are refused.
    """

    __slots__ = ("_charged", "_key")

    def __init__(self, key: ApiKey) -> None:
        self._key = key
        self._charged: int | None = None

    def charge(self, tokens: int) -> None:
        """Count the tokens of a ticket.

        Raises:
            RateLimited: the key has used up its tokens. Further tickets of a request that was accepted are accepted.
        """
        if self._charged is None:
            self._key.check_rate()
        self._charged = (self._charged or 0) + tokens
        self._key.spend(tokens)

    def refund(self, tokens: int) -> None:
        """Count tokens no more that no batch took."""
        self._charged = (self._charged or 0) - tokens
        self._key.spend(-tokens)

    def charge_reading(self, tokens: int) -> None:
        """Count work that is charged whatever becomes of the request. Raises as ``charge`` does."""
        if self._charged is None:
            self._key.check_rate()
            self._charged = 0
        self._key.spend(tokens)

    def settle(self, tokens: int) -> None:
        """Count the tokens of a finished request: its tickets may have had more or fewer, or there were none."""
        self._key.spend(tokens - (self._charged or 0))
        self._charged = tokens
