"""SentenceTransformer of ours: arguments that are refused or ignored, lengths, and what has no counterpart."""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from nearfield.compat.sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
from nearfield.compat.sentence_transformers.pretrained_model import PretrainedModel
from nearfield.errors import InputError, ModelRefused, SourceUnavailable
from tests.parity import Case, cases, multivector
from tests.parity.dense import REFERENCE
from tests.parity.scores import classifier
from tests.parity.sparse import masked
from tests.support.requirements import missing
from tests.support.tiny_models import TEXTS, TINY

#: The reference writes the checkpoints, and takes more than two seconds to import.
pytestmark = pytest.mark.slow

#: Largest difference to the original's vectors, relative to the largest value.
NOISE = 2e-5
#: The first case of each family.
FAMILIES: dict[str, Case] = {
    case.family: case
    for case in reversed(cases())
    if (case.reference, case.output, case.options, case.wanted) == (REFERENCE, "dense", {}, {})
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TINY["bert"](tmp_path_factory.mktemp("dense") / "model", max_seq_length=16, prompts={"query": "search: "})


@pytest.fixture(scope="module")
def model(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_of_each_family(family: str, tmp_path: Path) -> None:
    case = FAMILIES[family]
    folder = case.write(tmp_path)
    expected = np.stack(list(case.expect(folder, TEXTS)))
    actual = np.asarray(SentenceTransformer(str(folder), device="cpu").encode(list(TEXTS)))
    assert np.abs(actual - expected).max() <= NOISE * max(1.0, float(np.abs(expected).max()))


REFUSED: dict[str, tuple[Callable[[SentenceTransformer], Any], str]] = {
    "pairs": (lambda model: model.encode([("a", "b")]), "pair of texts"),
    "a mapping": (lambda model: model.encode({"text": "a"}), "dict"),
    "a table": (lambda model: model.encode(pandas.DataFrame({"text": ["a"], "id": [1]})), "column"),
    "precision": (lambda model: model.encode("a", precision="int4"), "int4"),  # type: ignore[arg-type]
    "output": (lambda model: model.encode("a", output_value="tokens"), "tokens"),  # type: ignore[arg-type]
    "batch size": (lambda model: model.encode("a", batch_size=0), "batch_size"),
    "misspelt keyword": (lambda model: model.encode("a", normalise=True), "normalise"),
    "prompt": (lambda model: model.encode("a", prompt_name="qery"), "query"),
    "similarity": (lambda model: setattr(model, "similarity_fn_name", "maxsim"), "maxsim"),
    "length": (lambda model: setattr(model, "max_seq_length", "5"), "max_seq_length must be a whole number"),
    "no length": (lambda model: setattr(model, "max_seq_length", 0), "max_seq_length must be a whole number"),
    "tokenizer": (lambda model: setattr(model, "tokenizer", object()), "tokenizer cannot be set"),
    "a number": (lambda model: model.encode(3), "a list of texts, and is the number 3"),
    "numbers": (lambda model: model.encode([1, 2]), "Input 0 is the number 1"),
    "a range": (lambda model: model.encode(range(3)), "Input 0 is the number 0"),
    "an array of numbers": (lambda model: model.encode(np.array([1.0, 2.0])), "Input 0 is the number 1.0"),
    "a column of numbers": (lambda model: model.encode(pandas.Series([7, 8])), "Input 0 is the number 7"),
    "bytes": (lambda model: model.encode(b"a"), "decode"),
    "an open file": (lambda model: model.encode(io.StringIO("a\nb")), r"open file: give file.read\(\)"),
    "tokens of a file": (lambda model: model.tokenize(io.StringIO("a\nb")), "open file"),  # type: ignore[arg-type]
    "batch size of text": (lambda model: model.encode("a", batch_size="x"), "batch_size"),  # type: ignore[arg-type]
    "no batch size": (lambda model: model.encode("a", batch_size=None), "batch_size"),  # type: ignore[arg-type]
    "calling it": (lambda model: model({"input_ids": []}), "pass texts to encode"),
    "training": (lambda model: model.fit([]), "Train with sentence-transformers"),
    "modules": (lambda model: model[0], "torch module"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_what_to_do(model: SentenceTransformer, name: str) -> None:
    call, words = REFUSED[name]
    with pytest.raises(InputError, match=words):
        call(model)


@pytest.mark.parametrize("value", ["x", 2.0, 0, -1, True])
def test_a_wrong_number_of_dimensions(model: SentenceTransformer, folder: Path, value: Any) -> None:
    words = "truncate_dim must be a whole number of 1 or more"
    with pytest.raises(InputError, match=words):
        model.encode("a", truncate_dim=value)
    with pytest.raises(InputError, match=words):
        SentenceTransformer(str(folder), truncate_dim=value)
    with pytest.raises(InputError, match=words), model.truncate_embeddings(value):
        pass


@pytest.mark.parametrize("name", ["parameters", "modules", "named_modules", "state_dict", "_first_module", "apply"])
def test_what_only_torch_modules_have(model: SentenceTransformer, name: str) -> None:
    with pytest.raises(AttributeError, match=f"SentenceTransformer has no '{name}'. The model .*: use "):
        getattr(model, name)
    assert not hasattr(model, name)


def test_other_missing_attributes_have_the_usual_error(model: SentenceTransformer) -> None:
    with pytest.raises(AttributeError, match=r"^'SentenceTransformer' object has no attribute 'encod'"):
        getattr(model, "encod")  # noqa: B009 - a checker of types finds it otherwise
    assert model.training is False


def test_a_length_beyond_the_positions(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = SentenceTransformer(str(folder))
    model.max_seq_length = 9999
    assert "Its own length is used" in caplog.text and model.max_seq_length < 9999
    assert model.encode("river " * 9999).shape == (32,)


def test_tokens_can_be_moved_and_read_as_attributes(model: SentenceTransformer) -> None:
    features = model.tokenize(["a river"]).to("cpu")
    assert features.input_ids is features["input_ids"] and dict(**features).keys() >= {"input_ids", "attention_mask"}
    with pytest.raises(AttributeError, match="Did you mean 'input_ids'"):
        features.input_id


def test_files_of_this_machine_alone() -> None:
    try:
        expected = SentenceTransformer("all-MiniLM-L6-v2").encode("a")
    except SourceUnavailable as error:
        missing(f"the model cannot be fetched: {error}")
    local = SentenceTransformer("all-MiniLM-L6-v2", local_files_only=True)
    np.testing.assert_array_equal(local.encode("a"), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(local)).encode("a"), expected)
    with pytest.raises(SourceUnavailable, match="only this machine is searched"):
        SentenceTransformer("no-such-model", local_files_only=True)


def test_real_weights_at_both_lengths() -> None:
    """all-MiniLM-L6-v2 has 512 positions, and its folder says 256."""
    from sentence_transformers import SentenceTransformer as Original

    try:
        actual = SentenceTransformer("all-MiniLM-L6-v2")
    except SourceUnavailable as error:
        return missing(f"the model cannot be fetched: {error}")
    expected = Original(str(actual.encoder.recipe.folder), device="cpu")
    texts = [*TEXTS, "river of light and stone " * 120]
    for length in (256, 512):
        actual.max_seq_length = expected.max_seq_length = length
        assert np.abs(np.asarray(actual.encode(texts)) - expected.encode(texts)).max() <= 2e-6
    return None


def test_a_result_knows_its_space(model: SentenceTransformer) -> None:
    vectors = model.encode(["a", "river"])
    assert vectors.fingerprint == model.encoder.fingerprint
    assert not hasattr(model.encode(["a"], truncate_dim=8), "fingerprint")


def test_an_iterator_is_read_once(model: SentenceTransformer) -> None:
    outputs = model.encode(iter(["a", "river"]), output_value=None)
    assert [len(output["token_embeddings"]) for output in outputs] == [3, 3]


def test_modules_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="Save the modules"):
        SentenceTransformer(modules=[object()])


def test_remote_code_is_reported_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    from nearfield.inference.calls import keywords

    keywords._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            SentenceTransformer(str(folder), trust_remote_code=True)
    assert len([record for record in caplog.records if "trust_remote_code" in record.message]) == 1


def test_a_length_beyond_the_folders_reads_more(folder: Path) -> None:
    text = "river moon " * 20
    model = SentenceTransformer(str(folder))
    assert model.max_seq_length == 16
    short = model.encode(text)
    model.max_seq_length = 40
    assert model.max_seq_length == 40
    assert len(model.tokenize([text])["input_ids"][0]) == 40
    assert np.abs(np.asarray(model.encode(text)) - np.asarray(short)).max() > 1e-3


def test_a_copy_has_its_own_settings(model: SentenceTransformer) -> None:
    import copy

    other = copy.deepcopy(model)
    other.prompts["query"] = "other"
    other.truncate_dim = 4
    assert model.prompts["query"] == "search: "
    assert model.truncate_dim is None
    assert other.encoder is model.encoder


def test_truncation_for_a_while(model: SentenceTransformer) -> None:
    with model.truncate_embeddings(8):
        assert np.asarray(model.encode(["a"])).shape == (1, 8)
        assert model.get_embedding_dimension() == 8
    assert np.asarray(model.encode(["a"])).shape == (1, 32)


def test_a_pool_changes_nothing(model: SentenceTransformer) -> None:
    pool = model.start_multi_process_pool(["cpu", "cpu"])
    pooled = model.encode_multi_process(["a", "river"], pool, chunk_size=1)
    model.stop_multi_process_pool(pool)
    np.testing.assert_array_equal(np.asarray(pooled), np.asarray(model.encode(["a", "river"])))


def test_no_texts(model: SentenceTransformer) -> None:
    assert np.asarray(model.encode([])).shape == (0, 32)
    assert model.encode([], convert_to_tensor=True).numel() == 0
    assert model.encode([], output_value="token_embeddings") == []


#: Writers of models by the class that loads them.
KINDS: dict[type[PretrainedModel], Callable[[Path], Path]] = {
    SentenceTransformer: TINY["bert"],
    SparseEncoder: masked("bert"),
    MultiVectorEncoder: multivector.CASES[0].write,
    CrossEncoder: classifier("bert", 1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_a_model_of_another_kind(kind: type[Any], other: type[Any], tmp_path: Path) -> None:
    folder = str(KINDS[other](tmp_path / "model"))
    if kind is other:
        assert kind(folder).max_seq_length
        return
    with pytest.raises(ModelRefused, match=f"is no model for {kind.__name__}: load it with .*{other.__name__}"):
        kind(folder)


def test_a_misspelt_keyword_names_the_nearest(model: SentenceTransformer) -> None:
    with pytest.raises(InputError, match=r"'normalise_embeddings' that this model uses\. Did you mean 'normalize_emb"):
        model.encode(["a"], normalise_embeddings=True)


def test_changed_settings_of_the_tokenizer_stay(folder: Path) -> None:
    reference = pytest.importorskip("sentence_transformers").SentenceTransformer(str(folder), device="cpu")
    model = SentenceTransformer(str(folder), device="cpu")
    text = "the river and the old stone of the king, and the light of the city by night"
    for changed in (model, reference):
        changed.tokenizer.truncation_side = "left"
        changed.max_seq_length = 7
    again = pickle.loads(pickle.dumps(model))
    for ours in (model, again):
        assert (ours.tokenizer.truncation_side, ours.tokenizer.model_max_length) == ("left", 7)
        np.testing.assert_allclose(ours.encode(text), reference.encode(text), atol=NOISE)
    model.max_seq_length = None
    assert model.tokenizer.truncation_side == "left"
    assert model.tokenizer.model_max_length == model.max_seq_length == model.encoder.max_length


def test_results_of_a_pool_are_on_the_cpu(model: SentenceTransformer) -> None:
    pool = model.start_multi_process_pool()
    tensor = model.encode(["a"], convert_to_tensor=True, device="meta", pool=pool)
    assert tensor.device.type == "cpu"
    assert model.encode(["a"], convert_to_tensor=True, device=["meta"]).device.type == "cpu"
    assert model.encode(["a"], convert_to_tensor=True, device="meta").device.type == "meta"


@pytest.mark.parametrize("length", [0, -1, "x"])
def test_a_length_that_no_input_has(folder: Path, length: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="max_length must be"):
        SentenceTransformer(str(folder), processor_kwargs={"model_max_length": length})
    with pytest.raises(InputError, match="max_seq_length must be"):
        SentenceTransformer(str(folder)).max_seq_length = length
    pairs = classifier("xlm-roberta", new=False)(tmp_path)
    with pytest.raises(InputError, match="max_length must be"):
        CrossEncoder(str(pairs), max_length=length)


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_a_bar_is_shown_where_the_original_shows_one(
    model: SentenceTransformer, level: int, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(level):
        model.encode(["a"])
    assert ("Encoding" in capsys.readouterr().err) == (level == logging.INFO)
    with caplog.at_level(level):
        model.encode(["a"], show_progress_bar=False)
    assert "Encoding" not in capsys.readouterr().err
