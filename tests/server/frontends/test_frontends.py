"""Several front-ends before one engine: real processes that answer as one does, and die without costing others."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from nearfield.encoder import Encoder
from nearfield.errors import InputError, SettingsError
from nearfield.inference import weightless
from nearfield.inference.encode_options import EncodeOptions
from nearfield.inference.loaded_model import LoadedModel
from nearfield.settings import load as settings
from nearfield.testing import write_tiny_model
from tests.support.serving import Process

pytestmark = pytest.mark.process

BODY = {"model": "tiny", "input": "the cat sat on the mat"}
KINDS = ["dense", "sparse", "multivector"]
#: Texts of which the tiny bge-m3 gives the first sparse weights.
TEXTS = ["hello world river", "the cat sat on the mat", ""]


@contextlib.contextmanager
def _serving(
    folder: Path, *flags: str, count: int = 2, others: tuple[Path, ...] = (), data: Path | None = None
) -> Iterator[Process]:
    """Serve models in so many front-ends; at the end all processes must be gone."""
    data = data or folder.parent / "data"
    process = Process(folder, *map(str, others), "--frontends", str(count), "--data-dir", str(data), *flags)
    family = [process.process, *process.process.children()]
    try:
        yield process
    finally:
        if process.running:
            process.terminate()
            assert process.wait() == 0
    _, alive = psutil.wait_procs([*family], timeout=10)
    assert not alive


@contextlib.contextmanager
def _clients(process: Process, count: int = 2, **options: Any) -> Iterator[list[httpx.Client]]:
    """Open as many connections as there are front-ends: each has one."""
    clients = [httpx.Client(base_url=process.url, timeout=30, **options) for _ in range(count)]
    try:
        for client in clients:
            assert client.get("/health").status_code == 200
        yield clients
    finally:
        for client in clients:
            client.close()


def _frontends(process: Process) -> list[psutil.Process]:
    return process.process.children()


def _replaced(process: Process, old: list[psutil.Process], count: int, **options: Any) -> list[psutil.Process]:
    """Wait until so many of the old have followers that serve; return these."""

    def come() -> list[psutil.Process] | None:
        new = [each for each in _frontends(process) if each not in old]
        page = httpx.get(process.url + "/metrics", timeout=60, **options).text if len(new) == count else ""
        return new if all(f'process="front-end {number}"' in page for number in range(len(old))) else None

    found: list[psutil.Process] = _until(come)
    return found


def _connections(frontend: psutil.Process) -> int:
    return len(frontend.net_connections("tcp"))


def _until(come: Callable[[], Any], seconds: float = 30) -> Any:
    until = time.monotonic() + seconds
    while not (found := come()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("small") / "tiny")


@pytest.fixture(scope="module")
def all_kinds(fleet: dict[str, LoadedModel], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Two front-ends of models of all kinds, the very ones of ``fleet``."""
    first, *others = (model.recipe.folder for model in fleet.values())
    data = tmp_path_factory.mktemp("kinds")
    with _serving(first, "--precision", "float32", others=tuple(others), data=data) as process:
        yield process


def _array(told: Any) -> Any:
    return np.frombuffer(base64.b64decode(told), np.float32)


@pytest.mark.network
@pytest.mark.slow
def test_vectors_are_those_of_python_through_each_front_end(all_kinds: Process, fleet: dict[str, Any]) -> None:
    m3 = fleet["m3"]
    expected = m3.encode(TEXTS, outputs=KINDS)
    with _clients(all_kinds) as clients:
        for client in clients:
            body = {"model": m3.name, "input": TEXTS, "outputs": KINDS, "encoding": "base64"}
            told = client.post("/encode", json=body).json()
            dense, sparse, multi = (told[kind] for kind in KINDS)
            assert [dense["fingerprint"], sparse["fingerprint"], multi["fingerprint"]] == [
                expected[kind].fingerprint for kind in KINDS
            ]
            np.testing.assert_array_equal(np.stack([_array(row) for row in dense["data"]]), expected.dense.data)
            values = np.concatenate([_array(row["values"]) for row in sparse["data"]])
            np.testing.assert_array_equal(values, expected.sparse.values)
            assert len(values)
            rows = np.concatenate([_array(row) for row in multi["data"]]).reshape(-1, 32)
            np.testing.assert_array_equal(rows, expected.multivector.data)
            for wanted in ({}, {"role": "query"}, {"prompt_name": "passage"}):
                told = client.post("/encode", json={"model": "tiny", "input": "cat", "encoding": "base64", **wanted})
                np.testing.assert_array_equal(
                    _array(told.json()["dense"]["data"][0]), fleet["tiny"].encode("cat", **wanted)
                )


