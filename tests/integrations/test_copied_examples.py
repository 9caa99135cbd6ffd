"""Examples as people copy them from the pages of other servers and databases, with another address.

The numbers are compared with those of sentence-transformers. The server has the aliases that docs/guides/serve.md
recommends for clients that accept certain names of models only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from nearfield import settings
from nearfield.arrays import Array
from nearfield.encoder import Encoder
from nearfield.reranker import Reranker
from nearfield.server.lifecycle.model_loading import model_aliases
from nearfield.server.models.model_pool import ModelPool
from tests.integrations.conftest import FACTS, QUESTION, Reference, assert_close
from tests.support.chat_server import Say, chatting
from tests.support.serving import serving

pytestmark = [
    pytest.mark.network,
    pytest.mark.slow,
    # Connections that examples leave open.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
ALIASES = {"text-embedding-3-small": MODEL, "embed-english-v3.0": MODEL}
RERANK_ALIASES = ("rerank-v3.5", "mixedbread-ai/mxbai-rerank-xsmall-v1", "BAAI/bge-reranker-base")


@pytest.fixture(scope="module")
def server(minilm: Encoder, reranker: Reranker) -> Iterator[str]:
    """The address of a server with the default model and a reranker."""
    aliases = {**ALIASES, **dict.fromkeys(RERANK_ALIASES, reranker.name)}
    names = model_aliases([minilm, reranker], settings.load(aliases=aliases))
    with serving(ModelPool([minilm, reranker], names)) as url:
        yield url


@pytest.fixture(scope="module")
def facts(minilm_reference: Reference) -> Array:
    """The reference's vectors of the facts."""
    return minilm_reference.documents(FACTS)


@pytest.fixture(scope="module")
def question(minilm_reference: Reference) -> Array:
    """The reference's vector of the question."""
    return minilm_reference.query(QUESTION)


@pytest.fixture(scope="module")
def scores(pair_scores: Any) -> Array:
    """The reference's scores of the facts for the question."""
    result: Array = pair_scores(QUESTION, FACTS)
    return result


def _assert_ranking(places: Any, actual: Any, scores: Array, count: int = len(FACTS)) -> None:
    """Compare places and scores, best first, with those of the reference."""
    order = np.argsort(-scores, kind="stable")[:count]
    assert list(places) == order.tolist()
    assert_close(list(actual), scores[order])


# -- OpenAI ----------------------------------------------------------------------------------------------------------


def test_openai(server: str, facts: Array) -> None:
    from openai import OpenAI

    client = OpenAI(base_url=f"{server}/v1", api_key="none")
    response = client.embeddings.create(input=FACTS, model="text-embedding-3-small")
    assert_close([item.embedding for item in response.data], facts)


# -- Ollama ----------------------------------------------------------------------------------------------------------


def test_ollama(server: str, facts: Array, question: Array) -> None:
    from ollama import Client

    client = Client(host=server)
    assert_close(client.embed(model="all-minilm", input=FACTS)["embeddings"], facts)
    assert_close(client.embed(model="all-minilm", input=QUESTION).embeddings[0], question)
    assert_close(client.embeddings(model="all-minilm", prompt=QUESTION)["embedding"], question)


@pytest.mark.parametrize("name", ["all-minilm", "all-minilm:latest", "all-minilm:22m"])
def test_ollama_over_http(server: str, facts: Array, question: Array, name: str) -> None:
    response = httpx.post(f"{server}/api/embed", json={"model": name, "input": FACTS})
    assert_close(response.json()["embeddings"], facts)
    response = httpx.post(f"{server}/api/embeddings", json={"model": name, "prompt": QUESTION})
    assert_close(response.json()["embedding"], question)


# -- Text Embeddings Inference ---------------------------------------------------------------------------------------


