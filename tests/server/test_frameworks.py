"""LangChain, LlamaIndex, Haystack and Chroma over a real socket, through the client of each API that they bring.

docs/guides/serve.md lists what to set in each; where one takes no address, the test sets it as its users must.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from nearfield.encoder import Encoder
from nearfield.reranker import Reranker

TEXTS = ["the cat sat on the mat", "a blue dog", "hello world"]
KEY = "none"
#: Connections that are closed when the collector comes, by frameworks that have no way to close them.
pytestmark = [
    pytest.mark.network,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
#: It says at each import that newer packages are to take its place.
community = pytest.mark.filterwarnings("ignore:.*langchain-community:DeprecationWarning")
later = pytest.mark.skipif(sys.version_info < (3, 11), reason="for Python 3.10 there are older ones only")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the telemetry of Haystack."""
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")


@pytest.fixture(autouse=True, scope="module")
def _collected() -> Iterator[None]:
    """Collect unclosed resources here, so that their warnings do not appear in another test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture
def reranker(fleet: dict[str, Any]) -> Reranker:
    reranker: Reranker = fleet["reranker"]
    return reranker


def _same(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.array(actual, np.float64), np.asarray(expected, np.float64), atol=1e-6)


def _alike(embeds: Any, tiny: Encoder) -> None:
    """Check LangChain's two methods where the API does not distinguish queries from documents."""
    _same(embeds.embed_documents(TEXTS), tiny.encode(TEXTS))
    _same(embeds.embed_query(TEXTS[0]), tiny.encode(TEXTS[0]))


def _apart(embeds: Any, tiny: Encoder) -> None:
    """Check them where it does: the model's prompts are applied."""
    _same(embeds.embed_documents(TEXTS), tiny.encode_document(TEXTS))
    _same(embeds.embed_query(TEXTS[0]), tiny.encode_query([TEXTS[0]])[0])
    assert np.abs(np.asarray(tiny.encode_query([TEXTS[0]])) - np.asarray(tiny.encode([TEXTS[0]]))).max() > 0.01


def _order(texts: list[Any], query: str, reranker: Reranker, top: int) -> None:
    assert texts == [TEXTS[place.index] for place in reranker.rank(query, TEXTS)[:top]]


# -- LangChain -------------------------------------------------------------------------------------------------------


def test_langchain_hugging_face(fleet_url: str, tiny: Encoder) -> None:
    from huggingface_hub import InferenceClient
    from langchain_huggingface import HuggingFaceEndpointEmbeddings

    embeds = HuggingFaceEndpointEmbeddings(model="tiny")
    embeds.client = InferenceClient(model=fleet_url)  # as ``model`` it refuses addresses
    _alike(embeds, tiny)


