"""A receiver of webhooks on loopback, which answers as a script says."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Receiver:
    """The requests that arrived, and the status of each next reply; the last one is repeated."""

    statuses: list[int]
    seconds: float = 0.0
    location: str = ""
    url: str = ""
    #: Path, headers (names in lower case) and body of each request.
    received: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wait_for(self, count: int) -> list[tuple[str, dict[str, str], bytes]]:
        """Wait until so many requests arrived, and return them."""
        until = time.monotonic() + 60
        while len(self.received) < count:
            assert time.monotonic() < until, self.received
            time.sleep(0.02)
        return self.received


@contextmanager
def receiving(statuses: Sequence[int], *, seconds: float = 0.0, location: str = "") -> Iterator[Receiver]:
    """Answer requests with these statuses, in order; the first one only after some seconds."""
    receiver = Receiver(list(statuses), seconds, location)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with receiver.lock:
                status = receiver.statuses.pop(0) if len(receiver.statuses) > 1 else receiver.statuses[0]
                wait, receiver.seconds = receiver.seconds, 0.0
                receiver.received.append((self.path, headers, body))
            time.sleep(wait)
            try:
                self.send_response(status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:
                pass  # the sender has given up waiting

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook?team=a"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)
