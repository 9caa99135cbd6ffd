"""Descriptions of models: what the APIs know about an encoder, a reranker and a classifier."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from pathlib import Path

import pytest

from nearfield.inference.loaded_model import LoadedModel
from nearfield.reranker import Classifier, Reranker
from nearfield.server.models.description import describe
from nearfield.testing import tiny_encoder


def test_an_encoder_is_described_by_its_recipe(fleet: dict[str, LoadedModel]) -> None:
    tiny = describe(fleet["tiny"])
    assert (tiny.name, tiny.kind, tiny.outputs, tiny.pooling) == ("tiny", "encoder", ("dense",), ("mean",))
    assert (tiny.dimensions, tiny.sizes, tiny.max_length) == (32, {"dense": 32}, 64)
    assert tiny.is_encoder and not tiny.is_reranker
    assert tiny.normalized and tiny.architecture == "bert"
    assert tiny.fingerprint == fleet["tiny"].fingerprint  # type: ignore[attr-defined]
    assert set(tiny.role_prompts) <= {"query", "document"}
    assert set(tiny.tasks) == set(tiny.prompts)
    assert tiny.disk_bytes > 10_000


def test_each_output_has_its_size(fleet: dict[str, LoadedModel]) -> None:
    m3 = describe(fleet["m3"])
    assert set(m3.sizes) == set(m3.outputs) == {"dense", "sparse", "multivector"}
    assert all(size > 0 for size in m3.sizes.values())


@pytest.mark.parametrize(("key", "labels"), [("reranker", 1), ("classifier", 3)])
def test_a_model_of_scores_is_described_by_its_labels(fleet: dict[str, LoadedModel], key: str, labels: int) -> None:
    model = describe(fleet[key])
    assert (model.kind, len(model.labels), model.outputs) == (key, labels, ("scores",))
    assert (model.dimensions, model.sizes, model.tasks) == (0, {}, ())
    loaded = fleet[key]
    assert isinstance(loaded, Classifier | Reranker) and model.fingerprint == loaded.fingerprint
    assert model.is_reranker == (key == "reranker")


def test_a_description_is_created_once_and_does_not_keep_the_model_alive(tmp_path: Path) -> None:
    encoder = tiny_encoder(tmp_path / "tiny")
    description = describe(encoder)
    assert describe(encoder) is description
    with pytest.raises(dataclasses.FrozenInstanceError):
        description.name = "other"  # type: ignore[misc]
    compiled = weakref.ref(encoder._model)
    encoder.close()
    del encoder
    gc.collect()
    assert compiled() is None
    assert description.name == "tiny"
