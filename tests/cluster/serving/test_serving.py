"""``nearfield cluster serve`` on Ray: clients see no error while engines are killed, updated, started and stopped."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Encoder
from nearfield.cluster.serving import scaling
from nearfield.cluster.serving.actor_calls import ask, end_actor
from nearfield.cluster.serving.serve import ClusterController
from nearfield.cluster.serving.serving_options import ServingOptions
from nearfield.errors import ClusterFailed
from nearfield.server.observability.live_stats import MetricsSnapshot, parse_metrics
from nearfield.settings import Settings
from nearfield.testing import write_tiny_model
from tests.support import slow_engines
from tests.support.cluster_serving import TOKENS, ClosedLoop, Serving, serving, two_nodes, until

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'nearfield[ray]'"),
    # Of Ray's own modules and sockets.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with two_nodes() as module:
        yield module


async def test_clients_see_no_error_while_an_engine_is_killed_and_all_are_replaced(ray: Any, tiny: Encoder) -> None:
    async with serving(tiny, engines=2) as served:
        client, fleet = served.clients[0], served.fleet
        reply = await client.post("/embeddings", json={"model": "tiny", "input": ["the cat", "a dog"]})
        vectors = [item["embedding"] for item in reply.json()["data"]]
        np.testing.assert_allclose(vectors, tiny.encode(["the cat", "a dog"]), atol=1e-5)
        assert (await client.get("/files")).json()["error"]["code"] == "not_shared"

        load = ClosedLoop(served)
        await asyncio.sleep(0.3)
        killed = fleet.states[0]
        os.kill(await ask(killed.actor.pid), signal.SIGKILL)
        await until(lambda: len(fleet.states) == 2 and killed.number not in served.numbers)

        before = served.numbers
        served.controller.reload()
        await until(lambda: len(fleet.states) == 2 and not before & served.numbers)
        replies = await load.stop()
    assert set(replies) == {"200"}
    assert replies["200"] > 20


async def test_requests_in_work_are_finished_when_the_cluster_stops(ray: Any, tiny: Encoder) -> None:
    async with serving(tiny, engines=1) as served:
        requests = [asyncio.ensure_future(served.embed()) for _ in range(8)]
        await asyncio.sleep(slow_engines.SECONDS / 2)
        served.controller.stop()
        assert {(await request).status_code for request in requests} == {200}


async def test_engines_follow_the_queue_from_none_to_several_and_back(
    ray: Any, tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an engine, requests wait in a front up to its limit; then 503 says when to try again."""
    monkeypatch.setattr(scaling, "_LONG_SECONDS", 1.0)
    options = {"engines": 2, "min_engines": 0, "idle_seconds": 1.0, "queue_seconds": 0.3}
    limits = {"max_queued_tokens": 20 * TOKENS, "request_timeout": 120.0}
    async with serving(tiny, limits, **options) as served:
        await until(lambda: not served.fleet._engines)
        assert (await served.embed(1)).json()["usage"]["total_tokens"] == TOKENS
        assert len(served.fleet.states) == 1
        load = ClosedLoop(served, 20)
        await until(lambda: len(served.fleet.states) == 2)
        assert set(await load.stop()) == {"200"}

        await until(lambda: not served.fleet._engines)
        replies = await asyncio.gather(*(served.embed() for _ in range(24)))
        assert Counter(reply.status_code for reply in replies) == {200: 20, 503: 4}
        refused = next(reply for reply in replies if reply.status_code == 503)
        assert refused.json()["error"]["code"] == "no_engine"
        assert float(refused.headers["retry-after"]) >= 1


