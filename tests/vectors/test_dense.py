"""Cutting, quantising, decoding and comparing vectors, against their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nearfield.errors import InputError, SpaceMismatch
from nearfield.vectors.dense import Vectors, quantize, truncate
from nearfield.vectors.fingerprint import fingerprint
from nearfield.vectors.quantization import calibrate, unit_ranges
from nearfield.vectors.similarity import similarity

RANDOM = np.random.default_rng(3)
UNIT = RANDOM.standard_normal((50, 64)).astype(np.float32)
UNIT /= np.linalg.norm(UNIT, axis=1, keepdims=True)
FLOAT = Vectors(UNIT, fingerprint("space", 64, "float32"), 64)


def test_becomes_an_array() -> None:
    assert np.asarray(FLOAT).dtype == np.float32
    assert np.asarray(FLOAT).shape == (50, 64) == FLOAT.shape
    assert np.asarray(Vectors(UNIT[:1], "f", 64, single=True)).shape == (64,)
    assert len(FLOAT[10:20]) == 10
    assert np.array_equal(FLOAT[3], UNIT[3])


def test_ubinary_packs_the_most_significant_bit_first() -> None:
    bits = quantize(FLOAT, "ubinary")
    assert bits.data.dtype == np.uint8
    assert bits.data.shape == (50, 8)
    expected = sum(int(UNIT[0, i] > 0) << (7 - i) for i in range(8))
    assert bits.data[0, 0] == expected


def test_binary_is_ubinary_minus_128() -> None:
    signed, unsigned = quantize(FLOAT, "binary").data, quantize(FLOAT, "ubinary").data
    assert signed.dtype == np.int8
    assert np.array_equal(signed.astype(int), unsigned.astype(int) - 128)


def test_zero_is_not_positive() -> None:
    zeros = Vectors(np.zeros((1, 8), np.float32), "s:8:float32", 8)
    assert quantize(zeros, "ubinary").data[0, 0] == 0


def test_int8_is_uint8_minus_128() -> None:
    signed, unsigned = quantize(FLOAT, "int8"), quantize(FLOAT, "uint8")
    assert np.array_equal(signed.data.astype(int), unsigned.data.astype(int) - 128)
    assert np.array_equal(signed.decode().data, unsigned.decode().data)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_bytes_decode_to_within_half_a_step(precision: str) -> None:
    coded = quantize(FLOAT, precision)
    assert coded.clipped == 0
    step = (unit_ranges(64)[1] - unit_ranges(64)[0]) / 255
    assert (np.abs(coded.decode().data - UNIT) <= step / 2 + 1e-6).all()


def test_the_scale_does_not_depend_on_the_batch() -> None:
    alone = quantize(Vectors(UNIT[:1], FLOAT.fingerprint, 64), "int8")
    assert np.array_equal(alone.data[0], quantize(FLOAT, "int8").data[0])
    assert alone.fingerprint == quantize(FLOAT, "int8").fingerprint


def test_calibrated_ranges_are_the_reference_library_s() -> None:
    quantization = pytest.importorskip("sentence_transformers.util.quantization")
    ranges = calibrate(UNIT)
    expected = quantization.quantize_embeddings(UNIT, "uint8", ranges=ranges)
    actual = quantize(FLOAT, "uint8", ranges).data
    # The reference truncates to the step below; we round to the nearest.
    assert (np.abs(actual.astype(int) - expected.astype(int)) <= 1).all()


def test_values_outside_the_ranges_are_clipped_and_counted() -> None:
    ranges = np.array([[-0.01] * 64, [0.01] * 64])
    coded = quantize(FLOAT, "uint8", ranges)
    assert coded.clipped == int((np.abs(UNIT) > 0.01 + 0.02 / 510).sum())
    assert {0, 255} <= set(coded.data.ravel().tolist())


def test_sign_bits_match_the_reference_library() -> None:
    quantization = pytest.importorskip("sentence_transformers.util.quantization")
    expected = quantization.quantize_embeddings(UNIT, "ubinary")
    assert np.array_equal(quantize(FLOAT, "ubinary").data, expected)
    assert np.array_equal(quantize(FLOAT, "binary").data, quantization.quantize_embeddings(UNIT, "binary"))


@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "uint8", "binary", "ubinary"])
def test_decoded_vectors_point_where_the_originals_do(precision: str) -> None:
    decoded = quantize(FLOAT, precision).decode()
    cosines = (decoded.data * UNIT).sum(1) / np.linalg.norm(decoded.data, axis=1)
    assert cosines.min() > (0.6 if "binary" in precision else 0.999)
    assert decoded.fingerprint == FLOAT.fingerprint


def test_comparing_spaces_raises() -> None:
    other = Vectors(UNIT, fingerprint("another", 64, "float32"), 64)
    for wrong in (other, quantize(FLOAT, "int8"), Vectors(UNIT, fingerprint("space", 32, "float32"), 32)):
        with pytest.raises(SpaceMismatch, match="different spaces"):
            similarity(FLOAT, wrong)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity_is_the_reference_library_s(metric: str) -> None:
    functions = pytest.importorskip("sentence_transformers.util")
    name = {"cosine": "cos_sim", "dot": "dot_score", "euclidean": "euclidean_sim", "manhattan": "manhattan_sim"}[metric]
    data = UNIT * 3
    vectors = Vectors(data, "s:64:float32", 64)
    expected = getattr(functions, name)(data, data[:5]).numpy()
    np.testing.assert_allclose(
        similarity(vectors, vectors[:5], metric), expected, atol=2e-3 if metric == "euclidean" else 1e-5
    )


def test_cut_rescales() -> None:
    short = truncate(UNIT, 16, renormalize=True)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(short[0] / short[0, 0], UNIT[0, :16] / UNIT[0, 0], rtol=1e-4)


@pytest.mark.parametrize(
    ("precision", "ranges", "unit", "message"),
    [
        ("int4", None, True, "int8"),
        ("int8", None, False, "calibrated ranges"),
        ("int8", np.zeros((2, 64)), True, "high above its low"),
        ("int8", np.zeros((2, 3)), True, r"shape \[2, 64\]"),
        ("float16", np.zeros((2, 64)), True, "apply to int8"),
    ],
)
def test_bad_requests_say_why(precision: str, ranges: Any, unit: bool, message: str) -> None:
    with pytest.raises(InputError, match=message):
        quantize(FLOAT, precision, ranges, unit=unit)


def test_bits_need_a_multiple_of_eight() -> None:
    with pytest.raises(InputError, match="no multiple of 8"):
        quantize(Vectors(np.ones((1, 12), np.float32), "s:12:float32", 12), "binary")
