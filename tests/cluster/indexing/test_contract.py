"""All tests of collections once more, with documents that workers extract, split and encode."""

from __future__ import annotations

import pytest

from nearfield.cluster import RayWorkers
from tests.corpus.conftest import *  # noqa: F403 - they compute in float32
from tests.corpus.test_collection import *  # noqa: F403

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _on_workers(workers: RayWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfield.corpus.indexing.indexer.LocalWorkers", lambda: workers)
