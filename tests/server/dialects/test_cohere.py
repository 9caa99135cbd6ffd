"""The official Cohere clients, v1 and v2, over a real socket."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cohere
import httpx
import numpy as np
import pytest
from cohere.core.api_error import ApiError
from cohere.manually_maintained.cache import CacheMixin

from nearfield.auto import load
from nearfield.encoder import Encoder
from nearfield.inference.loaded_model import LoadedModel
from nearfield.reranker import Reranker
from nearfield.server.dialects.openai.routes import OpenAiDialect
from nearfield.server.http.request_context import RequestContext
from nearfield.server.models.model_pool import ModelPool
from nearfield.testing import tiny_encoder
from nearfield.vectors.quantization import unit_ranges
from tests.parity.scores import classifier
from tests.support.serving import serving

# The clients use features of pydantic that are deprecated.
pytestmark = [
    pytest.mark.network,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_fields' attribute:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The `(parse_obj|dict)` method is deprecated:DeprecationWarning"),
]
TEXTS = ["the cat sat on the mat", "a blue dog", "hello world"]
TYPES = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
DOCUMENTS = ["the river bank", "night light", "a small house", "green tree and stone", "red fox"]
Pair = tuple[cohere.Client, cohere.ClientV2]


@pytest.fixture(scope="module")
def clients(fleet_url: str) -> Iterator[Pair]:
    with (
        cohere.Client("none", base_url=fleet_url, max_retries=0) as first,
        cohere.ClientV2("none", base_url=fleet_url, max_retries=0) as second,
    ):
        yield first, second


@pytest.fixture(scope="module")
def v1(clients: Pair) -> cohere.Client:
    return clients[0]


@pytest.fixture(scope="module")
def v2(clients: Pair) -> cohere.ClientV2:
    return clients[1]


def _floats(reply: Any) -> Any:
    return np.array(reply.embeddings.float_, np.float32)


# -- embed ---------------------------------------------------------------------------------------------------------


def test_v1_floats(v1: cohere.Client, tiny: Encoder) -> None:
    reply: Any = v1.embed(texts=TEXTS[:1], model="tiny")
    np.testing.assert_array_equal(np.array(reply.embeddings, np.float32), np.asarray(tiny.encode(TEXTS[:1])))
    assert (reply.response_type, reply.texts) == ("embeddings_floats", TEXTS[:1])
    assert reply.id
    assert reply.meta.api_version.version == "1"
    assert reply.meta.billed_units.input_tokens == sum(len(tokens.ids) for tokens in tiny.tokenize(TEXTS[:1]))


def test_v1_without_a_model_uses_the_first(v1: cohere.Client, tiny: Encoder) -> None:
    reply: Any = v1.embed(texts=["cat"], input_type="search_query")
    np.testing.assert_array_equal(np.array(reply.embeddings, np.float32), np.asarray(tiny.encode_query(["cat"])))


def test_v1_merges_a_hundred_texts(v1: cohere.Client, tiny: Encoder) -> None:
    texts = [f"the cat {n}" for n in range(100)]
    reply: Any = v1.embed(texts=texts, model="tiny", input_type="search_document")
    np.testing.assert_allclose(np.array(reply.embeddings), np.asarray(tiny.encode_document(texts)), atol=1e-6)
    assert reply.texts == texts
    assert len(reply.id.split(", ")) == 2
    typed: Any = v1.embed(texts=texts, model="tiny", embedding_types=["float", "ubinary"])
    assert (len(typed.embeddings.float_), len(typed.embeddings.ubinary), typed.embeddings.int8) == (100, 100, None)
    streamed = list(v1.embed_stream(texts=texts, model="tiny"))
    assert [event.index for event in streamed] == list(range(100))


def test_v2_floats(v2: cohere.ClientV2, tiny: Encoder) -> None:
    reply = v2.embed(model="tiny", input_type="search_query", texts=TEXTS[:1], embedding_types=["float"])
    np.testing.assert_array_equal(_floats(reply), np.asarray(tiny.encode_query(TEXTS[:1])))
    assert reply.meta is not None and reply.meta.api_version is not None
    assert reply.meta.api_version.version == "2"
    default = v2.embed(model="tiny", input_type="search_query", texts=TEXTS[:1])
    np.testing.assert_array_equal(_floats(default), _floats(reply))


@pytest.mark.parametrize("version", [1, 2])
def test_six_types_of_the_same_vectors(clients: Pair, tiny: Encoder, version: int) -> None:
    options: Any = {"model": "tiny", "texts": TEXTS, "embedding_types": TYPES, "input_type": "search_document"}
    if version == 1:  # its client merges replies into one without the fields of each
        options["batching"] = False
    reply: Any = clients[version - 1].embed(**options)
    embeddings = reply.embeddings
    floats = np.array(embeddings.float_, np.float32)
    coded = [np.frombuffer(base64.b64decode(text), "<f4") for text in embeddings.base64]
    np.testing.assert_array_equal(np.stack(coded), floats)
    ubinary = np.array(embeddings.ubinary)
    assert ubinary.shape == (3, tiny.dimensions // 8)
    np.testing.assert_array_equal(ubinary, np.packbits(floats > 0, axis=1))
    np.testing.assert_array_equal(np.array(embeddings.binary), ubinary - 128)
    int8, uint8 = np.array(embeddings.int8), np.array(embeddings.uint8)
    np.testing.assert_array_equal(uint8, int8 + 128)
    low, high = reply.meta.embedding_range
    assert (low, high) == tuple(unit_ranges(tiny.dimensions)[:, 0].tolist())
    np.testing.assert_array_equal(uint8, np.rint((floats - np.float32(low)) * (255 / np.float32(high - low))))
    assert (np.sum(int8 * floats, 1) / np.linalg.norm(int8, axis=1) > 0.99).all()


def test_the_scale_does_not_depend_on_the_batch(v2: cohere.ClientV2) -> None:
    def ask(texts: list[str]) -> Any:
        reply: Any = v2.embed(model="tiny", input_type="search_query", texts=texts, embedding_types=["int8"])
        assert reply.embeddings.float_ is None
        return np.array(reply.embeddings.int8)

    assert np.abs(ask(TEXTS)[:1] - ask(TEXTS[:1])).max() <= 1


def test_only_requested_types_are_returned(fleet_url: str) -> None:
    body = {"model": "tiny", "texts": TEXTS, "input_type": "search_query", "embedding_types": ["ubinary", "ubinary"]}
    reply = httpx.post(fleet_url + "/v2/embed", json=body).json()
    assert list(reply["embeddings"]) == ["ubinary"]
    assert "embedding_range" not in reply["meta"]


def test_a_large_reply_is_whole(fleet_url: str, tiny: Encoder) -> None:
    texts = [f"the cat {n}" for n in range(3000)]  # about 96,000 numbers: written in parts
    body = {"model": "tiny", "texts": texts, "input_type": "search_document", "embedding_types": TYPES}
    reply = httpx.post(fleet_url + "/v2/embed", json=body, timeout=60).json()
    assert {kind: len(rows) for kind, rows in reply["embeddings"].items()} == dict.fromkeys(TYPES, 3000)
    floats = np.array(reply["embeddings"]["float"], np.float32)
    np.testing.assert_allclose(floats, np.asarray(tiny.encode_document(texts)), atol=1e-6)
    np.testing.assert_array_equal(reply["embeddings"]["ubinary"], np.packbits(floats > 0, axis=1))


def test_input_types_are_roles_tasks_or_prompts(tmp_path: Path, v2: cohere.ClientV2, tiny: Encoder) -> None:
    def ask(client: cohere.ClientV2, model: str, kind: str) -> Any:
        return _floats(client.embed(model=model, input_type=kind, texts=["cat"]))

    np.testing.assert_array_equal(ask(v2, "tiny", "search_query"), np.asarray(tiny.encode_query(["cat"])))
    np.testing.assert_array_equal(ask(v2, "tiny", "search_document"), np.asarray(tiny.encode_document(["cat"])))
    assert np.abs(ask(v2, "tiny", "search_query") - ask(v2, "tiny", "search_document")).max() > 0.01
    for kind in ("classification", "clustering"):  # it has no prompt of these names
        np.testing.assert_array_equal(ask(v2, "tiny", kind), np.asarray(tiny.encode(["cat"])))
    prompts = {"Classification": "red ", "separation": "blue ", "retrieval.query": "a "}
    with tiny_encoder(tmp_path / "m", prompts=prompts, precision="float32") as encoder, serving([encoder]) as base:
        other = cohere.ClientV2("none", base_url=base)
        with other:
            for kind, prompt in (("classification", "red "), ("clustering", "blue "), ("search_query", "a ")):
                np.testing.assert_array_equal(ask(other, "m", kind), np.asarray(encoder.encode([prompt + "cat"])))
            np.testing.assert_array_equal(ask(other, "m", "search_document"), np.asarray(encoder.encode(["cat"])))


def test_inputs_in_parts(v2: cohere.ClientV2, tiny: Encoder) -> None:
    inputs: Any = [{"content": [{"type": "text", "text": "cat"}, {"type": "text", "text": "dog"}]}]
    reply = v2.embed(model="tiny", input_type="search_document", inputs=inputs)
    np.testing.assert_array_equal(_floats(reply), np.asarray(tiny.encode_document(["cat\ndog"])))


IMAGE = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"images": [IMAGE], "input_type": "image"}, "images"),
        ({"texts": ["cat"], "input_type": "image"}, "input_type"),
        ({"inputs": [{"content": [{"type": "image_url", "image_url": {"url": IMAGE}}]}]}, "inputs"),
        ({"inputs": [{"content": []}]}, "inputs"),
        ({"texts": ["cat"], "images": [IMAGE]}, "texts"),
        ({}, "texts"),
        ({"texts": []}, "texts"),
        ({"texts": ["cat"], "embedding_types": ["int4"]}, "embedding_types"),
        ({"texts": ["cat"], "max_tokens": 2}, "max_tokens"),
        ({"texts": ["cat"], "output_dimension": 8}, "output_dimension"),
    ],
)
def test_inputs_that_cannot_be_embedded(v2: cohere.ClientV2, extra: dict[str, Any], field: str) -> None:
    with pytest.raises(cohere.BadRequestError) as refusal:
        v2.embed(**{"model": "tiny", "input_type": "search_query", **extra})
    body: Any = refusal.value.body
    assert body["error"]["param"] == field
    assert body["message"] == body["detail"] == body["error"]["message"]
    if IMAGE in str(extra):
        assert re.search("reads texts, and an input is a picture|Exactly one", body["message"])


def test_v1_needs_texts(v1: cohere.Client) -> None:
    with pytest.raises(cohere.BadRequestError, match="reads texts, and an input is a picture"):
        v1.embed(images=[IMAGE], model="tiny")
    with pytest.raises(cohere.BadRequestError, match="texts is missing"):
        v1.embed(model="tiny", batching=False)


def test_truncation(v1: cohere.Client, v2: cohere.ClientV2, tiny: Encoder) -> None:
    mixed = "dog " * 40 + "cat " * 40

    def ask(**options: Any) -> Any:
        return v2.embed(model="tiny", input_type="search_document", texts=[mixed], **options)

    start, end = ask(truncate="START"), ask(truncate="END")
    np.testing.assert_array_equal(_floats(start), np.asarray(tiny.encode_document([mixed], truncate="left")))
    np.testing.assert_array_equal(_floats(end), np.asarray(tiny.encode_document([mixed], truncate="right")))
    np.testing.assert_array_equal(_floats(ask()), _floats(end))
    assert np.abs(_floats(start) - _floats(end)).max() > 0.01
    dropped = int(tiny.encode_document([mixed]).dropped[0])
    assert [int(warning.split()[0]) for warning in end.meta.warnings] == [dropped]
    for client, more in ((v1, {}), (v2, {"input_type": "search_document"})):
        with pytest.raises(cohere.BadRequestError, match="input_too_long"):
            client.embed(model="tiny", texts=[mixed], truncate="NONE", **more)  # type: ignore[arg-type]


def test_max_tokens(v2: cohere.ClientV2, tiny: Encoder) -> None:
    def ask(**options: Any) -> Any:
        return v2.embed(model="tiny", input_type="classification", texts=["dog cat red blue"], **options)

    # Four tokens, of which the special ones at both ends are two.
    np.testing.assert_array_equal(_floats(ask(max_tokens=4)), np.asarray(tiny.encode(["dog cat"])))
    np.testing.assert_array_equal(_floats(ask(max_tokens=4, truncate="START")), np.asarray(tiny.encode(["red blue"])))
    np.testing.assert_array_equal(_floats(ask(max_tokens=9999)), np.asarray(tiny.encode(["dog cat red blue"])))
    assert ask(max_tokens=4).meta.billed_units.input_tokens == 4
    with pytest.raises(cohere.BadRequestError, match="input_too_long"):
        ask(max_tokens=4, truncate="NONE")


def test_max_length_in_python(tiny: Encoder) -> None:
    assert tiny.encode(["dog cat red blue"], max_length=4).dropped.tolist() == [2]
    whole = tiny.encode(["dog cat. red blue. " * 3], max_length=8, truncate="chunk")
    assert whole.dropped.tolist() == [0]
    assert whole.tokens[0] > 8


def test_output_dimension(tmp_path: Path) -> None:
    with tiny_encoder(tmp_path / "m", precision="float32") as encoder:
        object.__setattr__(encoder.recipe, "matryoshka", (8, 16, 32))
        with serving([encoder]) as base, cohere.ClientV2("none", base_url=base) as client:
            options: Any = {"model": "m", "texts": ["cat"], "input_type": "search_query", "output_dimension": 16}
            reply: Any = client.embed(**options, embedding_types=TYPES)
            np.testing.assert_array_equal(_floats(reply), np.asarray(encoder.encode(["cat"], truncate_dim=16)))
            assert len(reply.embeddings.ubinary[0]) == 2
            assert reply.meta.embedding_range[1] == float(unit_ranges(16)[1, 0])


def test_vectors_without_unit_length_have_no_int8(tmp_path: Path) -> None:
    from tests.support import tiny_models as checkpoints

    folder = checkpoints.tiny_bert(tmp_path / "long", normalize=False)
    with Encoder(str(folder), precision="float32", compile_cache=False) as encoder, serving([encoder]) as base:
        long = cohere.ClientV2("none", base_url=base, max_retries=0)
        with long as client:
            options: Any = {"model": "long", "texts": ["cat"], "input_type": "classification"}
            reply = client.embed(**options, embedding_types=["float", "ubinary"])
            np.testing.assert_array_equal(_floats(reply), np.asarray(encoder.encode(["cat"])))
            with pytest.raises(cohere.BadRequestError, match="not of unit length"):
                client.embed(**options, embedding_types=["int8"])


def test_null_fields_count_as_absent(fleet_url: str, tiny: Encoder) -> None:
    body: dict[str, Any] = {"model": "tiny", "texts": ["cat"], "input_type": "search_query"}
    names = ("images", "inputs", "max_tokens", "output_dimension", "embedding_types", "truncate", "priority")
    reply = httpx.post(fleet_url + "/v2/embed", json={**body, **dict.fromkeys(names)})
    vectors = np.array(reply.json()["embeddings"]["float"], np.float32)
    np.testing.assert_array_equal(vectors, np.asarray(tiny.encode_query(["cat"])))
    assert "x-nearfield-ignored-fields" not in reply.headers
    ranking = {"model": "tiny-reranker", "query": "cat", "documents": DOCUMENTS}
    nulls = {**ranking, "top_n": None, "max_tokens_per_doc": None, "return_documents": None}
    for path in ("/v1/rerank", "/v2/rerank"):
        reply = httpx.post(fleet_url + path, json=nulls, headers={"x-fern-sdk-name": "cohere"})
        assert len(reply.json()["results"]) == len(DOCUMENTS)
    reply = httpx.post(fleet_url + "/v2/embed", json={**body, "priority": 3})
    assert reply.headers["x-nearfield-ignored-fields"] == "priority"


# -- rerank --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_rerank(clients: Pair, fleet: dict[str, LoadedModel], version: int) -> None:
    model: Any = fleet["reranker"]
    reply: Any = clients[version - 1].rerank(model="tiny-reranker", query="stone house", documents=DOCUMENTS)
    expected = model.rank("stone house", DOCUMENTS)
    assert [result.index for result in reply.results] == [result.index for result in expected]
    scores = [result.relevance_score for result in reply.results]
    np.testing.assert_allclose(scores, [result.score for result in expected], atol=1e-6)
    assert scores == sorted(scores, reverse=True) and 0 <= scores[-1] < scores[0] <= 1
    assert reply.id and reply.meta.api_version.version == str(version)
    assert reply.meta.billed_units.search_units == 1
    best: Any = clients[version - 1].rerank(model="tiny-reranker", query="stone house", documents=DOCUMENTS, top_n=2)
    assert [result.index for result in best.results] == [result.index for result in expected[:2]]
    with pytest.raises(cohere.BadRequestError, match="top_n"):
        clients[version - 1].rerank(model="tiny-reranker", query="stone", documents=DOCUMENTS, top_n=0)


def test_v1_documents(v1: cohere.Client, fleet: dict[str, LoadedModel]) -> None:
    model: Any = fleet["reranker"]
    sent: Any = [{"title": text, "text": text[::-1], "n": "7"} for text in DOCUMENTS[:4]] + DOCUMENTS[4:]
    plain = v1.rerank(model="tiny-reranker", query="stone", documents=sent)
    assert [result.document for result in plain.results] == [None] * 5
    backwards = [text[::-1] for text in DOCUMENTS[:4]] + DOCUMENTS[4:]
    assert [result.index for result in plain.results] == [result.index for result in model.rank("stone", backwards)]
    options: Any = {"model": "tiny-reranker", "query": "stone", "documents": sent, "return_documents": True}
    named = v1.rerank(**options, rank_fields=["title", "missing", "n"])
    joined = [f"{text}\n7" for text in DOCUMENTS[:4]] + DOCUMENTS[4:]
    expected = model.rank("stone", joined)
    assert [result.index for result in named.results] == [result.index for result in expected]
    scores = [result.relevance_score for result in named.results]
    np.testing.assert_allclose(scores, [result.score for result in expected], atol=1e-6)
    for result in named.results:
        document = sent[result.index]
        assert result.document is not None
        assert result.document.dict() == ({"text": document} if isinstance(document, str) else document)
    with pytest.raises(cohere.BadRequestError, match=r"documents\[0\] has no text to rank"):
        v1.rerank(model="tiny-reranker", query="stone", documents=sent, rank_fields=["missing"])


@pytest.mark.slow
def test_scores_lie_between_0_and_1(tmp_path: Path) -> None:
    bounded: dict[str, Callable[[Any], Any]] = {
        "Identity": lambda x: 1 / (1 + np.exp(-x)),
        "Tanh": lambda x: (1 + x) / 2,
    }
    for activation, between in bounded.items():
        folder = classifier("bert", 1, activation=activation)(tmp_path / activation)
        with load(str(folder), precision="float32", compile_cache=False) as model, serving([model]) as base:
            assert isinstance(model, Reranker)
            expected = model.rank("stone", DOCUMENTS)
            assert expected[-1].score < 0  # some would be out of range without scaling
            with cohere.ClientV2("none", base_url=base) as client:
                results = client.rerank(model=model.name, query="stone", documents=DOCUMENTS).results
            assert [result.index for result in results] == [result.index for result in expected]
            scores = np.array([result.relevance_score for result in results])
            np.testing.assert_allclose(scores, between(np.array([result.score for result in expected])), atol=1e-6)


def test_late_interaction_ranks(v2: cohere.ClientV2, fleet: dict[str, LoadedModel]) -> None:
    model: Any = fleet["m3"]
    query = model.encode(["stone house"], outputs="multivector", role="query").multivector
    documents = model.encode(DOCUMENTS, outputs="multivector", role="document").multivector
    means = query.similarity(documents)[0]  # bge-m3's scores are means already
    results = v2.rerank(model=model.name, query="stone house", documents=DOCUMENTS).results
    assert [result.index for result in results] == np.argsort(-means, kind="stable").tolist()
    np.testing.assert_allclose(
        [result.relevance_score for result in results], (1 + np.sort(means)[::-1]) / 2, atol=1e-6
    )


def test_sums_of_late_interaction_become_means() -> None:
    from nearfield.reranker import Ranked
    from nearfield.server.dialects.cohere.rerank import relevance_scores
    from nearfield.server.exchange import Rank
    from nearfield.server.models.description import ModelDescription

    def relevance(*, unit_length: bool) -> Any:
        exchange = Rank(query="", documents=[], summed=4, ranked=[Ranked(0, 4.0), Ranked(1, 2.0), Ranked(2, -2.0)])
        exchange.description = ModelDescription(
            name="colbert",
            kind="encoder",
            outputs=("multivector",),
            max_length=8,
            batch_tokens=8,
            precision="float32",
            folder=Path(),
            multivectors_normalized=unit_length,
        )
        return relevance_scores(exchange)

    np.testing.assert_allclose(relevance(unit_length=True), [1, 0.75, 0.25])
    np.testing.assert_allclose(relevance(unit_length=False), 1 / (1 + np.exp([-1, -0.5, 0.5])), rtol=1e-6)


def test_max_tokens_per_doc(v2: cohere.ClientV2, fleet: dict[str, LoadedModel]) -> None:
    model: Any = fleet["reranker"]
    long = [f"{text} river water" for text in ("stone house", "red fox", "night light")]
    reply: Any = v2.rerank(model="tiny-reranker", query="stone", documents=long, max_tokens_per_doc=2)
    expected = model.rank("stone", ["stone house", "red fox", "night light"])
    assert [result.index for result in reply.results] == [result.index for result in expected]
    scores = [result.relevance_score for result in reply.results]
    np.testing.assert_allclose(scores, [result.score for result in expected], atol=1e-6)
    assert reply.meta.warnings[0].startswith("6 tokens were cut off")


def test_texts_are_shortened_at_tokens(tiny: Encoder) -> None:
    shorten = tiny.tokenizer.shorten
    assert shorten(["Red  Cat, blue dog", "cat", ""], 2) == (["Red  Cat", "cat", ""], 3)
    assert shorten([], 2) == ([], 0)


def test_other_clients_rerank_as_jina(fleet_url: str) -> None:
    body = {"model": "tiny-reranker", "query": "stone", "documents": DOCUMENTS}
    assert "usage" in httpx.post(fleet_url + "/v1/rerank", json=body).json()
    client_headers = (
        {"x-fern-sdk-name": "cohere"},
        {"user-agent": "cohere/5.21.1"},
        {"request-source": "python-sdk-4.57"},
    )
    for headers in (*client_headers, {"x-fern-sdk-name": "cohere-ai"}):
        assert "meta" in httpx.post(fleet_url + "/v1/rerank", json=body, headers=headers).json()
    for field in ("rank_fields", "max_chunks_per_doc"):
        assert "meta" in httpx.post(fleet_url + "/v1/rerank", json={**body, field: None}).json()


# -- tokenize, models, keys ----------------------------------------------------------------------------------------


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the tokenizers that all clients of a process share."""
    monkeypatch.setattr(CacheMixin, "_cache", {})


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("offline", [True, False])
def test_tokenize(fleet_url: str, tiny: Encoder, offline: bool) -> None:
    text = "The quick foxes"
    expected = tiny.tokenizer.backend.encode(text, add_special_tokens=False)
    with cohere.Client("none", base_url=fleet_url) as client:
        tokens = client.tokenize(text=text, model="tiny", offline=offline)
        assert tokens.tokens == expected.ids
        assert tokens.token_strings == ([] if offline else expected.tokens)
        back = client.detokenize(tokens=tokens.tokens, model="tiny", offline=offline)
        assert back.text == tiny.tokenizer.backend.decode(expected.ids)
        assert (tokens.meta is None) == (back.meta is None) == offline


