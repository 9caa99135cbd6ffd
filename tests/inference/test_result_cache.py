"""Cached results: the same input is computed once, and all calls get the same result, bit for bit."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from nearfield.encoder import Encoder
from nearfield.engine.engine import Engine, Ticket
from nearfield.engine.turns import CALLER, Caller
from nearfield.errors import ExecutionFailed, NearfieldError
from nearfield.inference.calls.limits import CallLimits
from nearfield.inference.encode_options import EncodeOptions
from nearfield.inference.loaded_model import LoadedModel
from nearfield.inference.result_cache import ResultCache
from nearfield.inference.result_cache.disk_cache import DiskCache
from nearfield.vectors.outputs import Outputs
from nearfield.vectors.sparse import SparseVectors
from tests.parity.sparse import inference_free
from tests.support.serving import serving

TEXTS = ["the cat sat", "a blue dog", "hello world", "the cat sat", ""]


@pytest.fixture
def cached(tiny: Encoder) -> Iterator[Encoder]:
    tiny.cache = ResultCache(2**20)
    yield tiny
    tiny.cache = None


def _cache(encoder: Encoder) -> ResultCache:
    assert encoder.cache is not None
    return encoder.cache


async def test_what_was_computed_is_not_computed_again(cached: Encoder) -> None:
    first = await cached.aencode(TEXTS)
    assert (_cache(cached).hits, _cache(cached).misses) == (1, 4)
    again = await cached.aencode(TEXTS)
    assert (_cache(cached).hits, _cache(cached).misses) == (6, 4)
    np.testing.assert_array_equal(np.asarray(first), np.asarray(again))
    np.testing.assert_array_equal(first.tokens, again.tokens)
    assert first.fingerprint == again.fingerprint
    np.testing.assert_allclose(np.asarray(first), np.asarray(cached.encode(TEXTS)), atol=1e-6)


async def test_dimensions_and_precision_share_results_and_prompts_do_not(cached: Encoder) -> None:
    whole = np.asarray(await cached.aencode("cat"))
    cut = await cached.aencode("cat", truncate_dim=8, force_truncate_dim=True)
    small = await cached.aencode("cat", precision="binary")
    assert _cache(cached).misses == 1
    np.testing.assert_allclose(np.asarray(cut), whole[:8] / np.linalg.norm(whole[:8]), atol=1e-6)
    assert np.asarray(small).shape == (4,)
    await cached.aencode("cat", role="query")
    assert _cache(cached).misses == 2


async def test_identical_inputs_in_flight_are_computed_once(cached: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    run = Engine.run

    async def counted(engine: Engine, ticket: Ticket) -> Any:
        ran.append(len(ticket.jobs))
        return await run(engine, ticket)

    monkeypatch.setattr(Engine, "run", counted)
    results = await asyncio.gather(*(cached.aencode("a new text") for _ in range(30)))
    assert ran == [1]
    assert all((np.asarray(result) == np.asarray(results[0])).all() for result in results)


@pytest.mark.parametrize("other", ["owner", "size", "bulk"])
async def test_no_call_waits_for_another_owner_or_a_call_of_another_size(
    cached: Encoder, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    run, go, started = Engine.run, asyncio.Event(), asyncio.Event()

    async def block_first(engine: Engine, ticket: Ticket) -> Any:
        if not started.is_set():
            started.set()
            await go.wait()
        return await run(engine, ticket)

    async def encode(owner: str, texts: list[str], *, bulk: bool = False) -> Any:
        CALLER.set(Caller(owner))
        limits = CallLimits(bulk=bulk)
        return (await cached.run_encode(texts, EncodeOptions(), limits)).result

    monkeypatch.setattr(Engine, "run", block_first)
    texts = ["a text", *(f"text {index}" for index in range(20))] if other == "size" else ["a text"]
    first = asyncio.create_task(encode("a", texts, bulk=other == "bulk"))
    await started.wait()
    second = await asyncio.wait_for(encode("b" if other == "owner" else "a", ["a text"]), 60)
    assert not first.done()
    go.set()
    rows = np.asarray(await first)
    np.testing.assert_array_equal(rows[:1], np.asarray(second))  # all calls get the row that was stored first
    cache = _cache(cached)
    assert (cache.misses, len(cache), cache._pending) == (len(texts) + 1, len(texts), {})
    assert cache.size == sum(size for _, size in cache._entries.values())


async def test_a_waiting_call_goes_on_when_the_computing_one_is_cancelled(
    cached: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, started = Engine.run, asyncio.Event()

    async def hold(engine: Engine, ticket: Ticket) -> Any:
        if not started.is_set():
            started.set()
            await asyncio.sleep(3600)
        return await run(engine, ticket)

    monkeypatch.setattr(Engine, "run", hold)
    owner = asyncio.create_task(cached.aencode("cat"))
    await started.wait()
    waiter = asyncio.create_task(cached.aencode("cat"))
    await asyncio.sleep(0)
    owner.cancel()
    expected = np.asarray(cached.encode("cat"))
    np.testing.assert_allclose(np.asarray(await waiter), expected, atol=1e-6)
    assert not _cache(cached)._pending


async def test_a_cancelled_waiter_disturbs_no_other_call(cached: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    run, go = Engine.run, asyncio.Event()

    async def hold(engine: Engine, ticket: Ticket) -> Any:
        await go.wait()
        return await run(engine, ticket)

    monkeypatch.setattr(Engine, "run", hold)
    owner, leaver, stayer = (asyncio.create_task(cached.aencode("cat")) for _ in range(3))
    for _ in range(3):
        await asyncio.sleep(0)
    leaver.cancel()
    go.set()
    np.testing.assert_array_equal(np.asarray(await owner), np.asarray(await stayer))


async def test_an_error_is_not_cached(cached: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Engine.run

    async def fail(engine: Engine, ticket: Ticket) -> Any:
        raise ExecutionFailed("no")

    monkeypatch.setattr(Engine, "run", fail)
    with pytest.raises(NearfieldError, match="no"):
        await cached.aencode("cat")
    monkeypatch.setattr(Engine, "run", run)
    assert np.isfinite(np.asarray(await cached.aencode("cat"))).all()


async def test_the_budget_holds_and_the_least_recently_used_is_evicted(cached: Encoder) -> None:
    cache = _cache(cached)
    await cached.aencode("one")
    entry_size = cache.size
    cache.budget = 3 * entry_size
    for text in ("two", "three", "one", "four"):
        await cached.aencode(text)
    assert (len(cache), cache.size) == (3, 3 * entry_size)
    misses = cache.misses
    await cached.aencode(["one", "three", "four"])
    assert cache.misses == misses
    await cached.aencode("two")
    assert cache.misses == misses + 1
    cache.budget = 1
    await cached.aencode("five")
    assert (len(cache), cache.size) == (0, 0)


@pytest.mark.slow
async def test_all_outputs_are_cached(fleet: dict[str, LoadedModel]) -> None:
    m3 = fleet["m3"]
    assert isinstance(m3, Encoder)
    m3.cache = ResultCache(2**20)
    try:
        kinds = ("dense", "sparse", "multivector")
        first, again = [await m3.aencode(TEXTS, outputs=kinds) for _ in range(2)]
        assert m3.cache.misses == 4
        await m3.aencode(TEXTS, outputs=("dense",))
        assert m3.cache.misses == 8
    finally:
        m3.cache = None
    _assert_equal(first, again)


@pytest.mark.network
def test_hits_are_shown(tiny: Encoder) -> None:
    with serving([tiny], cache_memory="1MiB") as url:
        for _ in range(3):
            httpx.post(url + "/v1/embeddings", json={"model": "tiny", "input": "cat"}).raise_for_status()
        page = httpx.get(url + "/metrics").text
    tiny.cache = None
    assert "nearfield_cache_hits_total 2.0" in page
    assert "nearfield_cache_misses_total 1.0" in page


# -- on disk -----------------------------------------------------------------------------------------------------------


async def test_results_outlive_the_process(fleet: dict[str, LoadedModel], tmp_path: Path) -> None:
    m3 = fleet["m3"]
    assert isinstance(m3, Encoder)
    kinds = ("dense", "sparse", "multivector")
    answers = []
    for _ in range(2):
        disk = DiskCache(tmp_path / "results.sqlite", 2**24)
        m3.cache = ResultCache(2**20, disk=disk)
        answers.append((await m3.aencode(TEXTS, outputs=kinds), await m3.aencode("cat", outputs="dense")))
        counts = (m3.cache.hits, m3.cache.misses, disk.hits)
        disk.close()
    m3.cache = None
    assert counts == (6, 0, 5)
    for first, again in zip(*answers, strict=True):
        _assert_equal(first, again)


def _assert_equal(first: Outputs, again: Outputs) -> None:
    assert first.kinds.keys() == again.kinds.keys()
    for kind, vectors in first.kinds.items():
        for name in ("indices", "values") if isinstance(vectors, SparseVectors) else ("data",):
            np.testing.assert_array_equal(getattr(vectors, name), getattr(again.kinds[kind], name))


async def test_another_precision_is_another_result(tiny: Encoder, tmp_path: Path, monkeypatch: Any) -> None:
    disk = DiskCache(tmp_path / "results.sqlite", 2**24)
    tiny.cache = ResultCache(0, disk=disk)
    await tiny.aencode("cat")
    monkeypatch.setattr(Encoder, "precision", "bf16")
    await tiny.aencode("cat")
    counts = (tiny.cache.hits, tiny.cache.misses)
    tiny.cache = None
    disk.close()
    assert counts == (0, 2)


async def test_the_disk_is_bounded_and_the_oldest_rows_are_evicted_first(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path / "results.sqlite", 2**20)
    rows = {number.to_bytes(16, "big"): np.full(384, number, np.float32) for number in range(2000)}
    for start in range(0, 2000, 50):
        disk.store({key: rows[key] for key in list(rows)[start : start + 50]})
        assert await disk.load([]) == {}  # waits for the write before it
    assert disk.size() < 1.2 * 2**20
    stored = await disk.load(list(rows))
    disk.close()
    assert 100 < len(stored) < 1000
    assert list(stored)[-1] == list(rows)[-1]
    assert (tmp_path / "results.sqlite").stat().st_mode & 0o077 == 0
    for key, row in stored.items():
        np.testing.assert_array_equal(row, rows[key])


async def test_an_error_of_the_disk_fails_no_request(cached: Encoder, tmp_path: Path, caplog: Any) -> None:
    path = tmp_path / "results.sqlite"
    disk = DiskCache(path, 2**20)
    _cache(cached).disk = disk
    first = await cached.aencode("cat")
    assert disk._database is not None
    await disk.load([])
    disk._database.close()  # as if it could not be read any more
    again = await cached.aencode("another")
    assert "not used any more" in caplog.text
    await cached.aencode("a third")
    assert first.shape == again.shape
    disk.close()


async def test_a_damaged_file_is_replaced_and_a_file_that_cannot_be_opened_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    path.write_bytes(b"no database at all" * 1000)
    disk = DiskCache(path, 2**20)
    disk.store({b"key": np.ones(3, np.float32)})
    assert np.asarray((await disk.load([b"key"]))[b"key"]).tolist() == [1, 1, 1]
    disk.close()
    none = DiskCache(path / "below" / "a-file.sqlite", 2**20)
    none.store({b"key": np.ones(3, np.float32)})
    assert await none.load([b"key"]) == {}
    none.close()


@pytest.mark.network
def test_a_server_finds_what_another_left(tiny: Encoder, tmp_path: Path) -> None:
    body = {"model": "tiny", "input": "a text for two servers"}
    replies = []
    for _ in range(2):
        with serving([tiny], cache_disk="1MiB", data_dir=tmp_path) as url:
            replies.append(httpx.post(url + "/v1/embeddings", json=body).json())
            page = httpx.get(url + "/metrics").text
        tiny.cache = None
    assert replies[0]["data"] == replies[1]["data"]
    assert "nearfield_cache_disk_hits_total 1.0" in page


async def test_a_budget_that_holds_nothing(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path / "results.sqlite", 1)
    disk.store({b"key": np.ones(3, np.float32)})
    assert await disk.load([b"key"]) == {}
    disk.close()


async def test_queries_that_need_no_model_have_results(tmp_path: Path) -> None:
    """Queries of inference-free sparse models are looked up in a table."""
    with Encoder(str(inference_free(tmp_path)), precision="float32") as encoder:
        plain = await encoder.aencode(TEXTS, role="query")
        encoder.cache = ResultCache(2**20)
        cached = await encoder.aencode(TEXTS, role="query")
    assert len(cached) == len(TEXTS)
    np.testing.assert_array_equal(cached.values, plain.values)


async def test_a_full_disk_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    disk = DiskCache(tmp_path / "results.sqlite", 2**24)
    row: Any = np.ones(4, np.float32)
    real = disk._execute

    def execute(statement: str, values: Any = ()) -> list[Any]:
        if statement.startswith("BEGIN"):
            raise sqlite3.OperationalError("database or disk is full")
        return real(statement, values)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "_execute", execute)
        for _ in range(3):
            disk.store({b"a": row})
            await disk.load([b"a"])  # the writes before it are done
    assert caplog.text.count("the disk is full") == 1
    monkeypatch.setattr(disk, "_next_write", 0.0)
    disk.store({b"b": row})
    assert set(await disk.load([b"a", b"b"])) == {b"b"}
    disk.close()
