"""A process is killed while it indexes pictures, pages, sounds and videos: the next run must complete the index."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.corpus.collection import Collection
from tests.support import media_files
from tests.support.collection_state import collection_state
from tests.support.paths import ROOT

pytest.importorskip("transformers")
pytest.importorskip("lancedb")
pytestmark = [pytest.mark.process, pytest.mark.slow]

#: The process is killed by SIGKILL right after the ``nth`` call of a method.
_DYING = """
import os, signal, sys
from {module} import {owner}
whole, calls = {owner}.{method}, []
def dying(self, *rest, **options):
    calls.append(1)
    done = whole(self, *rest, **options)
    if len(calls) == {nth}:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
{owner}.{method} = dying
from tests.support.media_files import index_media
index_media(*sys.argv[1:])
"""
#: Module and class, method, which call.
MOMENTS = [
    pytest.param("nearfield.stores.lancedb", "LanceDbStore", "upsert", 2, id="between-two-tables"),
    pytest.param("nearfield.corpus.manifest.manifest", "Manifest", "replace", 4, id="within-the-transaction"),
    pytest.param("nearfield.corpus.manifest.manifest", "Manifest", "begin", 6, id="while-listing-segments"),
]


def _state(home: Path) -> dict[str, Any]:
    with Collection.open("media", home=home) as collection:
        return {**collection_state(collection), "verified": collection.verify(sample=0)["whole"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models and files, and the collection of a run that nothing interrupts."""
    place = tmp_path_factory.mktemp("place")
    media_files.write_models(place / "models")
    media_files.write_media(place / "files")
    media_files.index_media(str(place / "whole"), "", str(place / "files"), str(place / "models"))
    return place


@pytest.mark.parametrize(("module", "owner", "method", "nth"), MOMENTS)
def test_the_next_run_finishes_what_a_dead_one_began(
    module: str, owner: str, method: str, nth: int, place: Path, tmp_path: Path
) -> None:
    code = _DYING.format(module=module, owner=owner, method=method, nth=nth)
    arguments = [str(tmp_path / "killed"), "", str(place / "files"), str(place / "models")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    media_files.index_media(*arguments)
    expected, actual = _state(place / "whole"), _state(tmp_path / "killed")
    assert actual["verified"] and actual["consistent"] and actual["whole"]
    for name in ("documents", "duplicates"):
        assert actual[name] == expected[name]
    assert sorted(actual["chunks"]) == sorted(expected["chunks"])
    assert len(expected["documents"]) == 8
    for feature, vectors in expected["vectors"].items():
        assert actual["vectors"][feature].keys() == vectors.keys()
        for key, vector in vectors.items():
            assert np.abs(np.asarray(actual["vectors"][feature][key]) - np.asarray(vector)).max() < 1e-5
