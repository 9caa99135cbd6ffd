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


def _given(url: str, path: str, **body: Any) -> Any:
    answer = _post(url, path, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _refused(url: str, path: str, status: int, kind: str, **body: Any) -> str:
    answer = _post(url, path, **body)
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind), answer.text
    assert set(answer.json()) == {"error", "error_type"}
    return cast(str, answer.json()["error"])


def _one(encoder: Any, text: Any, **wanted: Any) -> Any:
    return np.asarray(encoder.encode([text], **wanted))


# -- vectors ---------------------------------------------------------------------------------------------------


def test_the_hub_s_client(client: InferenceClient, tiny: Encoder) -> None:
    for text in TEXTS:
        found = client.feature_extraction(text)
        assert found.shape == (1, 32)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, _one(tiny, text))
    # Its annotation says text; a list is sent as it is.
    many = client.feature_extraction(cast(Any, TEXTS))
    np.testing.assert_allclose(many, np.asarray(tiny.encode(TEXTS)), atol=1e-6)
    np.testing.assert_array_equal(
        client.feature_extraction("cat", prompt_name="query"), _one(tiny, "cat", prompt_name="query")
    )
    # base64 is ignored: the client makes an array of numbers from whatever comes.
    np.testing.assert_array_equal(client.feature_extraction("cat", encoding_format="base64"), _one(tiny, "cat"))


def test_the_hub_s_client_cuts_on_either_side(client: InferenceClient, fleet_url: str, tiny: Encoder) -> None:
    mixed = "dog " * 40 + "cat " * 40
    left = client.feature_extraction(mixed, truncate=True, truncation_direction="left")
    np.testing.assert_array_equal(left, _one(tiny, mixed, truncate="left"))
    right = client.feature_extraction(mixed, truncate=True, truncation_direction="right")
    np.testing.assert_array_equal(right, _one(tiny, mixed))
    np.testing.assert_array_equal(client.feature_extraction(mixed), right)
    assert np.abs(left - right).max() > 0.01
    for spelt in ("left", "Left"):  # TEI's own spelling is the second
        spelled = _given(fleet_url, "/embed", inputs=mixed, truncation_direction=spelt)
        np.testing.assert_array_equal(np.array(spelled, np.float32), left)
    with pytest.raises(HfHubHTTPError, match="model reads at most") as refusal:
        client.feature_extraction(mixed, truncate=False)
    assert refusal.value.response.status_code == 422


def test_the_hub_s_client_asks_what_is_served(client: InferenceClient) -> None:
    assert client.health_check()
    assert client.get_endpoint_info()["model_id"] == "tiny"


def test_sentence_similarity(client: InferenceClient, fleet_url: str, tiny: Encoder) -> None:
    expected = tiny.similarity(tiny.encode(TEXTS[:1]), tiny.encode(TEXTS[1:]))[0]
    found = client.sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    sent = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
    assert _given(fleet_url, "/similarity", inputs=sent) == found
    prompted = _given(fleet_url, "/similarity", inputs=sent, parameters={"prompt_name": "query", "truncate": None})
    queries = tiny.encode(TEXTS, role="query")
    np.testing.assert_allclose(prompted, tiny.similarity(queries[:1], queries[1:])[0], atol=1e-6)


@pytest.mark.parametrize("path", ["/embed", "/", "/invocations"])
def test_embed(path: str, fleet_url: str, tiny: Encoder) -> None:
    found = _given(fleet_url, path, inputs=TEXTS[0])
    np.testing.assert_array_equal(np.array(found, np.float32), _one(tiny, TEXTS[0]))
    ids = tiny.tokenize(TEXTS[0])[0].ids
    assert _given(fleet_url, path, inputs=ids) == _given(fleet_url, path, inputs=[ids]) == found
    mixed = _given(fleet_url, path, inputs=[TEXTS[0], tiny.tokenize(TEXTS[1])[0].ids])
    np.testing.assert_allclose(mixed, np.asarray(tiny.encode(TEXTS[:2])), atol=1e-6)


def test_far_more_inputs_than_tei_takes(fleet_url: str) -> None:
    assert len(_given(fleet_url, "/embed", inputs=["cat"] * 3000)) == 3000  # large enough to be written in parts


