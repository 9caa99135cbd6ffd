"""Whether the head node of a cluster, and Ray on this machine, still accept connections.

When either is gone, Ray ends the process of the command itself, without an exception: 60 seconds after the head
stopped, and as soon as the head finds out that Ray on this machine stopped. A run that looks in time ends with an error
instead.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nearfield.errors import ClusterFailed

#: Seconds between looks, and for an answer.
_LOOK_SECONDS = 2.0
#: Seconds without an answer of the head until the run ends: a head may restart. Ray ends the process after 60.
_HEAD_SECONDS = 30.0
#: The same of Ray on this machine, which does not come back. The head finds out after 15.
_LOCAL_SECONDS = 5.0

#: A host and a port.
Address = tuple[str, int]


@dataclass
class WatchedAddress:
    """An address that has to accept connections.

    Attributes:
        name: what listens there.
        address: the address.
        patience: seconds without an answer until the run ends.
        silent_since: the time of the first look without an answer; None: it answered the last one.
    """

    name: str
    address: Address
    patience: float
    silent_since: float | None = None


@dataclass
class ConnectionWatch:
    """Looks at addresses every two seconds.

    Args:
        watched: the addresses.
        clock: seconds.
        accepts: whether an address accepts connections.

    Attributes:
        is_lost: whether the cluster is gone: Ray's calls would wait for it.
    """

    watched: list[WatchedAddress]
    clock: Callable[[], float] = time.monotonic
    accepts: Callable[[Address], bool] = field(default=lambda address: accepts_connections(address))
    is_lost: bool = False

    def __post_init__(self) -> None:
        self._next = self.clock() + _LOOK_SECONDS

    @classmethod
    def from_ray(cls, ray: Any) -> ConnectionWatch:
        """Watch the cluster that Ray is connected to. With a client (ray://), Ray itself raises an error."""
        if ray.util.client.ray.is_connected():
            return cls([])
        context = ray.get_runtime_context()
        host, _, port = context.gcs_address.rpartition(":")
        watched = [WatchedAddress("The head node", (host.strip("[]"), int(port)), _HEAD_SECONDS)]
        here = next((node for node in ray.nodes() if node["NodeID"] == context.get_node_id()), None)
        if here is not None:
            address = (here["NodeManagerAddress"], int(here["NodeManagerPort"]))
            watched.append(WatchedAddress("Ray on this machine", address, _LOCAL_SECONDS))
        return cls(watched)

    def check(self) -> None:
        """Look, if it is time to.

        Raises:
            ClusterFailed: an address has not accepted connections for too long.
        """
        if self.clock() < self._next:
            return
        for watched in self.watched:
            self._look(watched)
        self._next = self.clock() + _LOOK_SECONDS

    def _look(self, watched: WatchedAddress) -> None:
        now = self.clock()
        if self.accepts(watched.address):
            watched.silent_since = None
            return
        watched.silent_since = now if watched.silent_since is None else watched.silent_since
        if now - watched.silent_since >= watched.patience:
            self.is_lost = True
            host, port = watched.address
            raise ClusterFailed(
                f"{watched.name} stopped: {host}:{port} has not answered for {watched.patience:g} s. What is "
                "complete stays. Start the cluster again, and repeat the command: it continues."
            )


def accepts_connections(address: Address) -> bool:
    """Return whether a connection to an address can be opened within two seconds."""
    try:
        socket.create_connection(address, timeout=_LOOK_SECONDS).close()
    except OSError:
        return False
    return True
