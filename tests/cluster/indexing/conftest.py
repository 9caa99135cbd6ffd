"""Workers of an index run that are threads of the test's process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nearfield.cluster import RayWorkers
from tests.support.inline_ray import InlineRay


@pytest.fixture
def inline_ray(monkeypatch: pytest.MonkeyPatch) -> InlineRay:
    """Let index runs use workers that are threads."""
    ray = InlineRay()

    @contextmanager
    def connected(_: str) -> Iterator[InlineRay]:
        yield ray

    monkeypatch.setattr("nearfield.cluster.indexing.ray_workers.connected", connected)
    monkeypatch.setattr("nearfield.cluster.indexing.index_worker.import_ray", lambda: ray)
    return ray


@pytest.fixture
def workers(inline_ray: InlineRay) -> RayWorkers:
    """Two such workers."""
    return RayWorkers("auto", 2, "cpus=1")