def test_normalize(plain: Encoder, plain_url: str) -> None:
    unit = np.array(_given(plain_url, "/embed", inputs="cat"), np.float32)
    np.testing.assert_array_equal(unit, _one(plain, "cat", normalize_embeddings=True))
    answer = _post(plain_url, "/embed", inputs="cat", normalize=False)
    raw = np.array(answer.json(), np.float32)
    np.testing.assert_array_equal(raw, _one(plain, "cat"))
    assert abs(float(np.linalg.norm(raw)) - 1) > 0.1
    assert "x-nearfield-ignored-fields" not in answer.headers


def test_a_model_that_always_normalises_says_so(fleet_url: str, tiny: Encoder) -> None:
    answer = _post(fleet_url, "/embed", inputs="cat", normalize=False, colour="red")
    assert set(answer.headers["x-nearfield-ignored-fields"].split(",")) == {"colour", "normalize"}
    np.testing.assert_array_equal(np.array(answer.json(), np.float32), _one(tiny, "cat"))
    packed = _post(fleet_url, "/vertex", instances=[{"inputs": "cat", "normalize": False}])
    assert packed.headers["x-nearfield-ignored-fields"] == "normalize"


def test_dimensions(plain: Encoder, plain_url: str, fleet_url: str) -> None:
    found = np.array(_given(plain_url, "/embed", inputs="cat", dimensions=8), np.float32)
    np.testing.assert_array_equal(found, _one(plain, "cat", truncate_dim=8, normalize_embeddings=True))
    assert abs(float(np.linalg.norm(found)) - 1) < 1e-6
    for wrong in (0, 33):
        _refused(plain_url, "/embed", 422, "Validation", inputs="cat", dimensions=wrong)
    assert "was not trained" in _refused(fleet_url, "/embed", 422, "Validation", inputs="cat", dimensions=8)


def test_embed_sparse(fleet: Fleet, fleet_url: str) -> None:
    m3: Any = fleet["m3"]
    for text in TEXTS:
        indices, values = m3.encode([text], outputs="sparse").sparse[0]
        (row,) = _given(fleet_url, "/embed_sparse", inputs=text)
        assert [item["index"] for item in row] == indices.tolist()
        np.testing.assert_array_equal(np.array([item["value"] for item in row], np.float32), values)
    body = _post(fleet_url, "/embed_sparse", inputs=TEXTS[0]).text
    assert all(len(item.split(":")[-1]) < 14 for item in body.split("}") if ":" in item), "longer than float32 needs"


def test_embed_all(tmp_path: Path, fleet_url: str) -> None:
    told = _refused(fleet_url, "/embed_all", 424, "Backend", inputs="cat")
    assert told.startswith("Backend error: ") and "/embed_all" in told
    _refused(fleet_url, "/embed_all", 424, "Backend", inputs="cat", model="m3")
    late: Any = load(str(own("bert", document_length=32)(tmp_path)), precision="float32", compile_cache=False)
    with late, serving([late]) as url:
        for text in TEXTS:
            expected = late.encode([text], outputs="multivector").multivector[0]
            (found,) = _given(url, "/embed_all", inputs=text)
            np.testing.assert_array_equal(np.array(found, np.float32), expected)
        assert [len(rows) for rows in _given(url, "/embed_all", inputs=TEXTS)] == [
            len(rows) for rows in late.encode(TEXTS, outputs="multivector").multivector
        ]
        _refused(url, "/embed", 424, "Backend", inputs="cat")
        # Late interaction ranks, too: sums, which no sigmoid would tell apart.
        ranked = _given(url, "/rerank", query="a cat", texts=TEXTS)
        scores = late.encode(["a cat"], role="query", outputs="multivector").multivector.similarity(
            late.encode(TEXTS, role="document", outputs="multivector").multivector
        )[0]
        np.testing.assert_allclose([item["score"] for item in ranked], np.sort(scores)[::-1], atol=1e-5)


# -- scores ----------------------------------------------------------------------------------------------------


