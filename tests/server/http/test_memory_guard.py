"""Requests under a memory limit: large ones get 503 instead of a process that the system kills."""

from __future__ import annotations

import httpx
import pytest

from nearfield.encoder import Encoder
from nearfield.errors import OutOfMemory
from nearfield.hardware import MemoryLimit
from nearfield.server.http import limits
from nearfield.server.http.limits import MemoryGuard, max_cache_bytes
from tests.support.serving import listening

MIB = 2**20


@pytest.fixture
def trims(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Attempts to return memory to the system."""
    attempts: list[None] = []
    monkeypatch.setattr(limits, "return_memory", lambda: attempts.append(None))
    return attempts


def test_requests_share_what_is_free(trims: list[None], monkeypatch: pytest.MonkeyPatch) -> None:
    readings = [MemoryLimit(320 * MIB, 100 * MIB, "cgroup")]
    guard = MemoryGuard(lambda: readings[0])
    guard.claim(50 * MIB)
    guard.claim(30 * MIB)
    with pytest.raises(OutOfMemory, match="too little memory"):
        guard.claim(1)  # 20 MiB are left free
    monkeypatch.setattr(limits, "_READ_SECONDS", 0.0)
    with pytest.raises(OutOfMemory):
        guard.claim(81 * MIB)
    guard.claim(80 * MIB)
    readings[0] = MemoryLimit(320 * MIB, 0, "cgroup")
    with pytest.raises(OutOfMemory):
        guard.claim(0)
    assert len(trims) == 1


@pytest.mark.parametrize("limit", [None, MemoryLimit(100, 0, "machine")])
def test_without_a_limit_of_the_process_nothing_is_refused(limit: MemoryLimit | None) -> None:
    MemoryGuard(lambda: limit).claim(2**50)


@pytest.mark.parametrize(
    ("limit", "size"),
    [
        (None, 256 * MIB),
        (MemoryLimit(300 * MIB, 100 * MIB, "machine"), 256 * MIB),
        (MemoryLimit(300 * MIB, 100 * MIB, "cgroup"), 25 * MIB),
        (MemoryLimit(4096 * MIB, 2048 * MIB, "cgroup"), 256 * MIB),
    ],
)
def test_the_cache_leaves_memory_for_requests(limit: MemoryLimit | None, size: int) -> None:
    assert max_cache_bytes(256 * MIB, limit) == size


@pytest.mark.network
def test_a_large_request_gets_503(tiny: Encoder, trims: list[None], monkeypatch: pytest.MonkeyPatch) -> None:
    # What is free here does not shrink with what a body takes, so it must not be read again while a body arrives.
    monkeypatch.setattr(limits, "_READ_SECONDS", 60)
    limit = MemoryLimit(160 * MIB, 30 * MIB, "cgroup")
    with listening([tiny]) as state:
        MemoryGuard.__init__(state.server.memory, lambda: limit)
        url = f"http://127.0.0.1:{state.port}/v1/embeddings"
        assert httpx.post(url, json={"model": "tiny", "input": "cat"}).status_code == 200
        for body in ({"model": "tiny", "input": "cat " * 2_000_000}, {"model": "tiny", "input": ["cat"] * 10_000}):
            response = httpx.post(url, json=body)
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "out_of_memory"
            assert int(response.headers["retry-after"]) >= 1
