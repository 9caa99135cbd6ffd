"""What a client can send before the application sees it: limits on bytes, on pipelining, and on ambiguous requests."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest

from nearfield.encoder import Encoder
from nearfield.server.lifecycle import http_protocol
from nearfield.server.lifecycle.http_protocol import MAX_HEAD_BYTES, MAX_HEADERS, MAX_PIPELINED, TimedHttpProtocol
from tests.support.serving import listening

pytestmark = pytest.mark.network

BODY = json.dumps({"model": "tiny", "input": "cat"}).encode()
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
ONE_CHUNK = b"%x\r\n%s\r\n" % (len(BODY), BODY)


@pytest.fixture(scope="module")
def port(tiny: Encoder) -> Iterator[int]:
    with listening([tiny]) as state:
        yield state.port


class Reply:
    """One HTTP reply."""

    def __init__(self, head: bytes, body: bytes) -> None:
        line, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(line.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.body = body


def replies(data: bytes) -> list[Reply]:
    """Split what a server sent into whole replies."""
    result = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 "), head[:100]
        size = int(Reply(head, b"").headers["content-length"])
        assert len(data) >= size
        result.append(Reply(head, data[:size]))
        data = data[size:]
    return result


def send(port: int, *parts: bytes, pause: float = 0.0) -> list[Reply]:
    """Send bytes; return the replies once the server has closed the connection, or is silent for half a second."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        try:
            for part in parts:
                client.sendall(part)
                time.sleep(pause)
        except (BrokenPipeError, ConnectionResetError):
            pass
        data = b""
        try:
            while part := client.recv(65_536):
                data += part
                if parts[-1].endswith(b"\n"):  # a whole request, after which the connection may stay open
                    client.settimeout(0.5)
        except TimeoutError:
            pass
        return replies(data)


def _refused(port: int, status: int, *parts: bytes, pause: float = 0.0) -> Reply:
    (reply,) = send(port, *parts, pause=pause)
    assert reply.status == status, reply.body
    assert reply.headers["connection"] == "close"
    assert json.loads(reply.body)["error"]["message"]
    return reply


# -- bytes before the application --------------------------------------------------------------------------------------

