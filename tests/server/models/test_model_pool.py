"""The model pool: one load for all requests that wait, eviction of idle models only, and delays after failures."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import numpy as np
import openai
import pytest

from nearfield import settings
from nearfield.encoder import Encoder
from nearfield.engine.engine import Engine
from nearfield.errors import ModelNotFound, ModelUnavailable, SettingsError, WeightsError
from nearfield.hardware import MemoryLimit
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.lifecycle.model_loading import model_aliases
from nearfield.server.models import memory_budget
from nearfield.server.models.description import ModelDescription
from nearfield.server.models.model_pool import ModelPool
from nearfield.testing import tiny_encoder, write_tiny_model
from tests.support.serving import serving

pytestmark = pytest.mark.network

MIB = 2**20
BGE = "BAAI/bge-small-en-v1.5"


class Loader:
    """Loads tiny models by the last part of their names, and counts the calls."""

    def __init__(self, home: Path, engine: Engine) -> None:
        self.home, self.engine = home, engine
        self.calls: list[str] = []
        self.hold: Callable[[], None] = lambda: None
        self.error: Exception | None = None

    def __call__(self, name: str) -> LoadedModel:
        self.calls.append(name)
        self.hold()
        if self.error is not None:
            raise self.error
        folder = self.home / name.rpartition("/")[2]
        if not folder.exists():
            write_tiny_model(folder)
        model = Encoder(str(folder), engine=self.engine, compile_cache=False, precision="float32")
        model.bytes = 10 * MIB
        return model


@pytest.fixture
def loader(tmp_path: Path) -> Iterator[Loader]:
    engine = Engine(1)
    yield Loader(tmp_path, engine)
    engine.close(drain=False)


def _wait(on: Any) -> None:
    on.wait(20)


def fits(model: ModelDescription) -> bool:
    return model.is_encoder


async def _use(models: ModelPool, name: str) -> LoadedModel:
    async with models.lease(name, fits) as model:
        return model


async def test_a_model_is_loaded_once_for_all_requests_that_wait(loader: Loader) -> None:
    models = ModelPool(loader=loader, on_demand=["org/*"])
    loaded = await asyncio.gather(*(_use(models, "org/one") for _ in range(20)))
    assert loader.calls == ["org/one"]
    assert len({id(model) for model in loaded}) == 1
    assert await _use(models, "ONE") is loaded[0]


async def test_two_models_load_at_the_same_time(loader: Loader) -> None:
    import threading

    both = threading.Barrier(2, timeout=20)
    loader.hold = lambda: _wait(both)
    models = ModelPool(loader=loader, on_demand=["org/*"])
    await asyncio.gather(_use(models, "org/one"), _use(models, "org/two"))
    assert sorted(loader.calls) == ["org/one", "org/two"]


@pytest.mark.parametrize("name", ["other/one", "one", "../one", "./org/one", "/org/one", "~/one", "org/one/two"])
async def test_a_name_that_matches_no_pattern_is_not_loaded(loader: Loader, name: str) -> None:
    models = ModelPool(loader=loader, on_demand=["org/*"])
    with pytest.raises(ModelNotFound):
        await _use(models, name)
    assert loader.calls == []


@pytest.mark.parametrize("name", ["x" * 300, f"other/{'x' * 300}", "~nobody-here/one", "other/a\0b"])
@pytest.mark.parametrize("on_demand", [["org/*"], []])
async def test_names_that_no_path_can_have_are_not_served(loader: Loader, name: str, on_demand: list[str]) -> None:
    with pytest.raises(ModelNotFound):
        await _use(ModelPool(loader=loader, on_demand=on_demand), name)
    assert loader.calls == []


@pytest.mark.parametrize("name", ["org/../../one", "org//one", "./org/one", "/org/one", "~/one", "\\\\org/one"])
async def test_nothing_is_looked_for_on_the_disk_under_a_path(
    loader: Loader, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    looked = Mock(side_effect=AssertionError)
    monkeypatch.setattr("nearfield.server.models.names.existing_path", looked)
    monkeypatch.setattr("nearfield.catalog.has_model", looked)
    with pytest.raises(ModelNotFound):
        await _use(ModelPool(loader=loader, on_demand=["*"]), name)
    assert not looked.called


async def test_a_pattern_never_matches_a_folder(
    loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_model(tmp_path / "org" / "secret")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound):
        await _use(ModelPool(loader=loader, on_demand=["*"]), "org/secret")
    named = ModelPool(loader=loader, on_demand=[str(tmp_path / "org" / "secret")])
    assert (await _use(named, str(tmp_path / "org" / "secret"))).name == "secret"


async def test_a_failed_load_is_remembered_and_tried_again_later(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    loader.error = WeightsError("its file is cut short.")
    models = ModelPool(loader=loader, on_demand=["org/*"])
    waits = []
    for _ in range(3):
        with pytest.raises(ModelUnavailable, match="cut short") as first:
            await _use(models, "org/one")
        waits.append(round(first.value.retry_after))
        with pytest.raises(ModelUnavailable, match=r"cut short.*tried again"):
            await _use(models, "org/one")
        now[0] += first.value.retry_after
    assert waits == [5, 10, 20]
    assert len(loader.calls) == 3
    loader.error = None
    assert (await _use(models, "org/one")).name == "one"
    assert models.entries[0].error == ""


async def test_the_number_of_unused_names_is_limited(loader: Loader, tiny: Encoder) -> None:
    loader.error = WeightsError("its file is cut short.")
    models = ModelPool([tiny], loader=loader, on_demand=["org/*", "named/model"])
    for number in range(1000):
        models.entry(f"org/{number}")
    assert len(models.entries) < 300
    assert [entry.name for entry in models.entries][:2] == ["tiny", "named/model"]
    assert models.entries[-1].name == "org/999"
    with pytest.raises(ModelUnavailable, match="cut short"):
        await _use(models, "org/999")


async def test_a_client_that_disconnects_does_not_cancel_the_load_for_others(loader: Loader) -> None:
    import threading

    go = threading.Event()
    loader.hold = lambda: _wait(go)
    models = ModelPool(loader=loader, on_demand=["org/*"])
    leaver, stayer = (asyncio.create_task(_use(models, "org/one")) for _ in range(2))
    await asyncio.sleep(0)
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    go.set()
    assert (await stayer).name == "one"
    assert models.entries[0].users == 0


async def test_the_idle_model_that_is_cheapest_to_reload_is_evicted_first(loader: Loader) -> None:
    models = ModelPool(loader=loader, on_demand=["org/*"], budget=25 * MIB)
    await _use(models, "org/one")
    await _use(models, "org/two")
    slow, quick = (next(entry for entry in models.entries if entry.name == name) for name in ("one", "two"))
    assert slow.model is not None
    assert quick.model is not None
    slow.model.load_seconds, quick.model.load_seconds = 60.0, 0.1
    await _use(models, "org/three")
    assert {entry.name: entry.state for entry in models.entries} == {
        "one": "loaded",
        "two": "available",
        "three": "loaded",
    }
    assert models.bytes == 20 * MIB


async def test_a_model_in_use_is_not_evicted_and_the_other_waits_for_memory(loader: Loader) -> None:
    models = ModelPool(loader=loader, on_demand=["org/*"], budget=15 * MIB)
    async with models.lease("org/one", fits) as model:
        entry = models.entry("org/two")
        entry.bytes = 10 * MIB
        waiting = asyncio.create_task(_use(models, "org/two"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert loader.calls == ["org/one"]
        np.asarray(await model.aencode("still here"))  # type: ignore[attr-defined]
    assert (await waiting).name == "two"
    assert models.entries[0].state == "available"


async def _use_always(models: ModelPool, name: str, until: asyncio.Event) -> None:
    """Use a model without a pause, as many clients do whose requests overlap."""

    async def client(offset: float) -> None:
        await asyncio.sleep(offset)
        while not until.is_set():
            async with models.lease(name, fits):
                await asyncio.sleep(0.05)

    await asyncio.gather(client(0), client(0.02), client(0.035))


async def test_models_that_are_always_in_use_take_turns(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_budget, "_MIN_TURN", 0.1)
    monkeypatch.setattr(memory_budget, "_MAX_TURN", 0.1)
    models = ModelPool(loader=loader, on_demand=["org/*"], budget=15 * MIB)
    models.entry("org/two").bytes = models.entry("org/three").bytes = 10 * MIB
    done = asyncio.Event()
    busy = [asyncio.create_task(_use_always(models, f"org/{name}", done)) for name in ("one", "two", "three")]
    for _ in range(2000):
        if min(map(loader.calls.count, ("org/one", "org/two", "org/three"))) >= 3:
            break
        await asyncio.sleep(0.01)
    done.set()
    await asyncio.gather(*busy)  # none was refused
    assert min(map(loader.calls.count, ("org/one", "org/two", "org/three"))) >= 3
    assert all(entry.users == 0 and entry.drained is None for entry in models.entries)


async def test_a_model_is_not_drained_right_after_it_was_loaded(loader: Loader) -> None:
    models = ModelPool(loader=loader, on_demand=["org/*"], budget=15 * MIB)
    models.entry("org/two").bytes = 10 * MIB
    async with models.lease("org/one", fits):
        waiting = asyncio.create_task(_use(models, "org/two"))
        await asyncio.sleep(0.2)
        assert (await asyncio.wait_for(_use(models, "org/one"), 1)).name == "one"
    await waiting


async def test_a_model_for_which_there_was_no_memory_is_not_one_that_failed(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_budget, "_IDLE_WAIT_SECONDS", 0.1)
    models = ModelPool(loader=loader, on_demand=["org/*"], budget=15 * MIB)
    models.entry("org/two").bytes = 10 * MIB
    async with models.lease("org/one", fits):
        for _ in range(3):
            with pytest.raises(ModelUnavailable, match="all other models are in use"):
                await _use(models, "org/two")
        assert models.entry("org/two").failures == 0
    assert (await _use(models, "org/two")).name == "two"


async def test_a_model_that_is_unloaded_while_it_is_always_in_use_is_loaded_again(loader: Loader) -> None:
    models = ModelPool(loader=loader, on_demand=["org/*"])
    done = asyncio.Event()
    busy = asyncio.create_task(_use_always(models, "org/one", done))
    await asyncio.sleep(0.3)
    await models.unload("org/one")
    await asyncio.sleep(0.3)
    done.set()
    await busy
    assert loader.calls == ["org/one", "org/one"]


async def test_without_a_budget_idle_models_make_way_before_memory_runs_out(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = ModelPool(loader=loader, on_demand=["org/*"])
    for name in ("one", "two", "three"):
        await _use(models, f"org/{name}")
    assert len(models.loaded) == 3
    limit = MemoryLimit(512 * MIB, 255 * MIB, "cgroup")  # 1 MiB less than requests may need
    monkeypatch.setattr(memory_budget, "memory_limit", lambda: limit)
    await _use(models, "org/four")
    assert len(models.loaded) == 3
    assert "four" in [model.name for model in models.loaded]


async def test_a_model_that_can_never_fit_is_refused_with_both_sizes(loader: Loader, tiny: Encoder) -> None:
    models = ModelPool([tiny], loader=loader, on_demand=["org/*"], budget=15 * MIB)
    models.entries[0].bytes = 10 * MIB
    models.entry("org/big").bytes = 10 * MIB
    with pytest.raises(ModelUnavailable, match=r"takes about 10 MiB, and of the 15 MiB .* take 10"):
        await _use(models, "org/big")
    assert loader.calls == []


async def test_an_implausible_measurement_is_not_used_as_a_model_s_size(loader: Loader) -> None:
    """Memory that others free during a load makes it look as if the model took none."""
    sizes = iter([1, 10 * MIB, 1])
    models = ModelPool(loader=lambda name: _sized(loader(name), next(sizes)), on_demand=["org/one"])
    sizes_seen = []
    for _ in range(3):
        await _use(models, "org/one")
        sizes_seen.append(models.entry("org/one").bytes)
        await models.unload("org/one")
    weights = (loader.home / "one" / "model.safetensors").stat().st_size
    assert sizes_seen == [weights // 2, 10 * MIB, 10 * MIB]


def _sized(model: LoadedModel, size: int) -> LoadedModel:
    model.bytes = size
    return model


async def test_models_loaded_at_the_start_are_never_evicted(loader: Loader, tiny: Encoder) -> None:
    models = ModelPool([tiny], loader=loader, on_demand=["org/*"], budget=1, keep_alive=0)
    models.entry("org/one").bytes = 1
    with pytest.raises(ModelUnavailable):
        await _use(models, "org/one")
    async with models.lease(tiny.name, fits, keep_alive=0):
        pass
    await asyncio.sleep(0)
    assert models.loaded == (tiny,)


async def test_an_idle_model_is_evicted_after_keep_alive(loader: Loader) -> None:
    models = ModelPool(loader=loader, on_demand=["org/*"])
    async with models.lease("org/one", fits, keep_alive=0.05):
        await asyncio.sleep(0.1)
        assert models.loaded  # in use its time does not count
    until = time.monotonic() + 10
    while models.loaded:
        assert time.monotonic() < until
        await asyncio.sleep(0.01)
    async with models.lease("org/one", fits, keep_alive=-1):
        pass
    await asyncio.sleep(0.1)
    assert models.loaded


async def test_unloading_waits_for_requests_that_use_the_model(loader: Loader) -> None:
    models = ModelPool(loader=loader, on_demand=["org/*"])
    async with models.lease("org/one", fits):
        leaving = asyncio.create_task(models.unload("org/one"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert models.loaded
    assert (await leaving).state == "available"
    assert (await models.load("one")).state == "loaded"
    assert len(loader.calls) == 2


def test_the_memory_of_a_closed_model_is_released(tmp_path: Path) -> None:
    engine = Engine(1)
    encoder = tiny_encoder(tmp_path / "tiny", engine=engine)
    encoder.encode(["cat", "dog"])
    gone = weakref.ref(encoder._model)
    gc.disable()  # nor does it wait for a collection
    try:
        encoder.close()
        del encoder
        assert gone() is None
    finally:
        gc.enable()
        engine.close(drain=False)


async def test_memory_is_returned_to_the_system_after_an_eviction(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = ModelPool(loader=loader, on_demand=["org/one"])
    gone = weakref.ref((await _use(models, "org/one"))._model)
    seen: list[bool] = []
    monkeypatch.setattr("nearfield.server.models.memory_budget.return_memory", lambda: seen.append(gone() is None))
    gc.disable()
    try:
        await models.unload("org/one")
        await asyncio.gather(*models._memory.evictions)
    finally:
        gc.enable()
    assert seen == [True]


def test_models_on_demand_are_listed_and_described(loader: Loader, tiny: Encoder) -> None:
    names = ["BAAI/bge-small-en-v1.5", "own/model", "ms-marco-minilm", "org/*", "intfloat/*"]
    with serving(ModelPool([tiny], loader=loader, on_demand=names)) as url:
        with openai.OpenAI(base_url=url + "/v1", api_key="x", max_retries=0) as client:
            full = ["BAAI/bge-small-en-v1.5", "own/model", "cross-encoder/ms-marco-MiniLM-L6-v2"]
            assert [model.id for model in client.models.list()] == ["tiny", *full]
            known, own, ranks, allowed = (
                client.models.retrieve(name).to_dict() for name in ("bge-small", "own/model", full[2], "e5-base-v2")
            )
            assert [described["state"] for described in (known, own, ranks, allowed)] == ["available"] * 4
            assert (known["id"], known["dimensions"], known["max_length"]) == (full[0], 384, 512)
            assert (known["outputs"], known["endpoints"], known["default_endpoints"]) == (["dense"], ["embed"], [])
            assert (own["dimensions"], own["outputs"], own["licence"]) == (0, [], None)
            assert (ranks["outputs"], ranks["dimensions"], ranks["endpoints"]) == (["scores"], 0, ["rerank"])
            assert (allowed["id"], allowed["dimensions"]) == ("intfloat/e5-base-v2", 768)
            with pytest.raises(openai.NotFoundError, match="never loaded"):
                client.models.retrieve("org/one")
            assert loader.calls == []
            client.embeddings.create(model="org/one", input="cat")
            assert client.models.retrieve("org/one").to_dict()["state"] == "loaded"
            # Names that a client only looked up are not listed for others.
            assert [model.id for model in client.models.list()] == ["tiny", *full, "one"]
        assert httpx.get(url + "/ready").json()["models"] == ["tiny", *full, "one"]
        headers = {"x-sie-sdk-version": "0.10.1"}
        described = httpx.get(url + "/v1/models/bge-small", headers=headers).json()
        assert (described["loaded"], described["state"], described["dims"]) == (False, "available", {"dense": 384})
        assert len(httpx.get(url + "/v1/models", headers=headers).json()["models"]) == 5


def test_a_folder_called_like_a_model_of_the_catalogue_is_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_model(tmp_path / "minilm")
    monkeypatch.chdir(tmp_path)
    with Encoder("minilm", precision="float32", compile_cache=False) as encoder:
        full = "sentence-transformers/all-MiniLM-L6-v2"
        aliases = model_aliases([encoder], settings.load(models=["minilm"], aliases={"mine": "minilm", "theirs": full}))
        assert aliases == {"minilm": ["minilm", "mine"], full: ["theirs"]}
    # One that is loaded on demand has no names and no facts of the other.
    pool = ModelPool(loader=lambda name: encoder, on_demand=["minilm"])
    (entry,) = pool.entries
    assert (entry.name, memory_budget.estimated_bytes(entry.name)) == ("minilm", 0)
    with pytest.raises(ModelNotFound):
        pool.entry("all-minilm")
    assert memory_budget.estimated_bytes(full) > 0


def test_each_of_several_folders_is_known_by_its_path(tmp_path: Path) -> None:
    one, two = (str(write_tiny_model(tmp_path / name)) for name in ("one", "two"))
    with Encoder(one, compile_cache=False) as first, Encoder(two, compile_cache=False) as second:
        aliases = model_aliases([first, second], settings.load(models=[one, two]))
        assert aliases == {"one": [one], "two": [two]}
        assert ModelPool([first, second], aliases).entry(two).model is second


def test_aliases_work_before_and_after_loading(loader: Loader, tiny: Encoder) -> None:
    aliases = {"text-embedding-3-small": "TINY", "embed-english-v3.0": "org/one", "voyage-3": "bge-small"}
    names = model_aliases([tiny], settings.load(models=["tiny"], aliases=aliases))
    assert names == {"tiny": ["tiny", "text-embedding-3-small"], "org/one": ["embed-english-v3.0"], BGE: ["voyage-3"]}
    meant = {"text-embedding-3-small": "tiny", "Voyage-3": BGE, "embed-english-v3.0": "org/one"}
    with (
        serving(ModelPool([tiny], names, loader=loader, on_demand=["org/*", "bge-small"])) as url,
        openai.OpenAI(base_url=url + "/v1", api_key="x", max_retries=0) as client,
    ):
        assert [model.id for model in client.models.list()] == ["tiny", BGE, "org/one"]
        assert {alias: client.models.retrieve(alias).id for alias in meant} == meant
        for alias in aliases:  # before it is loaded and after
            for _ in range(2):
                reply = client.embeddings.create(model=alias, input="cat")
                assert (reply.model, len(reply.data[0].embedding)) == (alias, 32)
        assert sorted(loader.calls) == ["bge-small", "org/one"]
    with pytest.raises(SettingsError, match="The alias mine means 'other/two', which is not served"):
        ModelPool([tiny], {"other/two": ["mine"]}, loader=loader, on_demand=["org/*"])


def test_models_are_loaded_on_demand_over_http(loader: Loader, tiny: Encoder) -> None:
    with serving(ModelPool([tiny], loader=loader, on_demand=["org/*"], budget=10_000 * MIB)) as url:
        with openai.OpenAI(base_url=url + "/v1", api_key="x", max_retries=0) as client:
            one, two = (client.embeddings.create(model=f"org/{name}", input="cat") for name in ("one", "two"))
            assert one.data[0].embedding == two.data[0].embedding
            with pytest.raises(openai.NotFoundError):
                client.embeddings.create(model="else/three", input="cat")
        assert 'model="one"' in httpx.get(url + "/metrics").text
        loader.error = WeightsError("its file is cut short.")
        body: dict[str, Any] = {"model": "org/broken", "input": "cat"}
        responses = [httpx.post(url + "/v1/embeddings", json=body) for _ in range(2)]
        assert [response.status_code for response in responses] == [503, 503]
        assert all(0 < int(response.headers["retry-after"]) <= 5 for response in responses)
        assert "cut short" in responses[1].json()["detail"]
