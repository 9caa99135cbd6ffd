"""A process is killed while it indexes texts or media, at the worst moments: the next run must complete the index.

``python -m tools.crash`` does the same at many random moments and with more documents.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.databases import DATABASES
from tests.support.paths import ROOT
from tools import crash

pytest.importorskip("transformers")
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
QDRANT, CHROMA = ("nearfield.stores.qdrant", "QdrantStore"), ("nearfield.stores.chroma", "ChromaStore")
PGVECTOR = ("nearfield.stores.pgvector", "PgVectorStore")
#: Texts or media, store, module and class, method, which call.
MOMENTS = [
    pytest.param("text", "lancedb", *LANCEDB, "upsert", 1, id="text-lancedb-after-the-first-write"),
    pytest.param("text", "lancedb", *MANIFEST, "replace", 40, id="text-lancedb-within-the-transaction"),
    pytest.param("text", "lancedb", *MANIFEST, "begin", 25, id="text-lancedb-while-cutting"),
    pytest.param("text", "qdrant", *QDRANT, "upsert", 1, id="text-qdrant-after-the-first-write"),
    pytest.param("text", "pgvector", *PGVECTOR, "upsert", 1, id="text-pgvector-after-the-first-write"),
    pytest.param("text", "chroma", *CHROMA, "upsert", 1, id="text-chroma-after-the-first-write"),
    pytest.param("media", "lancedb", *MANIFEST, "replace", 4, id="media-lancedb-within-the-transaction"),
    pytest.param("media", "lancedb", *MANIFEST, "begin", 6, id="media-lancedb-while-listing-segments"),
    pytest.param("media", "lancedb", *LANCEDB, "upsert", 2, id="media-lancedb-between-two-tables"),
    pytest.param("media", "qdrant", *QDRANT, "upsert", 2, id="media-qdrant-between-two-tables"),
    pytest.param("media", "pgvector", *PGVECTOR, "upsert", 2, id="media-pgvector-between-two-tables"),
    pytest.param("media", "chroma", *CHROMA, "upsert", 2, id="media-chroma-between-two-tables"),
]
#: Documents of texts, and folders of media of eight files.
COUNTS = {"text": 60, "media": 1}


@dataclass(frozen=True)
class Corpus:
    """What is indexed, the models, and what a run without kills makes of it."""

    documents: Path
    models: Path
    expected: dict[str, Any]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Corpus]:
    @cache
    def corpus(kind: str) -> Corpus:
        home = tmp_path_factory.mktemp(kind)
        documents, models = home / "documents", home / "models"
        crash.write(kind, documents, models, COUNTS[kind])
        crash.child(kind, str(home), f"memory:{home}", str(documents), str(models))
        return Corpus(documents, models, crash.state(home))

    return corpus


@pytest.mark.parametrize(("kind", "store", "module", "owner", "method", "nth"), MOMENTS)
def test_the_next_run_finishes_what_a_dead_one_began(
    kind: str, store: str, module: str, owner: str, method: str, nth: int, corpora: Any, tmp_path: Path
) -> None:
    corpus = corpora(kind)
    (tmp_path / "database").mkdir()
    with DATABASES[store](tmp_path / "database") as address:
        code = _DYING.format(module=module, owner=owner, method=method, nth=nth)
        arguments = [kind, str(tmp_path / "killed"), address, str(corpus.documents), str(corpus.models)]
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, timeout=120, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
        crash.child(*arguments)
        assert crash.differences(corpus.expected, crash.state(tmp_path / "killed")) == []
        assert len(corpus.expected["documents"]) == {"text": 60, "media": 8}[kind]
