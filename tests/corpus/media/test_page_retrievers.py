"""A retriever of pages, whose vectors are several for each page, in a collection over a PDF file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.features import table_from_dict
from nearfield.corpus.sources.spec import parse_source
from nearfield.encoder import Encoder
from nearfield.media.image import Image
from nearfield.testing import write_tiny_model
from tests.support import media_files, tiny_retrievers

pytest.importorskip("transformers")
pytestmark = pytest.mark.slow


def test_pages_are_found_by_late_interaction(tmp_path: Path) -> None:
    models = {
        "text": str(write_tiny_model(tmp_path / "text")),
        "retriever": str(tiny_retrievers.colmodernvbert(tmp_path / "retriever")),
    }
    loaded = {path: Encoder(path, compile_cache=False, precision="float32") for path in models.values()}
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "scan.pdf").write_bytes(media_files.scan([5, 6, 7]))
    (tmp_path / "files" / "cat.txt").write_text("A blue dog said hello to the world.", encoding="utf-8")
    features = {"text": {"model": models["text"]}, "pages": {"model": models["retriever"], "kind": "page"}}
    config = {"features": features, "store": f"memory:{tmp_path}"}
    with Collection.create("scans", config, home=tmp_path / "home", encoder_of=loaded.__getitem__) as collection:
        report = collection.index([parse_source(str(tmp_path / "files"))])
        assert not report.failures, report.to_text()
        assert collection.verify()["whole"]
        table = table_from_dict(collection.manifest.live_tables()["pages"].described)
        stored = [record for part in collection.store.scan(table, vectors=True) for record in part]
        rows = {record.fields["page"]: record.vector for record in stored}
        outputs = loaded[models["retriever"]].encode_query(["a blue dog"], outputs=("multivector",))
        query = np.asarray(outputs["multivector"][0])
        scores = {page: float((query @ np.asarray(vectors).T).max(1).sum()) for page, vectors in rows.items()}
        hits = collection.search("a blue dog", 3, mode="pages", explain=True)
        assert {hit.page: hit.stages["pages"]["score"] for hit in hits} == pytest.approx(scores, rel=1e-3)
        assert [hit.page for hit in hits] == sorted(scores, key=lambda page: -scores[page])
        assert {hit.location.describe() for hit in hits} == {"page 1", "page 2", "page 3"}
        assert {hit.kind for hit in collection.search("a blue dog", 9)} == {"text", "page"}
        again = collection.search(Image(media_files.picture(6, size=(240, 320))), 3)
        assert {hit.kind for hit in again} == {"page"}
        (best, *others) = collection.search(like=hits[0].id, k=9)
        assert best.page != hits[0].page and len(others) == 1
    for encoder in loaded.values():
        encoder.close()
