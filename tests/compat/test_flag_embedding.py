"""The classes of FlagEmbedding: values recorded with the library, its examples, and what is refused."""

from __future__ import annotations

import inspect
import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import catalog, hub
from nearfield.compat import flag_embedding
from nearfield.compat.flag_embedding import (
    BGEM3FlagModel,
    FlagAutoModel,
    FlagAutoReranker,
    FlagICLModel,
    FlagLLMModel,
    FlagModel,
    FlagReranker,
    auto,
)
from nearfield.errors import InputError, ModelNotFound, ModelRefused, SourceUnavailable
from nearfield.inference.calls import keywords
from tests.compat import flag_cases
from tests.inference import test_golden_values as published
from tests.parity import decoder, m3, scores
from tests.support import tiny_models
from tests.support.requirements import missing

pytestmark = pytest.mark.slow
FLOAT32: dict[str, Any] = {"use_fp16": False}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_models.tiny_bert(tmp_path_factory.mktemp("flag") / "bge-small-en-v1.5"))


@pytest.fixture(scope="module")
def bge_m3(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = m3.write(tmp_path_factory.mktemp("flag"))
    return str(folder.rename(folder.with_name("bge-m3")))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(decoder.model("LlamaConfig", begin=True)(tmp_path_factory.mktemp("flag") / "llama"))


@pytest.fixture(scope="module")
def bge_reranker(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = scores.classifier("xlm-roberta", new=False)(tmp_path_factory.mktemp("flag"))
    return str(folder.rename(folder.with_name("bge-reranker-base")))


@pytest.mark.parametrize("name", flag_cases.CASES)
def test_recorded_values(name: str, tmp_path: Path) -> None:
    golden, case = flag_cases.read_golden()[name], flag_cases.CASES[name]
    folder = case.write(tmp_path)
    if flag_cases.digest(folder) != golden["digest"]:
        missing("these versions write another checkpoint: python -m tools.flagembedding records anew")
    results = flag_cases.run(case, folder, "nearfield.compat.flag_embedding")
    assert len(results) == len(golden["results"])
    for call, ours, expected in zip(case.calls, results, golden["results"], strict=True):
        assert flag_cases.difference(ours, expected) < 2e-5, call


def test_dense_model_by_transformers(bert: str) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert)
    batch = tokenizer(
        flag_cases.TEXTS, padding=True, truncation=True, max_length=tiny_models.POSITIONS, return_tensors="pt"
    )
    with torch.no_grad():
        hidden = transformers.AutoModel.from_pretrained(bert).eval()(**batch).last_hidden_state[:, 0]
    expected = np.asarray(torch.nn.functional.normalize(hidden, dim=-1))
    np.testing.assert_allclose(FlagModel(bert, **FLOAT32).encode(flag_cases.TEXTS), expected, atol=1e-5)


def test_example_of_dense_models(bert: str) -> None:
    """The example of FlagEmbedding's README, with another model."""
    sentences_1 = ["the sun", "a star"]
    sentences_2 = ["the moon", "a tree"]
    model = FlagModel(bert, query_instruction_for_retrieval="search: ", use_fp16=True, devices=["cuda:1"])
    embeddings_1 = model.encode(sentences_1)
    embeddings_2 = model.encode(sentences_2)
    similarity = embeddings_1 @ embeddings_2.T
    assert similarity.shape == (2, 2)
    q_embeddings = model.encode_queries(["query one", "query two"])
    p_embeddings = model.encode_corpus(sentences_1)
    assert (q_embeddings @ p_embeddings.T).shape == (2, 2)
    np.testing.assert_allclose(q_embeddings, model.encode(["search: query one", "search: query two"]), atol=1e-6)
    auto_model = FlagAutoModel.from_finetuned(bert, query_instruction_for_retrieval="search: ", use_fp16=True)
    np.testing.assert_array_equal(auto_model.encode_queries("query one"), q_embeddings[0])


def test_example_of_m3(bge_m3: str) -> None:
    model = FlagAutoModel.from_finetuned(bge_m3, use_fp16=False)
    assert isinstance(model, BGEM3FlagModel)
    options = {"return_dense": True, "return_sparse": True, "return_colbert_vecs": True}
    output_1 = model.encode(["the sun is a star", "a cat"], **options)
    output_2 = model.encode(["a star", "the cat"], **options)
    weights_1, weights_2 = output_1["lexical_weights"], output_2["lexical_weights"]
    lexical = model.compute_lexical_matching_score(weights_1, weights_2)
    assert lexical.shape == (2, 2)
    assert lexical[0, 1] == pytest.approx(model.compute_lexical_matching_score(weights_1[0], weights_2[1]))
    colbert = float(model.colbert_score(output_1["colbert_vecs"][0], output_2["colbert_vecs"][1]))
    pairs = [["the sun is a star", "the cat"], ["the sun is a star", "a star"]]
    result = model.compute_score(pairs, max_passage_length=60, weights_for_different_modes=[0.4, 0.2, 0.4])
    dense = output_1["dense_vecs"] @ output_2["dense_vecs"].T
    assert result["dense"] == pytest.approx([dense[0, 1], dense[0, 0]], abs=1e-5)
    assert result["sparse"][0] == pytest.approx(lexical[0, 1], abs=1e-5)
    assert result["colbert"][0] == pytest.approx(colbert, abs=1e-5)
    total = 0.4 * dense[0, 1] + 0.2 * lexical[0, 1] + 0.4 * colbert
    assert result["colbert+sparse+dense"][0] == pytest.approx(total, abs=1e-5)
    single = model.compute_score(tuple(pairs[0]), weights_for_different_modes=[0.4, 0.2, 0.4])
    assert single == pytest.approx({name: values[0] for name, values in result.items()}, abs=1e-5)
    words = model.convert_id_to_token(weights_1)
    assert list(words[0].values()) == list(weights_1[0].values())
    tokens = [str(model.tokenizer.id_to_token(int(number))).lstrip("▁") for number in weights_1[0]]
    assert list(words[0]) == tokens and len(tokens) > 0
    assert model.convert_id_to_token(weights_1[0]) == words[0] == model.convert_id_to_token([weights_1[0]])
    assert weights_1[0]["no token"] == 0


def test_outputs_of_m3(bge_m3: str) -> None:
    model = BGEM3FlagModel(bge_m3, return_sparse=True, **FLOAT32)
    result = model.encode("the sun")
    assert result["dense_vecs"].shape == (32,) and result["colbert_vecs"] is None
    assert isinstance(result["lexical_weights"], dict) and all(
        isinstance(key, str) for key in result["lexical_weights"]
    )
    assert set(model.encode(["the sun"], return_dense=False)) == {"dense_vecs", "lexical_weights", "colbert_vecs"}
    assert model.encode(["the sun"], return_dense=False)["dense_vecs"] is None
    with pytest.raises(InputError, match="outputs"):
        model.encode("a", return_dense=False, return_sparse=False)
    with pytest.raises(InputError, match="3"):
        model.compute_score(["a", "b"], weights_for_different_modes=[1, 2])
    with pytest.raises(InputError, match="two texts, or two lists"):
        model.compute_lexical_matching_score({}, [{}])
    assert model.compute_score([]) == []
    with pytest.raises(InputError, match="colbert_dim"):
        BGEM3FlagModel(bge_m3, colbert_dim=7, **FLOAT32)


def test_example_of_rerankers(bge_reranker: str) -> None:
    reranker = FlagAutoReranker.from_finetuned(
        bge_reranker, query_max_length=25, passage_max_length=60, devices=["cuda:1"]
    )
    assert isinstance(reranker, FlagReranker)
    score = reranker.compute_score(["query", "passage"])
    assert isinstance(score, list) and isinstance(score[0], float)
    normal = reranker.compute_score(("query", "passage"), normalize=True)
    assert normal == pytest.approx([1 / (1 + np.exp(-score[0]))])
    pairs = [["what is panda?", "hi"], ["what is panda?", "the giant panda is a bear"]]
    assert len(reranker.compute_score(pairs)) == 2
    assert reranker.compute_score([]) == []
    many = reranker.compute_score([["a", f"text {number}"] for number in range(1500)])
    assert len(many) == 1500
    with pytest.raises(InputError, match="Pair 1"):
        reranker.compute_score([("a", "b"), ("a", None)])
    with pytest.raises(InputError, match="leaves no room"):
        reranker.compute_score(("a", "b"), max_length=4)


#: What is no pair of texts, and what the message says of it.
NO_PAIRS: list[tuple[Any, str]] = [
    ("query", "sentence_pairs must be a pair of texts or a list of pairs, and is"),
    (3, "and is the number 3"),
    (["query"], "Pair 0 must have two texts, a query and a passage, and is 1 text. Pass a list of pairs"),
    (
        ["query", "one", "two"],
        "Pair 0 must have two texts, a query and a passage, and is 3 texts. Pass a list of pairs",
    ),
    ([["query", "one"], ["query"]], "Pair 1 must have two texts, a query and a passage, and is 1 text."),
    ([["query", "one"], "query"], "Pair 1 must have two texts"),
]


@pytest.mark.parametrize(("pairs", "message"), NO_PAIRS, ids=str)
def test_what_is_no_pair_is_refused(pairs: Any, message: str, bge_reranker: str, bge_m3: str) -> None:
    for model in (FlagReranker(bge_reranker), BGEM3FlagModel(bge_m3, **FLOAT32)):
        with pytest.raises(InputError, match=re.escape(message)):
            model.compute_score(pairs)


@pytest.mark.parametrize("template", ["{}{}{}", "{instruction}{text}", "{}", "no place", "{", 3])
def test_a_wrong_template_is_refused(template: Any, bert: str, bge_reranker: str) -> None:
    wrong = "must be a text with a place for the instruction and .*, and is " + re.escape(repr(template))
    with pytest.raises(InputError, match="query_instruction_format " + wrong):
        FlagModel(bert, query_instruction_format=template)
    with pytest.raises(InputError, match="passage_instruction_format " + wrong):
        FlagModel(bert, passage_instruction_format=template)
    with pytest.raises(InputError, match="query_instruction_format " + wrong):
        FlagReranker(bge_reranker, query_instruction_format=template)
    with pytest.raises(InputError, match="instruction_format " + wrong):
        FlagModel(bert).encode("a", instruction="b", instruction_format=template)


@pytest.mark.parametrize("length", ["x", 2.5, -1, 0, [3]])
def test_a_wrong_length_is_refused(length: Any, bert: str, bge_reranker: str, bge_m3: str, llama: str) -> None:
    wrong = "_length must be a whole number of 1 or more, and is"
    with pytest.raises(InputError, match="query_max" + wrong):
        FlagModel(bert, query_max_length=length)
    with pytest.raises(InputError, match="max" + wrong):
        FlagReranker(bge_reranker, max_length=length)
    for call in (
        lambda: FlagModel(bert).encode("a", max_length=length),
        lambda: FlagModel(bert).encode_queries(["a"], max_length=length),
        lambda: FlagReranker(bge_reranker).compute_score(("a", "b"), max_length=length),
        lambda: FlagModel(bert).encode_corpus(["a"], max_length=length),
        lambda: FlagReranker(bge_reranker).compute_score(("a", "b"), query_max_length=length),
        lambda: FlagICLModel(llama).encode_queries(["a"], max_length=length),
        lambda: FlagICLModel(llama).encode_queries_single_device("a", max_length=length),
        lambda: BGEM3FlagModel(bge_m3).encode(["a"], max_length=length),
        lambda: BGEM3FlagModel(bge_m3).compute_score(("a", "b"), max_query_length=length),
        lambda: BGEM3FlagModel(bge_m3).compute_score(("a", "b"), max_passage_length=length),
    ):
        with pytest.raises(InputError, match="max(_query|_passage)?" + wrong):
            call()


def test_outputs_that_another_model_lacks(bert: str) -> None:
    model = BGEM3FlagModel(bert, **FLOAT32)
    np.testing.assert_array_equal(model.encode(["a"])["dense_vecs"], FlagModel(bert, **FLOAT32).encode(["a"]))
    advice = "these are outputs of BAAI/bge-m3 .* Load this model with FlagModel"
    with pytest.raises(InputError, match=f"has no weights for return_sparse: {advice}"):
        model.encode(["a"], return_sparse=True)
    with pytest.raises(InputError, match=f"has no weights for return_sparse and return_colbert_vecs: {advice}"):
        model.compute_score(("a", "b"))


def test_tensors_and_pools(bert: str) -> None:
    torch = pytest.importorskip("torch")
    model = FlagModel(bert, convert_to_numpy=False, **FLOAT32)
    result = model.encode(["the sun"])
    assert isinstance(result, torch.Tensor)
    pool = model.start_multi_process_pool(None)
    np.testing.assert_array_equal(model.encode_multi_process(["the sun"], pool, convert_to_numpy=True), result)
    model.stop_multi_process_pool(pool)
    model.stop_self_pool()
    assert model.encode([], convert_to_numpy=True).shape == (0, 32)
    assert model.get_target_devices(None) == ["cpu"] and model.get_target_devices([0, 1]) == ["cuda:0", "cuda:1"]
    with pytest.raises(InputError, match="devices"):
        FlagModel(bert, devices={"cpu"})  # type: ignore[arg-type]


def test_what_is_refused(bert: str, bge_reranker: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match="pooling_method"):
        FlagModel(bert, pooling_method="max")
    with pytest.raises(InputError, match="last_token"):
        FlagLLMModel(bert, pooling_method="cls")
    with pytest.raises(InputError, match="model_class"):
        FlagAutoModel.from_finetuned("org/unknown")
    with pytest.raises(InputError, match="encoder-only-base"):
        FlagAutoModel.from_finetuned(bert, model_class="encoder-only")
    for name in ("LayerWiseFlagLLMReranker", "LightWeightFlagLLMReranker", "FlagPseudoMoEModel"):
        with pytest.raises(ModelRefused, match="not supported"):
            getattr(flag_embedding, name)("org/model", use_fp16=True)
    for kind in (FlagAutoModel, FlagAutoReranker):
        with pytest.raises(OSError, match="from_finetuned"):
            kind()
    keywords._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING, "nearfield"):
        FlagReranker(bge_reranker, trust_remote_code=True)
    assert "trust_remote_code" in caplog.text


