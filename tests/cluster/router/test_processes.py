"""Real servers and a real router under load: killed, stopped, restarted one after another, and drained."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from nearfield.testing import tiny_encoder, write_tiny_model
from tests.support.serving import Process, RouterProcess, serving
from tools.raw_fuzz import RawFuzz

pytestmark = [pytest.mark.process, pytest.mark.network, pytest.mark.slow]


@contextmanager
def _router(*flags: str) -> Iterator[RouterProcess]:
    router = RouterProcess(*flags)
    try:
        yield router
    finally:
        router.terminate()
        assert router.wait() == 0


class Load:
    """Clients that send one request after another until they are stopped, and count the statuses."""

    def __init__(self, url: str, clients: int = 4) -> None:
        self._url = url
        self._stopping = False
        self._clients = clients
        self.statuses: Counter[str] = Counter()

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._send()) for _ in range(self._clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _send(self) -> None:
        body = {"model": "tiny", "input": ["cat", "dog"]}
        async with httpx.AsyncClient(base_url=self._url, timeout=60) as client:
            while not self._stopping:
                try:
                    reply = await client.post("/v1/embeddings", json=body)
                    whole = reply.status_code != 200 or len(reply.json()["data"]) == 2
                    self.statuses[str(reply.status_code) if whole else "incomplete"] += 1
                except httpx.HTTPError as error:
                    self.statuses[type(error).__name__] += 1
                await asyncio.sleep(0.005)

    async def more(self, count: int) -> None:
        """Wait until there were so many further replies."""
        goal = sum(self.statuses.values()) + count
        until = time.monotonic() + 60
        while sum(self.statuses.values()) < goal:
            assert time.monotonic() < until, self.statuses
            await asyncio.sleep(0.01)


async def test_a_kill_a_stop_and_an_update_cost_no_client_an_error(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny")
    starts = (asyncio.to_thread(Process, tmp_path / "tiny") for _ in range(4))
    servers = await asyncio.gather(*starts)
    file = tmp_path / "servers.txt"
    file.write_text("\n".join(server.url for server in servers[:3]), encoding="utf-8")
    try:
        with _router("--backends-file", str(file)) as router:
            async with Load(router.url) as load:
                await load.more(30)
                servers[0].kill()
                await load.more(60)
                servers[1].process.suspend()
                await load.more(60)  # its requests wait until it is given up
                servers[1].process.resume()
                file.write_text("\n".join(server.url for server in servers), encoding="utf-8")
                router.process.send_signal(signal.SIGHUP)
                await load.more(60)
                servers[2].terminate()  # as in an update: another one is there already
                await asyncio.to_thread(servers[2].wait)
                await load.more(40)
        assert set(load.statuses) == {"200"}, load.statuses
    finally:
        for server in servers:
            if server.running:
                server.process.resume()
                server.kill()


async def test_a_drain_of_the_router_answers_what_was_accepted(tmp_path: Path) -> None:
    with tiny_encoder(tmp_path / "tiny") as encoder, serving([encoder]) as url:
        router = RouterProcess("--to", url)
        async with httpx.AsyncClient(base_url=router.url, timeout=60) as client:
            body = {"model": "tiny", "input": ["cat " * 60] * 200}
            pending = [asyncio.create_task(client.post("/v1/embeddings", json=body)) for _ in range(8)]
            await asyncio.sleep(0.3)
            router.terminate()
            replies = await asyncio.gather(*pending)
            assert {reply.status_code for reply in replies} == {200}
        assert await asyncio.to_thread(router.wait) == 0


def test_hostile_bytes_do_not_stop_the_router(tmp_path: Path) -> None:
    """``python -m tools.fuzz --raw --router`` runs for longer."""
    with tiny_encoder(tmp_path / "tiny") as encoder, serving([encoder]) as url, _router("--to", url) as router:
        document = httpx.get(router.url + "/openapi.json").json()
        findings = asyncio.run(RawFuzz("127.0.0.1", router.port, document, seed=1).run(2))
        assert httpx.get(router.url + "/ready").status_code == 200
        assert router.running
    # 501: files, batches and models of one server.
    wrong = [finding for finding in findings.wrong if not finding.startswith("status 501")]
    assert not wrong, wrong[:5]
    assert {200, 400} <= set(findings.replies)
