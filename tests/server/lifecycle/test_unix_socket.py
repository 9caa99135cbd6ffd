"""A server on a Unix socket: who may connect, what is left of an earlier server, clients and shutdown."""

from __future__ import annotations

import asyncio
import socket
import stat
import sys
from pathlib import Path

import httpx
import pytest

from nearfield import settings
from nearfield.client import AsyncClient, Client
from nearfield.encoder import Encoder
from nearfield.errors import InputError, SettingsError
from nearfield.server.lifecycle.listener import bind, remove_socket_file
from tests.support.serving import listening

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(sys.platform == "win32", reason="it has no Unix sockets in Python"),
]


def test_requests_over_a_unix_socket(tiny: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "nearfield.sock"
    with listening([tiny], uds=path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://any.name") as client:
            assert client.post("/v1/embeddings", json={"model": "tiny", "input": "cat"}).status_code == 200
            # There may be a proxy: its clients must not manage models without a key.
            assert client.post("/models/unload", json={"model": "tiny"}).status_code == 403
        with Client(f"unix:{path}") as nearby:
            expected = nearby.encode(["cat"])

        async def encode() -> None:
            async with AsyncClient(f"unix:{path}") as client:
                assert ((await client.encode(["cat"])).data == expected.data).all()

        asyncio.run(encode())
    assert not path.exists(), "it is removed at the end"


def test_a_file_that_a_killed_server_left_is_replaced_but_no_other(tmp_path: Path) -> None:
    path = tmp_path / "nearfield.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with bind(settings.load(uds=path)) as bound:
        with pytest.raises(SettingsError, match="another server listens there"):
            bind(settings.load(uds=path))
        assert path.exists()
        remove_socket_file(bound)
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(SettingsError, match="no socket"):
        bind(settings.load(uds=path))
    assert path.read_text() == "precious"
    for wrong in (tmp_path / "missing" / "s.sock", tmp_path / ("a" * 200)):
        with pytest.raises(SettingsError, match="--uds"):
            bind(settings.load(uds=wrong))


def test_a_url_without_a_path_is_refused() -> None:
    with pytest.raises(InputError):
        Client("unix:")
