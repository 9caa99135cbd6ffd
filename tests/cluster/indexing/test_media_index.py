"""Collections of pictures, sounds and videos, whose documents are listed by workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearfield.cluster import RayWorkers
from nearfield.corpus.collection import Collection
from nearfield.corpus.sources.spec import parse_source
from tests.corpus.conftest import *  # noqa: F403 - they compute in float32
from tests.support import media_files
from tests.support.collection_state import collection_state

pytest.importorskip("transformers")
pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_workers_give_the_chunks_and_vectors_of_a_run_without_them(workers: RayWorkers, tmp_path: Path) -> None:
    models = media_files.write_models(tmp_path / "models")
    files = media_files.write_media(tmp_path / "files")
    (files / "large.png").write_bytes(media_files.picture(9, size=(800, 600)))  # it is read from its path
    states = []
    for name, chosen in (("here", None), ("there", workers)):
        config = media_files.media_config(models, f"memory:{tmp_path / name}")
        with Collection.create(name, config, home=tmp_path / "home") as collection:
            report = collection.index([parse_source(str(files))], workers=chosen)
            assert not report.failures, report.to_text()
            states.append(collection_state(collection))
    assert states[0]["documents"] == states[1]["documents"] and states[0]["chunks"] == states[1]["chunks"]
    for feature, vectors in states[0]["vectors"].items():
        assert states[1]["vectors"][feature].keys() == vectors.keys()
        for key, vector in vectors.items():
            assert states[1]["vectors"][feature][key] == pytest.approx(vector, abs=1e-5)