@pytest.mark.usefixtures("no_cache")
def test_the_client_downloads_the_tokenizer(v1: cohere.Client, tiny: Encoder, fleet: dict[str, LoadedModel]) -> None:
    for model in (tiny, fleet["m3"]):
        assert v1.fetch_tokenizer(model=model.name).to_str() == model.tokenizer.backend.to_str()


@pytest.mark.parametrize(
    ("path", "extra", "field"),
    [
        ("tokenize", {"text": ""}, "text"),
        ("tokenize", {"text": "x" * 65_537}, "text"),
        ("detokenize", {"tokens": []}, "tokens"),
        ("detokenize", {"tokens": [-1]}, "tokens"),
        ("detokenize", {"tokens": [10**9]}, "tokens"),
        ("detokenize", {"tokens": [2**70]}, "tokens"),
    ],
)
def test_inputs_that_cannot_be_tokenized(fleet_url: str, path: str, extra: dict[str, Any], field: str) -> None:
    reply = httpx.post(f"{fleet_url}/v1/{path}", json={"model": "tiny", **extra})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, field)


def test_models(v1: cohere.Client, fleet: dict[str, LoadedModel], fleet_url: str) -> None:
    listed = {model.name: model for model in v1.models.list().models}
    assert set(listed) == {model.name for model in fleet.values()}
    endpoints = {kind: listed[model.name].endpoints for kind, model in fleet.items()}
    assert endpoints == {"tiny": ["embed"], "m3": ["embed", "rerank"], "reranker": ["rerank"], "classifier": []}
    rerank = v1.models.list(endpoint="rerank")
    assert [model.name for model in rerank.models] == [fleet["m3"].name, fleet["reranker"].name]
    default = v1.models.list(endpoint="rerank", default_only=True)
    assert [model.name for model in default.models] == [fleet["m3"].name]
    one = v1.models.get("tiny")
    assert (one.name, one.context_length, one.finetuned) == ("tiny", fleet["tiny"].max_length, False)
    assert one.tokenizer_url == fleet_url + "/v1/tokenizers/tiny"
    names, token = [], None
    for _ in range(2):
        page = v1.models.list(page_size=2, page_token=token)
        names += [model.name for model in page.models]
        token = page.next_page_token
    assert token is None
    assert names == list(listed)
    with pytest.raises(cohere.BadRequestError, match="page_size"):
        v1.models.list(page_size=0)