def test_models_by_name(bert: str, tmp_path: Path) -> None:
    assert auto.EMBEDDERS["bge-en-icl"].template == "<instruct>{}\n<query>{}"
    assert auto.EMBEDDERS["multilingual-e5-large"].pooling == "mean"
    assert len(auto.EMBEDDERS) == 47 and len(auto.RERANKERS) == 10
    place = tmp_path / "bge-m3-x" / "checkpoint-10"
    place.parent.mkdir()
    place.symlink_to(bert)
    with pytest.raises(InputError, match="bge-m3-x"):
        FlagAutoModel.from_finetuned(str(place))
    model = FlagAutoModel.from_finetuned(str(place), model_class="encoder-only-base", use_fp16=False)
    assert type(model) is FlagModel
    reranker_class = flag_embedding.RerankerModelClass.ENCODER_ONLY_BASE
    with pytest.raises(ModelNotFound):
        FlagAutoReranker.from_finetuned(str(tmp_path / "none"), model_class=reranker_class)


def test_tables() -> None:
    for name, table in flag_embedding.ARGUMENTS.items():
        item: Any = flag_embedding
        for part in name.split("."):
            item = getattr(item, part)
        assert set(table) == {*inspect.signature(item).parameters} - {"self"}, name


def test_published_values_of_bge_m3() -> None:
    entry = catalog.find("bge-m3")
    assert entry is not None
    try:
        hub.locate("BAAI/bge-m3", pin=entry.pin, fetch=False)
    except (SourceUnavailable, ModelNotFound):
        pytest.skip("the weights of BAAI/bge-m3 are not on this machine")
    model = BGEM3FlagModel("BAAI/bge-m3", **FLOAT32)
    options = {"return_sparse": True, "return_colbert_vecs": True}
    queries, answers = (model.encode(texts, **options) for texts in (published.QUESTIONS, published.ANSWERS))
    np.testing.assert_allclose(queries["dense_vecs"] @ answers["dense_vecs"].T, published.DENSE, atol=2e-3)
    assert model.convert_id_to_token(queries["lexical_weights"])[0] == pytest.approx(published.LEXICAL, abs=2e-3)


def test_golden_file_is_small() -> None:
    assert flag_cases.GOLDEN.stat().st_size < 300_000
    assert set(json.loads(flag_cases.GOLDEN.read_text())) == set(flag_cases.CASES)