def test_langchain_voyage(fleet_url: str, tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain_voyageai import VoyageAIEmbeddings
    from tokenizers import Tokenizer

    # It counts tokens to fill its batches, with the tokenizer of voyageai/<model> on the Hub.
    monkeypatch.setattr(Tokenizer, "from_pretrained", lambda _: tiny.tokenizer.backend)
    options: Any = {"model": "tiny", "api_key": KEY, "base_url": fleet_url + "/v1"}
    _apart(VoyageAIEmbeddings(**options), tiny)


def test_langchain_voyage_ranks(fleet_url: str, reranker: Reranker) -> None:
    from langchain_core.documents import Document
    from langchain_voyageai import VoyageAIRerank

    options: Any = {"model": reranker.name, "api_key": KEY, "base_url": fleet_url + "/v1", "top_k": 2}
    documents = [Document(page_content=text) for text in TEXTS]
    ranked = VoyageAIRerank(**options).compress_documents(documents, "a cat")
    _order([document.page_content for document in ranked], "a cat", reranker, 2)


@later
@community
async def test_langchain_infinity(fleet_url: str, tiny: Encoder) -> None:
    from langchain_community.embeddings import InfinityEmbeddings

    embeds = InfinityEmbeddings(model="tiny", infinity_api_url=fleet_url)
    _alike(embeds, tiny)
    many = [f"cat {number}" for number in range(300)]  # batches of 128, side by side
    _same(embeds.embed_documents(many), tiny.encode(many))
    _same(await embeds.aembed_query("cat"), tiny.encode("cat"))
    with pytest.raises(Exception, match=r"404.*not served"):
        InfinityEmbeddings(model="nothing", infinity_api_url=fleet_url).embed_query("cat")


@later
@community
def test_langchain_jina(fleet_url: str, tiny: Encoder, reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain_community.document_compressors import JinaRerank
    from langchain_community.embeddings import JinaEmbeddings
    from langchain_core.documents import Document

    monkeypatch.setattr("langchain_community.embeddings.jina.JINA_API_URL", fleet_url + "/v1/embeddings")
    monkeypatch.setattr("langchain_community.document_compressors.jina_rerank.JINA_API_URL", fleet_url + "/v1/rerank")
    options: Any = {"jina_api_key": KEY}
    with JinaEmbeddings(model_name="tiny", **options).session as session:
        _alike(JinaEmbeddings(model_name="tiny", session=session, **options), tiny)
        with pytest.raises(RuntimeError, match="not served"):
            JinaEmbeddings(model_name="nothing", **options).embed_query("cat")
    ranker = JinaRerank(model=reranker.name, top_n=2, **options)
    ranked = ranker.compress_documents([Document(page_content=text) for text in TEXTS], "a cat")
    _order([document.page_content for document in ranked], "a cat", reranker, 2)


# -- LlamaIndex ------------------------------------------------------------------------------------------------------


def _indexed(embeds: Any, tiny: Encoder) -> None:
    _same(embeds.get_text_embedding_batch(TEXTS), tiny.encode(TEXTS))
    _same(embeds.get_query_embedding(TEXTS[0]), tiny.encode(TEXTS[0]))


def _nodes() -> list[Any]:
    from llama_index.core.schema import NodeWithScore, TextNode

    return [NodeWithScore(node=TextNode(text=text), score=0.0) for text in TEXTS]


@pytest.mark.slow
@later
async def test_llama_index_openai(fleet_url: str, tiny: Encoder) -> None:
    from llama_index.embeddings.openai import OpenAIEmbedding
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    options: Any = {"model_name": "tiny", "api_base": fleet_url + "/v1", "api_key": KEY}
    for kind in (OpenAIEmbedding, OpenAILikeEmbedding):
        embeds = kind(**options)
        _indexed(embeds, tiny)
        _same(await embeds.aget_text_embedding(TEXTS[1]), tiny.encode(TEXTS[1]))


@later
async def test_llama_index_hugging_face(fleet_url: str, tiny: Encoder) -> None:
    from llama_index.embeddings.huggingface_api import HuggingFaceInferenceAPIEmbedding

    # Only the asynchronous calls: the others open a loop for each, and the second finds its connection
    # closed.
    embeds = HuggingFaceInferenceAPIEmbedding(model_name=fleet_url)
    _same(await embeds.aget_text_embedding_batch(TEXTS), tiny.encode(TEXTS))
    _same(await embeds.aget_query_embedding(TEXTS[0]), tiny.encode(TEXTS[0]))


@later
@pytest.mark.parametrize("coding", ["float", "binary", "ubinary"])
def test_llama_index_jina(fleet_url: str, tiny: Encoder, coding: str) -> None:
    from llama_index.embeddings.jinaai import JinaEmbedding

    embeds = JinaEmbedding(api_key=KEY, model="tiny", encoding_queries=coding, encoding_documents=coding)
    embeds._api.api_url = fleet_url + "/v1/embeddings"  # it has no argument for that
    with embeds._api._session:
        if coding == "float":
            _indexed(embeds, tiny)
            return
        bits = np.asarray(tiny.encode(TEXTS)) > 0
        np.testing.assert_array_equal(np.array(embeds.get_text_embedding_batch(TEXTS)), bits)


@later
def test_llama_index_jina_ranks(fleet_url: str, reranker: Reranker) -> None:
    from llama_index.core.schema import QueryBundle
    from llama_index.postprocessor.jinaai_rerank import JinaRerank

    ranker = JinaRerank(model=reranker.name, api_key=KEY, base_url=fleet_url + "/v1", top_n=2)
    with ranker._session:
        ranked = ranker.postprocess_nodes(_nodes(), QueryBundle("a cat"))
    _order([node.node.get_content() for node in ranked], "a cat", reranker, 2)
    assert [node.score for node in ranked] == pytest.approx(
        [place.score for place in reranker.rank("a cat", TEXTS, activation="sigmoid")[:2]]
    )


# -- Haystack --------------------------------------------------------------------------------------------------------


def _secret() -> Any:
    from haystack.utils import Secret

    return Secret.from_token(KEY)


def _documents() -> list[Any]:
    from haystack import Document

    return [Document(content=text) for text in TEXTS]


def _embedded(text_embedder: Any, document_embedder: Any, query: Any, documents: Any) -> None:
    _same(text_embedder.run(text=TEXTS[0])["embedding"], np.asarray(query)[0])
    embedded = document_embedder.run(documents=_documents())["documents"]
    assert [document.content for document in embedded] == TEXTS
    _same([document.embedding for document in embedded], documents)


@pytest.mark.slow
@later
def test_haystack_openai(fleet_url: str, tiny: Encoder) -> None:
    from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder

    options: Any = {"model": "tiny", "api_key": _secret(), "api_base_url": fleet_url + "/v1"}
    documents = OpenAIDocumentEmbedder(progress_bar=False, **options)
    _embedded(OpenAITextEmbedder(**options), documents, tiny.encode([TEXTS[0]]), tiny.encode(TEXTS))


@later
def test_haystack_hugging_face(fleet_url: str, fleet: dict[str, Any], tiny: Encoder, reranker: Reranker) -> None:
    from haystack_integrations.components.embedders.huggingface_api import (
        HuggingFaceAPIDocumentEmbedder,
        HuggingFaceAPITextEmbedder,
        HuggingFaceTEISparseTextEmbedder,
    )
    from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

    options: Any = {"api_type": "text_embeddings_inference", "api_params": {"url": fleet_url}, "token": None}
    documents = HuggingFaceAPIDocumentEmbedder(progress_bar=False, **options)
    _embedded(HuggingFaceAPITextEmbedder(**options), documents, tiny.encode([TEXTS[0]]), tiny.encode(TEXTS))
    sparse = HuggingFaceTEISparseTextEmbedder(api_base_url=fleet_url, token=None)
    embedding = sparse.run(text="hello world river")["sparse_embedding"]
    expected = fleet["m3"].encode(["hello world river"], outputs="sparse").sparse
    assert dict(zip(embedding.indices, embedding.values, strict=True)) == pytest.approx(
        dict(zip(expected.indices.tolist(), expected.values.tolist(), strict=True))
    )
    ranked = HuggingFaceTEIRanker(url=fleet_url, top_k=2, token=None).run(query="a cat", documents=_documents())
    _order([document.content for document in ranked["documents"]], "a cat", reranker, 2)


@later
def test_haystack_ollama(fleet_url: str, tiny: Encoder) -> None:
    from haystack_integrations.components.embedders.ollama import OllamaDocumentEmbedder, OllamaTextEmbedder

    options: Any = {"model": "tiny", "url": fleet_url, "keep_alive": "5m"}
    documents = OllamaDocumentEmbedder(progress_bar=False, **options)
    _embedded(OllamaTextEmbedder(**options), documents, tiny.encode([TEXTS[0]]), tiny.encode(TEXTS))


@pytest.mark.slow
@later
def test_haystack_cohere(fleet_url: str, tiny: Encoder, reranker: Reranker) -> None:
    from haystack_integrations.components.embedders.cohere import CohereDocumentEmbedder, CohereTextEmbedder
    from haystack_integrations.components.rankers.cohere import CohereRanker

    options: Any = {"api_key": _secret(), "api_base_url": fleet_url}
    documents = CohereDocumentEmbedder(model="tiny", input_type="search_document", progress_bar=False, **options)
    query = CohereTextEmbedder(model="tiny", input_type="search_query", **options)
    _embedded(query, documents, tiny.encode_query([TEXTS[0]]), tiny.encode_document(TEXTS))
    ranked = CohereRanker(model=reranker.name, top_k=2, **options).run(query="a cat", documents=_documents())
    _order([document.content for document in ranked["documents"]], "a cat", reranker, 2)


@later
def test_haystack_jina(fleet_url: str, tiny: Encoder, reranker: Reranker) -> None:
    from haystack_integrations.components.embedders.jina import JinaDocumentEmbedder, JinaTextEmbedder
    from haystack_integrations.components.rankers.jina import JinaRanker

    options: Any = {"model": "tiny", "api_key": _secret(), "base_url": fleet_url + "/v1/embeddings"}
    documents = JinaDocumentEmbedder(task="retrieval.passage", progress_bar=False, **options)
    query = JinaTextEmbedder(task="retrieval.query", **options)
    _embedded(query, documents, tiny.encode_query([TEXTS[0]]), tiny.encode_document(TEXTS))
    ranker = JinaRanker(model=reranker.name, api_key=_secret(), top_k=2, base_url=fleet_url + "/v1/rerank")
    ranked = ranker.run(query="a cat", documents=_documents())
    _order([document.content for document in ranked["documents"]], "a cat", reranker, 2)


@later
def test_haystack_voyage(fleet_url: str, tiny: Encoder, reranker: Reranker) -> None:
    import voyageai
    from haystack_integrations.components.embedders.voyage_embedders import VoyageDocumentEmbedder, VoyageTextEmbedder
    from haystack_integrations.components.rankers.voyage import VoyageRanker

    documents = VoyageDocumentEmbedder(model="tiny", input_type="document", api_key=_secret(), progress_bar=False)
    query = VoyageTextEmbedder(model="tiny", input_type="query", api_key=_secret())
    ranker = VoyageRanker(model=reranker.name, api_key=_secret(), top_k=2)
    for part in (documents, query, ranker):
        part._client = voyageai.Client(KEY, base_url=fleet_url + "/v1")  # they have no argument for it
    _embedded(query, documents, tiny.encode_query([TEXTS[0]]), tiny.encode_document(TEXTS))
    ranked = ranker.run(query="a cat", documents=_documents())
    _order([document.content for document in ranked["documents"]], "a cat", reranker, 2)


# -- Chroma ----------------------------------------------------------------------------------------------------------


def _chroma(kind: str, url: str) -> Iterator[Callable[[list[str]], Any]]:
    from chromadb.utils import embedding_functions as functions

    if kind == "openai":
        yield functions.OpenAIEmbeddingFunction(model_name="tiny", api_base=url + "/v1")
    elif kind == "cohere":
        import cohere

        embed: Any = functions.CohereEmbeddingFunction(model_name="tiny")
        embed.client = cohere.Client(KEY, base_url=url)  # or CO_API_URL in the environment before cohere is imported
        yield embed
    elif kind == "jina":
        embed = functions.JinaEmbeddingFunction(model_name="tiny")
        embed._api_url = url + "/v1/embeddings"
        with embed._session:
            yield embed
    else:
        import voyageai

        embed = functions.VoyageAIEmbeddingFunction(model_name="tiny")
        embed._client = voyageai.Client(KEY, base_url=url + "/v1")
        yield embed


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "role"), [("openai", None), ("cohere", "document"), ("jina", None), ("voyage", None)])
def test_chroma(fleet_url: str, tiny: Encoder, monkeypatch: pytest.MonkeyPatch, kind: str, role: str | None) -> None:
    monkeypatch.setenv(f"CHROMA_{kind.upper()}_API_KEY", KEY)
    for embed in _chroma(kind, fleet_url):
        vectors = embed(TEXTS)
    _same(np.stack(vectors), tiny.encode(TEXTS, role=role) if role else tiny.encode(TEXTS))
