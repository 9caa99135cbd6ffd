"""Fetching of addresses: what is refused, on loopback servers."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from nearfield.errors import InputError, TooLarge
from nearfield.fileio import url_safety
from nearfield.media.fetch import FetchPolicy, fetch

pytestmark = [pytest.mark.network]
BODY = b"picture" * 1000
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
PUBLIC = FetchPolicy(enabled=True, allow_http=True)


class Handler(BaseHTTPRequestHandler):
    """Paths: ``/ok``, ``/to?URL`` redirects, ``/chain/N`` N times, ``/slow``, ``/large``, ``/gzip``, ``/missing``."""

    protocol_version = "HTTP/1.1"
    requests: list[tuple[str, dict[str, str]]] = []  # noqa: RUF012 - one server, one list

    def do_GET(self) -> None:
        self.requests.append((self.path, dict(self.headers)))
        if self.path.startswith("/to?"):
            return self.reply(302, b"", {"Location": self.path[4:]})
        if self.path.startswith("/chain/"):
            rest = int(self.path[7:])
            return self.reply(301, b"", {"Location": f"/chain/{rest - 1}" if rest > 1 else "/ok"})
        if self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)
            return None
        if self.path == "/gzip":
            return self.reply(200, b"\x1f\x8b", {"Content-Encoding": "gzip"})
        if self.path == "/large":
            return self.reply(200, bytes(300_000), {})
        return self.reply(200 if self.path.startswith("/ok") else 404, BODY, {})

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Send a response."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Print nothing."""


