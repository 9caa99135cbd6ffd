"""`ProtocolFactory`: creates the connections of a server, which share limits and turns."""

from __future__ import annotations

from typing import Any

from nearfield.engine.fair_turns import FairTurns
from nearfield.server.http.connection_limit import ConnectionLimit
from nearfield.server.lifecycle.discard_turns import DiscardTurns
from nearfield.server.lifecycle.http_protocol import TimedHttpProtocol


class ProtocolFactory:
    """Creates the connections of a server, which share a limit. uvicorn calls it as it would a class."""

    def __init__(self, limit: ConnectionLimit) -> None:
        self.limit = limit
        self._discards = DiscardTurns()
        self._turns = FairTurns()

    def __call__(self, *args: Any, **options: Any) -> TimedHttpProtocol:
        """Return a new connection."""
        return TimedHttpProtocol(*args, limit=self.limit, discards=self._discards, turns=self._turns, **options)