@pytest.mark.network
def test_scores_are_those_of_python_through_each_front_end(all_kinds: Process, fleet: dict[str, Any]) -> None:
    documents = ["a dog", "the cat sat", "hello"]
    ranked = [(each.index, each.score) for each in fleet["reranker"].rank("cat", documents)]
    labels = fleet["classifier"].predict("the cat sat").scores
    with _clients(all_kinds) as clients:
        for client in clients:
            told = client.post("/rank", json={"model": "tiny-reranker", "query": "cat", "documents": documents}).json()
            assert [(each["index"], each["score"]) for each in told["results"]] == ranked
            told = client.post("/predict", json={"inputs": "the cat sat", "model": "tiny-classifier"})
            assert told.status_code == 200
            assert {each["label"]: each["score"] for each in told.json()} == pytest.approx(labels, rel=1e-6)


@pytest.mark.network
@pytest.mark.slow
def test_many_inputs_in_one_request(all_kinds: Process, fleet: dict[str, Any]) -> None:
    texts = [f"the cat sat on mat {number}" for number in range(3000)]
    expected = fleet["tiny"].encode(texts)
    with _clients(all_kinds) as clients:
        for client in clients:
            body = {"model": "tiny", "input": texts, "encoding_format": "base64"}
            told = client.post("/v1/embeddings", json=body).json()
            found = np.stack([_array(each["embedding"]) for each in told["data"]])
            np.testing.assert_allclose(found, expected.data, atol=1e-6)


@pytest.mark.network
def test_refusals_are_those_of_one_process(all_kinds: Process) -> None:
    with _clients(all_kinds) as clients:
        for client in clients:
            missing = client.post("/v1/embeddings", json={**BODY, "model": "nope"})
            assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
            long = client.post("/encode", json={"model": "tiny", "input": "cat " * 100, "truncate": "error"})
            assert (long.status_code, long.json()["error"]["code"]) == (400, "input_too_long")
            stays = client.post("/models/unload", json={"model": "tiny"})
            assert stays.status_code == 400
            assert "front-ends" in stays.json()["error"]["message"]
            assert client.post("/models/load", json={"model": "tiny"}).json()["state"] == "loaded"
            ready = _ready_and_idle(client)
            assert (ready["ready"], ready["reasons"], ready["models"]) == (True, [], _names(client))
            assert ready["loaded"] == ready["pinned"] == _names(client) and ready["queued_tokens"] == 0


def _ready_and_idle(client: httpx.Client) -> dict[str, Any]:
    """Return what ``/ready`` says once the engine has computed what other tests left behind, or after 20 seconds."""
    for _ in range(200):
        ready: dict[str, Any] = client.get("/ready").json()
        if not ready["queued_tokens"]:
            break
        time.sleep(0.1)
    return ready


def _names(client: httpx.Client) -> list[str]:
    return [model["id"] for model in client.get("/models").json()["models"]]


@pytest.mark.network
@pytest.mark.slow
def test_connections_are_spread_and_a_killed_front_end_costs_only_its_own(small: Path) -> None:
    with _serving(small) as process, _clients(process, 6) as clients:
        old = _frontends(process)
        spread = [_connections(each) for each in old]
        assert sum(spread) == 6
        assert min(spread) >= 2
        victim, other = old
        victim.kill()
        for client in clients:  # httpx opens another connection where it sees that one was closed
            with contextlib.suppress(httpx.TransportError):
                assert client.post("/v1/embeddings", json=BODY).status_code == 200
        assert _connections(other) >= 2
        (now,) = _replaced(process, old, 1)
        with _clients(process, 2) as more:  # the new one has none yet, and so gets them
            assert _connections(now) == 2
            for client in more:
                assert client.post("/v1/embeddings", json=BODY).status_code == 200
    assert not process.errors.count("Traceback")


