"""model2vec's `StaticModel` against model2vec itself."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from nearfield.compat import model2vec as ours
from nearfield.encoder import Encoder
from nearfield.errors import InputError, ModelNotFound, SourceUnavailable
from tests.parity import static
from tests.support import tiny_models

original = pytest.importorskip("model2vec")

#: transformers takes more than two seconds to import.
pytestmark = pytest.mark.slow

TEXTS = [*tiny_models.TEXTS, "the quick brown fox " * 300, "日本語 the 日本語"]


@pytest.fixture(scope="module", params=["plain", "shared", "table"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of each layout: model2vec's, with rows that tokens share, and sentence-transformers'."""
    place = tmp_path_factory.mktemp(request.param)
    if request.param == "table":
        return static.table(place)
    return static.distilled(normalize=request.param == "shared", shared=request.param == "shared")(place)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tiny_models.tiny_bert(tmp_path_factory.mktemp("words") / "model")
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _models(folder: Path, **options: Any) -> tuple[ours.StaticModel, Any]:
    return ours.StaticModel.from_pretrained(folder, **options), original.StaticModel.from_pretrained(folder, **options)


def _equal(rows: Any, truth: Any) -> None:
    assert np.shape(rows) == np.shape(truth) and rows.dtype == np.float32
    np.testing.assert_allclose(rows, truth, atol=2e-5)


def test_vectors_are_those_of_model2vec(folder: Path) -> None:
    here, there = _models(folder)
    assert (here.dim, here.normalize, here.max_length) == (there.dim, there.normalize, there.max_length)
    assert (here.tokens, here.median_token_length) == (there.tokens, there.median_token_length)
    _equal(here.encode(TEXTS), there.encode(TEXTS))
    _equal(here.encode(TEXTS[0]), there.encode(TEXTS[0]))
    assert here.tokenize(TEXTS) == there.tokenize(TEXTS)


@pytest.mark.parametrize("options", [{}, {"dimensionality": 8}, {"quantize_to": "float32"}], ids=str)
def test_copies_of_a_used_model_give_the_same(folder: Path, options: dict[str, Any]) -> None:
    here, there = _models(folder, **options)
    here.encode(TEXTS)
    for again in (pickle.loads(pickle.dumps(here)), copy.deepcopy(here), copy.copy(here)):
        _equal(again.encode(TEXTS), there.encode(TEXTS))
    _equal(here.encode(TEXTS), there.encode(TEXTS))


def test_a_pickle_needs_no_folder(folder: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "model")
    here = ours.StaticModel.from_pretrained(place)
    expected, data = here.encode(TEXTS), pickle.dumps(here)
    shutil.rmtree(place)
    np.testing.assert_array_equal(pickle.loads(data).encode(TEXTS), expected)


@pytest.mark.parametrize("length", [1, 7, None])
def test_lengths(folder: Path, length: int | None) -> None:
    here, there = _models(folder)
    _equal(here.encode(TEXTS, max_length=length), there.encode(TEXTS, max_length=length))
    rows, truth = (model.encode_as_sequence(TEXTS, max_length=length) for model in (here, there))
    for row, other in zip(rows, truth, strict=True):
        _equal(row, other)
    here, there = _models(folder, max_length=length)
    _equal(here.encode(TEXTS), there.encode(TEXTS))


@pytest.mark.parametrize("normalize", [True, False])
def test_normalize_can_be_set(folder: Path, normalize: bool) -> None:
    here, there = _models(folder, normalize=not normalize)
    here.normalize = there.normalize = normalize
    _equal(here.encode(TEXTS), there.encode(TEXTS))
    assert here.config["normalize"] is normalize
    _equal(here.encode(TEXTS, normalize=not normalize), there.encode(TEXTS, normalize=not normalize))


def test_one_text_as_a_sequence(folder: Path) -> None:
    here, there = _models(folder)
    _equal(here.encode_as_sequence(TEXTS[0]), there.encode_as_sequence(TEXTS[0]))
    assert here.encode_as_sequence("").shape == there.encode_as_sequence("").shape == (0, here.dim)


@pytest.mark.parametrize("options", [{"dimensionality": 5}, {"quantize_to": "float16"}, {"quantize_to": "int8"}])
def test_smaller_tables(folder: Path, options: dict[str, Any]) -> None:
    here, there = _models(folder, **options)
    np.testing.assert_array_equal(here.embedding, there.embedding)
    assert here.embedding_dtype == there.embedding_dtype
    truth = there.encode(TEXTS).astype(np.float32)
    np.testing.assert_allclose(here.encode(TEXTS), truth, atol=1e-5 if "dimensionality" in options else 2e-2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_from_arrays(words: Tokenizer, dtype: str) -> None:
    vectors = np.random.default_rng(3).standard_normal((words.get_vocab_size(), 6)).astype(dtype)
    here, there = (library.StaticModel(vectors, words, normalize=True) for library in (ours, original))
    _equal(here.encode(TEXTS), there.encode(TEXTS))
    assert here.embedding is vectors and here.embedding_dtype == dtype
    with pytest.raises(InputError, match="vector for each token"):
        ours.StaticModel(vectors[1:], words)


def test_a_saved_model_is_read_by_all(folder: Path, tmp_path: Path) -> None:
    here = ours.StaticModel.from_pretrained(folder)
    here.save_pretrained(tmp_path, subfolder="inner")
    truth = here.encode(TEXTS)
    _equal(ours.StaticModel.from_pretrained(tmp_path, subfolder="inner").encode(TEXTS), truth)
    _equal(original.StaticModel.from_pretrained(tmp_path / "inner").encode(TEXTS), truth)
    short = TEXTS[:4]
    _equal(np.asarray(Encoder(str(tmp_path / "inner"), precision="float32").encode(short)), here.encode(short))
    assert json.loads((tmp_path / "inner" / "config.json").read_text())["normalize"] is here.normalize


def test_quantize_model(folder: Path) -> None:
    here, there = _models(folder)
    small, other = ours.quantize_model(here, dimensionality=3), original.quantize_model(there, dimensionality=3)
    _equal(small.encode(TEXTS), other.encode(TEXTS))
    assert small.vocabulary_quantization == other.vocabulary_quantization


def test_refusals_say_what_to_do(folder: Path, tmp_path: Path) -> None:
    model = ours.StaticModel.from_pretrained(folder)
    with pytest.raises(InputError, match="upload_folder"):
        model.push_to_hub("me/model")
    with pytest.raises(InputError, match="vocabulary with model2vec"):
        ours.StaticModel.from_pretrained(folder, vocabulary_quantization=3)
    with pytest.raises(InputError, match="from 1 to"):
        ours.quantize_model(model, dimensionality=3000)
    with pytest.raises(InputError, match="float16"):
        ours.StaticModel.from_pretrained(folder, quantize_to="float61")
    with pytest.raises(InputError, match="no static embeddings"):
        ours.StaticModel.from_pretrained(tmp_path)
    with pytest.raises((ModelNotFound, SourceUnavailable)):
        ours.StaticModel.from_pretrained("nobody/no-such-model")


def test_the_readme(folder: Path) -> None:
    """The example of model2vec's README, with the import changed."""
    model = ours.StaticModel.from_pretrained(str(folder))
    embeddings = model.encode(["It's dangerous to go alone!", "It's a secret to everybody."])
    token_embeddings = model.encode_as_sequence(["It's dangerous to go alone!", "It's a secret to everybody."])
    assert embeddings.shape == (2, model.dim) and all(rows.shape[1] == model.dim for rows in token_embeddings)