def test_tei_by_the_client_of_the_hub(server: str, question: Array) -> None:
    from huggingface_hub import InferenceClient

    for client in (InferenceClient(model=server), InferenceClient(base_url=server)):
        assert_close(client.feature_extraction(QUESTION)[0], question)
    assert_close(InferenceClient().feature_extraction(QUESTION, model=f"{server}/embed")[0], question)


def test_tei_by_the_client_of_openai(server: str, question: Array) -> None:
    from openai import OpenAI

    client = OpenAI(base_url=f"{server}/v1", api_key="-")
    response = client.embeddings.create(model="text-embeddings-inference", input=QUESTION)
    assert_close(response.data[0].embedding, question)
    assert response.model == MODEL


def test_tei_over_http(server: str, facts: Array, question: Array, scores: Array) -> None:
    response = httpx.post(f"{server}/embed", json={"inputs": QUESTION})
    assert_close(response.json(), [question])
    response = httpx.post(f"{server}/embed", json={"inputs": FACTS})
    assert_close(response.json(), facts)
    body = {"query": QUESTION, "texts": FACTS, "raw_scores": False}
    ranking = httpx.post(f"{server}/rerank", json=body).json()
    _assert_ranking([row["index"] for row in ranking], [row["score"] for row in ranking], scores)
    body = {"input": QUESTION, "model": "text-embeddings-inference", "encoding_format": "float"}
    assert_close(httpx.post(f"{server}/v1/embeddings", json=body).json()["data"][0]["embedding"], question)


# -- Infinity --------------------------------------------------------------------------------------------------------


def test_infinity_by_the_client_of_openai(server: str, facts: Array) -> None:
    from openai import OpenAI

    client = OpenAI(api_key="none", base_url=server)  # Infinity's default has no /v1
    response = client.embeddings.create(model=MODEL, input=FACTS)
    assert_close([item.embedding for item in response.data], facts)


def test_infinity_over_http(server: str, facts: Array, scores: Array) -> None:
    response = httpx.post(f"{server}/embeddings", json={"model": MODEL, "input": FACTS})
    assert_close([item["embedding"] for item in response.json()["data"]], facts)
    body = {
        "model": "mixedbread-ai/mxbai-rerank-xsmall-v1",
        "query": QUESTION,
        "documents": FACTS,
        "return_documents": True,
    }
    results = httpx.post(f"{server}/rerank", json=body).json()["results"]
    _assert_ranking([row["index"] for row in results], [row["relevance_score"] for row in results], scores)
    assert [row["document"] for row in results] == [FACTS[row["index"]] for row in results]


# -- Cohere ----------------------------------------------------------------------------------------------------------


def test_cohere(server: str, facts: Array, question: Array, scores: Array) -> None:
    import cohere

    co = cohere.ClientV2(api_key="none", base_url=server)
    documents = co.embed(
        texts=FACTS, model="embed-english-v3.0", input_type="search_document", embedding_types=["float"]
    )
    assert_close(documents.embeddings.float_, facts)
    query = co.embed(texts=[QUESTION], model="embed-english-v3.0", input_type="search_query", embedding_types=["float"])
    assert_close(query.embeddings.float_, [question])
    ranked = co.rerank(model="rerank-v3.5", query=QUESTION, documents=FACTS, top_n=3)
    _assert_ranking(
        [result.index for result in ranked.results], [result.relevance_score for result in ranked.results], scores, 3
    )


# -- SIE -------------------------------------------------------------------------------------------------------------


def test_sie(server: str, facts: Array, question: Array, scores: Array) -> None:
    package = pytest.importorskip("sie_sdk", reason="pip install sie-sdk in an environment of its own")
    client, item = package.SIEClient(server), package.types.Item
    documents = client.encode(MODEL, [item(text=text) for text in FACTS])
    assert_close([result["dense"] for result in documents], facts)
    assert_close(client.encode(MODEL, item(text=QUESTION), is_query=True)["dense"], question)
    items = [item(id=str(number), text=text) for number, text in enumerate(FACTS)]
    ranked = client.score("BAAI/bge-reranker-base", item(text=QUESTION), items)["scores"]
    _assert_ranking([int(row["item_id"]) for row in ranked], [row["score"] for row in ranked], scores)
    client.close()