def test_the_tokenizer_url_has_the_client_s_host(tiny: Encoder) -> None:
    with serving([tiny], allowed_hosts=["vectors.example"]) as base:
        one = httpx.get(base + "/v1/models/tiny", headers={"host": "vectors.example"}).json()
    assert one["tokenizer_url"] == "http://vectors.example/v1/tokenizers/tiny"
    call = RequestContext(ModelPool([tiny]), {"host": "vectors.example:8443"}, {"model": "tiny"}, scheme="https")
    route = next(route for route in OpenAiDialect.routes if route.path == "/v1/models/{model:path}")
    assert route.read(None, call)["tokenizer_url"] == "https://vectors.example:8443/v1/tokenizers/tiny"


@pytest.mark.usefixtures("no_cache")
def test_keys(tiny: Encoder) -> None:
    with serving([tiny], api_keys=["secret"]) as base:
        reply = httpx.post(base + "/v1/check-api-key", headers={"authorization": "Bearer secret"})
        assert reply.json() == {"valid": True}
        assert httpx.get(base + "/v1/tokenizers/tiny").status_code == 401
        with cohere.Client("secret", base_url=base) as client:
            assert client.embed(texts=["cat"], model="tiny")
            # The client downloads the file without its key, is refused, and lets the server tokenise instead.
            tokens = client.tokenize(text="the cat", model="tiny")
            assert tokens.token_strings == ["the", "cat"]
        with cohere.ClientV2("wrong", base_url=base) as other, pytest.raises(cohere.UnauthorizedError) as refusal:
            other.embed(texts=["cat"], model="tiny", input_type="search_query")
        body: Any = refusal.value.body
        assert body["message"] == "Incorrect API key."