async def test_fronts_share_the_rates_of_keys_and_each_revokes_them(ray: Any, tiny: Encoder, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    greedy, other = (
        '[[keys]]\nname = "greedy"\nkey = "nf-greedy"\ntokens_per_minute = 60\n',
        '[[keys]]\nkey = "nf-b"\n',
    )
    file.write_text(greedy + other, encoding="utf-8")
    headers = {"authorization": "Bearer nf-greedy"}
    async with serving(tiny, {"api_key_file": file}, engines=1) as served:
        body = {"model": "tiny", "input": ["the cat sat"] * 40}
        assert (await served.clients[0].post("/embeddings", json=body, headers=headers)).status_code == 200

        async def refused(front: int) -> bool:
            return (await served.embed(front, headers=headers)).status_code == 429

        assert await refused(0)
        await _becomes(refused, 1)  # within about a second
        await _replace_front(served, 1)
        assert await refused(1)  # a new front does not give the minute again

        async def revoked(front: int) -> bool:
            return (await served.embed(front, headers=headers)).status_code == 401

        file.write_text(other, encoding="utf-8")
        await _becomes(revoked, 0)
        await _becomes(revoked, 1)
        accepted = {"authorization": "Bearer nf-b"}
        assert {(await served.embed(front, headers=accepted)).status_code for front in (0, 1)} == {200}


async def test_metrics_of_an_engine_are_in_the_page_of_its_node(ray: Any, tiny: Encoder) -> None:
    async with serving(tiny, engines=2, health_seconds=600.0) as served:  # without test batches
        for number in range(8):
            assert (await served.embed(number % 2)).status_code == 200
        pages = [await _metrics(served, front) for front in (0, 1)]
    batches = [
        sum(page.total("nearfield_batch_tokens_count", engine=str(number)) or 0 for page in pages) for number in (1, 2)
    ]
    assert sum(batches) == 8 and min(batches) >= 1
    # The node without cores has a front, and no engine.
    assert sorted(page.total("nearfield_batch_tokens_count") or 0 for page in pages) == [0, 8]
    assert sorted(page.total("nearfield_lanes_alive") or 0 for page in pages) == [0, 2]
    assert sorted(page.total("nearfield_model_loaded", model="tiny") or 0 for page in pages) == [0, 2]
    assert sum(page.total("nearfield_queue_tokens") or 0 for page in pages) == 0
    for page in pages:
        assert page.total("nearfield_cluster_engines", model="tiny") == 2
        assert page.total("nearfield_requests_total", route="/v1/embeddings", status="200") == 4
        assert (page.total("nearfield_ready"), page.total("nearfield_cluster_waiting_tokens")) == (1, 0)


async def test_a_node_that_cannot_load_the_model_is_named(ray: Any, tiny: Encoder) -> None:
    settings = Settings(models=("/no/such/model",), port=0)
    with pytest.raises(ClusterFailed, match="cannot load the models"):
        await ClusterController(settings, ServingOptions(engine_cpus=0.5), print).run()


async def _becomes(condition: Any, front: int) -> None:
    for _ in range(100):
        if await condition(front):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("this takes too long")


async def _replace_front(served: Serving, number: int) -> None:
    """Kill a front, and let its client use the new one."""
    fronts = served.fronts
    killed = next(front for front in fronts._fronts.values() if front.address.rstrip("/") == _url(served, number))
    end_actor(killed.actor)
    await until(lambda: killed not in fronts._fronts.values() and len(fronts._fronts) == 2)
    served.clients[number].base_url = fronts._fronts[killed.node_id].address


def _url(served: Serving, number: int) -> str:
    return str(served.clients[number].base_url).rstrip("/")


async def _metrics(served: Serving, front: int) -> MetricsSnapshot:
    reply = await served.clients[front].get(f"{_url(served, front).removesuffix('/v1')}/metrics")
    return parse_metrics(reply.text, 0.0)


async def test_models_with_separate_engines_are_both_at_each_front(ray: Any, tiny: Encoder, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "other", layers=1)
    models = {"models": (str(tiny.recipe.folder), str(other))}
    async with serving(tiny, models, engines=1, separate_models=True) as served:
        fleets = served.controller._fleets
        assert [len(fleet.states) for fleet in fleets] == [1, 1]
        pids = [await ask(fleet.states[0].actor.pid) for fleet in fleets]
        assert pids[0] != pids[1]
        with Encoder(str(other), precision="float32", compile_cache=False) as alone:
            expected = {"tiny": tiny.encode(["the cat"]), "other": alone.encode(["the cat"])}
        for client in served.clients:
            for name, vectors in expected.items():
                reply = await client.post("/embeddings", json={"model": name, "input": ["the cat"]})
                np.testing.assert_allclose([reply.json()["data"][0]["embedding"]], vectors, atol=1e-5)
