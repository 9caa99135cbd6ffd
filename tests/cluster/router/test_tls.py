"""HTTPS between a router and its servers: certificates are checked, and what is wrong with one is said."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nearfield.cluster.router.backends.connection_pool import trusted_context
from nearfield.errors import SettingsError
from tests.support.fake_backends import FakeServer, SeenRequest, answering, routing

pytestmark = pytest.mark.network
EMBED = "/v1/embeddings"
_LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


class Authority:
    """An authority that signs certificates for a test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        self.file = folder / "authority.pem"
        certificate = self._sign(self._name, self._key, [x509.BasicConstraints(ca=True, path_length=None)])
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, extensions: Sequence[x509.ExtensionType]
    ) -> x509.Certificate:
        now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
        serial = x509.random_serial_number()
        builder = x509.CertificateBuilder(self._name, name, key.public_key(), serial, now - day, now + day)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())

    def server_context(self, name: x509.GeneralName = _LOOPBACK) -> ssl.SSLContext:
        """Return what a server needs that has a name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        certificate = self._sign(subject, key, [x509.SubjectAlternativeName([name])])
        file = self._folder / "server.pem"
        encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
        file.write_bytes(secret + certificate.public_bytes(encoding))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


async def _problem(server: FakeServer | str, ca_file: Path | None) -> str:
    """Return why a router does not use a server, which no client reaches then."""
    async with routing(server, ca_file=ca_file) as router:
        (backend,) = (await router.client.get("/ready")).json()["backends"]
        reply = await router.client.post(EMBED, json={"model": "tiny", "input": "cat"})
        assert (backend["state"], reply.status_code) == ("down", 503)
        assert backend["problem"] in reply.json()["error"]["message"]
    assert not isinstance(server, FakeServer) or not server.seen
    return str(backend["problem"])


async def test_requests_and_replies_pass_whole(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    body, data = bytes(range(256)) * 12_000, b"x" * 5_000_000
    server = FakeServer(answering(200, body), tls=authority.server_context())
    async with routing(server, ca_file=authority.file) as router:
        for _ in range(3):
            reply = await router.client.post(EMBED, content=data)
            assert (reply.status_code, reply.content) == (200, body)
    requests: list[SeenRequest] = server.seen
    assert [request.body for request in requests] == [data] * 3
    assert server.connections <= 3  # they are used again


async def test_certificates_are_checked_by_default(tmp_path: Path) -> None:
    problem = await _problem(FakeServer(tls=Authority(tmp_path).server_context()), None)
    assert "not trusted" in problem and "--ca-file" in problem


async def test_a_certificate_of_another_name_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = FakeServer(tls=authority.server_context(x509.DNSName("other.example")))
    assert "not valid for '127.0.0.1'" in await _problem(server, authority.file)


async def test_a_server_without_https_is_no_back_end_for_it() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert "Does the server have HTTPS?" in await _problem(f"https://127.0.0.1:{port}", None)


async def test_a_server_with_https_is_no_back_end_for_http(tmp_path: Path) -> None:
    server = await FakeServer(tls=Authority(tmp_path).server_context()).start()
    await _problem(server.url.replace("https:", "http:"), None)
    await server.stop()


@pytest.mark.parametrize("text", [None, "", "no certificate"])
async def test_a_file_without_authorities_is_refused_at_the_start(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "authority.pem"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"ca_file .*authority\.pem"):
        async with routing("https://127.0.0.1:9", ca_file=file):
            pass


def test_the_system_may_name_other_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(Authority(tmp_path).file))
    (authority,) = trusted_context.__wrapped__(None).get_ca_certs()
    assert authority["subject"] == ((("commonName", "authority"),),)
