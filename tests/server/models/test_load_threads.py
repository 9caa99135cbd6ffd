"""Loads that hang: they delay neither other owners' loads nor anything else, and their number has a limit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from nearfield.engine.turns import CALLER, Caller
from nearfield.errors import ModelUnavailable, Overloaded, WeightsError
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.models import load_threads
from nearfield.server.models.model_pool import ModelPool


class HangingHub:
    """A loader that waits until ``release`` is set for names that contain "slow", and finds no model."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.started: list[str] = []

    def __call__(self, name: str) -> LoadedModel:
        self.started.append(name)
        if "slow" in name:
            self.release.wait(60)
        raise WeightsError("There is no such model.")


@pytest.fixture
def hub() -> Iterator[HangingHub]:
    hub = HangingHub()
    yield hub
    hub.release.set()


async def _load(pool: ModelPool, owner: str, name: str) -> None:
    CALLER.set(Caller(owner))
    await pool.load(name)


def _start(pool: ModelPool, owner: str, name: str) -> asyncio.Task[None]:
    return asyncio.create_task(_load(pool, owner, name))


async def test_loads_that_hang_delay_no_other_owner_and_no_other_thread(hub: HangingHub) -> None:
    pool = ModelPool(loader=hub, on_demand=["org/*"])
    slow = [_start(pool, "a", f"org/slow-{number}") for number in range(load_threads.MAX_UNKNOWN_NAMES)]
    await asyncio.sleep(0.05)
    with pytest.raises(Overloaded):
        await _start(pool, "a", "org/slow-one-more")
    assert len(hub.started) == load_threads._OWNER_THREADS
    with pytest.raises(ModelUnavailable, match="There is no such model"):
        await asyncio.wait_for(_start(pool, "b", "org/fast"), 30)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 30) == 1
    # A name that waits for its owner's turn is loaded at the turn of another owner who requests it.
    waiting = f"org/slow-{load_threads.MAX_UNKNOWN_NAMES - 1}"
    assert waiting not in hub.started
    joined = _start(pool, "b", waiting)
    await asyncio.sleep(0.05)
    assert waiting in hub.started
    hub.release.set()
    results = await asyncio.wait_for(asyncio.gather(*slow, joined, return_exceptions=True), 60)
    assert all(isinstance(result, ModelUnavailable) for result in results)
    assert sorted(hub.started) == sorted({*hub.started})
    assert not pool._threads._running
    assert not pool._threads._unknown
    with pytest.raises(ModelUnavailable):
        await _start(pool, "a", "org/slow-afterwards")
    assert not any(pool._threads._waiting.values())


async def test_all_threads_are_used_and_owners_take_turns(hub: HangingHub) -> None:
    pool = ModelPool(loader=hub, on_demand=["org/*"])
    owners = [f"owner {number}" for number in range(load_threads._THREADS)]
    tasks = [_start(pool, owner, f"org/slow-{owner[-1]}-{turn}") for owner in owners for turn in range(3)]
    await asyncio.sleep(0.1)
    assert len(hub.started) == load_threads._THREADS
    hub.release.set()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    assert len(hub.started) == len(tasks)
    assert not pool._threads._running


async def test_models_that_the_settings_name_are_not_counted_as_unknown(hub: HangingHub) -> None:
    names = [f"org/fast-{number}" for number in range(2 * load_threads.MAX_UNKNOWN_NAMES)]
    pool = ModelPool(loader=hub, on_demand=names)
    results = await asyncio.gather(*(_start(pool, "a", name) for name in names), return_exceptions=True)
    assert all(isinstance(result, ModelUnavailable) for result in results)
    assert sorted(hub.started) == sorted(names)