def test_a_front_end_that_leaves_connections_waiting_comes_last() -> None:
    from nearfield.server.frontends.process import FrontendProcess

    ours, theirs = socket.socketpair()
    process: Any = None
    with ours, theirs:
        stuck, other = (FrontendProcess(number, process, ours, ours, 0.0) for number in range(2))
        other.update_load(0, 5)
        assert stuck.send(b"c", [theirs])
        now = time.monotonic()
        assert stuck.rank(now) < other.rank(now)
        assert stuck.rank(now + 60) > other.rank(now + 60)
        stuck.update_load(1, 1)
        assert stuck.rank(now + 60) < other.rank(now + 60)
        assert (stuck.load, other.load) == (1, 5)


@pytest.mark.network
@pytest.mark.slow
def test_a_front_end_killed_under_load_loses_nothing_of_others(small: Path) -> None:
    outcomes: Counter[str] = Counter()

    async def client(process: Process, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                async with httpx.AsyncClient(base_url=process.url, timeout=60) as one:
                    while not stop.is_set():
                        outcomes[str((await one.post("/v1/embeddings", json=BODY)).status_code)] += 1
            except httpx.TransportError:
                outcomes["lost"] += 1

    async def scenario(process: Process) -> None:
        stop = asyncio.Event()
        clients = [asyncio.create_task(client(process, stop)) for _ in range(10)]
        for _ in range(2):
            before = outcomes["200"]
            while outcomes["200"] < before + 50:
                await asyncio.sleep(0.01)
            old = _frontends(process)
            old[0].kill()
            while len([each for each in _frontends(process) if each not in old]) < 1:
                await asyncio.sleep(0.02)
        before = outcomes["200"]
        while outcomes["200"] < before + 50:
            await asyncio.sleep(0.01)
        stop.set()
        await asyncio.gather(*clients)

    with _serving(small) as process:
        asyncio.run(scenario(process))
        # What the dead process had queued is dropped.
        page = httpx.get(process.url + "/metrics").text
        assert "nearfield_queue_depth 0.0" in page
    assert set(outcomes) == {"200", "lost"}
    assert 0 < outcomes["lost"] <= 20  # each client at most once a kill


def test_sigterm_under_load_finishes_all_accepted_requests(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny", size=256, layers=6)
    outcomes: Counter[str] = Counter()
    body = json.dumps(BODY).encode()
    request = b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    request += b"content-length: %d\r\n\r\n" % len(body) + body

    async def client(port: int, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                outcomes["refused"] += 1
                return
            for _ in range(5):
                writer.write(request)
                try:
                    head = (await reader.readuntil(b"\r\n\r\n")).lower()
                    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
                    await reader.readexactly(length)
                except (asyncio.IncompleteReadError, ConnectionResetError):
                    outcomes["lost"] += 1
                    return
                outcomes[head.split()[1].decode()] += 1
                if b"connection: close" in head:
                    break
            writer.close()

    async def scenario(process: Process) -> None:
        stop = asyncio.Event()
        clients = [asyncio.create_task(client(process.port, stop)) for _ in range(40)]
        while outcomes["200"] < 100:
            await asyncio.sleep(0.01)
        process.terminate()
        await asyncio.wait(clients, timeout=30)
        stop.set()

    with _serving(tmp_path / "tiny") as process:
        asyncio.run(scenario(process))
        assert process.wait() == 0
    assert outcomes["lost"] == 0, outcomes
    assert set(outcomes) <= {"200", "refused"}, outcomes


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_of_them_is_a_shutdown_in_good_order(small: Path, number: int) -> None:
    """As a terminal or systemd sends it."""
    with _serving(small) as process, _clients(process):
        for each in [*_frontends(process), process.process]:
            os.kill(each.pid, number)
        assert process.wait() == 0


@pytest.mark.network
@pytest.mark.slow
def test_no_front_end_outlives_a_killed_main_process(small: Path) -> None:
    with _serving(small, count=3) as process, _clients(process, 3):
        assert len(_frontends(process)) == 3
        process.kill()  # and the block's end finds them all gone


@pytest.mark.network
@pytest.mark.slow
def test_metrics_are_those_of_all_and_outlive_the_dead(small: Path) -> None:
    def counts(client: httpx.Client) -> dict[str, float]:
        lines = [line for line in client.get("/metrics").text.splitlines() if line[0] != "#"]
        names = [line.rpartition(" ")[0] for line in lines]
        assert len(names) == len(set(names)), "a sample stands there twice"
        return {name: float(line.rpartition(" ")[2]) for name, line in zip(names, lines, strict=True)}

    asked = 'nearfield_requests_total{route="/v1/embeddings",status="200"}'
    with _serving(small, "--cache-memory", "1MiB") as process, _clients(process) as clients:
        for client in clients:
            for _ in range(5):
                assert client.post("/v1/embeddings", json=BODY).status_code == 200
        for client in clients:
            found = counts(client)
            assert found[asked] == 10
            assert found['nearfield_inputs_total{model="tiny"}'] == 10
            assert found['nearfield_batch_tokens_count{model="tiny"}'] == 2  # each front-end's cache missed once
            assert (found["nearfield_cache_misses_total"], found["nearfield_cache_hits_total"]) == (2, 8)
            assert found["nearfield_cache_entries"] == 2
            assert found["nearfield_lanes_alive"] >= 1
            assert found["nearfield_ready"] == 1
            assert found['nearfield_model_loaded{model="tiny"}'] == 1
            assert found['nearfield_request_seconds_bucket{le="+Inf",route="/v1/embeddings"}'] == 10
            for name in ("engine", "front-end 0", "front-end 1"):
                assert found[f'nearfield_process_resident_bytes{{process="{name}"}}'] > 2**20
            history = client.get("/metrics/history")  # that of the main process, through each front-end
            assert (history.status_code, history.json()["interval"]) == (200, 10)
        old = _frontends(process)
        old[0].kill()
        _replaced(process, old, 1)
        with _clients(process) as more:
            _until(lambda: counts(more[0])[asked] == 10)  # _replaced asked often: a page may be a second old
            assert more[0].post("/v1/embeddings", json=BODY).status_code == 200
            _until(lambda: counts(more[1])[asked] == 11)


def test_pages_are_joined_as_the_library_would_write_them(tiny: Encoder) -> None:
    from nearfield.server.frontends.metrics_merge import MergedMetrics
    from nearfield.server.observability.prometheus import Prometheus

    def without(page: bytes, *names: str) -> list[str]:
        return [line for line in page.decode().splitlines() if not any(name in line for name in names)]

    one, two = (Prometheus([tiny], tei=True) for _ in range(2))
    for each in (one, two):
        each.replied("/v1/embeddings", 200, 0.01)
    tiny.encode("cat")
    gauges = "nearfield_tokens_per_second"
    alone = MergedMetrics().page(one.metrics(), {})
    assert without(alone, gauges) == without(one.page(), gauges)
    totals = MergedMetrics()
    both = totals.page(one.metrics(), {"a": two.metrics()}).decode()
    assert 'nearfield_requests_total{route="/v1/embeddings",status="200"} 2.0' in both
    assert 'nearfield_request_seconds_bucket{le="0.01",route="/v1/embeddings"} 2.0' in both
    assert f"nearfield_lanes_alive {tiny.engine.lanes}.0" in both
    totals.add_departed(two.metrics())
    left = totals.page(one.metrics(), {}).decode()
    assert 'nearfield_requests_total{route="/v1/embeddings",status="200"} 2.0' in left
    created = [line for line in both.splitlines() if "_created{" in line]
    assert created
    assert created == [line for line in left.splitlines() if "_created{" in line]


@pytest.mark.network
@pytest.mark.slow
def test_what_is_known_of_models_is_known_to_all(small: Path) -> None:
    with _serving(small) as process, _clients(process) as clients:
        for _ in range(3):
            assert clients[0].post("/v1/embeddings", json=BODY).status_code == 200
        for client in clients:
            _until(lambda: client.get("/models").json()["models"][0]["uses"] == 3)  # noqa: B023 - asked at once
            (known,) = client.get("/models").json()["models"]
            assert (known["users"], known["state"], known["pinned"]) == (0, "loaded", True)


@pytest.mark.network
@pytest.mark.slow
def test_https(small: Path, tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*made, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    with _serving(small, "--tls-cert", str(cert), "--tls-key", str(key)) as process:
        assert process.url.startswith("https://")
        # A client that speaks no TLS costs the others nothing.
        with pytest.raises(httpx.TransportError):
            httpx.get(process.url.replace("https", "http") + "/health")
        with _clients(process, verify=ssl.create_default_context(cafile=str(cert))) as clients:
            for client in clients:
                assert client.post("/v1/embeddings", json=BODY).status_code == 200


@pytest.mark.network
@pytest.mark.slow
def test_top_reads_them(small: Path) -> None:
    from nearfield.cli.top import ServerView

    with _serving(small) as process, _clients(process) as clients:
        view = ServerView(process.url, None)
        view.read()
        for client in clients:
            client.post("/v1/embeddings", json=BODY)
        frame = view.read()
        assert not frame.error
        assert frame.figures is not None
        assert not frame.figures.restarted
        assert frame.figures.requests is not None
        assert frame.figures.requests * (frame.figures.seconds or 0) == pytest.approx(2)


@pytest.mark.network
@pytest.mark.slow
def test_overload_is_refused_whoever_is_asked(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny", size=256, layers=6)
    replies: Counter[int] = Counter()
    body = {"model": "tiny", "input": ["the cat sat on the mat " * 5] * 20}

    async def scenario(process: Process) -> None:
        async with httpx.AsyncClient(base_url=process.url, timeout=60) as client:
            while not replies[429]:
                for reply in await asyncio.gather(*(client.post("/v1/embeddings", json=body) for _ in range(30))):
                    replies[reply.status_code] += 1
                    if reply.status_code == 429:
                        assert int(reply.headers["retry-after"]) >= 1
                        assert reply.json()["error"]["code"] == "overloaded"

    with _serving(tmp_path / "tiny", "--max-queued-tokens", "1000", "--threads", "1") as process:
        asyncio.run(asyncio.wait_for(scenario(process), 60))
    assert set(replies) == {200, 429}


@pytest.mark.network
@pytest.mark.slow
def test_a_rate_is_a_key_s_whoever_is_asked(small: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text('[[keys]]\nname = "slow"\nkey = "secret"\ntokens_per_minute = 100\n')
    headers = {"authorization": "Bearer secret"}
    large = {"model": "tiny", "input": ["the cat sat on the mat " * 5] * 10}
    with _serving(small, "--api-key-file", str(keys)) as process, _clients(process, headers=headers) as clients:
        for client in clients:  # both have seen the key, and given it its minute's worth
            assert client.post("/v1/embeddings", json=BODY).status_code == 200
        assert clients[0].post("/v1/embeddings", json=large).status_code == 200
        assert clients[0].post("/v1/embeddings", json=BODY).status_code == 429
        # Within milliseconds; what these few ask for would not use the rate up.
        statuses: list[int] = []
        while len(statuses) < 5 and 429 not in statuses:
            statuses.append(clients[1].post("/v1/embeddings", json=BODY).status_code)
        assert statuses[-1] == 429
        old = _frontends(process)
        for each in old:
            each.kill()
        _replaced(process, old, 2, headers=headers)
        with _clients(process, headers=headers) as more:
            for client in more:  # those that came later know it too
                assert client.post("/v1/embeddings", json=BODY).status_code == 429


def _batch(client: httpx.Client, count: int) -> str:
    """Create a batch in the process that this client is connected to; return its path."""

    def line(number: int) -> str:
        body = {"model": "tiny", "input": f"cat {number}"}
        return json.dumps({"custom_id": str(number), "method": "POST", "url": "/v1/embeddings", "body": body})

    upload: dict[str, Any] = {"files": {"file": ("a.jsonl", "\n".join(map(line, range(count))))}}
    file = client.post("/v1/files", **upload, data={"purpose": "batch"}).json()["id"]
    asked = {"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    return "/v1/batches/" + str(client.post("/v1/batches", json=asked).json()["id"])


@pytest.mark.network
@pytest.mark.slow
def test_batches_are_taken_by_all_and_done_by_one(small: Path) -> None:
    with _serving(small, data=small.parent / "batches") as process, _clients(process) as clients:
        for client in clients:
            path = _batch(client, 20)
            _until(lambda: client.get(path).json()["status"] == "completed")  # noqa: B023 - asked at once
            assert client.get(path).json()["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
        # The process that runs the batches may die.
        path = _batch(client, 3000)
        old = _frontends(process)
        old[0].kill()
        _replaced(process, old, 1)
        with _clients(process) as more:
            _until(lambda: more[0].get(path).json()["status"] == "completed", 60)
            for client in more:
                assert client.get(path).json()["request_counts"] == {"total": 3000, "completed": 3000, "failed": 0}
                assert len(client.get("/v1/batches").json()["data"]) == 3


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"on_demand": ("BAAI/*",)}, "on_demand"),
        ({"memory_budget": "1GiB"}, "memory_budget"),
        ({"grpc_port": 0}, "grpc_port"),
    ],
)
def test_what_is_for_one_process_is_refused_at_the_start(given: dict[str, Any], named: str) -> None:
    from nearfield.server.frontends.supervisor import serve

    with pytest.raises(SettingsError, match=f"Setting '{named}' needs one front-end"):
        serve(settings(frontends=2, **given))


@pytest.mark.slow
def test_what_a_front_end_cannot_start_for_is_said(small: Path, tmp_path: Path) -> None:
    from nearfield.server.frontends.supervisor import serve

    children = set(psutil.Process().children())
    with pytest.raises(SettingsError, match=r"keys\.txt"):
        serve(settings(models=(str(small),), port=0, frontends=2, api_key_file=tmp_path / "keys.txt"))
    assert set(psutil.Process().children()) <= children


def test_a_shell_is_the_model_without_its_weights(fleet: dict[str, LoadedModel]) -> None:
    tiny: Any = fleet["tiny"]
    shells: list[Any] = weightless.unpack_weightless(weightless.pack_weightless(list(fleet.values())), tiny.engine)
    for model, made in zip(fleet.values(), shells, strict=True):
        assert type(made) is type(model)
        assert repr(made).partition(" at ")[0] == repr(model).partition(" at ")[0]
        assert made.recipe == model.recipe
        assert made._model.space == model._model.space
        assert (made.precision, made.batch_tokens, made.max_length) == (
            model.precision,
            model.batch_tokens,
            model.max_length,
        )
    made = shells[0]
    assert isinstance(made, Encoder)
    assert made.observers is not shells[1].observers
    assert made.fingerprint == tiny.fingerprint
    assert made.tasks == tiny.tasks
    for text in ("", "The cat, and a river!", "cat " * 100):
        assert made.tokenize(text, role="query") == tiny.tokenize(text, role="query")
    with pytest.raises(InputError, match="no adapter"):
        made.tokenize("cat", adapter="nope")


# peft's own call into transformers.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_a_shell_knows_the_adapters_of_its_model(tmp_path: Path) -> None:
    from tests.inference.test_adapters import lora
    from tests.support import tiny_models as tiny

    base = tiny.tiny_bert(tmp_path / "base")
    adapters = {"law": lora(base, tmp_path / "law"), "tax": lora(base, tmp_path / "tax", seed=1)}
    with Encoder(str(base), adapters=adapters, precision="float32", compile_cache=False) as model:
        (made,) = weightless.unpack_weightless(weightless.pack_weightless([model]), model.engine)
        assert isinstance(made, Encoder)
        assert made.adapters == model.adapters == ("law", "tax")
        for name in (None, "law", "tax"):
            expected, found = (
                each._texts.prepare(each._model, ["cat"], each._resolve(EncodeOptions(adapter=name))).ticket
                for each in (model, made)
            )
            assert found.jobs[0].features == expected.jobs[0].features
            assert found.jobs[0].extra == expected.jobs[0].extra
            assert made._resolve(EncodeOptions(adapter=name)).space == model._resolve(EncodeOptions(adapter=name)).space


if sys.platform != "linux":
    pytest.skip("processes are looked at as Linux shows them", allow_module_level=True)