def test_rerank(fleet: Fleet, fleet_url: str) -> None:
    reranker = cast(Reranker, fleet["reranker"])
    for raw, activation in ((False, "sigmoid"), (True, "identity")):
        expected = reranker.rank("a cat", TEXTS, activation=activation)
        found = _given(fleet_url, "/rerank", query="a cat", texts=TEXTS, raw_scores=raw)
        assert [item["index"] for item in found] == [item.index for item in expected]
        assert [set(item) for item in found] == [{"index", "score"}] * len(TEXTS)
        np.testing.assert_allclose([item["score"] for item in found], [item.score for item in expected], atol=1e-6)
    told = _given(fleet_url, "/rerank", query="a cat", texts=TEXTS, return_text=True)
    assert [item["text"] for item in told] == [TEXTS[item["index"]] for item in told]
    for path in ("/", "/invocations"):
        assert _given(fleet_url, path, query="a cat", texts=TEXTS, return_text=True) == told
    one = _given(fleet_url, "/rerank", query="a cat", texts=TEXTS[:1])
    assert np.float32(one[0]["score"]) == np.float32(reranker.score("a cat", TEXTS[:1], activation="sigmoid").data[0])


def test_rerank_cuts_at_the_end_or_not_at_all(fleet_url: str) -> None:
    long = {"query": "cat", "texts": ["dog " * 200]}
    assert int(_post(fleet_url, "/rerank", **long).headers["x-nearfield-truncated-tokens"]) > 0
    assert "at most" in _refused(fleet_url, "/rerank", 422, "Validation", **long, truncate=False)
    told = _refused(fleet_url, "/rerank", 422, "Validation", **long, truncation_direction="Left")
    assert "truncation_direction" in told
    fine = {"query": "cat", "texts": ["dog"], "truncate": False, "truncation_direction": "Left"}
    assert len(_given(fleet_url, "/rerank", **fine)) == 1


def test_predict(fleet: Fleet, fleet_url: str) -> None:
    classifier = cast(Classifier, fleet["classifier"])

    def labels(given: Any) -> list[tuple[str, np.float32]]:
        return [(item["label"], np.float32(item["score"])) for item in given]

    def expected(item: Any, **wanted: Any) -> list[tuple[str, np.float32]]:
        scores = classifier.predict([item], **wanted)[0].scores
        return sorted(((name, np.float32(score)) for name, score in scores.items()), key=lambda each: -each[1])

    text, pair = TEXTS[0], ("a cat", "a dog")
    assert labels(_given(fleet_url, "/predict", inputs=text)) == expected(text)
    assert labels(_given(fleet_url, "/predict", inputs=[text])) == expected(text)
    assert labels(_given(fleet_url, "/predict", inputs=list(pair))) == expected(pair), "two texts are a pair"
    assert expected(pair) != expected(pair[0])
    (only,) = _given(fleet_url, "/predict", inputs=[[text]])
    assert labels(only) == expected(text)
    (only,) = _given(fleet_url, "/predict", inputs=[list(pair)])
    assert labels(only) == expected(pair)
    assert [len(row) for row in _given(fleet_url, "/predict", inputs=[["a"], ["b"]])] == [3, 3]
    raw = labels(_given(fleet_url, "/predict", inputs=text, raw_scores=True))
    assert raw == expected(text, activation="identity")
    assert abs(sum(score for _, score in raw) - 1) > 1e-3
    for wrong in (["a", "b", "c"], [["a", "b", "c"]], ["a", ["b"]], [["a"], ["b", "c"]]):
        _refused(fleet_url, "/predict", 422, "Validation", inputs=wrong)


def test_predict_with_a_reranker(fleet: Fleet) -> None:
    reranker = cast(Reranker, fleet["reranker"])
    with serving([reranker]) as url:
        for path in ("/predict", "/", "/invocations"):
            (found,) = _given(url, path, inputs=["a cat", "a dog"])
            expected = reranker.score("a cat", ["a dog"], activation="sigmoid").data[0]
            assert (found["label"], np.float32(found["score"])) == (reranker.labels[0], np.float32(expected))
        (raw,) = _given(url, "/predict", inputs=["a cat", "a dog"], raw_scores=True)
        assert np.float32(raw["score"]) == reranker.score("a cat", ["a dog"], activation="identity").data[0]
        assert "gives no vectors" in _refused(url, "/embed", 424, "Backend", inputs="cat")
        assert _given(url, "/", query="a cat", texts=["a dog"])[0]["index"] == 0


