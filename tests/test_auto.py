"""`load`: each kind of model is loaded as the class that runs it."""

from __future__ import annotations

from pathlib import Path

import nearfield
from nearfield import Classifier, Encoder, Reranker
from tests.parity.scores import classifier
from tests.support import tiny_models


def test_each_kind_is_loaded_as_its_class(tmp_path: Path) -> None:
    folders = {
        Encoder: tiny_models.tiny_bert(tmp_path / "vectors"),
        Reranker: classifier("bert", 1)(tmp_path / "one"),
        Classifier: classifier("bert", 3)(tmp_path / "three"),
    }
    for kind, folder in folders.items():
        with nearfield.load(str(folder), compile_cache=False) as model:
            assert type(model) is kind
