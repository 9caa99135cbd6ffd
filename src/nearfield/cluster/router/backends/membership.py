"""The back-ends of a router: those of its command line and its file, with all addresses that their names resolve to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from nearfield.cluster.router.backends.address import BackendAddress, read_backends_file
from nearfield.cluster.router.backends.backend import BackendServer
from nearfield.cluster.router.backends.connection_pool import trusted_context
from nearfield.cluster.router.backends.probes import PROBE_TIMEOUT, probe_until_removed
from nearfield.errors import SettingsError
from nearfield.server.logs import LOG

#: Seconds between two resolutions of the names, and for one resolution.
RESOLVE_SECONDS, _RESOLVE_TIMEOUT = 5.0, 5.0
#: Maximum number of addresses of one name.
_MAX_ADDRESSES = 256
#: Seconds to wait at the start until each back-end was asked once.
_FIRST_PROBE_SECONDS = PROBE_TIMEOUT + 1.0
_CHECK_SECONDS = 0.02


class BackendSet:
    """The back-ends, in the order of their configuration. Names are resolved again and again.

    A back-end whose name no longer leads to it, or that is no longer in the file, finishes its requests and gets no
    more. While a name cannot be resolved, its back-ends stay.

    Args:
        configured: addresses of the command line.
        file: a file of further addresses, read by ``reload``.
        home: the back-end that has the files, batches and collections.
        resolve: returns the IP addresses of a host; the system's resolver if None.
        ca_file: authorities (PEM) whose certificates of servers are trusted; the system's if None.

    Raises:
        SettingsError: a file cannot be read, there is no address at all, or the home is none of them.
    """

    def __init__(
        self,
        configured: Sequence[BackendAddress],
        file: Path | None = None,
        home: BackendAddress | None = None,
        resolve: Callable[[str, int], Iterable[str]] | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self._configured = tuple(configured)
        self._file = file
        self.home = home
        self._tls = trusted_context(ca_file)
        self._resolve = resolve or _resolve_by_system
        self._origins = self._read_origins()
        self._backends: dict[BackendAddress, BackendServer] = {}
        self._probes: dict[BackendAddress, asyncio.Task[None]] = {}
        self._resolving: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        #: Called with a back-end that was removed.
        self.on_removed: Callable[[BackendServer], None] = lambda _: None

    def _read_origins(self) -> tuple[BackendAddress, ...]:
        listed = read_backends_file(self._file) if self._file is not None else ()
        origins = tuple(dict.fromkeys((*self._configured, *listed)))
        if not origins:
            raise SettingsError("There is no back-end: name one with --to, such as --to http://a:8080.")
        if self.home is not None and self.home not in origins:
            raise SettingsError(f"--home {self.home.url} is none of the back-ends: name it with --to, too.")
        return origins

    @property
    def all(self) -> tuple[BackendServer, ...]:
        """All back-ends, in the order of their configuration, then by address."""
        order = {origin: number for number, origin in enumerate(self._origins)}
        return tuple(
            sorted(self._backends.values(), key=lambda backend: (order.get(backend.origin, 0), backend.address))
        )

    @property
    def origins(self) -> tuple[BackendAddress, ...]:
        """The configured addresses."""
        return self._origins

    # -- start, reload, stop ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Resolve the names, and wait a while until each back-end was asked once."""
        await self._resolve_all()
        self._resolving = asyncio.create_task(self._resolve_repeatedly())
        until = asyncio.get_running_loop().time() + _FIRST_PROBE_SECONDS
        while asyncio.get_running_loop().time() < until and not all(map(_was_asked, self._backends.values())):
            await asyncio.sleep(_CHECK_SECONDS)

    def reload(self) -> str:
        """Read the file of back-ends again, and return what was done.

        Raises:
            SettingsError: it cannot be read; the back-ends stay the same.
        """
        self._origins = self._read_origins()
        task = asyncio.get_running_loop().create_task(self._resolve_all())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return f"{len(self._origins)} back-ends configured"

    async def stop(self) -> None:
        """Stop probes and close idle connections."""
        tasks = [*self._probes.values(), *self._tasks, *([self._resolving] if self._resolving else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for backend in self._backends.values():
            backend.pool.close()

    # -- names -----------------------------------------------------------------------------------------------------

    async def _resolve_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(RESOLVE_SECONDS)
            try:
                await self._resolve_all()
            except Exception as error:  # noqa: BLE001 - the back-ends stay as they are
                LOG.error("names were not resolved: %s", type(error).__name__, exc_info=error)

    async def _resolve_all(self) -> None:
        origins = self._origins
        results = await asyncio.gather(*map(self._addresses_of, origins))
        if origins == self._origins:  # else a later call does it
            self._update(dict(zip(origins, results, strict=True)))

    async def _addresses_of(self, origin: BackendAddress) -> tuple[BackendAddress, ...] | None:
        """Return a back-end's address for each IP address of its name; None if it cannot be resolved now."""
        if _is_ip(origin.host):
            return (origin,)
        try:
            hosts = await asyncio.wait_for(
                asyncio.get_running_loop().run_in_executor(None, self._resolve, origin.host, origin.port),
                _RESOLVE_TIMEOUT,
            )
        except (OSError, UnicodeError, asyncio.TimeoutError, TimeoutError) as error:
            if not any(backend.origin == origin for backend in self._backends.values()):
                LOG.warning("the name %s cannot be resolved: %s", origin.host, error or type(error).__name__)
            return None
        return tuple(origin.at(host) for host in sorted(set(hosts))[:_MAX_ADDRESSES]) or None

    def _update(self, addresses_of: Mapping[BackendAddress, tuple[BackendAddress, ...] | None]) -> None:
        """Add new back-ends, and remove those that are gone."""
        current = self._current(addresses_of)
        for address in self._backends.keys() - current.keys():
            self._remove(address)
        is_start = not self._backends
        for address, origin in current.items():
            if address not in self._backends:
                self._add(BackendServer(address, origin, tls=self._tls), slowly=not is_start)

    def _current(
        self, addresses_of: Mapping[BackendAddress, tuple[BackendAddress, ...] | None]
    ) -> dict[BackendAddress, BackendAddress]:
        """Return the origin of each address. A server with several names is one back-end, by preference the home."""
        current: dict[str, tuple[BackendAddress, BackendAddress]] = {}
        for origin, addresses in sorted(addresses_of.items(), key=lambda item: item[0] != self.home):
            known = tuple(backend.address for backend in self._backends.values() if backend.origin == origin)
            for address in known if addresses is None else addresses:
                current.setdefault(address.url, (address, origin))
        return dict(current.values())

    def _add(self, backend: BackendServer, *, slowly: bool) -> None:
        if slowly:
            backend.detector.start_slowly()
            LOG.info("back-end %s was added", backend.name)
        self._backends[backend.address] = backend
        self._probes[backend.address] = asyncio.create_task(probe_until_removed(backend))

    def _remove(self, address: BackendAddress) -> None:
        backend = self._backends.pop(address)
        backend.removed = True
        self._probes.pop(address).cancel()
        if not backend.requests:
            backend.pool.close()
        LOG.info("back-end %s was removed", backend.name, extra={"requests": backend.requests})
        self.on_removed(backend)


def _was_asked(backend: BackendServer) -> bool:
    return backend.status is not None or backend.missed > 0


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _resolve_by_system(host: str, port: int) -> list[str]:
    """Return the addresses of a host, from the system's resolver.

    Raises:
        OSError: it cannot be resolved.
    """
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
