"""One front-end process as its parent sees it: its sockets, its connections and what it has counted."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from prometheus_client.core import Metric

from nearfield.engine.ipc.host import EngineHost
from nearfield.engine.ipc.transport import Channel
from nearfield.server.frontends.frontend import Usages

#: Seconds after which a process that has not accepted a connection gets others only if all are late.
_LATE_SECONDS = 1.0


@dataclass(eq=False)
class FrontendProcess:
    """A front-end process. ``channel`` and ``host`` are set once the models are loaded."""

    number: int
    process: subprocess.Popen[bytes]
    #: Our end of the channel's socket pair, and of the pair that connections are passed through.
    channel_socket: socket.socket
    connection_socket: socket.socket
    started: float
    channel: Channel | None = None
    host: EngineHost | None = None
    ready: bool = False
    #: Why it could not start.
    error: Exception | None = None
    #: Connections passed to it, those it has accepted, and those of them that are open.
    passed: int = 0
    accepted: int = 0
    open: int = 0
    #: Since when passed connections have been waiting for it.
    late_since: float | None = None
    #: Its metrics when it was last asked.
    metrics: Sequence[Metric] = ()
    #: How much its models are used.
    usage: Usages = field(default_factory=dict)

    @classmethod
    def start(cls, number: int) -> FrontendProcess:
        """Start a process, connected by two socket pairs that no other process can reach."""
        ours, theirs = zip(*(socket.socketpair(), socket.socketpair()), strict=True)
        fds = [end.fileno() for end in theirs]
        module = "nearfield.server.frontends.frontend"
        code = f"import sys; sys.path[:] = {sys.path!r}\nfrom {module} import main\nmain(*{fds!r})"
        with contextlib.ExitStack() as stack:
            for end in theirs:
                stack.enter_context(end)
            process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, pass_fds=fds)
        return cls(number, process, *ours, time.monotonic())

    @property
    def alive(self) -> bool:
        """Whether its channel is open, though it may not be ready."""
        return self.channel is not None and not self.channel.lost

    @property
    def load(self) -> int:
        """Number of its connections, those on their way included."""
        return self.open + self.passed - self.accepted

    def send(self, message: bytes, connections: Sequence[socket.socket] = ()) -> bool:
        """Send a message, with connections, through the connection socket; return whether it was sent."""
        try:
            socket.send_fds(self.connection_socket, [message], [connection.fileno() for connection in connections])
        except OSError:
            return False
        self.passed += len(connections)
        if connections and self.late_since is None:
            self.late_since = time.monotonic()
        return True

    def update_load(self, accepted: int, count: int) -> None:
        """Record how many connections it has accepted, and how many of them are open."""
        self.accepted, self.open = accepted, count
        self.late_since = None if accepted == self.passed else time.monotonic()

    def rank(self, now: float) -> tuple[bool, int]:
        """Return the sort key for the next connection: late processes last, then by load."""
        return self.late_since is not None and now - self.late_since > _LATE_SECONDS, self.load

    def stop(self, timeout: float = 0.0) -> None:
        """Close the sockets and kill the process unless it ends within ``timeout`` seconds. Blocks."""
        for end in (self.channel_socket, self.connection_socket):
            end.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        self.process.kill()
        self.process.wait()