class QuietServer(ThreadingHTTPServer):
    """A server that prints nothing when a client goes away."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = QuietServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def policy(port: int) -> FetchPolicy:
    """A policy that allows the server."""
    return FetchPolicy(enabled=True, allow_http=True, ports=(port,), allow_private=LOOPBACK)


def test_off_by_default(port: int) -> None:
    with pytest.raises(InputError, match="not fetched here"):
        fetch(f"http://127.0.0.1:{port}/ok", FetchPolicy())


def test_fetch(port: int, policy: FetchPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    Handler.requests.clear()
    assert fetch(f"http://127.0.0.1:{port}/ok?a=1#part", policy) == BODY
    (path, headers), *others = Handler.requests
    assert path == "/ok?a=1" and not others and headers["Accept-Encoding"] == "identity"
    assert headers["Host"] == f"127.0.0.1:{port}" and "Cookie" not in headers
    assert fetch(f"http://localhost:{port}/ok", policy) == BODY
    assert Handler.requests[-1][1]["Host"] == f"localhost:{port}"


def test_a_running_event_loop_does_not_matter(port: int, policy: FetchPolicy) -> None:
    import asyncio

    async def call() -> bytes:
        return fetch(f"http://127.0.0.1:{port}/ok", policy)

    assert asyncio.run(call()) == BODY


def test_redirects(port: int, policy: FetchPolicy) -> None:
    base = f"http://127.0.0.1:{port}"
    assert fetch(f"{base}/chain/3", policy) == BODY
    with pytest.raises(InputError, match="redirects more than 3 times"):
        fetch(f"{base}/chain/4", policy)
    with pytest.raises(InputError, match="redirects more than 0 times"):
        fetch(f"{base}/chain/1", replace(policy, max_redirects=0))


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://[::ffff:169.254.169.254]/",
        "http://user:secret@127.0.0.1/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/a",
        "data:text/plain,hello",
        "http://127.0.0.1:22/",
        "//169.254.169.254/",
    ],
)
def test_redirects_are_checked(port: int, policy: FetchPolicy, target: str) -> None:
    ports = (*policy.ports, 80)
    with pytest.raises(InputError) as caught:
        fetch(f"http://127.0.0.1:{port}/to?{target}", replace(policy, ports=ports))
    assert "secret" not in str(caught.value) and "meta-data" not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "localhost",
        "localhost.",
        "0.0.0.0",
        "169.254.169.254",
        "10.1.2.3",
        "192.168.0.1",
        "100.64.0.1",
        "224.0.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::808:808]",
        "[fe80::1]",
        "[fd00::1]",
        "[2002:7f00:1::]",
    ],
)
def test_addresses_that_are_not_public(host: str) -> None:
    with pytest.raises(InputError) as caught:
        fetch(f"http://{host}/", PUBLIC)
    assert str(caught.value) == "The address cannot be fetched: no public address."


def test_one_private_address_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_safety, "resolve", lambda host, port: ["93.184.215.14", "127.0.0.1"])
    with pytest.raises(InputError, match="no public address"):
        fetch("http://example.com/", PUBLIC)


def test_the_name_is_resolved_once(port: int, policy: FetchPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that gets another address after the check (DNS rebinding) is not looked up again."""
    lookups = []

    def resolve(host: str, number: int) -> list[str]:
        lookups.append(host)
        return ["127.0.0.1"] if len(lookups) == 1 else ["169.254.169.254"]

    monkeypatch.setattr(url_safety, "resolve", resolve)
    assert fetch(f"http://rebinding.example:{port}/ok", policy) == BODY
    assert lookups == ["rebinding.example"]
    assert Handler.requests[-1][1]["Host"] == f"rebinding.example:{port}"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "Only addresses that start with https://"),
        ("ftp://example.com/a.png", "Only addresses that start with https://"),
        ("data:image/png;base64,AAAA", "Only addresses that start with https://"),
        ("gopher://example.com", "Only addresses that start with https://"),
        ("http://example.com/a.png", "Only addresses that start with https://"),
        ("https://user@example.com/", "user name or password"),
        ("https://user:secret@example.com/", "user name or password"),
        ("https://example.com:8443/", "port 8443"),
        ("https://example.com:22/", "port 22"),
        ("https:///a.png", "Only addresses"),
        ("photo.png", "Only addresses"),
        ("", "Only addresses"),
        ("http://[::1", "no valid address"),
        ("https://exa\nmple.com/", "no valid address"),
        ("https://" + "a" * 70_000, "no valid address"),
    ],
)
def test_addresses_that_are_not_fetched(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        fetch(url, FetchPolicy(enabled=True))
    assert "secret" not in str(caught.value) and len(str(caught.value)) < 500


def test_hosts(port: int, policy: FetchPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_safety, "resolve", lambda host, number: ["127.0.0.1"])
    limited = replace(policy, hosts=("Example.com", "*.pictures.example"))
    for host in ("example.com", "EXAMPLE.com", "a.pictures.example", "a.b.pictures.example"):
        assert fetch(f"http://{host}:{port}/ok", limited) == BODY
    for host in ("example.org", "a.example.com", "pictures.example", "evilpictures.example", "127.0.0.1"):
        with pytest.raises(InputError, match="allows other hosts only"):
            fetch(f"http://{host}:{port}/ok", limited)


def test_bounds(port: int, policy: FetchPolicy) -> None:
    base = f"http://127.0.0.1:{port}"
    with pytest.raises(TooLarge, match="more than 200,000 bytes"):
        fetch(f"{base}/large", replace(policy, max_bytes=200_000))
    assert len(fetch(f"{base}/large", replace(policy, max_bytes=300_000))) == 300_000
    started = time.monotonic()
    with pytest.raises(InputError, match=r"within 0\.5 seconds"):
        fetch(f"{base}/slow", replace(policy, seconds=0.5))
    assert time.monotonic() - started < 5
    with pytest.raises(InputError, match="compressed"):
        fetch(f"{base}/gzip", policy)


def test_messages_say_nothing_of_the_network(port: int, policy: FetchPolicy) -> None:
    """A closed port, a server that is no HTTP server, and a missing page: no body, no reason."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        number = closed.getsockname()[1]
        with pytest.raises(InputError) as first:
            fetch(f"http://127.0.0.1:{number}/", replace(policy, ports=(number,)))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]

        def answer() -> None:
            connection, _ = other.accept()
            connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
            connection.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises(InputError) as second:
            fetch(f"http://127.0.0.1:{number}/", replace(policy, ports=(number,)))
        thread.join()
    assert str(first.value) == str(second.value) == "The address cannot be fetched."
    with pytest.raises(InputError) as third:
        fetch(f"http://127.0.0.1:{port}/missing", policy)
    assert str(third.value) == "The address cannot be fetched: it answered with status 404."


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a certificate of a host's name and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def test_certificates_are_checked_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection goes to an address, and the certificate must be that of the name."""
    certificate, key = self_signed(tmp_path, "pictures.example")
    server = QuietServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    number = server.server_address[1]
    monkeypatch.setattr(url_safety, "resolve", lambda host, port: ["127.0.0.1"])
    policy = FetchPolicy(enabled=True, ports=(number,), allow_private=LOOPBACK)
    with pytest.raises(InputError, match="cannot be fetched"):
        fetch(f"https://pictures.example:{number}/ok", policy)
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr("nearfield.media.fetch._ssl_context", lambda: trusting)
    assert fetch(f"https://pictures.example:{number}/ok", policy) == BODY
    with pytest.raises(InputError, match="cannot be fetched"):
        fetch(f"https://other.example:{number}/ok", policy)
    with pytest.raises(InputError, match="that start with https"):
        fetch(f"https://pictures.example:{number}/to?http://pictures.example:{number}/ok", policy)
    server.shutdown()
    server.server_close()