# -- Chroma ----------------------------------------------------------------------------------------------------------


def _chroma_function(kind: str, url: str) -> Any:
    from chromadb.utils import embedding_functions as functions

    if kind == "ollama":
        return functions.OllamaEmbeddingFunction(url=url, model_name="all-minilm")
    if kind == "openai":
        return functions.OpenAIEmbeddingFunction(api_base=f"{url}/v1", model_name="text-embedding-3-small")
    return functions.HuggingFaceEmbeddingServer(url=f"{url}/embed")


@pytest.mark.parametrize("kind", ["ollama", "openai", "huggingface-server"])
def test_chroma(server: str, facts: Array, question: Array, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import chromadb

    monkeypatch.setenv("CHROMA_OPENAI_API_KEY", "none")
    monkeypatch.setenv("ANONYMIZED_TELEMETRY", "False")
    client = chromadb.EphemeralClient()
    collection = client.create_collection(
        name=f"facts-{kind}", embedding_function=_chroma_function(kind, server), metadata={"hnsw:space": "cosine"}
    )
    collection.add(documents=FACTS, ids=[str(number) for number in range(len(FACTS))])
    results = collection.query(query_texts=[QUESTION], n_results=len(FACTS))
    distances = 1 - facts @ question
    order = np.argsort(distances)
    assert results["ids"] == [[str(number) for number in order]]
    assert_close(results["distances"], [distances[order]])
    assert_close(collection.get(ids=["0"], include=["embeddings"])["embeddings"], facts[:1])
    client.delete_collection(collection.name)


# -- Qdrant ----------------------------------------------------------------------------------------------------------


def test_qdrant_with_rerank_and_a_chat_endpoint(server: str, facts: Array, question: Array, scores: Array) -> None:
    from openai import OpenAI
    from qdrant_client import QdrantClient, models

    embedder = OpenAI(base_url=f"{server}/v1", api_key="none")

    def embed(texts: list[str]) -> list[list[float]]:
        response = embedder.embeddings.create(input=texts, model="text-embedding-3-small")
        return [item.embedding for item in response.data]

    qdrant = QdrantClient(":memory:")
    qdrant.create_collection("facts", vectors_config=models.VectorParams(size=384, distance=models.Distance.COSINE))
    points = [
        models.PointStruct(id=number, vector=vector, payload={"text": text})
        for number, (text, vector) in enumerate(zip(FACTS, embed(FACTS), strict=True))
    ]
    qdrant.upsert("facts", points=points)
    hits = qdrant.query_points("facts", query=embed([QUESTION])[0], limit=4).points
    similarities = facts @ question
    assert [hit.id for hit in hits] == np.argsort(-similarities).tolist()
    assert_close([hit.score for hit in hits], np.sort(similarities)[::-1])

    texts = [hit.payload["text"] for hit in hits]
    body = {"model": "BAAI/bge-reranker-base", "query": QUESTION, "documents": texts, "top_n": 2}
    results = httpx.post(f"{server}/v1/rerank", json=body).json()["results"]
    best = [FACTS.index(texts[row["index"]]) for row in results]
    _assert_ranking(best, [row["relevance_score"] for row in results], scores, 2)

    with chatting() as chat:
        chat.script = [Say(["It rises ", "4,806 m."])]
        context = "\n".join(FACTS[number] for number in best)
        answer = OpenAI(base_url=f"{chat.url}/v1", api_key="none").chat.completions.create(
            model="chatty-1", messages=[{"role": "user", "content": f"{context}\n\n{QUESTION}"}]
        )
        assert answer.choices[0].message.content == "It rises 4,806 m."
        assert chat.asked[0].body["messages"][0]["content"] == f"{context}\n\n{QUESTION}"
    qdrant.close()
