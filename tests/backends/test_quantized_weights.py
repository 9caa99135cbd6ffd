"""Weights in int8 and int4: the step of each value, the vectors of models, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfield import Encoder
from nearfield.arrays import Array
from nearfield.backends import openvino
from nearfield.backends.openvino_ops import OpenVinoOps, op, ov
from nearfield.checkpoint.weights.quantized.int4_groups import FORMS, choose_form, has_groups, quantize_groups
from nearfield.checkpoint.weights.quantized.int8_rows import is_quantized, quantize_rows
from nearfield.errors import InputError, SourceUnavailable, SpaceMismatch, WeightsError
from nearfield.evaluation.datasets.loaders import load_dataset
from nearfield.evaluation.evaluate import evaluate
from nearfield.hardware import has_int8
from tests.parity import static
from tests.support.paths import SHARED_FOLDER
from tests.support.requirements import missing
from tests.support.tiny_models import tiny_bert

#: Precisions whose weights are quantised, and the least cosine to float32.
BOUNDS = {"int8": 0.98, "int8-dynamic": 0.98, "int4": 0.9}
_EXACT = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
needs_int8 = pytest.mark.skipif(not has_int8(), reason="the CPU has no instructions for int8")
TEXTS = [f"the cat number {n} sat on the mat and said nothing " * (1 + n % 4) for n in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("int8") / "model", hidden_size=128, intermediate_size=256)


def _normal(rows: int, columns: int, seed: int = 0, scale: float = 1) -> Array:
    return (np.random.default_rng(seed).standard_normal((rows, columns)) * scale).astype(np.float32)


@given(st.integers(0, 10_000), st.floats(1e-6, 1e6))
def test_each_value_is_right_to_half_a_step_of_its_row(seed: int, scale: float) -> None:
    matrix = _normal(5, 16, seed, scale)
    rows = quantize_rows(matrix)
    assert rows.codes.dtype == np.int8
    assert rows.scales.shape == (5, 1)
    assert np.all(np.abs(rows.codes).max(axis=1) == 127)
    assert np.all(np.abs(rows.decoded() - matrix) <= rows.scales * 0.501)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(1e-6, 1e6), st.sampled_from([64, 128, 320]))
def test_values_in_int4_are_near_and_are_quantised_to_themselves(seed: int, scale: float, columns: int) -> None:
    matrix = _normal(24, columns, seed, scale)
    decoded = quantize_groups(matrix).decoded()
    assert np.linalg.norm(decoded - matrix) < 0.12 * np.linalg.norm(matrix)
    np.testing.assert_allclose(quantize_groups(decoded).decoded(), decoded, rtol=1e-5)


def test_the_form_of_a_matrix_in_int4_is_the_smallest_with_a_small_error() -> None:
    steps = np.tile(np.arange(128) % 16, (16, 1)).astype(np.float32)
    uneven = np.where(np.arange(128) < 64, 0.3, 1) * _normal(16, 128)
    forms = [choose_form(steps - 8), choose_form(steps - 5), choose_form(uneven)]
    assert [(form.size, form.symmetric) for form in forms[:2]] == [(128, True), (128, False)]
    assert forms[2].size == 64 and set(forms) <= set(FORMS)
    assert [has_groups((64, columns)) for columns in (64, 192, 96)] == [True, True, False]


@pytest.mark.parametrize(("rows", "columns"), [(16, 64), (33, 192), (33, 256), (1, 1024)])
def test_openvino_multiplies_by_the_decoded_matrix(rows: int, columns: int) -> None:
    """The rows have one group, three, and two and eight of 128 values or twice as many."""
    for matrix in (_normal(rows, columns, 1), _normal(rows, columns, 1) + 1):
        x = op.parameter([-1, columns], ov.Type.f32)
        model = ov.Model([op.result(OpenVinoOps(weights="int4").affine(x, matrix, None))], [x])
        compiled = ov.Core().compile_model(model, "CPU", _EXACT)
        inputs = _normal(7, columns, 2)
        expected = inputs @ quantize_groups(matrix).decoded().T
        np.testing.assert_allclose(compiled([inputs])[0], expected, atol=1e-3)


def test_a_row_of_zeros_stays_zero() -> None:
    rows = quantize_rows(np.zeros((2, 16), np.float32))
    assert not rows.codes.any() and np.all(rows.scales == 1)
    assert not quantize_groups(np.zeros((16, 64), np.float32)).decoded().any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    matrix = _normal(64, 64)
    matrix[40, 3] = value
    for quantize in (quantize_rows, quantize_groups):
        with pytest.raises(WeightsError, match=r"matrix of weights \[64, 64\] has infinite or undefined"):
            quantize(matrix)


def test_small_matrices_and_other_ranks_stay_in_float() -> None:
    assert is_quantized((64, 16))
    assert not any(map(is_quantized, ((1000, 8), (3, 16), (4096,), (4, 64, 64))))


@pytest.mark.parametrize("precision", ["int8", pytest.param("int8-dynamic", marks=needs_int8), "int4"])
def test_vectors_are_near_those_of_float32_and_of_another_space(folder: Path, precision: str) -> None:
    plain, small = Encoder(str(folder), precision="float32"), Encoder(str(folder), precision=precision)
    vectors, quantized = plain.encode(TEXTS), small.encode(TEXTS)
    cosines = (np.asarray(vectors) * np.asarray(quantized)).sum(axis=1)
    assert BOUNDS[precision] < cosines.min() < 0.9999
    assert (small.precision, small.fingerprint != plain.fingerprint) == (precision, True)
    with pytest.raises(SpaceMismatch):
        plain.similarity(vectors, quantized)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_texts_have_the_same_vector_alone_and_in_a_model_that_is_loaded_again(folder: Path, precision: str) -> None:
    first = Encoder(str(folder), precision=precision)
    vectors = np.asarray(first.encode(TEXTS))
    second = Encoder(str(folder), precision=precision)
    np.testing.assert_allclose(np.asarray(second.encode(TEXTS[3])), vectors[3], atol=1e-3)
    assert second.fingerprint == first.fingerprint


def test_only_openvino_has_int8(folder: Path) -> None:
    for backend in ("torch", "reference"):
        with pytest.raises(InputError, match=f"precision 'int8' is for backend 'openvino'; '{backend}'"):
            Encoder(str(folder), precision="int8", backend=backend)


def test_a_cpu_without_instructions_for_int8_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "has_int8", lambda: False)
    with pytest.raises(InputError, match="needs an x86 CPU that multiplies int8 natively"):
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
def test_the_score_of_minilm_in_int8_and_int4() -> None:
    data = SHARED_FOLDER / "data" / "stsb" / "test.tsv"
    if not data.is_file():
        pytest.skip("the folder of public data is not there")
    try:
        encoders = [Encoder("all-MiniLM-L6-v2", precision=name) for name in ("int8", "int4")]
    except SourceUnavailable as error:
        missing(f"the model cannot be fetched: {error}")
    dataset = load_dataset(data)
    scores = [float(cast(float, evaluate(encoder, dataset)["score"])) for encoder in encoders]
    # That of float32 is 82.03; tests/inference/test_real_weights.py measures it.
    assert scores == [pytest.approx(82.03, abs=0.1), pytest.approx(82.03, abs=0.5)]
