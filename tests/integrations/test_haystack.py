"""Haystack: components in an indexing pipeline and in a query pipeline, also from YAML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if sys.version_info < (3, 11):
    pytest.skip("for Python 3.10 there are older releases only", allow_module_level=True)

from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.core.errors import DeserializationError
from haystack.document_stores.in_memory import InMemoryDocumentStore

from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.integrations.haystack import (
    NearfieldDocumentEmbedder,
    NearfieldRanker,
    NearfieldSparseDocumentEmbedder,
    NearfieldSparseTextEmbedder,
    NearfieldTextEmbedder,
)
from nearfield.reranker import Reranker
from tests.integrations.conftest import FACTS, QUESTION, Reference, assert_close

pytestmark = pytest.mark.slow
MODULE = "nearfield.integrations.haystack"
LOAD: Any = {"precision": "float32", "compile_cache": False}


def _documents() -> list[Document]:
    return [Document(id=str(number), content=text, meta={"year": number}) for number, text in enumerate(FACTS)]


def _query_pipeline(store: InMemoryDocumentStore, embedder: Any, ranker: Any) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("embedder", embedder)
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=4))
    pipeline.add_component("ranker", ranker)
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    pipeline.connect("retriever.documents", "ranker.documents")
    return pipeline


def _index(store: InMemoryDocumentStore, embedder: Any) -> None:
    pipeline = Pipeline()
    pipeline.add_component("embedder", embedder)
    pipeline.add_component("writer", DocumentWriter(store))
    pipeline.connect("embedder.documents", "writer.documents")
    assert pipeline.run({"embedder": {"documents": _documents()}}) == {"writer": {"documents_written": len(FACTS)}}


def test_vectors_are_those_of_the_reference(minilm: Encoder, minilm_reference: Reference) -> None:
    documents = NearfieldDocumentEmbedder(minilm).run(_documents())["documents"]
    assert_close([document.embedding for document in documents], minilm_reference.documents(FACTS))
    assert [document.id for document in documents] == ["0", "1", "2", "3"]
    assert_close(NearfieldTextEmbedder(minilm).run(QUESTION)["embedding"], minilm_reference.query(QUESTION))


async def test_queries_and_documents_get_their_prompts(prompted: Encoder, prompted_reference: Reference) -> None:
    text, documents = NearfieldTextEmbedder(prompted), NearfieldDocumentEmbedder(prompted)
    assert_close(text.run("a cat")["embedding"], prompted_reference.query("a cat"))
    assert_close((await text.run_async("a cat"))["embedding"], prompted_reference.query("a cat"))
    for result in (documents.run(_documents()), await documents.run_async(_documents())):
        assert_close([doc.embedding for doc in result["documents"]], prompted_reference.documents(FACTS))


async def test_pipelines_index_retrieve_and_rank(minilm: Encoder, reranker: Reranker, pair_scores: Any) -> None:
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    _index(store, NearfieldDocumentEmbedder(minilm))
    pipeline = _query_pipeline(store, NearfieldTextEmbedder(minilm), NearfieldRanker(reranker, top_k=2))
    inputs = {"embedder": {"text": QUESTION}, "ranker": {"query": QUESTION}}
    scores = pair_scores(QUESTION, FACTS)
    best = np.argsort(-scores, kind="stable")[:2]
    for result in (pipeline.run(inputs), await pipeline.run_async(inputs)):
        documents = result["ranker"]["documents"]
        assert [document.id for document in documents] == [str(number) for number in best]
        assert_close([document.score for document in documents], scores[best])


def test_a_pipeline_is_written_to_yaml_and_loaded(tiny: Encoder, reranker_folder: str) -> None:
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    _index(store, NearfieldDocumentEmbedder(tiny))
    embedder = NearfieldTextEmbedder(
        Path(str(tiny.recipe.folder)), prefix="the ", encode_options={"truncate": "left"}, max_length=8, **LOAD
    )
    ranker = NearfieldRanker(reranker_folder, top_k=2, meta_fields_to_embed=["year"], score_threshold=0.1, **LOAD)
    pipeline = _query_pipeline(store, embedder, ranker)
    text = pipeline.dumps()
    with pytest.raises(DeserializationError, match="allowed_modules"):
        Pipeline.loads(text)
    loaded = Pipeline.loads(text, allowed_modules=[MODULE])
    assert loaded.dumps() == text
    loaded.get_component("retriever").document_store = store
    inputs = {"embedder": {"text": QUESTION}, "ranker": {"query": QUESTION}}
    assert loaded.run(inputs) == pipeline.run(inputs)
    for part in (pipeline, loaded):
        part.close()


def test_components_are_written_with_all_their_arguments(tiny: Encoder) -> None:
    folder = str(tiny.recipe.folder)
    component = NearfieldDocumentEmbedder(
        folder,
        prefix="a ",
        suffix=" b",
        progress_bar=False,
        meta_fields_to_embed=["year"],
        embedding_separator=" | ",
        encode_options={"normalize_embeddings": True},
        **LOAD,
    )
    data = component.to_dict()
    assert data["type"] == f"{MODULE}.NearfieldDocumentEmbedder"
    assert data["init_parameters"] == {
        "model": folder,
        "prefix": "a ",
        "suffix": " b",
        "progress_bar": False,
        "meta_fields_to_embed": ["year"],
        "embedding_separator": " | ",
        "encode_options": {"normalize_embeddings": True},
        **LOAD,
    }
    again = NearfieldDocumentEmbedder.from_dict(data)
    assert again.to_dict() == data
    again.warm_up()
    texts = [f"a {number} | {text} b" for number, text in enumerate(FACTS)]
    embedded = again.run(_documents())["documents"]
    assert_close([document.embedding for document in embedded], tiny.encode(texts, role="document"))
    again.close()


async def test_a_loaded_model_stays_open_and_cannot_be_written(tiny: Encoder, reranker: Reranker) -> None:
    for component in (NearfieldTextEmbedder(tiny), NearfieldDocumentEmbedder(tiny), NearfieldRanker(reranker)):
        component.warm_up()
        await component.warm_up_async()
        with pytest.raises(InputError, match="create it with the model's name"):
            component.to_dict()
        component.close()
    assert NearfieldTextEmbedder(tiny).run("a cat")["embedding"]


def test_inputs_and_options_that_are_refused(tiny: Encoder, reranker: Reranker) -> None:
    anything: Any = "a cat"
    several: Any = ["a cat"]
    with pytest.raises(
        TypeError, match=r"NearfieldDocumentEmbedder takes a list of documents, not str\. A text embedder"
    ):
        NearfieldDocumentEmbedder(tiny).run(anything)
    with pytest.raises(TypeError, match="NearfieldRanker takes a list of documents"):
        NearfieldRanker(reranker).run("a cat", anything)
    with pytest.raises(TypeError, match=r"NearfieldTextEmbedder takes one text, not list\. A document embedder"):
        NearfieldTextEmbedder(tiny).run(several)
    with pytest.raises(InputError, match="Unknown option 'batch_size'"):
        NearfieldTextEmbedder.from_dict(
            {"type": f"{MODULE}.NearfieldTextEmbedder", "init_parameters": {"batch_size": 1}}
        )
    with pytest.raises(InputError, match="top_k must be at least 1, and is 0"):
        NearfieldRanker(reranker, top_k=0)
    with pytest.raises(InputError, match="top_k must be at least 1, and is -1"):
        NearfieldRanker(reranker).run("a cat", _documents(), top_k=-1)


async def test_a_ranker_reads_metadata_and_has_a_threshold(reranker: Reranker, pair_scores: Any) -> None:
    documents = [*_documents(), Document(content="no year"), Document(content=None, meta={"year": 7})]
    ranker = NearfieldRanker(
        reranker,
        meta_fields_to_embed=["year"],
        embedding_separator=": ",
        query_prefix="find ",
        document_suffix=" end",
    )
    texts = [f"{number}: {text} end" for number, text in enumerate(FACTS)] + ["no year end", "7:  end"]
    scores = pair_scores("find a cat", texts)
    order = np.argsort(-scores, kind="stable")
    for result in (ranker.run("a cat", documents), await ranker.run_async("a cat", documents)):
        assert [document.id for document in result["documents"]] == [documents[place].id for place in order]
        assert_close([document.score for document in result["documents"]], scores[order])
    middle = float(np.sort(scores)[-3:].mean())
    above = [document.id for document in ranker.run("a cat", documents, score_threshold=middle)["documents"]]
    assert above == [documents[place].id for place in order if scores[place] >= middle] and 0 < len(above) < 6
    assert len(ranker.run("a cat", documents, top_k=2)["documents"]) == 2
    assert all(document.score is None for document in documents)
    assert ranker.run("a cat", []) == {"documents": []}


async def test_sparse_vectors_are_those_of_the_reference(splade: Path, splade_rows: Any) -> None:
    text, documents = NearfieldSparseTextEmbedder(splade, **LOAD), NearfieldSparseDocumentEmbedder(splade, **LOAD)
    expected = splade_rows(FACTS)
    for result in (documents.run(_documents()), await documents.run_async(_documents())):
        for document, row in zip(result["documents"], expected, strict=True):
            dense = np.zeros_like(row)
            dense[document.sparse_embedding.indices] = document.sparse_embedding.values
            assert_close(dense, row)
    for query in (text.run(FACTS[0]), await text.run_async(FACTS[0])):
        assert len(query["sparse_embedding"].indices) == np.count_nonzero(expected[0])
    assert NearfieldSparseTextEmbedder.from_dict(text.to_dict()).to_dict() == text.to_dict()
    for component in (text, documents):
        component.close()


def test_dimensions_can_be_forced(tiny: Encoder) -> None:
    embedder = NearfieldTextEmbedder(str(tiny.recipe.folder), truncate_dim=7, force_truncate_dim=True, **LOAD)
    expected = tiny.encode(["a cat"], role="query", truncate_dim=7, force_truncate_dim=True)[0]
    again = NearfieldTextEmbedder.from_dict(embedder.to_dict())
    for component in (embedder, again):
        assert_close(component.run("a cat")["embedding"], expected)
        component.close()
