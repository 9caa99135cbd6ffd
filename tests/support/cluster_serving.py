"""``nearfield cluster serve`` on two simulated nodes, with engines that take a while for each input."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from nearfield import Encoder
from nearfield.cluster.ray_runtime import import_ray
from nearfield.cluster.serving.engine_fleet import EngineFleet
from nearfield.cluster.serving.front_set import FrontSet
from nearfield.cluster.serving.serve import ClusterController
from nearfield.cluster.serving.serving_options import ServingOptions
from nearfield.settings import Settings
from tests.support import slow_engines
from tests.support.simulated_cluster import AS_EAGER

_WAIT_SECONDS = 60.0
_OBJECT_STORE_BYTES = 80 << 20
#: So many tokens that a batch holds only some of these texts, and the others wait.
TOKENS = 64
_BODY = {"model": "tiny", "input": "cat " * (TOKENS - 2)}


@contextmanager
def two_nodes() -> Iterator[Any]:
    """Yield Ray, connected to a cluster of a node with two cores and one without, so that there are two fronts."""
    ray = import_ray()
    from ray.cluster_utils import Cluster

    node = {"object_store_memory": _OBJECT_STORE_BYTES}
    head = {**node, "num_cpus": 2, "include_dashboard": False, "_system_config": AS_EAGER}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    hook = {"worker_process_setup_hook": slow_engines.install}
    try:
        cluster.add_node(num_cpus=0, **node)
        ray.init(cluster.address, log_to_driver=False, logging_level="ERROR", runtime_env=hook)
        yield ray
    finally:
        ray.shutdown()
        cluster.shutdown()


@dataclass
class Serving:
    """A controller that serves, and a client for each front."""

    controller: ClusterController
    clients: Sequence[httpx.AsyncClient]

    @property
    def fleet(self) -> EngineFleet:
        """The engines."""
        return self.controller._fleets[0]

    @property
    def fronts(self) -> FrontSet:
        """The fronts."""
        assert self.controller._fronts is not None
        return self.controller._fronts

    @property
    def numbers(self) -> set[int]:
        """The numbers of the engines that take requests."""
        return {state.number for state in self.fleet.states}

    async def embed(self, front: int = 0, **options: Any) -> httpx.Response:
        """Send one text to a front."""
        return await self.clients[front].post("/embeddings", json=_BODY, **options)


@asynccontextmanager
async def serving(model: Encoder, changes: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Serving]:
    """Serve a model until the end of the block; ``changes`` are those of the settings."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    values = {"port": 0, "drain_timeout": 10.0, "precision": "float32", "cache_memory": 0}
    settings = Settings(**{"models": (str(model.recipe.folder),), **values, **(changes or {})})
    controller = ClusterController(settings, ServingOptions(engine_cpus=0.5, **options), lines.put_nowait)
    running = asyncio.ensure_future(controller.run())
    line = asyncio.ensure_future(lines.get())
    await asyncio.wait([running, line], return_when=asyncio.FIRST_COMPLETED)
    if not line.done():
        line.cancel()
        await running
    async with AsyncExitStack() as stack:
        urls = line.result().split(" at ")[1].split()
        clients = [await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=150.0)) for url in urls]
        try:
            yield Serving(controller, clients)
        finally:
            controller.stop()
            await running


class ClosedLoop:
    """Clients that send one request after another, and count the replies."""

    def __init__(self, served: Serving, clients: int = 6) -> None:
        self._served = served
        self._stopping = False
        self.replies: Counter[str] = Counter()
        self._tasks = [asyncio.ensure_future(self._send(number)) for number in range(clients)]

    async def _send(self, number: int) -> None:
        while not self._stopping:
            response = await self._served.embed(number % len(self._served.clients))
            self.replies[str(response.status_code)] += 1

    async def stop(self) -> Counter[str]:
        """Finish the requests in work, and return how many replies there were by status."""
        self._stopping = True
        await asyncio.gather(*self._tasks)
        return self.replies


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true."""
    limit = time.monotonic() + _WAIT_SECONDS
    while not condition():
        assert time.monotonic() < limit, "this takes too long"
        await asyncio.sleep(0.05)