FLOODS = {
    "many headers": (431, b"GET /health HTTP/1.1\r\nHost: x\r\n", b"X-A: b\r\n" * 8192),
    "a long value": (431, b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: ", b"a" * MAX_HEAD_BYTES),
    "a long name": (431, b"GET /health HTTP/1.1\r\nHost: x\r\n", b"a" * MAX_HEAD_BYTES),
    "a long path": (414, b"GET /", b"a" * MAX_HEAD_BYTES),
    "trailers": (431, CHUNKED + ONE_CHUNK + b"0\r\n", b"X-A: b\r\n" * 8192),
    "a chunk extension": (431, CHUNKED + b"1;", b"a" * MAX_HEAD_BYTES),
    "zeros before a chunk size": (431, CHUNKED, b"0" * MAX_HEAD_BYTES),
    "empty lines": (400, b"\r\n", b"\r\n" * 40_000),
}


@pytest.mark.parametrize("case", FLOODS)
def test_bytes_before_the_application_are_bounded(port: int, case: str) -> None:
    status, start, more = FLOODS[case]
    _refused(port, status, start, more, more, pause=0.02)
    (reply, *rest) = send(port, HEALTH + start + more, more, pause=0.02)  # the second request of a connection
    if case not in ("trailers", "a chunk extension", "zeros before a chunk size"):
        assert (reply.status, [one.status for one in rest]) == (200, [status])


@pytest.mark.parametrize(("extra", "status"), [(-600, 200), (1, 431)])
def test_the_limit_on_headers_is_exact(port: int, extra: int, status: int) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: %s\r\n\r\n" % (b"a" * (MAX_HEAD_BYTES + extra))
    for cut in (1, 30_000, len(head) - 1):
        first = send(port, head[:cut], head[cut:], pause=0.02)[0]
        assert first.status == status


@pytest.mark.parametrize("count", [MAX_HEADERS, 600])
def test_too_many_headers_are_refused(port: int, count: int) -> None:
    _refused(port, 431, b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * count + b"\r\n")


def test_a_long_path_is_refused_before_it_is_decoded(port: int) -> None:
    _refused(port, 414, b"GET /" + b"%41" * 21_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    (reply,) = send(port, b"GET /" + b"%41" * 4_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert reply.status == 404


def test_small_chunks_and_short_trailers_are_accepted(port: int) -> None:
    chunks = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in b" " * 30_000 + BODY)
    (reply,) = send(port, CHUNKED + chunks + b"0\r\nContent-Type: text/plain\r\nX-A: b\r\n\r\n")
    assert reply.status == 200, reply.body
    (reply,) = send(port, CHUNKED + ONE_CHUNK + b"0\r\nHost: evil\r\nContent-Type: text/plain\r\n\r\n")
    assert reply.status == 200, "trailers are no headers"


def test_the_number_of_small_chunks_is_bounded(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "MAX_CHUNKS", 2000)
    small = b"1\r\n \r\n"
    reply = _refused(port, 400, CHUNKED, small * 2000, small * 40_000, pause=0.02)
    assert b"small chunks" in reply.body
    (reply,) = send(port, CHUNKED + small * 1900 + ONE_CHUNK + b"0\r\n\r\n")
    assert reply.status == 200
    line = b"100\r\n%s\r\n" % (b" " * 256)
    (reply,) = send(port, CHUNKED + line * 8000 + ONE_CHUNK + b"0\r\n\r\n")
    assert reply.status == 200, reply.body


@pytest.fixture
def slices(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the parser's callbacks, one for each slice."""
    numbers: list[int] = []
    parse = TimedHttpProtocol._parse

    def parse_and_record(connection: TimedHttpProtocol, data: bytes | memoryview) -> None:
        connection._callbacks = 0
        parse(connection, data)
        numbers.append(connection._callbacks)

    monkeypatch.setattr(TimedHttpProtocol, "_parse", parse_and_record)
    return numbers


def test_small_chunks_are_parsed_in_slices(port: int, slices: list[int]) -> None:
    small = b"1\r\n \r\n" * 50_000
    (reply,) = send(port, CHUNKED + small + ONE_CHUNK + b"0\r\n\r\n")
    assert reply.status == 200, reply.body
    assert sum(slices) > 50_000
    assert max(slices) <= http_protocol.SLICE_BYTES // 6 + 1
    slices.clear()
    large = BODY + b" " * 2**20
    # The server closes the connection: `send` need not wait for more.
    (reply,) = send(port, POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(large) + large)
    assert reply.status == 200
    assert sum(slices) < 2**20 // http_protocol.SLICE_BYTES, "bodies of known length come in larger slices"


def test_nothing_is_parsed_after_a_refusal(tiny: Encoder, slices: list[int]) -> None:
    with listening([tiny], api_keys=["key"]) as state:
        with socket.create_connection(("127.0.0.1", state.port), timeout=20) as client:
            try:
                client.sendall(CHUNKED + b"1\r\n \r\n" * 200_000)
            except OSError:
                pass  # the server has closed the connection
            else:
                assert client.recv(100).startswith(b"HTTP/1.1 401")
        assert sum(slices) < 20_000
        refusals = [send(state.port, CHUNKED + b"1\r\n \r\n" * 5000)[0].status for _ in range(3)]
        assert refusals == [401] * 3


def test_a_client_that_pipelines_without_end_is_answered_up_to_a_limit(port: int) -> None:
    answered = send(port, HEALTH * 5000)
    assert {reply.status for reply in answered} == {200}
    assert 2 <= len(answered) <= MAX_PIPELINED + 1
    assert answered[-1].headers["connection"] == "close"
    few = send(port, HEALTH * 10)
    assert [reply.status for reply in few] == [200] * 10


def test_the_refusal_of_a_pipelined_request_comes_after_the_earlier_replies(port: int) -> None:
    good = POST + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
    answered = send(port, good + good + b"NONSENSE\r\n\r\n")
    assert [reply.status for reply in answered] == [200, 200, 400]
    answered = send(port, good + good + CHUNKED + b"zz\r\n")
    assert [reply.status for reply in answered] == [200, 200, 400]


def test_a_body_with_an_invalid_chunk_is_refused_once(port: int) -> None:
    _refused(port, 400, CHUNKED, b"5\r\nabc", b"\r\nzz\r\n", pause=0.05)


def test_a_client_that_waits_to_continue_is_refused_like_others(port: int) -> None:
    head = CHUNKED.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    _refused(port, 400, head + b"zz\r\n")
    interim, reply = _until_two_heads(port, head, ONE_CHUNK + b"0\r\n\r\n")
    assert interim.startswith(b"HTTP/1.1 100 ")
    assert reply.startswith(b"HTTP/1.1 200 ")


def _until_two_heads(port: int, head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Send headers, wait for an interim reply, send the body, and return both replies."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(head)
        interim = client.recv(65_536)
        client.sendall(body)
        return interim, client.recv(65_536)


# -- ambiguous requests ------------------------------------------------------------------------------------------------

LENGTH = b"Content-Length: %d\r\n" % len(BODY)
AMBIGUOUS = {
    "two hosts": b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "the same host twice": b"GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "two origins": b"GET /health HTTP/1.1\r\nHost: a\r\nOrigin: https://a\r\nOrigin: https://b\r\n\r\n",
    "a URL of another host": b"GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a URL of another port": b"GET http://localhost:1/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a URL without a path": b"GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "gzip and chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + ONE_CHUNK + b"0\r\n\r\n",
    "gzip only": POST + b"Transfer-Encoding: gzip\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + ONE_CHUNK,
    "chunked at HTTP/1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + ONE_CHUNK + b"0\r\n\r\n",
    "chunked and a length": POST + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + ONE_CHUNK + b"0\r\n\r\n",
    "a length and chunked": POST + b"Transfer-Encoding: chunked\r\n" + LENGTH + b"\r\n" + ONE_CHUNK,
    "two lengths": POST + LENGTH + b"Content-Length: 3\r\n\r\n" + BODY,
    "one length twice": POST + LENGTH + LENGTH + b"\r\n" + BODY,
    "a signed length": POST + b"Content-Length: +5\r\n\r\n{}{}{",
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "HTTP/0.9 with headers": b"GET /health HTTP/0.9\r\nHost: x\r\n\r\n",
    "HTTP/2": b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/1.2": b"GET /health HTTP/1.2\r\nHost: x\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "bare line feeds": b"GET /health HTTP/1.1\nHost: x\n\n",
    "a zero byte in a value": b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
    "a bare carriage return": b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
    "a folded header": b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "a space before the colon": b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n",
    "TLS": bytes.fromhex("16030100c6010000c20303") + b"a" * 100,
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_ambiguous_requests_are_refused(port: int, case: str) -> None:
    _refused(port, 400, AMBIGUOUS[case])


def test_a_url_of_the_same_host_is_accepted(port: int) -> None:
    for host in (b"localhost", b"localhost:8080", b"LOCALHOST", b"[::1]", b"[::1]:8080"):
        (reply,) = send(port, b"GET http://%s/health HTTP/1.1\r\nHost: %s\r\n\r\n" % (host.lower(), host))
        assert reply.status == 200, host


def test_http_1_0_needs_no_host(port: int) -> None:
    (reply,) = send(port, b"GET /health HTTP/1.0\r\n\r\n")
    assert (reply.status, reply.headers["connection"]) == (200, "close")


# -- methods -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
def test_an_upgrade_is_ignored_and_the_body_is_read(port: int, upgrade: bytes) -> None:
    """As Java's HTTP client sends its first request."""
    head = POST + b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAE\r\nUpgrade: %s\r\n%s\r\n"
    request = head % (upgrade, LENGTH) + BODY
    for cut in (len(request), len(request) - 5, 40):
        first, second = send(port, request[:cut], request[cut:] + HEALTH, pause=0.02)
        assert (first.status, second.status) == (200, 200)


def test_connect_and_trace_are_refused(port: int) -> None:
    assert "allow" in _refused(port, 405, b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n").headers
    (reply,) = send(port, b"TRACE / HTTP/1.1\r\nHost: x\r\nCookie: secret\r\n\r\n")
    assert reply.status == 405
    assert b"secret" not in reply.body


PREFLIGHT = b"OPTIONS /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nAccess-Control-Request-Method: POST\r\n"
ALLOWED, FOREIGN = b"https://app.example", b"https://evil.example"
LISTED = b"Access-Control-Request-Headers: "


@pytest.mark.parametrize(
    ("request_head", "status", "allowed"),
    [
        (PREFLIGHT + b"Origin: %s\r\n" % ALLOWED, 200, True),
        (PREFLIGHT + b"Origin: %s\r\n" % FOREIGN, 400, False),
        (PREFLIGHT + b"Origin: https://%s\r\n" % (b"a" * 60_000), 400, False),
        (PREFLIGHT + b"Origin: %s\r\nOrigin: %s\r\n" % (ALLOWED, FOREIGN), 400, False),
        (PREFLIGHT + b"Origin: %s\r\n" % ALLOWED + LISTED + b"x-a," * 15_000 + b"\r\n", 200, True),
        (PREFLIGHT + b"Origin: %s\r\n" % ALLOWED + LISTED + b"\xff\xfe\t x\r\n", 200, True),
        (PREFLIGHT.replace(b"POST", b"Z" * 3000) + b"Origin: %s\r\n" % ALLOWED, 400, True),
        (PREFLIGHT.replace(b"/v1/embeddings", b"*") + b"Origin: %s\r\n" % FOREIGN, 400, False),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n", 404, False),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n", 200, False),
    ],
)
def test_preflights_with_cors_on(tiny: Encoder, request_head: bytes, status: int, allowed: bool) -> None:
    with listening([tiny], cors_origins=[ALLOWED.decode()]) as state:
        for body in (b"", b"hello"):
            length = b"Content-Length: %d\r\n\r\n" % len(body)
            first, *rest = send(state.port, request_head + length + body + HEALTH)
            assert first.status == status, first.body
            assert first.headers.get("access-control-allow-origin") == (ALLOWED.decode() if allowed else None)
            assert [reply.status for reply in rest] in ([200], [])


# -- a client that is slow after its reply -----------------------------------------------------------------------------


def test_the_rest_of_a_body_that_was_refused_may_not_take_forever(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "REST_SECONDS", 0.5)
    with listening([tiny], api_keys=["key"]) as state, socket.create_connection(("127.0.0.1", state.port)) as client:
        client.sendall(POST.replace(b"/v1/embeddings", b"/nothing") + b"Content-Length: 60000\r\n\r\n{")
        client.settimeout(20)
        assert client.recv(65_536).startswith(b"HTTP/1.1 404")
        data = b"."
        while data:
            time.sleep(0.1)
            try:
                client.sendall(b" ")
                client.settimeout(0.05)
                data = client.recv(10)
            except TimeoutError:
                continue
            except OSError:
                break


def test_refusals_are_counted(tiny: Encoder) -> None:
    with listening([tiny]) as state:
        _refused(state.port, 400, b"GET / HTTP/1.1\r\n\r\n")
        page = state.server.prometheus.page().decode()
    assert 'nearfield_requests_total{route="unmatched",status="400"} 1.0' in page