def test_errors_raise_the_clients_classes(v1: cohere.Client, v2: cohere.ClientV2, fleet_url: str) -> None:
    with pytest.raises(cohere.NotFoundError, match="Did you mean 'tiny'"):
        v2.embed(texts=["cat"], model="tinny", input_type="search_query")
    with pytest.raises(cohere.BadRequestError, match="gives no vectors"):
        v1.embed(texts=["cat"], model="tiny-reranker")
    with pytest.raises(cohere.BadRequestError, match="is no reranker"):
        v2.rerank(model="tiny", query="cat", documents=["dog"])
    with pytest.raises(ApiError) as refusal:
        v1.models.get("tinny")
    assert refusal.value.status_code == 404
    bad = httpx.post(fleet_url + "/v2/embed", json={"model": "tiny"}, headers={"x-request-id": "mine-1"})
    assert (bad.status_code, bad.json()["id"], bad.json()["error"]["param"]) == (400, "mine-1", "input_type")
    good = {"model": "tiny", "input_type": "search_query", "texts": ["cat"]}
    answer = httpx.post(fleet_url + "/v2/embed", json=good, headers={"x-request-id": "mine-2"})
    assert (answer.json()["id"], answer.headers["x-request-id"]) == ("mine-2", "mine-2")


async def test_the_asynchronous_clients(fleet_url: str, tiny: Encoder) -> None:
    async with cohere.AsyncClientV2("none", base_url=fleet_url) as client:
        reply = await client.embed(model="tiny", input_type="search_query", texts=["cat"])
        np.testing.assert_array_equal(_floats(reply), np.asarray(tiny.encode_query(["cat"])))
        ranked = await client.rerank(model="tiny-reranker", query="cat", documents=DOCUMENTS, top_n=3)
        assert len(ranked.results) == 3
        with pytest.raises(cohere.NotFoundError):
            await client.embed(model="none", input_type="search_query", texts=["cat"])
    async with cohere.AsyncClient("none", base_url=fleet_url) as client_v1:
        merged: Any = await client_v1.embed(model="tiny", texts=["cat"] * 100)
        assert len(merged.embeddings) == 100
        assert (await client_v1.tokenize(text="the cat", model="tiny")).tokens
