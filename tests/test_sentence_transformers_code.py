"""What users of sentence-transformers type on an `Encoder`: keywords, saved vectors, properties, plain errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nearfield
from nearfield import Encoder, Reranker
from nearfield.errors import InputError, SpaceMismatch, UnknownKeyword
from nearfield.inference.calls import keywords
from nearfield.testing import tiny_encoder, write_tiny_model
from nearfield.vectors.dense import Vectors

TEXTS = ["the cat sat", "a dog", "blue"]
PROMPTS = {"query": "search: ", "document": ""}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    with tiny_encoder(folder, prompts=PROMPTS, precision="float32") as encoder:
        yield encoder


@pytest.fixture(scope="module")
def saved(encoder: Encoder) -> Any:
    return np.array(encoder.encode(TEXTS))


# -- the commonest lines -----------------------------------------------------------------------------------------------


def test_results_are_used_as_arrays(encoder: Encoder, tmp_path: Path) -> None:
    documents = encoder.encode(TEXTS, batch_size=32, show_progress_bar=False)
    query = encoder.encode("the cat sat")
    assert documents.shape == (3, 32)
    assert query.shape == (32,)
    scores = documents @ query
    assert int(scores.argmax()) == 0
    assert len(query.tolist()) == 32
    assert np.vstack([documents, query]).shape == (4, 32)
    np.save(tmp_path / "vectors.npy", documents)
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), documents)
    norms = np.linalg.norm(documents, axis=1, keepdims=True)
    np.testing.assert_allclose((documents / norms) @ query / np.linalg.norm(query), scores / norms[:, 0], atol=1e-6)


def test_numbers_of_tokens_are_part_of_the_result(encoder: Encoder) -> None:
    documents = encoder.encode(TEXTS)
    assert documents.tokens.dtype == np.int32
    assert documents[1:].tokens.tolist() == documents.tokens.tolist()[1:]
    assert documents[documents.tokens > 3].fingerprint == encoder.fingerprint


@pytest.mark.parametrize(
    "hints",
    [
        {"batch_size": 1},
        {"batch_size": np.int64(64)},
        {"convert_to_numpy": True},
        {"convert_to_numpy": False},
        {"convert_to_tensor": False},
        {"device": "cpu"},
        {"device": ["cpu", "cpu"]},
        {"chunk_size": 100},
        {"chunk_size": None},
        {"pool": {"processes": []}},
        {"output_value": "sentence_embedding"},
        {"normalize_embeddings": False},
        {"show_progress_bar": False},
        {"prompt_name": None, "prompt": None, "truncate_dim": None, "precision": "float32"},
    ],
)
def test_hints_change_nothing(encoder: Encoder, saved: Any, hints: dict[str, Any]) -> None:
    np.testing.assert_array_equal(encoder.encode(TEXTS, **hints), saved)
    if "show_progress_bar" not in hints:
        np.testing.assert_array_equal(next(iter(encoder.stream(TEXTS, **hints))), saved)


async def test_hints_change_nothing_in_asynchronous_calls(encoder: Encoder, saved: Any) -> None:
    np.testing.assert_array_equal(await encoder.aencode(TEXTS, batch_size=2, convert_to_numpy=True), saved)


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of 1 or more, and is the number 0"),
        ({"batch_size": "32"}, r"of type str \('32'\)"),
        ({"chunk_size": -1}, "chunk_size"),
        ({"output_value": "sentence_embeddings"}, "Did you mean 'sentence_embedding'"),
        ({"output_value": None}, "Unknown output_value None"),
    ],
)
def test_nonsense_is_refused(encoder: Encoder, hints: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder.encode(TEXTS, **hints)


@pytest.mark.slow
async def test_tensors_on_request(encoder: Encoder, saved: Any) -> None:
    torch = pytest.importorskip("torch")
    tensor = encoder.encode(TEXTS, convert_to_tensor=True, device="cpu")
    assert isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu"
    np.testing.assert_array_equal(tensor.numpy(), saved)
    assert encoder.encode("a cat", convert_to_tensor=True).shape == (32,)
    assert isinstance(await encoder.aencode(TEXTS, convert_to_tensor=True), torch.Tensor)
    assert all(isinstance(part, torch.Tensor) for part in encoder.stream(TEXTS, convert_to_tensor=True))
    assert encoder.encode(TEXTS, convert_to_tensor=True, precision="int8").dtype == torch.int8


@pytest.mark.slow
async def test_states_of_tokens_on_request(encoder: Encoder) -> None:
    torch = pytest.importorskip("torch")
    states = encoder.encode_tokens(TEXTS)
    rows = encoder.encode(TEXTS, output_value="token_embeddings")
    assert [type(row) for row in rows] == [np.ndarray] * 3
    for row, expected in zip(rows, states, strict=True):
        np.testing.assert_array_equal(row, expected)
    one = encoder.encode_query("cat", output_value="token_embeddings", convert_to_tensor=True)
    assert isinstance(one, torch.Tensor) and one.shape == (len(encoder.tokenize("search: cat")[0].ids), 32)
    with pytest.raises(InputError, match=r"Encoder.aencode gives no states of tokens. Use Encoder.encode_tokens"):
        await encoder.aencode(TEXTS, output_value="token_embeddings")
    with pytest.raises(InputError, match=r"Encoder.stream gives no states"):
        encoder.stream(TEXTS, output_value="token_embeddings")


@pytest.mark.slow
def test_outputs_are_not_made_tensors(encoder: Encoder) -> None:
    pytest.importorskip("torch")
    with pytest.raises(InputError, match="gives Outputs"):
        encoder.encode(TEXTS, convert_to_tensor=True, outputs=["dense"])


def test_tensors_without_torch_are_refused_before_anything_is_encoded(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearfield.tensors.torch_is_installed", lambda: False)
    monkeypatch.setattr(encoder, "_encode_all", lambda *_: pytest.fail("encoded"))
    with pytest.raises(InputError, match="pip install torch"):
        encoder.encode(TEXTS, convert_to_tensor=True)


# -- unknown keywords --------------------------------------------------------------------------------------------------

CALLS = (
    *("encode", "encode_query", "encode_document", "stream", "submit", "tokenize", "prompt_of", "encode_late"),
    "encode_tokens",
    *("aencode", "aencode_late"),
)


@pytest.mark.parametrize("call", CALLS)
async def test_an_unknown_keyword_is_named_with_the_nearest(encoder: Encoder, call: str) -> None:
    inputs: Any = [] if call == "prompt_of" else [[TEXTS]] if "late" in call else [TEXTS]
    with pytest.raises(UnknownKeyword) as refused:
        await _call(getattr(encoder, call), *inputs)
    assert isinstance(refused.value, TypeError) and isinstance(refused.value, InputError)
    message = f"Encoder.{call} takes no argument 'promt_name'. Did you mean 'prompt_name'?"
    assert str(refused.value).startswith(message)


async def _call(method: Callable[..., Any], *inputs: Any) -> None:
    await method(*inputs, promt_name="query")


def test_arguments_that_a_method_sets_itself_are_named(encoder: Encoder) -> None:
    with pytest.raises(UnknownKeyword, match="encode_query takes no argument 'role'"):
        encoder.encode_query(TEXTS, role="document")  # type: ignore[call-arg]
    with pytest.raises(UnknownKeyword, match="Did you mean 'show_progress_bar'"):
        encoder.encode(TEXTS, show_progress=True)  # type: ignore[call-arg]


@pytest.mark.parametrize(("call", "name"), [(Encoder, "Encoder"), (nearfield.load, "nearfield.load")])
def test_an_unknown_keyword_of_loading_is_named(tmp_path: Path, call: Any, name: str) -> None:
    with pytest.raises(UnknownKeyword, match=f"^{name} takes no argument 'truncate_dims'. Did you mean 'truncate_dim'"):
        call(str(tmp_path), truncate_dims=16)
    with pytest.raises(UnknownKeyword, match=r"^Reranker takes no argument 'instructions'. Did you mean 'instruction'"):
        Reranker(str(tmp_path), instructions="x")  # type: ignore[call-arg]


def test_code_of_models_is_never_trusted_and_a_warning_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = str(write_tiny_model(tmp_path / "tiny"))
    keywords._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for load in (Encoder, nearfield.load, Encoder):
            load(folder, trust_remote_code=True, compile_cache=False).close()
    assert [record.getMessage() for record in caplog.records if "trust_remote_code" in record.getMessage()] == [
        "trust_remote_code=True has no effect: Nearfield runs no code of a model, only its own."
    ]


# -- similarity --------------------------------------------------------------------------------------------------------


def _forms(saved: Any) -> dict[str, Any]:
    return {
        "array": saved,
        "float64": saved.astype(np.float64),
        "float16": saved.astype(np.float16),
        "lists": saved.tolist(),
        "tuple of lists": tuple(saved.tolist()),
        "list of arrays": list(saved),
        "objects": _objects(saved),
        "texts": TEXTS,
    }


def _objects(saved: Any) -> Any:
    rows = np.empty(len(saved), object)
    rows[:] = list(saved)
    return rows


def test_saved_vectors_are_compared_in_any_form(encoder: Encoder, saved: Any) -> None:
    expected = saved @ saved.T
    for name, form in _forms(saved).items():
        for other in (saved, encoder.encode(TEXTS), TEXTS):
            scores = encoder.similarity(form, other)
            assert type(scores) is np.ndarray and scores.dtype == np.float32, name
            np.testing.assert_allclose(scores, expected, atol=1e-3)
            np.testing.assert_allclose(encoder.similarity_pairwise(form, other), np.ones(3), atol=1e-3)


def test_one_saved_vector_is_one_row(encoder: Encoder, saved: Any) -> None:
    expected = (saved[1] @ saved.T)[None]
    for one in (saved[1], saved[1].tolist(), encoder.encode(TEXTS[1]), encoder.encode(TEXTS)[1], TEXTS[1]):
        np.testing.assert_allclose(encoder.similarity(one, saved), expected, atol=1e-5)
        assert encoder.similarity_pairwise(one, saved[2]).shape == (1,)


@pytest.mark.slow
def test_tensors_give_tensors(encoder: Encoder, saved: Any) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(saved)
    for a, b in ((tensor, saved), (saved, tensor), (tensor, TEXTS), (list(tensor), saved), (tensor.bfloat16(), tensor)):
        scores = encoder.similarity(a, b)
        assert isinstance(scores, torch.Tensor) and scores.dtype == torch.float32
        np.testing.assert_allclose(scores.numpy(), saved @ saved.T, atol=1e-2)
    assert isinstance(encoder.similarity_pairwise(tensor, tensor), torch.Tensor)
    assert isinstance(nearfield.similarity(tensor, saved), torch.Tensor)


def test_token_ids_are_whole_numbers_only(encoder: Encoder, saved: Any) -> None:
    ids = [encoder.tokenize(text)[0].ids for text in TEXTS]
    for form in (ids, [np.array(row) for row in ids]):
        np.testing.assert_allclose(encoder.similarity(form, saved), saved @ saved.T, atol=1e-5)
    np.testing.assert_allclose(encoder.similarity(np.array(ids[0]), saved), saved[:1] @ saved.T, atol=1e-5)


@pytest.mark.parametrize("call", ["similarity", "similarity_pairwise"])
def test_vectors_of_another_model_are_refused(encoder: Encoder, saved: Any, call: str) -> None:
    compare = getattr(encoder, call)
    for wrong in (saved[:, :31], saved[:, :31].tolist(), np.zeros((3, 64)), saved[0, :16]):
        with pytest.raises(InputError, match="32") as refused:
            compare(wrong, saved)
        assert "token" not in str(refused.value)
    with pytest.raises(InputError, match="shape"):
        compare(np.zeros((2, 2, 32)), saved)
    with pytest.raises(InputError, match="31 and 32 values"):
        compare([saved[0].tolist(), saved[0, :31].tolist()], saved)
    with pytest.raises(InputError, match="31 and 32 values"):
        compare([saved[0], saved[0, :31]], saved)


def test_mixing_spaces_is_refused(encoder: Encoder, saved: Any) -> None:
    other = Vectors(saved, "another:32:float32", 32)
    mine = encoder.encode(TEXTS)
    for a, b in ((mine, other), (mine[0], other), (mine, other[1:].copy()), (mine, [other[0], other[1]])):
        for compare in (encoder.similarity, nearfield.similarity):
            with pytest.raises(SpaceMismatch):
                compare(a, b)
    with pytest.raises(SpaceMismatch):
        encoder.similarity([mine[0], other[0]], mine)
    with pytest.raises(SpaceMismatch):
        encoder.similarity(mine, encoder.encode(TEXTS, precision="int8"))
    changed = encoder.encode(TEXTS)
    changed *= 2
    np.testing.assert_allclose(encoder.similarity(changed, mine), saved @ saved.T, atol=1e-5)


def test_pairs_need_equal_numbers(encoder: Encoder, saved: Any) -> None:
    with pytest.raises(InputError, match="there are 2 and 3 vectors"):
        encoder.similarity_pairwise(saved[:2], saved)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "manhattan"])
@pytest.mark.slow
def test_pairwise_similarity_is_the_reference_library_s(metric: str) -> None:
    functions = pytest.importorskip("sentence_transformers.util")
    from nearfield.vectors.similarity import similarity_pairwise

    name = {"cosine": "cos_sim", "dot": "dot_score", "euclidean": "euclidean_sim", "manhattan": "manhattan_sim"}[metric]
    a, b = np.random.default_rng(0).standard_normal((2, 40, 24)).astype(np.float32)
    expected = getattr(functions, f"pairwise_{name}")(a, b).numpy()
    np.testing.assert_allclose(similarity_pairwise(a, b, metric), expected, atol=1e-5)


def test_quantised_vectors_without_their_space_are_not_guessed(encoder: Encoder) -> None:
    coded = np.asarray(encoder.encode(TEXTS, precision="int8"))
    with pytest.raises(InputError, match="decode"):
        nearfield.similarity(coded, coded)


@pytest.mark.parametrize("precision", ["int8", "uint8", "binary", "ubinary"])
def test_saved_quantised_vectors_are_no_token_ids(encoder: Encoder, precision: str) -> None:
    results = encoder.encode(TEXTS, precision=precision)
    coded = np.asarray(results)
    wrong: Any
    for wrong in (coded, coded[0], list(coded), _objects(coded), coded.astype(np.int64)):
        for call in (encoder.similarity, encoder.similarity_pairwise):
            for a, b in ((wrong, TEXTS), (TEXTS, wrong)):
                with pytest.raises(InputError, match=r"whole numbers, and may be quantised vectors.*decode"):
                    call(a, b)
    whole = np.zeros(32, np.int64)
    with pytest.raises(InputError, match="may be quantised vectors"):
        encoder.similarity(whole, TEXTS)
    assert encoder.similarity(results, results).shape == (3, 3)


#: Values of options that make no sense, by option, and what the error says.
WRONG_VALUES: dict[str, tuple[Any, str]] = {
    "normalize_embeddings": ("a", "normalize_embeddings must be True or False, and is of type str"),
    "force_truncate_dim": ("a", "force_truncate_dim must be True or False"),
    "device": ("gpu", "Unknown device 'gpu'. A GPU of NVIDIA or AMD is 'cuda', one of Apple 'mps'. Known: cpu, cuda"),
    "truncate_dim": (99, "truncate_dim must be an integer from 1 to 32"),
}


@pytest.mark.parametrize("option", WRONG_VALUES)
def test_wrong_values_of_options_are_named(encoder: Encoder, option: str) -> None:
    value, message = WRONG_VALUES[option]
    with pytest.raises(InputError) as caught:
        encoder.encode(TEXTS, **{option: value})
    assert str(caught.value).startswith(message) and caught.value.param == option


def test_devices_of_a_call_are_known(encoder: Encoder) -> None:
    devices: Any
    for devices in ("tpu", ["cpu", "tpu"], "cuda:x", ""):
        with pytest.raises(InputError, match="Unknown device"):
            encoder.encode(TEXTS, device=devices)
    for devices in ("cpu", ["cpu", "cuda:1"], "mps", None):
        assert encoder.encode(TEXTS, device=devices).shape == (3, 32)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("device", "tpu", "Unknown device 'tpu'. Known: cpu, cuda"),
        ("kind", "dens", "Unknown kind 'dens'. Did you mean 'dense'?"),
        ("reproducible", "x", "reproducible must be True or False, and is of type str"),
        ("truncate_dim", 99, "truncate_dim must be an integer from 1 to 32"),
    ],
)
def test_wrong_values_are_named_when_a_model_is_loaded(encoder: Encoder, option: str, value: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Encoder(str(encoder.recipe.folder), **{option: value})
    assert str(caught.value).startswith(message) and caught.value.param == option


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("dtype", "precision"),
        ("dimensions", "truncate_dim"),
        ("normalize", "normalize_embeddings"),
        ("normalise_embeddings", "normalize_embeddings"),
    ],
)
def test_names_of_other_interfaces_name_the_keyword(encoder: Encoder, name: str, known: str) -> None:
    keywords: dict[str, Any] = {name: None}
    with pytest.raises(UnknownKeyword, match=f"no argument '{name}'. Did you mean '{known}'"):
        encoder.encode(TEXTS, **keywords)


def test_a_size_that_the_model_was_not_trained_for_names_the_keyword(encoder: Encoder) -> None:
    with pytest.raises(InputError, match=r"Leave truncate_dim out, or force it \(force_truncate_dim=True\)"):
        encoder.encode(TEXTS, truncate_dim=8)


@pytest.mark.parametrize("wrong", [np.zeros((2, 32)), np.zeros(32, np.float32)])
def test_vectors_are_not_encoded(encoder: Encoder, wrong: Any) -> None:
    for inputs in (wrong, [wrong]):
        with pytest.raises(InputError, match="encode reads texts") as refused:
            encoder.encode(inputs)
        assert "token" not in str(refused.value)


@pytest.mark.parametrize("text", [np.array("the cat sat"), np.str_("the cat sat"), np.array("the cat sat", object)])
def test_an_array_of_no_dimensions_is_one_text(encoder: Encoder, saved: Any, text: Any) -> None:
    result = encoder.encode(text)
    assert result.shape == (32,)
    np.testing.assert_allclose(result, saved[0], atol=2e-6)


@pytest.mark.parametrize("wrong", [np.array(7), np.array(0.5), np.array(None)])
def test_another_array_of_no_dimensions_is_refused(encoder: Encoder, wrong: Any) -> None:
    with pytest.raises(InputError, match=r"a text|reads texts"):
        encoder.encode(wrong)


# -- properties and pools ----------------------------------------------------------------------------------------------


def test_properties_have_their_names(encoder: Encoder) -> None:
    assert encoder.get_sentence_embedding_dimension() == encoder.get_embedding_dimension() == 32
    assert encoder.prompts == PROMPTS
    assert encoder.device == "cpu"
    assert encoder.max_seq_length == encoder.get_max_seq_length() == 64


def test_the_dimension_is_that_of_results(tmp_path: Path) -> None:
    with tiny_encoder(tmp_path / "tiny") as plain:
        plain._defaults = replace(plain._defaults, truncate_dim=16)
        assert plain.get_sentence_embedding_dimension() == 16


def test_the_maximum_length_can_be_set(tmp_path: Path) -> None:
    with tiny_encoder(tmp_path / "tiny", prompts=PROMPTS, precision="float32") as encoder:
        long, space = "cat " * 60, encoder.fingerprint
        whole = encoder.encode(long)
        encoder.max_seq_length = 8
        assert encoder.max_length == 8
        short = encoder.encode([long, "cat"])
        assert short.tokens.tolist() == [8, 3]
        assert short.dropped.tolist() == [54, 0]
        assert short.fingerprint == encoder.fingerprint == space
        encoder.max_length = np.int64(64)
        np.testing.assert_array_equal(encoder.encode(long), whole)
        for wrong in (0, 2, 65, 10**9, -1, 8.5, None, "8"):
            with pytest.raises(InputError, match="max_length must be a whole number from 3 to 64"):
                encoder.max_seq_length = wrong  # type: ignore[assignment]
        assert encoder.max_length == 64


def test_pools_of_processes_are_accepted(encoder: Encoder, saved: Any) -> None:
    pool = encoder.start_multi_process_pool(["cpu", "cpu"])
    assert pool["processes"] == []
    np.testing.assert_array_equal(encoder.encode_multi_process(TEXTS, pool, batch_size=2, chunk_size=1), saved)
    np.testing.assert_array_equal(encoder.encode(TEXTS, pool=pool), saved)
    encoder.stop_multi_process_pool(pool)
    Encoder.stop_multi_process_pool(pool)
