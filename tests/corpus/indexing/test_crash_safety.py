"""A process is killed while it indexes, at the worst moments: the next run must complete the index.

``python -m tools.crash`` does the same at many random moments and with more documents.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nearfield.testing import write_tiny_model
from tests.support.databases import DATABASES
from tests.support.paths import ROOT
from tools import crash

pytestmark = [pytest.mark.process, pytest.mark.service, pytest.mark.slow]

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
from tools.crash import child
child(*sys.argv[1:])
"""
LANCEDB = ("nearfield.stores.lancedb", "LanceDbStore")
MANIFEST = ("nearfield.corpus.manifest.manifest", "Manifest")
#: Store, module and class, method, which call.
MOMENTS = [
    pytest.param("lancedb", *LANCEDB, "upsert", 1, id="lancedb-after-the-first-write"),
    pytest.param("lancedb", *MANIFEST, "replace", 40, id="lancedb-within-the-transaction"),
    pytest.param("lancedb", *MANIFEST, "begin", 25, id="lancedb-while-cutting"),
    pytest.param("qdrant", "nearfield.stores.qdrant", "QdrantStore", "upsert", 1, id="qdrant-after-the-first-write"),
    pytest.param("pgvector", "nearfield.stores.pgvector", "PgVectorStore", "upsert", 1, id="pgvector-after-the-write"),
    pytest.param("chroma", "nearfield.stores.chroma", "ChromaStore", "upsert", 1, id="chroma-after-the-first-write"),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("corpus")
    crash.write_documents(home / "documents", 60)
    return home / "documents", write_tiny_model(home / "model")


@pytest.mark.parametrize(("store", "module", "owner", "method", "nth"), MOMENTS)
def test_the_next_run_finishes_what_a_dead_one_began(
    store: str, module: str, owner: str, method: str, nth: int, corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    documents, model = corpus
    (tmp_path / "database").mkdir()
    with DATABASES[store](tmp_path / "database") as address:
        crash.child(str(tmp_path / "reference"), address, str(documents), str(model))
        expected = crash.state(tmp_path / "reference")
        code = _DYING.format(module=module, owner=owner, method=method, nth=nth)
        command = [sys.executable, "-c", code, str(tmp_path / "killed"), address, str(documents), str(model)]
        root = ROOT
        done = subprocess.run(command, cwd=root, capture_output=True, timeout=120, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
        crash.child(str(tmp_path / "killed"), address, str(documents), str(model))
        actual = crash.state(tmp_path / "killed")
        # Both collections are in one database.
        assert crash.differences({**expected, "whole": True}, {**actual, "whole": True}) == []
        assert len(expected["documents"]) == 60
