"""Pictures at addresses: fetched for a request where the setting allows it, under the guards of ``media.fetch``."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import numpy as np
import pytest

from nearfield import settings
from nearfield.encoder import Encoder
from nearfield.errors import DeadlineExceeded, InputError, TooLarge
from nearfield.media.fetch import FetchPolicy
from nearfield.media.image import Image
from nearfield.server.exchange.picture_fetcher import PictureAddress, PictureFetcher, policy_of
from nearfield.server.server_state import ServerState
from tests.support import tiny_pictures
from tests.support.serving import listening

pytestmark = pytest.mark.network
FILES = tiny_pictures.png_files()
METADATA = "http://169.254.169.254/latest/meta-data"


class Handler(BaseHTTPRequestHandler):
    """Paths: ``/0`` to ``/4`` are pictures, ``/to?URL`` redirects, ``/slow`` takes seconds, others are no picture."""

    seen: list[str] = []  # noqa: RUF012 - one server, one list

    def do_GET(self) -> None:
        self.seen.append(self.path)
        if self.path.startswith("/to?"):
            return self.reply(302, b"", self.path[4:])
        if self.path == "/slow":
            time.sleep(3)
        return self.reply(200, FILES[int(self.path[1:])] if self.path[1:].isdigit() else b"no picture")

    def reply(self, status: int, body: bytes, location: str = "") -> None:
        """Send a response."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Print nothing."""


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def policy(web: str) -> FetchPolicy:
    """A policy that allows the web server."""
    networks = (ipaddress.ip_network("127.0.0.0/8"),)
    port = int(web.rpartition(":")[2])
    return FetchPolicy(enabled=True, allow_http=True, ports=(port, 80), allow_private=networks, seconds=5)


def test_settings(tmp_path: Any) -> None:
    off = settings.load()
    assert (off.media_urls, off.media_hosts) == ("off", ())
    assert not policy_of("off", (), 9).enabled
    https, both = policy_of("https", ("*.example.com",), 9), policy_of("http", (), 9)
    assert (https.enabled, https.allow_http, https.hosts, https.max_bytes) == (True, False, ("*.example.com",), 9)
    assert both.enabled and both.allow_http and not both.allow_private


def fetch(items: list[Any], policy: FetchPolicy, seconds: float = 20, reserve: Callable[[int], None] = print) -> Any:
    """Fetch in a new event loop."""

    async def work() -> list[Any]:
        fetcher = PictureFetcher()
        try:
            return await fetcher.fetch(items, policy, seconds, reserve)
        finally:
            fetcher.close()

    return asyncio.run(work())


def address(url: str) -> PictureAddress:
    """Return an address as a dialect creates it."""
    return PictureAddress(url, "Input 3", "images", "Send bytes.")


def test_fetcher(web: str, policy: FetchPolicy) -> None:
    Handler.seen.clear()
    sizes: list[int] = []
    items = ["a text", address(f"{web}/0"), [1, 2], address(f"{web}/1"), address(f"{web}/0")]
    found = fetch(items, policy, reserve=sizes.append)
    assert found[0] == "a text" and found[2] == [1, 2]
    for at, number in ((1, 0), (3, 1), (4, 0)):
        assert type(found[at]) is Image
        np.testing.assert_array_equal(found[at].read().pixels, Image(FILES[number]).read().pixels)
    assert sorted(Handler.seen) == ["/0", "/1"]
    assert sorted(sizes) == sorted(map(len, FILES[:2]))


def test_fetcher_refuses(web: str, policy: FetchPolicy) -> None:
    for url in (METADATA, f"{web}/to?{METADATA}", f"{web}/to?http://10.0.0.1/"):
        with pytest.raises(InputError, match="Input 3: The address cannot be fetched: no public address") as caught:
            fetch([address(url)], policy)
        assert caught.value.param == "images"
    with pytest.raises(InputError, match="no public address"):
        fetch([address(f"{web}/0")], replace(policy, allow_private=()))
    with pytest.raises(InputError, match="are not fetched here"):
        fetch([address(f"{web}/0")], FetchPolicy())
    with pytest.raises(TooLarge, match="Input 3: The address has more than 100 bytes"):
        fetch([address(f"{web}/0")], replace(policy, max_bytes=100))
    with pytest.raises(TooLarge, match="97 addresses, and at most 96"):
        fetch([address(f"{web}/{number}") for number in range(97)], policy)
    with pytest.raises(DeadlineExceeded, match="not fetched before the deadline"):
        fetch([address(f"{web}/slow")], policy, 0.3)

    def reserve(_: int) -> None:
        raise TooLarge("full")

    with pytest.raises(TooLarge, match="max_body_bytes"):
        fetch([address(f"{web}/0")], policy, reserve=reserve)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    folder = tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")
    with Encoder(str(folder), precision="float32", compile_cache=False) as model:
        yield model


@pytest.mark.slow
def test_over_http(encoder: Encoder, web: str, policy: FetchPolicy) -> None:
    with listening([encoder]) as state, httpx.Client(base_url=f"http://127.0.0.1:{state.port}") as client:
        server: ServerState = state.server

        def ask(*urls: str) -> httpx.Response:
            body = {"model": encoder.name, "images": list(urls), "input_type": "image"}
            return client.post("/v2/embed", json=body, timeout=60)

        Handler.seen.clear()
        for url in (f"{web}/0", METADATA):
            reply = ask(url)
            assert reply.status_code == 400
            assert "images[0] is an address, and fetching is off" in reply.json()["message"]
        assert Handler.seen == []
        server.limits = replace(server.limits, media_urls=policy)
        reply = ask(f"{web}/0", f"{web}/1")
        assert reply.status_code == 200, reply.text
        vectors = np.array(reply.json()["embeddings"]["float"], np.float32)
        np.testing.assert_array_equal(vectors, np.asarray(encoder.encode(FILES[:2])))
        assert [picture["width"] for picture in reply.json()["images"]] == [60, 33]
        assert server.body_budget.used_bytes == 0
        for url in (METADATA, f"{web}/to?{METADATA}"):
            reply = ask(f"{web}/0", url)
            assert reply.status_code == 400
            assert "images[1]: The address cannot be fetched: no public address" in reply.json()["message"]
            assert reply.json()["error"]["param"] == "images"
        assert "is a text, no picture" in ask(f"{web}/x").text
        # An API that is none of pictures: a text is never taken for an address.
        text = client.post("/v1/embeddings", json={"model": encoder.name, "input": f"{web}/4"})
        assert text.status_code == 200 and "/4" not in Handler.seen


@pytest.mark.slow
def test_bytes_of_pictures_count_like_those_of_the_body(encoder: Encoder, web: str, policy: FetchPolicy) -> None:
    with listening([encoder], max_body_bytes=10_000) as state:
        state.server.limits = replace(state.server.limits, media_urls=policy)
        body = {"model": encoder.name, "images": [f"{web}/{number}" for number in range(3)], "input_type": "image"}
        reply = httpx.post(f"http://127.0.0.1:{state.port}/v2/embed", json=body, timeout=60)
        assert reply.status_code == 413, reply.text
        assert "max_body_bytes" in reply.json()["message"]
        assert state.server.body_budget.used_bytes == 0
