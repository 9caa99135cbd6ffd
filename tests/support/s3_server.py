"""A server of S3 on the loopback interface (moto's), whose answers fail, wait or are lost on demand."""

from __future__ import annotations

import random
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

BUCKET = "bucket"
SECRET = "the-secret-key-of-tests"
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@dataclass
class Faults:
    """What goes wrong with requests.

    Attributes:
        refused: the share of requests that are answered with 503, before or (a third of them) after they were done.
        delay: seconds that a tenth of the requests wait.
        denied: methods that are answered with 403.
        before: called with method and path before each request.
        answer: called with method and path; what it returns, status and body, is the answer.
        cut: so many of the next answers to GET end in the middle of their body.
        short: so many of the next reads of a range are answered with a byte less.
        stale: new objects do not appear in lists.
    """

    refused: float = 0.0
    delay: float = 0.0
    denied: tuple[str, ...] = ()
    before: Callable[[str, str], None] = lambda method, path: None
    answer: Callable[[str, str], tuple[str, bytes] | None] = lambda method, path: None
    cut: int = 0
    short: int = 0
    stale: bool = False
    chance: random.Random = field(default_factory=lambda: random.Random(5))
    requests: int = 0
    failures: int = 0
    uploads: int = 0


class FaultyApplication:
    """The application of moto, with faults."""

    def __init__(self, application: Any, faults: Faults) -> None:
        self._application = application
        self._faults = faults
        self._lists: dict[str, bytes] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request, or fail."""
        faults = self._faults
        faults.requests += 1
        method = environ["REQUEST_METHOD"]
        faults.uploads += method == "PUT" and "/part-" in environ["PATH_INFO"]
        faults.before(method, environ["PATH_INFO"])
        if faults.chance.random() < 0.1:
            time.sleep(faults.delay)
        if method in faults.denied:
            return _answer(environ, start_response, "403 Forbidden", _DENIED)
        if (answer := faults.answer(method, environ["PATH_INFO"])) is not None:
            return _answer(environ, start_response, *answer)
        if faults.chance.random() < faults.refused:
            faults.failures += 1
            if faults.chance.random() < 1 / 3:
                b"".join(self._application(environ, lambda *_: lambda data: None))  # it is done, and its answer lost
                environ.pop("CONTENT_LENGTH", None)  # its body was read
            return _answer(environ, start_response, "503 Slow Down", _SLOW_DOWN)
        return self._cut(environ, start_response) if method == "GET" else self._whole(environ, start_response)

    def _whole(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return cast(Iterable[bytes], self._application(environ, start_response))

    def _cut(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request to read, perhaps with fewer bytes than there are, or with a list of some time ago."""
        faults, query = self._faults, environ["QUERY_STRING"]
        if "list-type" in query and faults.stale and query in self._lists:
            return _answer(environ, start_response, "200 OK", self._lists[query])
        if faults.short and (requested := environ.get("HTTP_RANGE", "")):
            faults.short -= 1
            first, last = requested.split("=")[1].split("-")
            environ["HTTP_RANGE"] = f"bytes={first}-{int(last) - 1}"
        body = b"".join(self._whole(environ, start_response))
        if "list-type" in query:
            self._lists[query] = body
        if faults.cut and len(body) > 1:
            faults.cut -= 1
            return [body[: len(body) // 2]]
        return [body]


def _answer(environ: dict[str, Any], start_response: Any, status: str, body: bytes) -> list[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


@contextmanager
def s3_server(faults: Faults) -> Iterator[str]:
    """Run a server with an empty bucket; yield its URL."""
    from moto.moto_api._internal import moto_api_backend
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    moto_api_backend.reset()
    application = FaultyApplication(DomainDispatcherApplication(create_backend_app), faults)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT"), timeout=30).close()
        yield url
    finally:
        server.shutdown()
        thread.join()


def environment(url: str) -> dict[str, str]:
    """Return the variables by which clients find the server."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIATESTSONLY",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
