"""LlamaIndex: components in an index, a query engine that reranks, and an ingestion pipeline."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.llms import MockLLM
from llama_index.core.schema import NodeWithScore, TextNode

from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.integrations.llama_index import NearfieldEmbedding, NearfieldRerank, NearfieldSparseEmbedding
from nearfield.reranker import Reranker
from tests.integrations.conftest import FACTS, QUESTION, Reference, assert_close

pytestmark = pytest.mark.slow
LOAD: Any = {"precision": "float32", "compile_cache": False}


def _nodes() -> list[Any]:
    return [TextNode(text=text, id_=str(number)) for number, text in enumerate(FACTS)]


def _scored_nodes() -> list[Any]:
    return [NodeWithScore(node=node, score=0.5) for node in _nodes()]


async def test_vectors_are_those_of_the_reference(minilm: Encoder, minilm_reference: Reference) -> None:
    embedding = NearfieldEmbedding(minilm, embed_batch_size=3)
    expected = minilm_reference.documents(FACTS)
    assert_close(embedding.get_text_embedding_batch(FACTS), expected)
    assert_close(await embedding.aget_text_embedding_batch(FACTS), expected)
    assert_close(embedding.get_text_embedding(FACTS[0]), expected[0])
    assert_close(await embedding.aget_text_embedding(FACTS[0]), expected[0])
    assert_close(embedding.get_query_embedding(QUESTION), minilm_reference.query(QUESTION))
    assert_close(await embedding.aget_query_embedding(QUESTION), minilm_reference.query(QUESTION))


async def test_queries_and_texts_get_their_prompts(prompted: Encoder, prompted_reference: Reference) -> None:
    embedding = NearfieldEmbedding(prompted)
    assert_close(embedding.get_text_embedding("a cat"), prompted_reference.documents(["a cat"])[0])
    assert_close(embedding.get_query_embedding("a cat"), prompted_reference.query("a cat"))
    assert_close(await embedding.aget_query_embedding("a cat"), prompted_reference.query("a cat"))
    assert_close(
        embedding.get_agg_embedding_from_queries(["a cat", "a dog"]),
        np.mean([prompted_reference.query("a cat"), prompted_reference.query("a dog")], axis=0),
    )


async def test_a_query_engine_answers_from_reranked_nodes(
    minilm: Encoder, reranker: Reranker, pair_scores: Any
) -> None:
    index = VectorStoreIndex(_nodes(), embed_model=NearfieldEmbedding(minilm))
    engine = index.as_query_engine(
        llm=MockLLM(), similarity_top_k=4, node_postprocessors=[NearfieldRerank(reranker, top_n=2)]
    )
    scores = pair_scores(QUESTION, FACTS)
    best = np.argsort(-scores, kind="stable")[:2]
    for response in (engine.query(QUESTION), await engine.aquery(QUESTION)):
        assert [node.node_id for node in response.source_nodes] == [str(number) for number in best]
        assert_close([node.score for node in response.source_nodes], scores[best])
        assert FACTS[best[0]] in str(response) and FACTS[best[1]] in str(response)  # MockLLM repeats its prompt


def test_a_retriever_finds_what_the_reference_finds(minilm: Encoder, minilm_reference: Reference) -> None:
    index = VectorStoreIndex(_nodes(), embed_model=NearfieldEmbedding(minilm))
    results = index.as_retriever(similarity_top_k=4).retrieve(QUESTION)
    scores = minilm_reference.documents(FACTS) @ minilm_reference.query(QUESTION)
    assert [result.node_id for result in results] == [str(number) for number in np.argsort(-scores)]
    assert_close([result.score for result in results], np.sort(scores)[::-1])


def test_an_ingestion_pipeline_embeds_nodes(prompted: Encoder, prompted_reference: Reference) -> None:
    nodes = IngestionPipeline(transformations=[NearfieldEmbedding(prompted)]).run(nodes=_nodes())
    assert_close([node.embedding for node in nodes], prompted_reference.documents(FACTS))


def test_an_embedding_is_copied_dumped_and_pickled(tiny: Encoder) -> None:
    folder = str(tiny.recipe.folder)
    embedding = NearfieldEmbedding(
        folder, truncate_dim=None, max_length=8, query_options={"prompt": "hello "}, embed_batch_size=7, **LOAD
    )
    expected = embedding.get_query_embedding("a cat")
    assert_close(expected, np.asarray(tiny.encode(["a cat"], prompt="hello ", max_length=8))[0])
    data = embedding.to_dict()
    assert (data["class_name"], data["model_name"], data["embed_batch_size"]) == ("NearfieldEmbedding", folder, 7)
    assert data["load_options"] == {"max_length": 8, **LOAD}
    copies = [
        NearfieldEmbedding.from_dict(data),
        NearfieldEmbedding.from_json(embedding.to_json()),
        pickle.loads(pickle.dumps(embedding)),
        copy.deepcopy(embedding),
        embedding.model_copy(),
    ]
    for component in copies:
        assert component.get_query_embedding("a cat") == expected
        assert component.to_dict() == data
    for component in (*copies, embedding):
        component.close()


def test_a_loaded_model_cannot_be_pickled_and_is_dumped_by_name(tiny: Encoder, reranker: Reranker) -> None:
    embedding, ranker = NearfieldEmbedding(tiny), NearfieldRerank(reranker)
    with pytest.raises(InputError, match="loaded Encoder"):
        pickle.dumps(embedding)
    with pytest.raises(InputError, match="loaded Reranker"):
        pickle.dumps(ranker)
    assert embedding.to_dict()["model_name"] == tiny.name
    assert ranker.to_dict()["model"] == reranker.name
    with pytest.raises(ValueError, match="frozen"):
        embedding.model_name = "another"


def test_unknown_options_are_refused(tiny: Encoder) -> None:
    unknown: Any = {"batch_size": 3}
    with pytest.raises(InputError, match="Unknown option 'batch_size'"):
        NearfieldEmbedding("all-MiniLM-L6-v2", **unknown)
    with pytest.raises(InputError, match="Unknown option 'batch_size'"):
        NearfieldRerank(**unknown)


async def test_reranking_leaves_the_nodes_unchanged(reranker: Reranker, pair_scores: Any) -> None:
    nodes, ranker = _scored_nodes(), NearfieldRerank(reranker, top_n=None, keep_retrieval_score=True)
    ranked = ranker.postprocess_nodes(nodes, query_str=QUESTION)
    order = np.argsort(-pair_scores(QUESTION, FACTS), kind="stable")
    assert [node.node_id for node in ranked] == [str(number) for number in order]
    assert all(node.metadata == {"retrieval_score": 0.5} for node in ranked)
    assert all(node.score == 0.5 and node.metadata == {} for node in nodes)
    again = await ranker.apostprocess_nodes(nodes, query_str=QUESTION)
    assert [node.node_id for node in again] == [node.node_id for node in ranked]
    assert ranker.postprocess_nodes([], query_str=QUESTION) == []
    with pytest.raises(InputError, match="needs the query"):
        ranker.postprocess_nodes(nodes)


def test_a_reranker_is_dumped_and_pickled(reranker: Reranker, reranker_folder: str) -> None:
    ranker = NearfieldRerank(reranker_folder, top_n=1, rerank_options={"activation": "identity"}, **LOAD)
    expected = reranker.rank(QUESTION, FACTS, activation="identity")[0].score
    for component in (ranker, NearfieldRerank.from_dict(ranker.to_dict()), pickle.loads(pickle.dumps(ranker))):
        (node,) = component.postprocess_nodes(_scored_nodes(), query_str=QUESTION)
        assert node.score == pytest.approx(expected, abs=1e-5)
        component.close()


async def test_sparse_vectors_are_those_of_the_reference(splade: Path, splade_rows: Any) -> None:
    sparse = NearfieldSparseEmbedding(str(splade), **LOAD)
    texts = ["the cat sat", "hello world"]
    indices, values = sparse.sparse_doc_fn(texts)
    expected = splade_rows(texts)
    for row, places, weights in zip(expected, indices, values, strict=True):
        dense = np.zeros_like(row)
        dense[places] = weights
        assert_close(dense, row)
    first = dict(zip(indices[0], values[0], strict=True))
    assert sparse.sparse_query_fn(texts[:1])[0] == indices[:1]
    for vector in (
        sparse.get_text_embedding(texts[0]),
        await sparse.aget_text_embedding(texts[0]),
        sparse.get_query_embedding(texts[0]),
        await sparse.aget_query_embedding(texts[0]),
        sparse.get_text_embedding_batch(texts)[0],
        (await sparse.aget_text_embedding_batch(texts))[0],
    ):
        assert vector == pytest.approx(first, abs=1e-5)
    again = pickle.loads(pickle.dumps(sparse))
    assert again.sparse_doc_fn(texts) == (indices, values)
    assert sparse.model_dump()["class_name"] == "NearfieldSparseEmbedding"
    for component in (sparse, again):
        component.close()


def test_dimensions_can_be_forced(tiny: Encoder) -> None:
    embedding = NearfieldEmbedding(str(tiny.recipe.folder), truncate_dim=7, force_truncate_dim=True, **LOAD)
    expected = tiny.encode(["a cat"], role="query", truncate_dim=7, force_truncate_dim=True)[0]
    again = pickle.loads(pickle.dumps(embedding))
    for component in (embedding, again):
        assert_close(component.get_query_embedding("a cat"), expected)
        component.close()