def test_the_default_task_is_the_first_model_s(fleet: Fleet) -> None:
    classifier = cast(Classifier, fleet["classifier"])
    with serving([classifier, fleet["tiny"]]) as url:
        assert _given(url, "/", inputs=TEXTS[0]) == _given(url, "/predict", inputs=TEXTS[0])
        assert len(_given(url, "/", inputs=TEXTS[0], model="tiny")[0]) == 32
        assert httpx.get(url + "/info").json()["model_id"] == classifier.name
    with serving([fleet["m3"], fleet["reranker"]]) as url:
        found = _given(url, "/rerank", query="a cat", texts=TEXTS)
        assert found == _given(url, "/rerank", query="a cat", texts=TEXTS, model="tiny-reranker")
        assert found != _given(url, "/rerank", query="a cat", texts=TEXTS, model="m3")


def test_vertex(fleet_url: str) -> None:
    bodies: list[dict[str, Any]] = [
        {"inputs": TEXTS[0], "truncate": None},
        {"query": "a cat", "texts": TEXTS},
        {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}},
        {"inputs": TEXTS[0], "model": "tiny-classifier"},
    ]
    paths = ("/embed", "/rerank", "/similarity", "/predict")
    expected = [_given(fleet_url, path, **body) for path, body in zip(paths, bodies, strict=True)]
    found = _given(fleet_url, "/vertex", instances=bodies)["predictions"]
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)  # what runs together may share a batch
    assert [item["index"] for item in found[1]] == [item["index"] for item in expected[1]]
    np.testing.assert_allclose(found[2], expected[2], atol=1e-6)
    assert [item["label"] for item in found[3]] == [item["label"] for item in expected[3]]
    assert _given(fleet_url, "/vertex", instances=[]) == {"predictions": []}
    _refused(fleet_url, "/vertex", 400, "Empty", instances=[bodies[0], {"inputs": []}])
    assert "texts" in _refused(fleet_url, "/vertex", 422, "Validation", instances=[{"texts": "cat"}])
    _refused(fleet_url, "/vertex", 422, "Validation", instances=["cat"])


# -- tokens ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("text", ["The cat, sat", "naïve café \N{FOX FACE} dog", "a" * 200 + " cat " * 100])
def test_tokenize(text: str, special: bool, fleet: Fleet, fleet_url: str) -> None:
    folder = fleet["tiny"].recipe.folder
    reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    reference.no_truncation()
    reference.no_padding()
    known = reference.encode(text, add_special_tokens=special)
    (found,) = _given(fleet_url, "/tokenize", inputs=text, add_special_tokens=special)
    assert [token["id"] for token in found] == known.ids
    assert [token["special"] for token in found] == [bool(mark) for mark in known.special_tokens_mask]
    data = text.encode()
    for token, (start, stop), name in zip(found, known.offsets, known.tokens, strict=True):
        if token["special"]:
            assert (token["text"], token["start"], token["stop"]) == (name, None, None)
        else:
            assert token["text"] == text[start:stop]
            assert data[token["start"] : token["stop"]].decode() == text[start:stop]
            assert token["start"] == len(text[:start].encode())


def test_tokenize_with_a_prompt_and_back(fleet: Fleet, fleet_url: str) -> None:
    tiny = cast(Encoder, fleet["tiny"])
    first, _ = _given(fleet_url, "/tokenize", inputs=["cat", "dog"], prompt_name="query")
    assert [token["id"] for token in first] == tiny.tokenize("cat", prompt_name="query")[0].ids
    assert (first[-2]["text"], first[-2]["start"]) == ("cat", len("search: "))
    ids = tiny.tokenize("the cat")[0].ids
    assert _given(fleet_url, "/decode", ids=ids) == ["the cat"]
    assert _given(fleet_url, "/decode", ids=[ids, ids[:2]]) == ["the cat", "the"]
    assert _given(fleet_url, "/decode", ids=ids, skip_special_tokens=False) == ["[CLS] the cat [SEP]"]
    other = fleet["m3"].tokenizer.backend.encode("the cat")
    (told,) = _given(fleet_url, "/tokenize", inputs="the cat", model="m3")
    assert [token["id"] for token in told] == other.ids


