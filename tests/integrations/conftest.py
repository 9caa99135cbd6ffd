"""Models for components of frameworks, each with the numbers that sentence-transformers gives for it."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.errors import SourceUnavailable
from nearfield.inference.loaded_model import LoadedModel
from nearfield.reranker import Reranker
from nearfield.testing import tiny_encoder
from tests.parity import sparse
from tests.support.requirements import missing

#: Documents about which the questions of these tests ask.
FACTS = [
    "Mont Blanc rises 4,806 m above sea level.",
    "The Rhine flows to the North Sea.",
    "Basil grows best in warm and sunny places.",
    "Ada Lovelace wrote the first program for a machine that was never built.",
]
QUESTION = "How high is the tallest mountain of the Alps?"


@dataclass(frozen=True)
class Reference:
    """A model of sentence-transformers, with one precision and prompts by role."""

    model: Any

    def documents(self, texts: Sequence[str]) -> Array:
        """Return the vectors of documents."""
        return np.asarray(self.model.encode_document(list(texts)))

    def query(self, text: str) -> Array:
        """Return the vector of a query."""
        return np.asarray(self.model.encode_query(text))


def assert_close(actual: Any, expected: Any) -> None:
    """Compare with the reference, within the noise of float32."""
    np.testing.assert_allclose(np.asarray(actual, np.float64), np.asarray(expected, np.float64), atol=2e-5)


@pytest.fixture(autouse=True)
def _no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the telemetry of Haystack."""
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")


@pytest.fixture(autouse=True, scope="module")
def _collected() -> Iterator[None]:
    """Collect here what frameworks leave open, so that its warnings appear in no other test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(scope="session")
def minilm() -> Iterator[Encoder]:
    """The default model, in float32."""
    try:
        encoder = Encoder("all-MiniLM-L6-v2", precision="float32")
    except SourceUnavailable as error:
        missing(f"the model cannot be fetched: {error}")
        return
    with encoder:
        yield encoder


@pytest.fixture(scope="session")
def minilm_reference(minilm: Encoder) -> Reference:
    """The default model in sentence-transformers."""
    return reference_of(minilm)


@pytest.fixture(scope="session")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    """A tiny model with prompts for both roles, by the names that sentence-transformers gives them."""
    prompts = {"query": "search: ", "document": "hello "}
    folder = tmp_path_factory.mktemp("prompted") / "prompted"
    with tiny_encoder(folder, prompts=prompts, precision="float32") as encoder:
        yield encoder


@pytest.fixture(scope="session")
def prompted_reference(prompted: Encoder) -> Reference:
    """The same model in sentence-transformers."""
    return reference_of(prompted)


def reference_of(encoder: Encoder) -> Reference:
    """Return sentence-transformers' model of an encoder's folder."""
    library = pytest.importorskip("sentence_transformers")
    return Reference(library.SentenceTransformer(str(encoder.recipe.folder), device="cpu"))


@pytest.fixture(scope="session")
def reranker(fleet: dict[str, LoadedModel]) -> Reranker:
    """A tiny cross-encoder with one label."""
    model = fleet["reranker"]
    assert isinstance(model, Reranker)
    return model


@pytest.fixture(scope="session")
def reranker_folder(reranker: Reranker) -> str:
    """Its folder."""
    return str(reranker.recipe.folder)


@pytest.fixture(scope="session")
def pair_scores(reranker_folder: str) -> Any:
    """A function that scores a query with texts by sentence-transformers' CrossEncoder."""
    library = pytest.importorskip("sentence_transformers")
    model = library.CrossEncoder(reranker_folder, device="cpu")
    return lambda query, texts: np.asarray(model.predict([(query, text) for text in texts]))


@pytest.fixture(scope="session")
def splade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model that gives sparse vectors."""
    return sparse.masked("bert")(tmp_path_factory.mktemp("splade"))


@pytest.fixture(scope="session")
def splade_rows(splade: Path) -> Any:
    """A function that returns the sparse vectors of texts, with their zeros, by sentence-transformers."""
    return lambda texts: sparse.expect(splade, texts)
