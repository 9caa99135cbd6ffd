"""Back-ends that come and go: files that are read again, names with several addresses."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from nearfield.cluster.router.backends.address import parse_address, read_backends_file
from nearfield.errors import SettingsError
from tests.support.fake_backends import FakeServer, SeenRequest, answering, http_reply, routing

pytestmark = pytest.mark.network
EMBED, BODY = "/v1/embeddings", {"model": "tiny", "input": "cat"}


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_file_has_a_url_in_each_line(tmp_path: Path) -> None:
    path = tmp_path / "servers.txt"
    path.write_text("# servers\nhttp://a:8080\n\n  https://b  # the second\nhttp://[::1]:9/\n", encoding="utf-8")
    urls = [address.url for address in read_backends_file(path)]
    assert urls == ["http://a:8080", "https://b:443", "http://[::1]:9"]
    path.write_text("http://a\nnonsense\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="line 2"):
        read_backends_file(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_backends_file(tmp_path / "missing")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_backends_file(path)


async def test_a_removed_server_finishes_its_requests(tmp_path: Path) -> None:
    released = asyncio.Event()

    async def wait(request: SeenRequest, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.write(http_reply(request, 200, b'{"late": 1}'))

    old, new, path = await FakeServer(wait).start(), await FakeServer().start(), tmp_path / "servers"
    path.write_text(old.url, encoding="utf-8")
    async with routing(backends_file=path) as router:
        pending = asyncio.create_task(router.client.post(EMBED, json=BODY))
        while not old.seen:
            await asyncio.sleep(0.01)
        path.write_text(new.url, encoding="utf-8")
        assert router.state.backends.reload() == "1 back-ends configured"
        while [backend.name for backend in router.state.backends.all if backend.up] != [new.url]:
            await asyncio.sleep(0.01)
        assert (await router.client.post(EMBED, json=BODY)).json() == {}
        released.set()
        assert (await pending).json() == {"late": 1}
        path.write_text("nonsense", encoding="utf-8")
        with pytest.raises(SettingsError):
            router.state.backends.reload()
        assert (await router.client.post(EMBED, json=BODY)).status_code == 200
    await old.stop()
    await new.stop()


async def test_a_name_stands_for_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfield.cluster.router.backends.membership.RESOLVE_SECONDS", 0.05)
    server = await FakeServer().start()
    hosts: list[str] = ["127.0.0.1", "127.0.0.9"]  # nothing listens at the second

    def resolve(host: str, port: int) -> list[str]:
        if not hosts:
            raise OSError("no such name")
        assert (host, port) == ("servers.test", server.port)
        return hosts

    async with routing(f"http://servers.test:{server.port}", resolve=resolve) as router:
        assert [backend.address.address for backend in router.state.backends.all] == ["127.0.0.1", "127.0.0.9"]
        for _ in range(4):
            assert (await router.client.post(EMBED, json=BODY)).status_code == 200
        hosts.clear()  # the name server is down: what was known stays
        await asyncio.sleep(0.15)
        assert len(router.state.backends.all) == 2
        hosts.append("127.0.0.1")
        while len(router.state.backends.all) != 1:
            await asyncio.sleep(0.01)
        assert (await router.client.post(EMBED, json=BODY)).status_code == 200
    await server.stop()


def test_addresses_are_told_apart() -> None:
    address = parse_address("https://Host.example")
    assert (address.scheme, address.host, address.port) == ("https", "host.example", 443)
    assert address.at("10.0.0.1").url == "https://10.0.0.1:443"
    assert address.at("10.0.0.1").authority == "host.example:443"


@pytest.mark.parametrize("host", [None, "a.example", "127.0.0.1"])
async def test_a_server_with_two_names_is_one_back_end(host: str | None) -> None:
    server = await FakeServer().start()
    home = None if host is None else f"http://{host}:{server.port}"
    urls = (f"http://a.example:{server.port}", server, server.url)
    async with routing(*urls, resolve=lambda *_: ["127.0.0.1"], home=home) as router:
        assert [backend.name for backend in router.state.backends.all] == [server.url]
        assert (await router.client.get("/v1/files")).status_code == (200 if home else 501)


async def test_the_home_may_be_localhost() -> None:
    server = await FakeServer().start()
    url = f"http://localhost:{server.port}"
    async with routing(url, home=url, resolve=lambda *_: ["127.0.0.1", "::1"]) as router:
        assert (await router.client.get("/v1/files")).status_code == 200
    await server.stop()


async def test_an_unreachable_server_at_the_start_costs_nothing() -> None:
    def resolve(host: str, _: int) -> list[str]:
        raise OSError(f"{host} is unknown")

    server = FakeServer()
    async with routing("http://unknown.example", "http://127.0.0.1:1", server, resolve=resolve) as router:
        for _ in range(4):
            assert (await router.client.post("/v1/embeddings", json={"model": "tiny"})).status_code == 200


async def test_a_router_is_no_back_end() -> None:
    """Two routers that name each other, or one that names itself, would pass requests round for ever."""
    server = FakeServer(probed=answering(200, b'{"role": "router", "ready": true, "models": ["tiny"]}'))
    async with routing(server) as router:
        ready = (await router.client.get("/ready")).json()
        assert (await router.client.post("/v1/embeddings", json={"input": "cat"})).status_code == 503
    assert ready["role"] == "router" and "It is a router" in ready["backends"][0]["problem"]
    assert not server.seen


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")
async def test_a_server_with_an_ipv6_address() -> None:
    server = FakeServer(host="::1")
    async with routing(server) as router:
        assert (await router.client.post("/v1/embeddings", json={"model": "tiny"})).status_code == 200
    assert server.url.startswith("http://[::1]:")


def test_names_are_those_of_dns() -> None:
    assert parse_address("http://Bücher.example").authority == "xn--bcher-kva.example:80"
    assert parse_address("http://" + "a" * 63).authority == "a" * 63 + ":80"
    assert parse_address("http://[fe80::1%eth0]:80").authority == "[fe80::1]:80"
    for url in ("http://a..b", "http://" + "a" * 64, "http://:secret@a"):
        with pytest.raises(SettingsError, match="no address of a server"):
            parse_address(url)