def test_what_cannot_be_tokenised(fleet_url: str, tiny: Encoder) -> None:
    _refused(fleet_url, "/tokenize", 422, "Validation", inputs="cat", prompt_name="querry")
    _refused(fleet_url, "/tokenize", 400, "Empty", inputs=[])
    _refused(fleet_url, "/tokenize", 400, "Empty", inputs=["cat", ""])
    assert "characters" in _refused(fleet_url, "/tokenize", 422, "Validation", inputs="x" * (250 * tiny.max_length + 1))
    _refused(fleet_url, "/decode", 400, "Empty", ids=[])
    _refused(fleet_url, "/decode", 400, "Empty", ids=[[1], []])
    for wrong in ([-1], [10**9], [2**70], [[1], 2], [1.5]):
        _refused(fleet_url, "/decode", 422, "Validation", ids=wrong)
    lone = httpx.post(
        fleet_url + "/tokenize", content=b'{"inputs":"\\ud800"}', headers={"content-type": "application/json"}
    )
    assert lone.status_code == 422
    with serving([tiny], max_request_tokens=64) as url:
        assert len(_given(url, "/tokenize", inputs=["cat"] * 20)) == 20
        _refused(url, "/tokenize", 413, "Validation", inputs=["cat"] * 22)


# -- what is around --------------------------------------------------------------------------------------------


