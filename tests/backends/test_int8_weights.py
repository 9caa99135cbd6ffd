"""Weights in int8: the step of each value, the vectors of models, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfield import Encoder
from nearfield.backends import openvino
from nearfield.backends.int8_weights import is_quantized, quantize_rows
from nearfield.errors import InputError, SourceUnavailable, SpaceMismatch
from nearfield.evaluation.datasets.loaders import load_dataset
from nearfield.evaluation.evaluate import evaluate
from nearfield.hardware import has_int8
from tests.parity import static
from tests.support.paths import SHARED_FOLDER
from tests.support.requirements import missing
from tests.support.tiny_models import tiny_bert

needs_int8 = pytest.mark.skipif(not has_int8(), reason="the CPU has no instructions for int8")
TEXTS = [f"the cat number {n} sat on the mat and said nothing " * (1 + n % 4) for n in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("int8") / "model")


@given(st.integers(0, 10_000), st.floats(1e-6, 1e6))
def test_each_value_is_right_to_half_a_step_of_its_row(seed: int, scale: float) -> None:
    matrix = (np.random.default_rng(seed).standard_normal((5, 16)) * scale).astype(np.float32)
    values, scales = quantize_rows(matrix)
    assert values.dtype == np.int8
    assert scales.shape == (5, 1)
    assert np.all(np.abs(values).max(axis=1) == 127)
    assert np.all(np.abs(values * scales - matrix) <= scales * 0.501)


def test_a_row_of_zeros_stays_zero() -> None:
    values, scales = quantize_rows(np.zeros((2, 16), np.float32))
    assert not values.any() and np.all(scales == 1)


def test_small_matrices_and_other_ranks_stay_in_float() -> None:
    assert is_quantized(np.zeros((64, 16)))
    assert not any(map(is_quantized, (np.zeros((1000, 8)), np.zeros((3, 16)), np.zeros(4096), np.zeros((4, 64, 64)))))


@pytest.mark.parametrize("precision", ["int8", pytest.param("int8-dynamic", marks=needs_int8)])
def test_vectors_are_near_those_of_float32_and_of_another_space(folder: Path, precision: str) -> None:
    plain, small = Encoder(str(folder), precision="float32"), Encoder(str(folder), precision=precision)
    vectors, quantized = plain.encode(TEXTS), small.encode(TEXTS)
    cosines = (np.asarray(vectors) * np.asarray(quantized)).sum(axis=1)
    assert cosines.min() > 0.995
    assert not np.array_equal(np.asarray(vectors), np.asarray(quantized))
    assert (small.precision, small.fingerprint != plain.fingerprint) == (precision, True)
    with pytest.raises(SpaceMismatch):
        plain.similarity(vectors, quantized)


def test_texts_have_the_same_vector_alone_and_in_a_model_that_is_loaded_again(folder: Path) -> None:
    first = Encoder(str(folder), precision="int8")
    vectors = np.asarray(first.encode(TEXTS))
    second = Encoder(str(folder), precision="int8")
    np.testing.assert_allclose(np.asarray(second.encode(TEXTS[3])), vectors[3], atol=1e-3)
    assert second.fingerprint == first.fingerprint


def test_only_openvino_has_int8(folder: Path) -> None:
    for backend in ("torch", "reference"):
        with pytest.raises(InputError, match=f"precision 'int8' is for backend 'openvino'; '{backend}'"):
            Encoder(str(folder), precision="int8", backend=backend)


def test_a_cpu_without_instructions_for_int8_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "has_int8", lambda: False)
    with pytest.raises(InputError, match="needs a CPU that multiplies int8 natively"):
        Encoder(str(folder), precision="int8-dynamic")
    assert Encoder(str(folder), precision="int8").precision == "int8"


def test_the_name_of_an_unknown_precision_is_guessed(folder: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'int8'"):
        Encoder(str(folder), precision="int-8")


def test_a_table_of_word_vectors_is_not_quantised(tmp_path: Path) -> None:
    folder = static.table(tmp_path)
    with pytest.raises(InputError, match="is a table of word vectors, whose weights are not quantised here"):
        Encoder(str(folder), precision="int8")


@pytest.mark.slow
def test_the_score_of_minilm_in_int8() -> None:
    data = SHARED_FOLDER / "data" / "stsb" / "test.tsv"
    if not data.is_file():
        pytest.skip("the folder of public data is not there")
    try:
        encoders = [Encoder("all-MiniLM-L6-v2", precision=name) for name in ("float32", "int8")]
    except SourceUnavailable as error:
        missing(f"the model cannot be fetched: {error}")
    dataset = load_dataset(data)
    plain, quantized = (float(cast(float, evaluate(encoder, dataset)["score"])) for encoder in encoders)
    assert plain == pytest.approx(82.03, abs=0.01)
    assert quantized == pytest.approx(plain, abs=0.1)
