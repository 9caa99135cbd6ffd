"""The file by which the user's own tools find a server that accepts requests (``attach.server_files``)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from nearfield.attach.server_files import ServerRecord, WrittenRecord, write_record
from nearfield.errors import NearfieldError
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.logs import LOG
from nearfield.server.models.description import describe
from nearfield.settings import Settings

#: Addresses that stand for all of the machine, and the one to connect to.
_ANY_ADDRESS = {"//0.0.0.0:": "//127.0.0.1:", "//[::]:": "//[::1]:"}


class DiscoveryFile:
    """The server's file while it accepts requests. A server that cannot write it works all the same."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._written: WrittenRecord | None = None

    def write(self, address: str, models: Iterable[LoadedModel]) -> None:
        """Write the file, unless the settings forbid it.

        Args:
            address: where the server listens, as its first line says it.
            models: those that are loaded.
        """
        if self._settings.no_discovery:
            return
        try:
            self._written = write_record(self._record(address, models))
        except (OSError, NearfieldError) as error:
            LOG.warning("NEARFIELD_SERVER=auto does not find this server: %s.", error)

    def remove(self) -> None:
        """Remove the file, if there is one."""
        if self._written is not None:
            self._written.remove()
            self._written = None

    def _record(self, address: str, models: Iterable[LoadedModel]) -> ServerRecord:
        settings = self._settings
        return ServerRecord(
            address=_local_address(address, settings),
            pid=os.getpid(),
            needs_key=bool(settings.api_keys) or settings.api_key_file is not None,
            models={model.name: describe(model).fingerprint for model in models},
            started=time.time(),
        )


def _local_address(address: str, settings: Settings) -> str:
    """Return the address by which a process of this machine, in any directory, reaches the server."""
    if settings.uds is not None:
        return f"unix:{settings.uds.absolute()}"
    address = address.removesuffix("/v1")
    for any_address, loopback in _ANY_ADDRESS.items():
        address = address.replace(any_address, loopback)
    return address
