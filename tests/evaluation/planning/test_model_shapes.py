"""Shapes of models against their published numbers of parameters and their files."""

from __future__ import annotations

import json

import pytest

from nearfield import catalog, hub
from nearfield.catalog import CatalogEntry
from nearfield.errors import SourceUnavailable
from nearfield.evaluation.planning.advice.candidates import MULTIMODAL_TEXTS
from nearfield.evaluation.planning.speed.model_shapes import picture_tower_of, shape_of
from tests.support.requirements import missing


@pytest.mark.parametrize(
    "entry",
    [entry for entry in catalog.entries() if entry.modalities == ("text",) and entry.family not in MULTIMODAL_TEXTS],
    ids=lambda entry: entry.id,
)
def test_a_shape_has_the_parameters_that_are_published(entry: CatalogEntry) -> None:
    shape = shape_of(entry)
    assert shape is not None and entry.parameters is not None
    # Positions, norms, biases and pooled heads are left out; some counts are rounded.
    assert shape.parameters == pytest.approx(entry.parameters, rel=0.08)


def test_a_tower_is_a_part_of_its_model() -> None:
    towers = {entry.id: (entry, picture_tower_of(entry)) for entry in catalog.entries() if "image" in entry.modalities}
    known = [(entry, tower) for entry, tower in towers.values() if tower is not None]
    assert len(known) >= 36
    for entry, tower in known:
        assert entry.parameters is None or tower.shape.parameters <= entry.parameters, entry.id
    patches = {
        "openai/clip-vit-base-patch32": 49,
        "google/siglip-base-patch16-512": 1024,
        "google/siglip-so400m-patch14-384": 729,
        "google/siglip2-base-patch16-naflex": 256,
    }
    for name, count in patches.items():
        read = towers[name][1]
        assert read is not None and read.patches == count


def test_the_shape_of_a_model_that_is_here_is_that_of_its_files() -> None:
    entry = catalog.find("all-MiniLM-L6-v2")
    assert entry is not None
    try:
        folder = hub.locate(entry.id, pin=entry.pin).folder
    except SourceUnavailable as error:
        missing(f"the model cannot be fetched: {error}")
    config, shape = json.loads((folder / "config.json").read_text()), shape_of(entry)
    assert shape is not None
    assert (shape.hidden, shape.layers) == (config["hidden_size"], config["num_hidden_layers"])
    assert (shape.inner, shape.vocabulary) == (config["intermediate_size"], config["vocab_size"])
