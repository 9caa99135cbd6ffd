"""The connections to one back-end: idle ones are used again, others are opened."""

from __future__ import annotations

import asyncio
import ssl
import time
from functools import lru_cache
from pathlib import Path

from nearfield.cluster.router.backends.address import BackendAddress
from nearfield.cluster.router.backends.connection import BackendConnection, BackendFailure
from nearfield.errors import SettingsError

#: Seconds to open a connection.
CONNECT_SECONDS = 2.0
#: Seconds after which an idle connection is closed: a server closes it after 75.
_IDLE_SECONDS = 55.0
#: Maximum number of idle connections.
_MAX_IDLE = 256


@lru_cache(maxsize=8)
def trusted_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """Return the trust in a file of authorities (PEM); None: in the system's, or in those that ``SSL_CERT_FILE`` names.

    Raises:
        SettingsError: the file cannot be read, or has no certificate.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # also what OpenSSL raises
        raise SettingsError(f"ca_file {ca_file} cannot be read as certificates (PEM): {error}.") from error


def _tls_problem(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"Its certificate is not trusted: {error.verify_message.rstrip('.')}. Name its authority with --ca-file, "
            "and the server as its certificate does."
        )
    return f"TLS failed: {error.reason or error}. Does the server have HTTPS?"


class ConnectionPool:
    """Opens connections to an address, and lends idle ones.

    Args:
        address: the address.
        tls: whose certificates are trusted; the system's authorities if None.
    """

    def __init__(self, address: BackendAddress, tls: ssl.SSLContext | None = None) -> None:
        self._address = address
        self._tls = tls
        #: The connection that was used last is at the end.
        self._idle: list[BackendConnection] = []
        self._lent: set[BackendConnection] = set()

    async def acquire(self, *, fresh: bool = False) -> BackendConnection:
        """Return a connection; ``fresh`` asks for a new one, which the server is not about to close.

        Raises:
            BackendFailure: the server cannot be reached.
        """
        connection = None if fresh else self._take_idle()
        if connection is None:
            connection = await self._open()
        self._lent.add(connection)
        return connection

    def _take_idle(self) -> BackendConnection | None:
        oldest = time.monotonic() - _IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.idle_since > oldest:
                return connection
            connection.abort()
        return None

    async def _open(self) -> BackendConnection:
        address, secure = self._address, self._address.scheme == "https"
        try:
            _, connection = await asyncio.wait_for(
                asyncio.get_running_loop().create_connection(
                    BackendConnection,
                    address.address or address.host,
                    address.port,
                    ssl=(self._tls or trusted_context()) if secure else None,
                    server_hostname=address.host if secure else None,
                ),
                CONNECT_SECONDS,
            )
        except (asyncio.TimeoutError, TimeoutError) as error:
            raise BackendFailure(f"The server takes no connection within {CONNECT_SECONDS:g} s.", sent=False) from error
        except ssl.SSLError as error:
            raise BackendFailure(_tls_problem(error), sent=False) from error
        except OSError as error:
            raise BackendFailure(f"The server cannot be reached: {error}.", sent=False) from error
        return connection

    def release(self, connection: BackendConnection) -> None:
        """Take a connection back after a request; one that cannot be used again is closed."""
        self._lent.discard(connection)
        if connection.finish():
            self._idle.append(connection)
        self._close_old()

    def _close_old(self) -> None:
        """Close the connection that was idle longest, if that is long, or if there are too many."""
        if self._idle and (len(self._idle) > _MAX_IDLE or self._idle[0].idle_since < time.monotonic() - _IDLE_SECONDS):
            self._idle.pop(0).abort()

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().abort()

    def __len__(self) -> int:
        return len(self._idle) + len(self._lent)