def test_info(fleet: Fleet, fleet_url: str) -> None:
    told = httpx.get(fleet_url + "/info").json()
    assert set(told) == {
        *("model_id", "model_sha", "model_dtype", "served_model_name", "model_type", "max_concurrent_requests"),
        *("max_input_length", "max_batch_tokens", "max_batch_requests", "max_client_batch_size", "auto_truncate"),
        *("tokenization_workers", "version", "sha", "docker_label"),
    }
    assert (told["model_id"], told["model_dtype"], told["auto_truncate"]) == ("tiny", "float32", True)
    assert told["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (told["max_input_length"], told["max_client_batch_size"]) == (fleet["tiny"].max_length, 16_384)
    assert told["max_batch_tokens"] > 0

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


def test_headers_tell_what_it_took(fleet: Fleet, fleet_url: str) -> None:
    tiny = cast(Encoder, fleet["tiny"])
    told = _post(fleet_url, "/embed", inputs=TEXTS).headers
    assert told["x-compute-characters"] == str(sum(map(len, TEXTS)))
    assert told["x-compute-tokens"] == str(sum(len(tokens.ids) for tokens in tiny.tokenize(TEXTS)))
    ranked = _post(fleet_url, "/rerank", query="a cat", texts=TEXTS).headers
    assert ranked["x-compute-characters"] == str(sum(len("a cat" + text) for text in TEXTS))
    scores = cast(Reranker, fleet["reranker"]).score("a cat", TEXTS)
    assert ranked["x-compute-tokens"] == str(scores.tokens.sum())
    predicted = _post(fleet_url, "/predict", inputs=["a cat", "a dog"]).headers
    assert predicted["x-compute-characters"] == "10"
    for headers in (told, ranked, predicted):
        spent = {name: int(headers[name]) for name in TIMES}  # all of them are there, and whole
        parts = sum(spent[name] for name in TIMES[2:])
        assert parts <= spent["x-total-time"]
    late = _post(fleet_url, "/rerank", query="a cat", texts=TEXTS, model="m3").headers
    assert "x-queue-time" not in late and "x-total-time" in late  # two runs at once have no single time


def test_what_needed_no_run_tells_no_time_of_one(tiny: Encoder) -> None:
    with serving([tiny], cache_memory=2**20) as url:
        first, second = (_post(url, "/embed", inputs="a cat that is kept") for _ in range(2))
    assert first.json() == second.json()
    assert {"x-queue-time", "x-inference-time"} <= set(first.headers)
    assert not {"x-queue-time", "x-inference-time"} & set(second.headers)
    assert {"x-total-time", "x-tokenization-time"} <= set(second.headers)


def test_errors_are_tei_s(fleet_url: str, tiny: Encoder) -> None:
    assert _refused(fleet_url, "/embed", 400, "Empty", inputs=[]) == "Input validation error: `inputs` cannot be empty"
    nothing: list[Any] = ["", [""], ["cat", ""], [[]], [[6], []]]
    for empty in nothing:
        _refused(fleet_url, "/embed", 400, "Empty", inputs=empty)
    _refused(fleet_url, "/rerank", 400, "Empty", query="cat", texts=[])
    _refused(fleet_url, "/rerank", 400, "Empty", query="", texts=["cat", ""])
    _refused(fleet_url, "/predict", 400, "Empty", inputs=[["cat"], [""]])
    _refused(fleet_url, "/similarity", 400, "Empty", inputs={"source_sentence": "cat", "sentences": []})
    told = _refused(fleet_url, "/embed", 422, "Validation", inputs="cat", prompt_name="querry")
    assert told.startswith("Input validation error: ") and "Did you mean 'query'" in told
    for wrong in (5, {"text": "cat"}, [1.5], ["cat", 5], [True], [10**9], None):
        _refused(fleet_url, "/embed", 422, "Validation", inputs=wrong)
    for wrong_field in ({"truncate": "yes"}, {"truncation_direction": "up"}, {"model": 5}):
        _refused(fleet_url, "/embed", 422, "Validation", inputs="cat", **wrong_field)
    _refused(fleet_url, "/", 422, "Validation", inputs="cat", model=5)
    _refused(fleet_url, "/embed", 404, "Validation", inputs="cat", model="none")
    assert "no reranker" in _refused(fleet_url, "/rerank", 424, "Backend", query="a", texts=["b"], model="tiny")
    _refused(fleet_url, "/embed_sparse", 424, "Backend", inputs="cat", model="tiny")
    with serving([tiny], max_items=2, max_body_bytes=1024) as url:
        _refused(url, "/embed", 413, "Validation", inputs=["cat"] * 3)
        _refused(url, "/embed", 413, "Validation", inputs="cat" * 1000)
        assert "no reranker" in _refused(url, "/rerank", 424, "Backend", query="a", texts=["b"])
        assert "no classifier" in _refused(url, "/predict", 424, "Backend", inputs="a")
        _refused(url, "/embed_sparse", 424, "Backend", inputs="a")


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
def test_every_error_has_a_kind(error: errors.NearfieldError, status: int, kind: str) -> None:
    reply = TeiDialect().refuse(error)
    assert (reply.status, reply.content["error_type"]) == (status, kind)
    assert str(error) in reply.content["error"]


def test_the_client_tells_what_the_server_said(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
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
            found = np.array([embedder.get_text_embedding(text)], np.float32)
            np.testing.assert_array_equal(found, _one(tiny, text))
        assert len(embedder.get_text_embedding_batch(TEXTS * 20)) == 60
        ranker = Ranker(base_url=url, top_n=2, auth_token="secret")  # sent without "Bearer"
        nodes = [NodeWithScore(node=TextNode(text=text), score=0.0) for text in TEXTS]
        ranked = ranker.postprocess_nodes(nodes, QueryBundle("a cat"))
        expected = reranker.rank("a cat", TEXTS, top_k=2)
        assert [node.node.get_content() for node in ranked] == [TEXTS[item.index] for item in expected]


def test_chroma(fleet_url: str, tiny: Encoder) -> None:
    from chromadb.utils.embedding_functions import HuggingFaceEmbeddingServer

    texts = [f"cat {number}" for number in range(50)]  # more than TEI takes at once: Chroma reads no status
    function = HuggingFaceEmbeddingServer(url=fleet_url + "/embed")
    found = function(texts)
    function._session.close()  # which it leaves to the collector
    np.testing.assert_allclose(np.stack(cast(Any, found)), np.asarray(tiny.encode(texts)), atol=1e-6)


async def test_the_hub_s_asynchronous_client_as_haystack_uses_it(fleet_url: str, tiny: Encoder) -> None:
    async with AsyncInferenceClient(model=fleet_url) as client:
        # Haystack asks for vectors that are not normalised unless it is told otherwise.
        found = await client.feature_extraction("cat", truncate=True, normalize=False)
        ranked = await client.feature_extraction(cast(Any, TEXTS), truncate=True, normalize=False)
    np.testing.assert_array_equal(found, _one(tiny, "cat"))
    assert ranked.shape == (3, 32)
