"""The HTTP clients against real servers: results, retries, refusals, timeouts and keys."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from nearfield.client import NO_RETRY, AsyncClient, Client, RetryPolicy
from nearfield.encoder import Encoder
from nearfield.errors import InputError, NearfieldError, ServerRefused
from tests.support.cli_runner import python
from tests.support.serving import serving

pytestmark = pytest.mark.network

TEXTS = [f"the cat number {number}" for number in range(150)]
FAST = RetryPolicy(max_attempts=3, delay=0.001)


def test_both_clients_return_the_vectors_of_the_model(url: str, tiny: Encoder) -> None:
    expected = tiny.encode(TEXTS, role="query").data
    with Client(url, "tiny-model") as client:
        assert (client.name, client.remote.native) == (tiny.name, True)
        assert client.remote.fingerprint == tiny.fingerprint
        assert set(client.remote.prompts) == {"query", "passage"}
        np.testing.assert_allclose(client.encode(TEXTS, role="query").data, expected, atol=1e-6)
        assert client.encode(TEXTS[:2], precision="int8").data.dtype == np.int8
        assert client.encode(TEXTS[:2], truncate_dim=8, force_truncate_dim=True).data.shape == (2, 8)

    async def encode() -> Any:
        async with AsyncClient(url, "tiny-model") as client:
            return await client.encode(TEXTS, role="query")

    np.testing.assert_allclose(asyncio.run(encode()).data, expected, atol=1e-6)


def test_an_async_client_can_be_used_by_one_event_loop_after_another(url: str) -> None:
    client = AsyncClient(url)

    async def encode() -> int:
        try:
            return len(await client.encode(["a cat"]))
        finally:
            await client.aclose()

    assert [asyncio.run(encode()) for _ in range(2)] == [1, 1]


def test_a_model_need_not_be_named_where_there_is_one(url: str, fleet_url: str) -> None:
    with Client(url) as client:
        assert len(client.encode(["a cat"])) == 1
    with Client(fleet_url) as client, pytest.raises(InputError, match="tiny-reranker"):
        client.encode(["a cat"])


def test_documents_are_ranked(fleet_url: str) -> None:
    documents = ["the cat", "hello world", "blue"]
    with Client(fleet_url, "tiny-reranker") as client:
        ranked = client.rank("a cat", documents, top_k=2)
    assert len(ranked) == 2 and ranked[0].score >= ranked[1].score

    async def rank() -> Any:
        async with AsyncClient(fleet_url, "tiny-reranker") as client:
            return await client.models(), await client.rank("a cat", documents, top_k=2)

    models, again = asyncio.run(rank())
    assert again == ranked
    assert {model.id for model in models} == {"tiny", "m3", "tiny-reranker", "tiny-classifier"}


def test_the_state_of_a_server_is_read(fleet_url: str) -> None:
    with Client(fleet_url) as client:
        states = client.load_states()
        assert {state.id: state.state for state in states.models}["tiny"] == "loaded"
        assert states.bytes > 0
        assert client.load_model("tiny").state == "loaded"
        assert client.readiness().ready
        assert "nearfield_model_loaded" in client.metrics()
        assert client.request("GET", "/v1/models")["object"] == "list"
        with pytest.raises(NearfieldError, match=r"/docs is not JSON.*no Nearfield server"):
            client.request("GET", "/docs")


def test_the_key_is_sent_and_a_refusal_has_its_status(tiny: Encoder) -> None:
    with serving([tiny], api_keys=("sesame-open",)) as base:
        with Client(base, tiny.name, key="sesame-open") as client:
            assert len(client.encode(["a cat"])) == 1
        with pytest.raises(ServerRefused, match="401") as refused:
            Client(base, tiny.name, key="wrong-key")
    assert refused.value.response_status == 401
    assert "wrong-key" not in str(refused.value)


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_not_shown(key: str) -> None:
    with pytest.raises(InputError) as error:
        Client("http://127.0.0.1:9", key=key)
    assert key not in str(error.value)


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://host", "http://", "http://[::1", "http://host:99999999"])
def test_a_url_that_cannot_be_used_is_an_input_error(url: str) -> None:
    with pytest.raises(InputError, match="URL"):
        Client(url)


def test_an_unknown_option_is_an_input_error(url: str) -> None:
    options: Any = {"temperature": 1}
    with Client(url) as client, pytest.raises(InputError, match="'temperature'"):
        client.encode(["a cat"], **options)
    with Client(url) as client, pytest.raises(InputError, match="nothing to encode"):
        client.encode([])


@contextmanager
def _server(*statuses: int, retry_after: str | None = None, seconds: float = 0.0) -> Iterator[tuple[str, list[str]]]:
    """Run a server that answers with these statuses in turn, the last one for ever; yield its URL and the requests."""
    left, paths = list(statuses), list[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            time.sleep(seconds)
            content = json.dumps({"error": {"message": "come back later"}}).encode()
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            if retry_after is not None:
                self.send_header("Retry-After", retry_after)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Write no log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", paths
        finally:
            server.shutdown()
            thread.join()


def test_a_refused_request_is_sent_again_after_retry_after() -> None:
    waits: list[float] = []
    with _server(429, 503, 200, retry_after="0.01") as (base, paths):
        with Client(base, retry=FAST, on_retry=waits.append) as client:
            client.request("GET", "/x")

        async def send() -> None:
            async with AsyncClient(base, retry=FAST, on_retry=waits.append) as client:
                await client.request("GET", "/y")

        asyncio.run(send())
    assert waits == [0.01, 0.01]
    assert paths == ["/x", "/x", "/x", "/y"]


def test_retries_end_after_the_last_attempt_or_the_patience() -> None:
    with _server(429) as (base, paths):
        with Client(base, retry=FAST) as client, pytest.raises(ServerRefused, match="429: come back later"):
            client.request("GET", "/x")
        assert len(paths) == 3
        patient = RetryPolicy(max_attempts=None, patience=0.5, delay=0.6, growth=1.0)
        with Client(base, retry=patient) as client, pytest.raises(ServerRefused):
            client.request("GET", "/x")
        assert len(paths) == 5
        with Client(base, retry=NO_RETRY) as client, pytest.raises(ServerRefused):
            client.request("GET", "/x")
        assert len(paths) == 6


def test_a_status_that_is_no_refusal_for_now_is_not_retried() -> None:
    with _server(400) as (base, paths):
        with pytest.raises(ServerRefused, match="400"):
            Client(base, "model", retry=FAST)
        assert len(paths) == 1


@pytest.mark.parametrize(
    ("retry_after", "attempt", "seconds"),
    [(None, 0, 0.5), (None, 3, 4.0), ("2", 3, 2.0), ("-1", 0, 0.0), ("3600", 0, 60.0), ("soon", 1, 1.0)],
)
def test_the_wait_is_bounded(retry_after: str | None, attempt: int, seconds: float) -> None:
    assert RetryPolicy().wait_seconds(retry_after, attempt) == seconds


def test_a_reply_that_takes_too_long_is_an_error() -> None:
    with _server(200, seconds=0.3) as (base, _), pytest.raises(NearfieldError, match="does not answer"):
        Client(base, "model", timeout=0.05, retry=FAST)


@pytest.mark.process
def test_importing_the_client_does_not_import_httpx() -> None:
    assert python("import sys, nearfield.client; print('httpx' in sys.modules)").strip() == "False"


_FORKED = """
import asyncio, os, signal, sys
import numpy as np
from nearfield.client import AsyncClient, Client

texts = [" ".join(["the cat"] * number) for number in range(1, 25)]
client, later = Client(sys.argv[1]), AsyncClient(sys.argv[1])

async def encode():
    return (await later.encode(texts)).data

expected = client.encode(texts).data
np.testing.assert_allclose(asyncio.run(encode()), expected, atol=1e-6)

def encode_all(order):
    for at in order:
        np.testing.assert_allclose(client.encode([texts[at]]).data[0], expected[at], atol=1e-6)

child = os.fork()
signal.alarm(60)
if not child:
    code = 1
    try:
        assert client._connections.peek() is None
        encode_all(range(24))
        np.testing.assert_allclose(asyncio.run(encode()), expected, atol=1e-6)
        client.close()
        code = 0
    finally:
        os._exit(code)
encode_all(reversed(range(24)))
assert os.waitpid(child, 0)[1] == 0
encode_all(range(3))
print("done")
"""


@pytest.mark.process
def test_clients_work_in_a_forked_process_and_in_its_parent(url: str) -> None:
    """On shared connections, replies would reach the wrong process."""
    done = subprocess.run(
        [sys.executable, "-c", _FORKED, url], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr
