"""Checks that any release of an official client must pass against the server. Imports no code of Nearfield.

``tools/clients.py`` runs this file with the Python of an environment that has the client:
``python client_checks.py CLIENT URL EXPECTED.json``.
"""

# mypy: ignore-errors
# Each function is for releases that the checker does not see.

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Check:
    """What is expected: vectors of ``texts`` by role, and the order of ``texts`` for ``query``."""

    def __init__(self, url: str, expected: dict[str, Any]) -> None:
        self.url, self.reranker = url, expected["reranker"]
        self.texts: list[str] = expected["texts"]
        self.query: str = expected["query"]
        self._vectors, self._order, self._scores = expected["vectors"], expected["order"], expected["scores"]

    def vectors(self, found: Any, role: str = "plain") -> None:
        """Compare vectors of all texts."""
        for row, wanted in zip(found, self._vectors[role], strict=True):
            self._close(row, wanted)

    def first(self, found: Any, role: str = "plain") -> None:
        """Compare the vector of the first text."""
        self._close(found, self._vectors[role][0])

    def ranking(self, places: Any, scores: Any, most: int = 99) -> None:
        """Compare places and scores, best first."""
        assert list(places) == self._order[:most], (list(places), self._order)
        self._close(scores, self._scores[:most])

    @staticmethod
    def _close(found: Any, wanted: Any) -> None:
        assert len(found) == len(wanted), (len(found), len(wanted))
        worst = max(abs(float(one) - float(other)) for one, other in zip(found, wanted, strict=True))
        assert worst < 1e-5, worst


def refused(call: Callable[[], Any], *words: str) -> None:
    """Check that a call fails, and that the client shows why."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - each client has its own
        told = f"{type(error).__name__}: {error}"
        assert all(word in told for word in words), told
        return
    raise AssertionError("it was not refused")


def check_openai(check: Check) -> None:
    import openai

    client = openai.OpenAI(base_url=check.url + "/v1", api_key="none", max_retries=0)
    check.vectors([item.embedding for item in client.embeddings.create(model="tiny", input=check.texts).data])
    plain = client.embeddings.create(model="tiny", input=check.texts, encoding_format="float", user="somebody")
    check.vectors([item.embedding for item in plain.data])
    assert "tiny" in [model.id for model in client.models.list()]
    assert client.models.retrieve("tiny").id == "tiny"
    refused(lambda: client.embeddings.create(model="nothing", input="cat"), "NotFoundError", "not served")
    refused(lambda: client.embeddings.create(model="tiny", input=[]), "BadRequestError", "empty")


def check_openai0(check: Check) -> None:
    import openai

    openai.api_base, openai.api_key = check.url + "/v1", "none"
    found = openai.Embedding.create(model="tiny", input=check.texts)
    check.vectors([item["embedding"] for item in found["data"]])
    assert "tiny" in [model["id"] for model in openai.Model.list()["data"]]
    refused(lambda: openai.Embedding.create(model="nothing", input="cat"), "not served")


def check_cohere4(check: Check) -> None:
    import cohere

    client = cohere.Client("none", api_url=check.url)  # asks for /v1/check-api-key
    check.vectors(client.embed(check.texts, model="tiny").embeddings)
    check.vectors(client.embed(check.texts, model="tiny", input_type="search_document").embeddings, "document")
    typed = client.embed(check.texts, model="tiny", input_type="search_query", embedding_types=["float", "int8"])
    check.vectors(getattr(typed.embeddings, "float"), "query")  # noqa: B009 - no name that can be written
    assert len(client.embed(["cat"] * 200, model="tiny").embeddings) == 200
    ranked = client.rerank(check.query, check.texts, model=check.reranker)
    check.ranking([each.index for each in ranked], [each.relevance_score for each in ranked])
    tokens = client.tokenize("the cat", model="tiny")
    assert client.detokenize(tokens.tokens, model="tiny").text == "the cat"
    refused(lambda: client.embed(["cat"], model="nothing"), "CohereAPIError", "not served")


def check_cohere5(check: Check) -> None:
    import cohere

    client, newer = cohere.Client("none", base_url=check.url), cohere.ClientV2("none", base_url=check.url)
    check.vectors(client.embed(texts=check.texts, model="tiny").embeddings)
    check.vectors(
        client.embed(
            texts=check.texts, model="tiny", input_type="search_document", embedding_types=["float"]
        ).embeddings.float_,
        "document",
    )
    assert len(client.embed(texts=["cat"] * 200, model="tiny", input_type="search_query").embeddings) == 200
    found = newer.embed(
        texts=check.texts, model="tiny", input_type="search_query", embedding_types=["float", "int8", "ubinary"]
    )
    check.vectors(found.embeddings.float_, "query")
    for reply in (
        client.rerank(query=check.query, documents=check.texts, model=check.reranker),
        newer.rerank(query=check.query, documents=check.texts, model=check.reranker),
    ):
        check.ranking([each.index for each in reply.results], [each.relevance_score for each in reply.results])
    tokens = client.tokenize(text="the cat", model="tiny", offline=False)
    assert client.detokenize(tokens=tokens.tokens, model="tiny", offline=False).text == "the cat"
    assert "tiny" in [model.name for model in client.models.list().models]
    refused(lambda: newer.embed(texts=["cat"], model="nothing", input_type="search_query"), "NotFound", "not served")


def check_voyage(check: Check) -> None:
    import voyageai

    try:
        client = voyageai.Client("none", base_url=check.url + "/v1")
    except TypeError:  # until 0.3
        voyageai.api_base = check.url + "/v1"
        client = voyageai.Client("none")
    check.vectors(client.embed(check.texts, model="tiny").embeddings)
    check.vectors(client.embed(check.texts, model="tiny", input_type="query").embeddings, "query")
    check.vectors(client.embed(check.texts, model="tiny", input_type="document").embeddings, "document")
    if voyageai.__version__ >= "0.3":
        coded = client.embed(check.texts, model="tiny", output_dtype="ubinary").embeddings
        assert [len(row) * 8 for row in coded] == [32] * 3
        late = client.contextualized_embed([check.texts], model="tiny").results[0].embeddings
        assert len(late) == 3
    ranked = client.rerank(check.query, check.texts, model=check.reranker, top_k=2).results
    check.ranking([each.index for each in ranked], [each.relevance_score for each in ranked], 2)
    refused(lambda: client.embed(["cat"], model="nothing"), "not served")


def check_ollama(check: Check) -> None:
    import ollama

    client = ollama.Client(host=check.url)
    check.first(client.embeddings(model="tiny", prompt=check.texts[0])["embedding"])
    check.vectors(client.embed(model="tiny", input=check.texts, truncate=True, keep_alive="5m")["embeddings"])
    assert "tiny:latest" in [model["model"] for model in client.list()["models"]]
    assert client.show("tiny")["model_info" if isinstance(client.show("tiny"), dict) else "modelinfo"]
    assert client.ps()["models"]
    assert client.pull("tiny")["status"] == "success"
    refused(lambda: client.embed(model="nothing", input="cat"), "ResponseError", "not found")


def check_hub(check: Check) -> None:
    from huggingface_hub import InferenceClient

    try:
        client = InferenceClient(model=check.url, provider="hf-inference")  # for what asks an endpoint about itself
    except TypeError:  # until 0.27
        client = InferenceClient(model=check.url)
    check.vectors([client.feature_extraction(text)[0] for text in check.texts])
    near = client.sentence_similarity(check.texts[0], other_sentences=check.texts)
    assert abs(near[0] - 1) < 1e-5, near
    told = client.get_endpoint_info(model=check.url)
    assert told["model_id"] == "tiny"
    assert client.health_check(model=check.url)
    refused(lambda: client.feature_extraction(""), "empty")


def check_langchain_cohere(check: Check) -> None:
    from langchain_cohere import CohereEmbeddings, CohereRerank

    options: Any = {"cohere_api_key": "none", "base_url": check.url}
    embeds = CohereEmbeddings(model="tiny", **options)
    check.vectors(embeds.embed_documents(check.texts), "document")
    check.first(embeds.embed_query(check.texts[0]), "query")
    ranked = CohereRerank(model=check.reranker, top_n=2, **options).rerank(check.texts, check.query)
    check.ranking([each["index"] for each in ranked], [each["relevance_score"] for each in ranked], 2)


def check_llama_index_cohere(check: Check) -> None:
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.embeddings.cohere import CohereEmbedding
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    # It takes names of Cohere's models alone: the server gives one of them to its own.
    embeds = CohereEmbedding(model_name="embed-english-v3.0", api_key="none", base_url=check.url)
    check.vectors(embeds.get_text_embedding_batch(check.texts), "document")
    check.first(embeds.get_query_embedding(check.texts[0]), "query")
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in check.texts]
    ranker = CohereRerank(model=check.reranker, top_n=2, api_key="none", base_url=check.url)
    ranked = ranker.postprocess_nodes(nodes, query_str=check.query)
    places = [check.texts.index(node.node.get_content()) for node in ranked]
    check.ranking(places, [node.score for node in ranked], 2)


def check_llama_index_voyage(check: Check) -> None:
    import tokenizers
    import voyageai
    from llama_index.core.schema import NodeWithScore, TextNode
    from llama_index.embeddings.voyageai import VoyageEmbedding
    from llama_index.postprocessor.voyageai_rerank import VoyageAIRerank

    # It counts tokens with the tokenizer of voyageai/<model>, which is on the Hub for Voyage's own alone.
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    tokenizers.Tokenizer.from_pretrained = lambda _: words
    embeds = VoyageEmbedding(model_name="tiny", voyage_api_key="none", truncation=True)
    embeds._client = voyageai.Client("none", base_url=check.url + "/v1")
    check.vectors(embeds.get_text_embedding_batch(check.texts), "document")
    check.first(embeds.get_query_embedding(check.texts[0]), "query")
    ranker = VoyageAIRerank(model=check.reranker, api_key="none", top_n=2)
    ranker._client = voyageai.Client("none", base_url=check.url + "/v1")
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in check.texts]
    ranked = ranker.postprocess_nodes(nodes, query_str=check.query)
    places = [check.texts.index(node.node.get_content()) for node in ranked]
    check.ranking(places, [node.score for node in ranked], 2)


def check_litellm(check: Check) -> None:
    import litellm

    litellm.telemetry = False
    bases = {"openai": "/v1", "hosted_vllm": "/v1", "ollama": "", "voyage": "/v1", "jina_ai": "/v1", "infinity": ""}
    for provider, path in bases.items():
        found = litellm.embedding(f"{provider}/tiny", input=check.texts, api_base=check.url + path, api_key="none")
        check.vectors([item["embedding"] for item in found.data])
    options: Any = {"input": check.texts, "api_base": check.url + "/v2/embed", "api_key": "none"}
    found = litellm.embedding("cohere/tiny", input_type="search_query", **options)
    check.vectors([item["embedding"] for item in found.data], "query")
    for provider in ("cohere", "jina_ai", "voyage", "infinity", "huggingface"):
        options = {"api_base": check.url, "api_key": "none", "top_n": 2}
        found = litellm.rerank(f"{provider}/{check.reranker}", query=check.query, documents=check.texts, **options)
        places = found.results[:2]  # TEI knows no top_n
        check.ranking([each["index"] for each in places], [each["relevance_score"] for each in places], 2)


def check_infinity(check: Check) -> None:
    from infinity_client import Client
    from infinity_client.api.default import embeddings, rerank
    from infinity_client.models import OpenAIEmbeddingInputText, RerankInput
    from langchain_community.document_compressors.infinity_rerank import InfinityRerank
    from langchain_core.documents import Document

    client = Client(base_url=check.url)
    found = embeddings.sync(client=client, body=OpenAIEmbeddingInputText(input_=check.texts, model="tiny"))
    check.vectors([item.embedding for item in found.data])
    ranked = rerank.sync(client=client, body=RerankInput(check.query, check.texts, model=check.reranker))
    check.ranking([each.index for each in ranked.results], [each.relevance_score for each in ranked.results])
    ranker = InfinityRerank(client=client, model=check.reranker, top_n=2)
    documents = ranker.compress_documents([Document(page_content=text) for text in check.texts], check.query)
    places = [check.texts.index(each.page_content) for each in documents]
    check.ranking(places, [each.metadata["relevance_score"] for each in documents], 2)


def check_sie(check: Check) -> None:
    from sie_sdk import SIEClient

    with SIEClient(check.url) as client:
        check.vectors(
            [each["dense"] for each in client.encode("tiny", [{"text": text} for text in check.texts])], "document"
        )
        check.first(client.encode("tiny", {"text": check.texts[0]}, is_query=True)["dense"], "query")
        items = [{"id": str(at), "text": text} for at, text in enumerate(check.texts)]
        scores = client.score(check.reranker, {"text": check.query}, items)["scores"]
        assert [int(each["item_id"]) for each in scores] == check._order
        assert "tiny" in [model["name"] for model in client.list_models()]
        assert client.get_model("tiny")["state"] == "loaded"
        refused(lambda: client.encode("nothing", {"text": "cat"}), "not served")


def check_gemini(check: Check) -> None:
    from google import genai

    client = genai.Client(api_key="none", http_options={"base_url": check.url})
    _check_google(check, client)


def check_vertex(check: Check) -> None:
    from google import genai
    from google.auth.credentials import AnonymousCredentials

    credentials = AnonymousCredentials()
    credentials.token = "none"
    options = {"base_url": check.url}
    client = genai.Client(vertexai=True, project="p", location="l", credentials=credentials, http_options=options)
    _check_google(check, client)


def _check_google(check: Check, client: Any) -> None:
    found = client.models.embed_content(model="tiny", contents=check.texts)
    check.vectors([each.values for each in found.embeddings])
    found = client.models.embed_content(model="tiny", contents=check.texts[0], config={"task_type": "RETRIEVAL_QUERY"})
    check.first(found.embeddings[0].values, "query")
    refused(lambda: client.models.embed_content(model="nothing", contents="cat"), "404", "NOT_FOUND", "not served")


def check_bedrock(check: Check) -> None:
    import boto3

    keys = {"region_name": "us-east-1", "aws_access_key_id": "none", "aws_secret_access_key": "none"}
    client = boto3.client("bedrock-runtime", endpoint_url=check.url, **keys)
    body = json.dumps({"inputText": check.texts[0]})
    check.first(json.loads(client.invoke_model(modelId="tiny", body=body)["body"].read())["embedding"])
    text = {"truncationMode": "END", "value": check.texts[0]}
    parameters = {"embeddingPurpose": "GENERIC_RETRIEVAL", "text": text}
    nova = json.dumps({"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": parameters})
    reply = json.loads(client.invoke_model(modelId="tiny", body=nova)["body"].read())
    check.first(reply["embeddings"][0]["embedding"], "query")
    refused(lambda: client.invoke_model(modelId="nothing", body=body), "ResourceNotFoundException", "not served")


CHECKS: dict[str, Callable[[Check], None]] = {
    name.removeprefix("check_").replace("_", "-"): value
    for name, value in globals().items()
    if name.startswith("check_")
}

if __name__ == "__main__":
    client, url, path = sys.argv[1:]
    CHECKS[client](Check(url, json.loads(Path(path).read_text(encoding="utf-8"))))
