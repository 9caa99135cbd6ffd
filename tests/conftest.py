"""What many tests share: a tiny model, loaded once, and a server that serves it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nearfield.auto import load
from nearfield.encoder import Encoder
from nearfield.inference.loaded_model import LoadedModel
from nearfield.testing import tiny_encoder
from tests.parity.m3 import write as write_m3
from tests.parity.scores import classifier
from tests.support.serving import serving

PROMPTS = {"query": "search: ", "passage": "hello "}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    """A tiny model with prompts, in float32."""
    with tiny_encoder(tmp_path_factory.mktemp("tiny") / "tiny", prompts=PROMPTS, precision="float32") as encoder:
        yield encoder


@pytest.fixture(scope="session")
def url(tiny: Encoder) -> Iterator[str]:
    """A server of the tiny model."""
    with serving([tiny]) as base:
        yield base


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory, tiny: Encoder) -> Iterator[dict[str, LoadedModel]]:
    """One model of each kind, by kind.

    They are called ``tiny`` (vectors, with prompts), ``m3`` (bge-m3's three outputs), ``tiny-reranker``, and
    ``tiny-classifier`` (three labels).
    """
    home = tmp_path_factory.mktemp("fleet")
    options: dict[str, Any] = {"precision": "float32", "compile_cache": False}
    m3 = load(str(write_m3(home)), **options)
    reranker, labels = (
        load(str(classifier("bert", count)(home / str(count)).rename(home / name)), **options)
        for count, name in ((1, "tiny-reranker"), (3, "tiny-classifier"))
    )
    yield {"tiny": tiny, "m3": m3, "reranker": reranker, "classifier": labels}
    for model in (m3, reranker, labels):
        model.close()


@pytest.fixture(scope="session")
def fleet_url(fleet: dict[str, LoadedModel]) -> Iterator[str]:
    """A server of all of them."""
    with serving(list(fleet.values())) as base:
        yield base
