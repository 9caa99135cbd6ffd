"""TEI's API: huggingface_hub's client, LlamaIndex and Chroma over a real socket, the rest by plain HTTP."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest
import tokenizers
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from nearfield import errors
from nearfield.auto import load
from nearfield.encoder import Encoder
from nearfield.inference.loaded_model import LoadedModel
from nearfield.reranker import Classifier, Reranker
from nearfield.server.dialects.tei.routes import TeiDialect
from tests.parity.multivector import own
from tests.support.serving import serving
from tests.support.tiny_models import tiny_bert

pytestmark = pytest.mark.network

TEXTS = ["the cat sat on the mat", "a blue dog", "hello world"]
TIMES = ("x-compute-time", "x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time")
Fleet = dict[str, LoadedModel]


@pytest.fixture(scope="module")
def client(fleet_url: str) -> InferenceClient:
    return InferenceClient(model=fleet_url, provider="hf-inference")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    """A model whose vectors are not of unit length, trained to be cut."""
    folder = tiny_bert(tmp_path_factory.mktemp("tei") / "plain", normalize=False)
    with Encoder(str(folder), precision="float32", compile_cache=False) as encoder:
        object.__setattr__(encoder.recipe, "matryoshka", (8, 16, 32))
        yield encoder


@pytest.fixture(scope="module")
def plain_url(plain: Encoder) -> Iterator[str]:
    with serving([plain]) as base:
        yield base


def _post(url: str, path: str, **body: Any) -> httpx.Response:
    return httpx.post(url + path, json=body, timeout=60)


def _post_ok(url: str, path: str, **body: Any) -> Any:
    answer = _post(url, path, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _post_error(url: str, path: str, status: int, kind: str, **body: Any) -> str:
    answer = _post(url, path, **body)
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind), answer.text
    assert set(answer.json()) == {"error", "error_type"}
    return cast(str, answer.json()["error"])


def _encode_one(encoder: Any, text: Any, **options: Any) -> Any:
    return np.asarray(encoder.encode([text], **options))


# -- vectors ---------------------------------------------------------------------------------------------------


def test_the_hub_s_client(client: InferenceClient, tiny: Encoder) -> None:
    for text in TEXTS:
        vector = client.feature_extraction(text)
        assert vector.shape == (1, 32)
        assert vector.dtype == np.float32
        np.testing.assert_array_equal(vector, _encode_one(tiny, text))
    # Its annotation says text; a list is sent unchanged.
    many = client.feature_extraction(cast(Any, TEXTS))
    np.testing.assert_allclose(many, np.asarray(tiny.encode(TEXTS)), atol=1e-6)
    np.testing.assert_array_equal(
        client.feature_extraction("cat", prompt_name="query"), _encode_one(tiny, "cat", prompt_name="query")
    )
    # base64 is ignored: the client converts any response to an array of numbers.
    np.testing.assert_array_equal(client.feature_extraction("cat", encoding_format="base64"), _encode_one(tiny, "cat"))


def test_the_hub_s_client_truncates_either_side(client: InferenceClient, fleet_url: str, tiny: Encoder) -> None:
    mixed = "dog " * 40 + "cat " * 40
    left = client.feature_extraction(mixed, truncate=True, truncation_direction="left")
    np.testing.assert_array_equal(left, _encode_one(tiny, mixed, truncate="left"))
    right = client.feature_extraction(mixed, truncate=True, truncation_direction="right")
    np.testing.assert_array_equal(right, _encode_one(tiny, mixed))
    np.testing.assert_array_equal(client.feature_extraction(mixed), right)
    assert np.abs(left - right).max() > 0.01
    for spelt in ("left", "Left"):  # TEI's own spelling is the second
        spelled = _post_ok(fleet_url, "/embed", inputs=mixed, truncation_direction=spelt)
        np.testing.assert_array_equal(np.array(spelled, np.float32), left)
    with pytest.raises(HfHubHTTPError, match="model reads at most") as refusal:
        client.feature_extraction(mixed, truncate=False)
    assert refusal.value.response.status_code == 422


def test_the_hub_s_client_reads_the_served_model(client: InferenceClient) -> None:
    assert client.health_check()
    assert client.get_endpoint_info()["model_id"] == "tiny"


def test_sentence_similarity(client: InferenceClient, fleet_url: str, tiny: Encoder) -> None:
    expected = tiny.similarity(tiny.encode(TEXTS[:1]), tiny.encode(TEXTS[1:]))[0]
    scores = client.sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:])
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    sent = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
    assert _post_ok(fleet_url, "/similarity", inputs=sent) == scores
    prompted = _post_ok(fleet_url, "/similarity", inputs=sent, parameters={"prompt_name": "query", "truncate": None})
    queries = tiny.encode(TEXTS, role="query")
    np.testing.assert_allclose(prompted, tiny.similarity(queries[:1], queries[1:])[0], atol=1e-6)


@pytest.mark.parametrize("path", ["/embed", "/", "/invocations"])
def test_embed(path: str, fleet_url: str, tiny: Encoder) -> None:
    vectors = _post_ok(fleet_url, path, inputs=TEXTS[0])
    np.testing.assert_array_equal(np.array(vectors, np.float32), _encode_one(tiny, TEXTS[0]))
    ids = tiny.tokenize(TEXTS[0])[0].ids
    assert _post_ok(fleet_url, path, inputs=ids) == _post_ok(fleet_url, path, inputs=[ids]) == vectors
    mixed = _post_ok(fleet_url, path, inputs=[TEXTS[0], tiny.tokenize(TEXTS[1])[0].ids])
    np.testing.assert_allclose(mixed, np.asarray(tiny.encode(TEXTS[:2])), atol=1e-6)


def test_far_more_inputs_than_tei_accepts(fleet_url: str) -> None:
    assert len(_post_ok(fleet_url, "/embed", inputs=["cat"] * 3000)) == 3000  # large enough to be written in parts


def test_normalize(plain: Encoder, plain_url: str) -> None:
    unit = np.array(_post_ok(plain_url, "/embed", inputs="cat"), np.float32)
    np.testing.assert_array_equal(unit, _encode_one(plain, "cat", normalize_embeddings=True))
    answer = _post(plain_url, "/embed", inputs="cat", normalize=False)
    raw = np.array(answer.json(), np.float32)
    np.testing.assert_array_equal(raw, _encode_one(plain, "cat"))
    assert abs(float(np.linalg.norm(raw)) - 1) > 0.1
    assert "x-nearfield-ignored-fields" not in answer.headers


def test_a_model_that_always_normalises_says_so(fleet_url: str, tiny: Encoder) -> None:
    answer = _post(fleet_url, "/embed", inputs="cat", normalize=False, colour="red")
    assert set(answer.headers["x-nearfield-ignored-fields"].split(",")) == {"colour", "normalize"}
    np.testing.assert_array_equal(np.array(answer.json(), np.float32), _encode_one(tiny, "cat"))
    packed = _post(fleet_url, "/vertex", instances=[{"inputs": "cat", "normalize": False}])
    assert packed.headers["x-nearfield-ignored-fields"] == "normalize"


def test_dimensions(plain: Encoder, plain_url: str, fleet_url: str) -> None:
    vectors = np.array(_post_ok(plain_url, "/embed", inputs="cat", dimensions=8), np.float32)
    np.testing.assert_array_equal(vectors, _encode_one(plain, "cat", truncate_dim=8, normalize_embeddings=True))
    assert abs(float(np.linalg.norm(vectors)) - 1) < 1e-6
    for wrong in (0, 33):
        _post_error(plain_url, "/embed", 422, "Validation", inputs="cat", dimensions=wrong)
    assert "was not trained" in _post_error(fleet_url, "/embed", 422, "Validation", inputs="cat", dimensions=8)


@pytest.mark.slow
def test_embed_sparse(fleet: Fleet, fleet_url: str) -> None:
    m3: Any = fleet["m3"]
    for text in TEXTS:
        indices, values = m3.encode([text], outputs="sparse").sparse[0]
        (row,) = _post_ok(fleet_url, "/embed_sparse", inputs=text)
        assert [item["index"] for item in row] == indices.tolist()
        np.testing.assert_array_equal(np.array([item["value"] for item in row], np.float32), values)
    body = _post(fleet_url, "/embed_sparse", inputs=TEXTS[0]).text
    assert all(len(item.split(":")[-1]) < 14 for item in body.split("}") if ":" in item), "longer than float32 needs"


@pytest.mark.slow
def test_embed_all(tmp_path: Path, fleet_url: str) -> None:
    message = _post_error(fleet_url, "/embed_all", 424, "Backend", inputs="cat")
    assert message.startswith("Backend error: ") and "/embed_all" in message
    _post_error(fleet_url, "/embed_all", 424, "Backend", inputs="cat", model="m3")
    late: Any = load(str(own("bert", document_length=32)(tmp_path)), precision="float32", compile_cache=False)
    with late, serving([late]) as url:
        for text in TEXTS:
            expected = late.encode([text], outputs="multivector").multivector[0]
            (vectors,) = _post_ok(url, "/embed_all", inputs=text)
            np.testing.assert_array_equal(np.array(vectors, np.float32), expected)
        assert [len(rows) for rows in _post_ok(url, "/embed_all", inputs=TEXTS)] == [
            len(rows) for rows in late.encode(TEXTS, outputs="multivector").multivector
        ]
        _post_error(url, "/embed", 424, "Backend", inputs="cat")
        # Late interaction ranks, too: by sums, which a sigmoid would all scale to 1.
        ranked = _post_ok(url, "/rerank", query="a cat", texts=TEXTS)
        scores = late.encode(["a cat"], role="query", outputs="multivector").multivector.similarity(
            late.encode(TEXTS, role="document", outputs="multivector").multivector
        )[0]
        np.testing.assert_allclose([item["score"] for item in ranked], np.sort(scores)[::-1], atol=1e-5)


# -- scores ----------------------------------------------------------------------------------------------------


def test_rerank(fleet: Fleet, fleet_url: str) -> None:
    reranker = cast(Reranker, fleet["reranker"])
    for raw, activation in ((False, "sigmoid"), (True, "identity")):
        expected = reranker.rank("a cat", TEXTS, activation=activation)
        scored = _post_ok(fleet_url, "/rerank", query="a cat", texts=TEXTS, raw_scores=raw)
        assert [item["index"] for item in scored] == [item.index for item in expected]
        assert [set(item) for item in scored] == [{"index", "score"}] * len(TEXTS)
        np.testing.assert_allclose([item["score"] for item in scored], [item.score for item in expected], atol=1e-6)
    ranks = _post_ok(fleet_url, "/rerank", query="a cat", texts=TEXTS, return_text=True)
    assert [item["text"] for item in ranks] == [TEXTS[item["index"]] for item in ranks]
    for path in ("/", "/invocations"):
        assert _post_ok(fleet_url, path, query="a cat", texts=TEXTS, return_text=True) == ranks
    one = _post_ok(fleet_url, "/rerank", query="a cat", texts=TEXTS[:1])
    assert np.float32(one[0]["score"]) == np.float32(reranker.score("a cat", TEXTS[:1], activation="sigmoid").data[0])


def test_rerank_truncates_at_the_end_or_not_at_all(fleet_url: str) -> None:
    long = {"query": "cat", "texts": ["dog " * 200]}
    assert int(_post(fleet_url, "/rerank", **long).headers["x-nearfield-truncated-tokens"]) > 0
    assert "at most" in _post_error(fleet_url, "/rerank", 422, "Validation", **long, truncate=False)
    message = _post_error(fleet_url, "/rerank", 422, "Validation", **long, truncation_direction="Left")
    assert "truncation_direction" in message
    fine = {"query": "cat", "texts": ["dog"], "truncate": False, "truncation_direction": "Left"}
    assert len(_post_ok(fleet_url, "/rerank", **fine)) == 1


def test_predict(fleet: Fleet, fleet_url: str) -> None:
    classifier = cast(Classifier, fleet["classifier"])

    def labels(value: Any) -> list[tuple[str, np.float32]]:
        return [(item["label"], np.float32(item["score"])) for item in value]

    def expected(item: Any, **options: Any) -> list[tuple[str, np.float32]]:
        scores = classifier.predict([item], **options)[0].scores
        return sorted(
            ((name, np.float32(score)) for name, score in scores.items()), key=lambda label_score: -label_score[1]
        )

    text, pair = TEXTS[0], ("a cat", "a dog")
    assert labels(_post_ok(fleet_url, "/predict", inputs=text)) == expected(text)
    assert labels(_post_ok(fleet_url, "/predict", inputs=[text])) == expected(text)
    assert labels(_post_ok(fleet_url, "/predict", inputs=list(pair))) == expected(pair), "two texts are a pair"
    assert expected(pair) != expected(pair[0])
    (only,) = _post_ok(fleet_url, "/predict", inputs=[[text]])
    assert labels(only) == expected(text)
    (only,) = _post_ok(fleet_url, "/predict", inputs=[list(pair)])
    assert labels(only) == expected(pair)
    assert [len(row) for row in _post_ok(fleet_url, "/predict", inputs=[["a"], ["b"]])] == [3, 3]
    raw = labels(_post_ok(fleet_url, "/predict", inputs=text, raw_scores=True))
    assert raw == expected(text, activation="identity")
    assert abs(sum(score for _, score in raw) - 1) > 1e-3
    for wrong in (["a", "b", "c"], [["a", "b", "c"]], ["a", ["b"]], [["a"], ["b", "c"]]):
        _post_error(fleet_url, "/predict", 422, "Validation", inputs=wrong)


def test_predict_with_a_reranker(fleet: Fleet) -> None:
    reranker = cast(Reranker, fleet["reranker"])
    with serving([reranker]) as url:
        for path in ("/predict", "/", "/invocations"):
            (prediction,) = _post_ok(url, path, inputs=["a cat", "a dog"])
            expected = reranker.score("a cat", ["a dog"], activation="sigmoid").data[0]
            assert (prediction["label"], np.float32(prediction["score"])) == (reranker.labels[0], np.float32(expected))
        (raw,) = _post_ok(url, "/predict", inputs=["a cat", "a dog"], raw_scores=True)
        assert np.float32(raw["score"]) == reranker.score("a cat", ["a dog"], activation="identity").data[0]
        assert "gives no vectors" in _post_error(url, "/embed", 424, "Backend", inputs="cat")
        assert _post_ok(url, "/", query="a cat", texts=["a dog"])[0]["index"] == 0


def test_the_default_task_is_the_first_model_s(fleet: Fleet) -> None:
    classifier = cast(Classifier, fleet["classifier"])
    with serving([classifier, fleet["tiny"]]) as url:
        assert _post_ok(url, "/", inputs=TEXTS[0]) == _post_ok(url, "/predict", inputs=TEXTS[0])
        assert len(_post_ok(url, "/", inputs=TEXTS[0], model="tiny")[0]) == 32
        assert httpx.get(url + "/info").json()["model_id"] == classifier.name
    with serving([fleet["m3"], fleet["reranker"]]) as url:
        ranks = _post_ok(url, "/rerank", query="a cat", texts=TEXTS)
        assert ranks == _post_ok(url, "/rerank", query="a cat", texts=TEXTS, model="tiny-reranker")
        assert ranks != _post_ok(url, "/rerank", query="a cat", texts=TEXTS, model="m3")


def test_vertex(fleet_url: str) -> None:
    bodies: list[dict[str, Any]] = [
        {"inputs": TEXTS[0], "truncate": None},
        {"query": "a cat", "texts": TEXTS},
        {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}},
        {"inputs": TEXTS[0], "model": "tiny-classifier"},
    ]
    paths = ("/embed", "/rerank", "/similarity", "/predict")
    expected = [_post_ok(fleet_url, path, **body) for path, body in zip(paths, bodies, strict=True)]
    predictions = _post_ok(fleet_url, "/vertex", instances=bodies)["predictions"]
    np.testing.assert_allclose(predictions[0], expected[0], atol=1e-6)  # inputs of one request may share a batch
    assert [item["index"] for item in predictions[1]] == [item["index"] for item in expected[1]]
    np.testing.assert_allclose(predictions[2], expected[2], atol=1e-6)
    assert [item["label"] for item in predictions[3]] == [item["label"] for item in expected[3]]
    assert _post_ok(fleet_url, "/vertex", instances=[]) == {"predictions": []}
    _post_error(fleet_url, "/vertex", 400, "Empty", instances=[bodies[0], {"inputs": []}])
    assert "texts" in _post_error(fleet_url, "/vertex", 422, "Validation", instances=[{"texts": "cat"}])
    _post_error(fleet_url, "/vertex", 422, "Validation", instances=["cat"])


# -- tokens ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("text", ["The cat, sat", "naïve café \N{FOX FACE} dog", "a" * 200 + " cat " * 100])
def test_tokenize(text: str, special: bool, fleet: Fleet, fleet_url: str) -> None:
    folder = fleet["tiny"].recipe.folder
    reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    reference.no_truncation()
    reference.no_padding()
    known = reference.encode(text, add_special_tokens=special)
    (tokens,) = _post_ok(fleet_url, "/tokenize", inputs=text, add_special_tokens=special)
    assert [token["id"] for token in tokens] == known.ids
    assert [token["special"] for token in tokens] == [bool(mark) for mark in known.special_tokens_mask]
    data = text.encode()
    for token, (start, stop), name in zip(tokens, known.offsets, known.tokens, strict=True):
        if token["special"]:
            assert (token["text"], token["start"], token["stop"]) == (name, None, None)
        else:
            assert token["text"] == text[start:stop]
            assert data[token["start"] : token["stop"]].decode() == text[start:stop]
            assert token["start"] == len(text[:start].encode())


def test_tokenize_with_a_prompt_and_back(fleet: Fleet, fleet_url: str) -> None:
    tiny = cast(Encoder, fleet["tiny"])
    first, _ = _post_ok(fleet_url, "/tokenize", inputs=["cat", "dog"], prompt_name="query")
    assert [token["id"] for token in first] == tiny.tokenize("cat", prompt_name="query")[0].ids
    assert (first[-2]["text"], first[-2]["start"]) == ("cat", len("search: "))
    ids = tiny.tokenize("the cat")[0].ids
    assert _post_ok(fleet_url, "/decode", ids=ids) == ["the cat"]
    assert _post_ok(fleet_url, "/decode", ids=[ids, ids[:2]]) == ["the cat", "the"]
    assert _post_ok(fleet_url, "/decode", ids=ids, skip_special_tokens=False) == ["[CLS] the cat [SEP]"]
    other = fleet["m3"].tokenizer.backend.encode("the cat")
    (tokens,) = _post_ok(fleet_url, "/tokenize", inputs="the cat", model="m3")
    assert [token["id"] for token in tokens] == other.ids


def test_inputs_that_cannot_be_tokenised(fleet_url: str, tiny: Encoder) -> None:
    _post_error(fleet_url, "/tokenize", 422, "Validation", inputs="cat", prompt_name="querry")
    _post_error(fleet_url, "/tokenize", 400, "Empty", inputs=[])
    _post_error(fleet_url, "/tokenize", 400, "Empty", inputs=["cat", ""])
    assert "characters" in _post_error(
        fleet_url, "/tokenize", 422, "Validation", inputs="x" * (250 * tiny.max_length + 1)
    )
    _post_error(fleet_url, "/decode", 400, "Empty", ids=[])
    _post_error(fleet_url, "/decode", 400, "Empty", ids=[[1], []])
    for wrong in ([-1], [10**9], [2**70], [[1], 2], [1.5]):
        _post_error(fleet_url, "/decode", 422, "Validation", ids=wrong)
    with serving([tiny], max_request_tokens=64) as url:
        assert len(_post_ok(url, "/tokenize", inputs=["cat"] * 20)) == 20
        _post_error(url, "/tokenize", 413, "Validation", inputs=["cat"] * 22)


# -- info, headers and errors ----------------------------------------------------------------------------------


def test_info(fleet: Fleet, fleet_url: str) -> None:
    info = httpx.get(fleet_url + "/info").json()
    assert set(info) == {
        *("model_id", "model_sha", "model_dtype", "served_model_name", "model_type", "max_concurrent_requests"),
        *("max_input_length", "max_batch_tokens", "max_batch_requests", "max_client_batch_size", "auto_truncate"),
        *("tokenization_workers", "version", "sha", "docker_label"),
    }
    assert (info["model_id"], info["model_dtype"], info["auto_truncate"]) == ("tiny", "float32", True)
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (info["max_input_length"], info["max_client_batch_size"]) == (fleet["tiny"].max_length, 16_384)
    assert info["max_batch_tokens"] > 0

    def kind(name: str) -> Any:
        return httpx.get(fleet_url + "/info", params={"model": name}).json()["model_type"]

    names = cast(Classifier, fleet["classifier"]).labels
    assert kind("tiny-classifier") == {
        "classifier": {
            "id2label": {str(index): name for index, name in enumerate(names)},
            "label2id": {name: index for index, name in enumerate(names)},
        }
    }
    assert set(kind("tiny-reranker")) == {"reranker"}
    assert kind("m3") == {"embedding": {"pooling": "cls"}}


def test_headers_report_times_and_counts(fleet: Fleet, fleet_url: str) -> None:
    tiny = cast(Encoder, fleet["tiny"])
    reported = _post(fleet_url, "/embed", inputs=TEXTS).headers
    assert reported["x-compute-characters"] == str(sum(map(len, TEXTS)))
    assert reported["x-compute-tokens"] == str(sum(len(tokens.ids) for tokens in tiny.tokenize(TEXTS)))
    ranked = _post(fleet_url, "/rerank", query="a cat", texts=TEXTS).headers
    assert ranked["x-compute-characters"] == str(sum(len("a cat" + text) for text in TEXTS))
    scores = cast(Reranker, fleet["reranker"]).score("a cat", TEXTS)
    assert ranked["x-compute-tokens"] == str(np.asarray(scores.tokens).sum())
    predicted = _post(fleet_url, "/predict", inputs=["a cat", "a dog"]).headers
    assert predicted["x-compute-characters"] == "10"
    for headers in (reported, ranked, predicted):
        spent = {name: int(headers[name]) for name in TIMES}  # all are present, as whole numbers
        parts = sum(spent[name] for name in TIMES[2:])
        assert parts <= spent["x-total-time"]
    late = _post(fleet_url, "/rerank", query="a cat", texts=TEXTS, model="m3").headers
    assert "x-queue-time" not in late and "x-total-time" in late  # two runs at once have no single time


def test_a_cached_result_reports_no_inference_time(tiny: Encoder) -> None:
    with serving([tiny], cache_memory=2**20) as url:
        first, second = (_post(url, "/embed", inputs="a cat that is kept") for _ in range(2))
    assert first.json() == second.json()
    assert {"x-queue-time", "x-inference-time"} <= set(first.headers)
    assert not {"x-queue-time", "x-inference-time"} & set(second.headers)
    assert {"x-total-time", "x-tokenization-time"} <= set(second.headers)


def test_errors_have_tei_s_form(fleet_url: str, tiny: Encoder) -> None:
    assert (
        _post_error(fleet_url, "/embed", 400, "Empty", inputs=[]) == "Input validation error: `inputs` cannot be empty"
    )
    nothing: list[Any] = ["", [""], ["cat", ""], [[]], [[6], []]]
    for empty in nothing:
        _post_error(fleet_url, "/embed", 400, "Empty", inputs=empty)
    _post_error(fleet_url, "/rerank", 400, "Empty", query="cat", texts=[])
    _post_error(fleet_url, "/rerank", 400, "Empty", query="", texts=["cat", ""])
    _post_error(fleet_url, "/predict", 400, "Empty", inputs=[["cat"], [""]])
    _post_error(fleet_url, "/similarity", 400, "Empty", inputs={"source_sentence": "cat", "sentences": []})
    message = _post_error(fleet_url, "/embed", 422, "Validation", inputs="cat", prompt_name="querry")
    assert message.startswith("Input validation error: ") and "Did you mean 'query'" in message
    for wrong in (5, {"text": "cat"}, [1.5], ["cat", 5], [True], [10**9], None):
        _post_error(fleet_url, "/embed", 422, "Validation", inputs=wrong)
    for wrong_field in ({"truncate": "yes"}, {"truncation_direction": "up"}, {"model": 5}):
        _post_error(fleet_url, "/embed", 422, "Validation", inputs="cat", **wrong_field)
    _post_error(fleet_url, "/", 422, "Validation", inputs="cat", model=5)
    _post_error(fleet_url, "/embed", 404, "Validation", inputs="cat", model="none")
    assert "no reranker" in _post_error(fleet_url, "/rerank", 424, "Backend", query="a", texts=["b"], model="tiny")
    _post_error(fleet_url, "/embed_sparse", 424, "Backend", inputs="cat", model="tiny")
    with serving([tiny], max_items=2, max_body_bytes=1024) as url:
        _post_error(url, "/embed", 413, "Validation", inputs=["cat"] * 3)
        _post_error(url, "/embed", 413, "Validation", inputs="cat" * 1000)
        assert "no reranker" in _post_error(url, "/rerank", 424, "Backend", query="a", texts=["b"])
        assert "no classifier" in _post_error(url, "/predict", 424, "Backend", inputs="a")
        _post_error(url, "/embed_sparse", 424, "Backend", inputs="a")


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.Overloaded("full"), 429, "Overloaded"),
        (errors.DeadlineExceeded("late"), 429, "Overloaded"),
        (errors.ExecutionFailed("broken"), 424, "Backend"),
        (errors.ShuttingDown("bye"), 503, "Unhealthy"),
        (errors.ModelUnavailable("no room"), 503, "Unhealthy"),
        (errors.UnsupportedMedia("xml"), 415, "Validation"),
        (errors.AccessDenied("no key"), 401, "Unauthorized"),
        (errors.NearfieldError("unforeseen"), 500, "Backend"),
    ],
)
def test_every_error_has_a_type(error: errors.NearfieldError, status: int, kind: str) -> None:
    reply = TeiDialect().refuse(error)
    assert (reply.status, reply.content["error_type"]) == (status, kind)
    assert str(error) in reply.content["error"]


def test_the_client_shows_the_server_s_message(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: Any, **__: Any) -> Any:
        raise errors.Overloaded("The queue is full.", retry_after=7)

    with serving([tiny]) as url:
        monkeypatch.setattr(tiny, "run_encode", full)
        with pytest.raises(HfHubHTTPError, match="Model is overloaded: The queue is full") as refusal:
            InferenceClient(model=url).feature_extraction("cat")
    assert refusal.value.response.status_code == 429
    assert refusal.value.response.headers["retry-after"] == "7"


def test_keys(tiny: Encoder) -> None:
    key = hashlib.sha256(b"tei").hexdigest()
    with serving([tiny], api_keys=[key]) as url:
        assert httpx.get(url + "/ping").status_code == 200
        assert httpx.get(url + "/info").json()["error_type"] == "Unauthorized"
        assert InferenceClient(model=url, token=key).feature_extraction("cat").shape == (1, 32)
        with pytest.raises(HfHubHTTPError) as refusal:
            InferenceClient(model=url, token="other").feature_extraction("cat")
        assert refusal.value.response.status_code == 401
        # LlamaIndex's reranker sends the bare key.
        bare = httpx.post(url + "/embed", json={"inputs": "cat"}, headers={"authorization": key})
        assert bare.status_code == 200


def test_ping(fleet_url: str) -> None:
    answer = httpx.get(fleet_url + "/ping")
    assert (answer.status_code, answer.content) == (200, b"")


# -- frameworks ------------------------------------------------------------------------------------------------


def test_llama_index(fleet: Fleet) -> None:
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
    from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference as Ranker

    tiny, reranker = cast(Encoder, fleet["tiny"]), cast(Reranker, fleet["reranker"])
    with serving([tiny, reranker], api_keys=["secret"]) as url:
        embedder = TextEmbeddingsInference(model_name="tiny", base_url=url, auth_token="secret", embed_batch_size=64)
        for text in TEXTS:
            vectors = np.array([embedder.get_text_embedding(text)], np.float32)
            np.testing.assert_array_equal(vectors, _encode_one(tiny, text))
        assert len(embedder.get_text_embedding_batch(TEXTS * 20)) == 60
        ranker = Ranker(base_url=url, top_n=2, auth_token="secret")  # sent without "Bearer"
        nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in TEXTS]
        ranked = ranker.postprocess_nodes(nodes, QueryBundle("a cat"))
        expected = reranker.rank("a cat", TEXTS, top_k=2)
        assert [node.node.get_content() for node in ranked] == [TEXTS[item.index] for item in expected]


def test_chroma(fleet_url: str, tiny: Encoder) -> None:
    from chromadb.utils.embedding_functions import HuggingFaceEmbeddingServer

    texts = [f"cat {number}" for number in range(50)]  # more than TEI accepts at once: Chroma checks no status
    function = HuggingFaceEmbeddingServer(url=fleet_url + "/embed")
    vectors = function(texts)
    function._session.close()  # which Chroma leaves to the garbage collector
    np.testing.assert_allclose(np.stack(cast(Any, vectors)), np.asarray(tiny.encode(texts)), atol=1e-6)


async def test_the_hub_s_asynchronous_client_as_haystack_uses_it(fleet_url: str, tiny: Encoder) -> None:
    async with AsyncInferenceClient(model=fleet_url) as client:
        # By default, Haystack requests vectors that are not normalised.
        vectors = await client.feature_extraction("cat", truncate=True, normalize=False)
        ranked = await client.feature_extraction(cast(Any, TEXTS), truncate=True, normalize=False)
    np.testing.assert_array_equal(vectors, _encode_one(tiny, "cat"))
    assert ranked.shape == (3, 32)
