"""``nearfield cluster serve`` on Ray: clients see no error while engines are killed, updated, started and stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import httpx
import numpy as np
import pytest

from nearfield import Encoder
from nearfield.cluster.ray_runtime import import_ray
from nearfield.cluster.serving.actor_calls import ask
from nearfield.cluster.serving.engine_fleet import EngineFleet
from nearfield.cluster.serving.serve import ClusterController
from nearfield.cluster.serving.serving_options import ServingOptions
from nearfield.errors import ClusterFailed
from nearfield.settings import Settings
from tests.support import slow_engines

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'nearfield[ray]'"),
    # Of Ray's own modules and sockets.
    pytest.mark.filterwarnings("ignore"),
]
_WAIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    module = import_ray()
    module.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=80 << 20,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"worker_process_setup_hook": slow_engines.install},
    )
    yield module
    module.shutdown()


@asynccontextmanager
async def _serving(model: Encoder, **options: Any) -> AsyncIterator[tuple[ClusterController, httpx.AsyncClient]]:
    """Serve a model until the end of the block; the client has the address of the front."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    settings = Settings(models=(str(model.recipe.folder),), port=0, drain_timeout=10.0, precision="float32")
    controller = ClusterController(settings, ServingOptions(engine_cpus=0.5, **options), lines.put_nowait)
    running = asyncio.ensure_future(controller.run())
    line = asyncio.ensure_future(lines.get())
    await asyncio.wait([running, line], return_when=asyncio.FIRST_COMPLETED)
    if not line.done():
        line.cancel()
        await running
    async with httpx.AsyncClient(base_url=line.result().split(" at ")[1], timeout=60.0) as client:
        yield controller, client
        controller.stop()
        await running


class Load:
    """Clients that send one request after another, and count the replies."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._stopping = False
        self.replies: Counter[str] = Counter()
        self._tasks = [asyncio.ensure_future(self._send()) for _ in range(6)]

    async def _send(self) -> None:
        while not self._stopping:
            response = await self._client.post("/embeddings", json={"model": "tiny", "input": "the cat sat"})
            self.replies[str(response.status_code)] += 1
            await asyncio.sleep(slow_engines.SECONDS)

    async def stop(self) -> Counter[str]:
        """Finish the requests in work, and return how many replies there were by status."""
        self._stopping = True
        await asyncio.gather(*self._tasks)
        return self.replies


async def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + _WAIT_SECONDS
    while not condition():
        assert time.monotonic() < until, "this takes too long"
        await asyncio.sleep(0.05)


async def test_clients_see_no_error_while_an_engine_is_killed_and_all_are_replaced(ray: Any, tiny: Encoder) -> None:
    async with _serving(tiny, engines=2) as (controller, client):
        reply = await client.post("/embeddings", json={"model": "tiny", "input": ["the cat", "a dog"]})
        vectors = [item["embedding"] for item in reply.json()["data"]]
        np.testing.assert_allclose(vectors, tiny.encode(["the cat", "a dog"]), atol=1e-5)
        assert (await client.get("/files")).json()["error"]["code"] == "not_shared"

        fleet, load = controller._fleets[0], Load(client)
        await asyncio.sleep(0.3)
        killed = fleet.states[0]
        os.kill(await ask(killed.actor.pid), signal.SIGKILL)
        await _until(lambda: len(fleet.states) == 2 and killed.number not in _numbers(fleet))

        before = _numbers(fleet)
        controller.reload()
        await _until(lambda: len(fleet.states) == 2 and not before & _numbers(fleet))
        replies = await load.stop()
    assert set(replies) == {"200"}
    assert replies["200"] > 20


async def test_requests_in_work_are_finished_when_the_cluster_stops(ray: Any, tiny: Encoder) -> None:
    async with _serving(tiny, engines=1) as (controller, client):
        body = {"model": "tiny", "input": "the cat sat"}
        requests = [asyncio.ensure_future(client.post("/embeddings", json=body)) for _ in range(8)]
        await asyncio.sleep(slow_engines.SECONDS / 2)
        controller.stop()
        assert {(await request).status_code for request in requests} == {200}


async def test_the_last_engine_ends_when_idle_and_the_next_request_starts_one(ray: Any, tiny: Encoder) -> None:
    async with _serving(tiny, engines=1, min_engines=0, idle_seconds=0.5) as (controller, client):
        await _until(lambda: not controller._fleets[0]._engines)
        reply = await client.post("/embeddings", json={"model": "tiny", "input": "the cat sat"})
        assert reply.status_code == 200


async def test_a_node_that_cannot_load_the_model_is_named(ray: Any, tiny: Encoder) -> None:
    settings = Settings(models=("/no/such/model",), port=0)
    with pytest.raises(ClusterFailed, match="cannot load the models"):
        await ClusterController(settings, ServingOptions(engine_cpus=0.5), print).run()


def _numbers(fleet: EngineFleet) -> set[int]:
    return {state.number for state in fleet.states}
