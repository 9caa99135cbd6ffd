"""The tests of collections that index, once more, with documents that workers extract, split and encode."""

from __future__ import annotations

import pytest

from nearfield.cluster import RayWorkers
from tests.corpus.conftest import *  # noqa: F403 - they compute in float32
from tests.corpus.test_collection import *  # noqa: F403

pytestmark = [pytest.mark.process, pytest.mark.slow]

#: Words of the tests that are run: the others search, or check definitions, which workers have no part in.
_WORDS = (
    *(
        "become_chunks",
        "percent_changed",
        "touched_file",
        "keeps_the_vectors",
        "set_aside",
        "breaks_takes",
        "fails_in_the_model",
    ),
    *("fails_once", "goes_on_failing", "boilerplate", "stored_once", "takes_the_place", "read_once", "added_is_made"),
    *("computed_again", "switched_to", "cut_off_leaves", "share_a_pass", "late_chunks", "keeps_the_old_chunks"),
    *("threads_end", "ends_the_run", "read_again", "counts_what"),
)
for _name in [name for name in globals() if name.startswith("test_")]:
    if not any(word in _name for word in _WORDS):
        del globals()[_name]


@pytest.fixture(autouse=True)
def _on_workers(workers: RayWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nearfield.corpus.indexing.indexer.LocalWorkers", lambda: workers)
