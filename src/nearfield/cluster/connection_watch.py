"""Whether the head node of a cluster, and Ray on this machine, still accept connections.

When either is gone, Ray ends the process of the command itself, without an exception: 60 seconds after the head
stopped, and as soon as the head finds out that Ray on this machine stopped. A run that looks in time ends with an error
instead. If Ray on this machine ends in order, the head knows at once, and Python runs no more code: then a process
beside the command, `end_notice`, says what happened.
"""

from __future__ import annotations

import atexit
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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

#: Waits for the end of stdin. If nothing was written to it, the command ended without a word; if Ray is gone too, that
#: is the reason, and it is said.
_NOTICE = """
import socket, sys, time
if sys.stdin.read():
    sys.exit()
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    for address in sys.argv[3:]:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=2).close()
        except OSError:
            sys.exit(sys.argv[1])
    time.sleep(0.1)
"""
#: Seconds after the end of the command in which Ray may still close its port.
_CLOSING_SECONDS = 10.0


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
        head, local = ray_addresses(ray)
        watched = [WatchedAddress("the head node", head, _HEAD_SECONDS)]
        if local is not None:
            watched.append(WatchedAddress("Ray on this machine", local, _LOCAL_SECONDS))
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
            raise cluster_ended(f"{watched.name} at {host}:{port} has not answered for {watched.patience:g} s")


def accepts_connections(address: Address) -> bool:
    """Return whether a connection to an address can be opened within two seconds."""
    try:
        socket.create_connection(address, timeout=_LOOK_SECONDS).close()
    except OSError:
        return False
    return True


def cluster_ended(reason: str) -> ClusterFailed:
    """Return the error of a run whose cluster is gone, with the reason in a sentence."""
    return ClusterFailed(
        f"The Ray cluster ended: {reason}. What is complete stays. Start a cluster, and repeat the command: it "
        "continues where it stopped."
    )


def one_line(error: BaseException) -> str:
    """Return the first line of an error of Ray, without a full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def ray_addresses(ray: Any) -> tuple[Address, Address | None]:
    """Return the addresses of the head node, and of Ray on this machine."""
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    here = next((node for node in ray.nodes() if node["NodeID"] == context.get_node_id()), None)
    local = None if here is None else (str(here["NodeManagerAddress"]), int(here["NodeManagerPort"]))
    return (host.strip("[]"), int(port)), local


@contextmanager
def end_notice(ray: Any) -> Iterator[None]:
    """Let a process beside this one write a sentence to stderr if Ray ends this one during the block.

    With a client (ray://), Ray raises an error instead.
    """
    if ray.util.client.ray.is_connected():
        yield
        return
    process = _start([address for address in ray_addresses(ray) if address is not None])

    def cancel() -> None:
        with suppress(OSError):
            process.communicate("done")

    try:
        yield
    except ClusterFailed:
        atexit.register(cancel)  # Ray may end this process before the error is written
        raise
    except BaseException:
        cancel()
        raise
    cancel()


def _start(addresses: Sequence[Address]) -> subprocess.Popen[str]:
    sentence = f"nearfield: {cluster_ended('Ray on this machine has ended')}"
    places = [f"{host}:{port}" for host, port in addresses]
    command = [sys.executable, "-I", "-S", "-c", _NOTICE, sentence, str(_CLOSING_SECONDS), *places]
    # In another session, Ctrl-C does not end it.
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, text=True
    )
