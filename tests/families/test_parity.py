"""Parity with sentence-transformers in float32: each family and each head, on checkpoints that it wrote itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import backends
from nearfield.encoder import Encoder
from tests.support.tiny_models import TEXTS, TINY

#: The libraries that it compares with take more than two seconds to import.
pytestmark = pytest.mark.slow

pytest.importorskip("sentence_transformers")

#: Lone long inputs, many lengths at once, and what is cut: everything in one list, in a mixed order.
LENGTHS = [*TEXTS, *("river of light " * n for n in (3, 9, 1, 15, 60)), "sun"]
POOLINGS = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
HEADS: Mapping[str, dict[str, Any]] = {
    **{mode: {"pooling": mode} for mode in POOLINGS},
    "joined": {"pooling": ["cls", "mean", "max"]},
    "not unit": {"normalize": False},
    "dense": {"dense": [{"out": 24, "activation": "Tanh"}]},
    "two dense": {"dense": [{"out": 48, "activation": "Identity", "bias": False}, {"out": 16, "activation": "GELU"}]},
    "layer norm": {"layer_norm": True},
    "short": {"max_seq_length": 12},
    "lower case": {"do_lower_case": True},
    "old schema": {"old": True, "pooling": ["mean", "max"]},
    "torch files": {"safe": False},
    "shards": {"shard_size": "20KB"},
    "half precision": {"dtype": "bfloat16"},
}


def _reference(folder: Path, texts: list[str], **options: Any) -> Any:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"torch_dtype": "float32"})
    return model.encode(texts, **options)


def _cosines(a: Any, b: Any) -> Any:
    return (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)


def _compare(folder: Path, backend: str = "openvino", expected: Any = None, **options: Any) -> None:
    expected = _reference(folder, LENGTHS, **options) if expected is None else expected
    with Encoder(str(folder), precision="float32", backend=backend, compile_cache=False) as encoder:
        together = np.asarray(encoder.encode(LENGTHS, **options))
        alone = np.stack([np.asarray(encoder.encode(text, **options)) for text in LENGTHS])
    for actual in (together, alone):
        assert actual.shape == expected.shape
        assert _cosines(actual, expected).min() >= 0.99999
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=2e-4 * max(1.0, float(np.abs(expected).max())))


@pytest.fixture(scope="module", params=TINY)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TINY[family](tmp_path_factory.mktemp("families") / family)


@pytest.fixture(scope="module")
def expected(model: Path) -> Any:
    """The vectors of the reference, which all backends are compared with."""
    return _reference(model, LENGTHS)


@pytest.mark.parametrize("backend", backends.REGISTRY.names())
def test_each_family(model: Path, expected: Any, backend: str) -> None:
    _compare(model, backend, expected)


@pytest.mark.parametrize("head", HEADS)
def test_each_head(tmp_path: Path, head: str) -> None:
    _compare(TINY["bert"](tmp_path / "model", **HEADS[head]))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_prompts_left_out_of_pooling(tmp_path: Path, pooling: str) -> None:
    folder = TINY["bert"](
        tmp_path / "model",
        pooling=pooling,
        include_prompt=False,
        prompts={"query": "search the river: ", "document": ""},
    )
    _compare(folder, prompt_name="query")
    _compare(folder)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "mpnet"])
def test_prompts_in_other_tokenizers(tmp_path: Path, family: str) -> None:
    make: Callable[..., Path] = TINY[family]
    _compare(make(tmp_path / family, prompts={"query": "query: "}), prompt_name="query")


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu"])
def test_other_activations(tmp_path: Path, activation: str) -> None:
    _compare(TINY["bert"](tmp_path / "model", hidden_act=activation))


def test_long_relative_distances(tmp_path: Path) -> None:
    folder = TINY["mpnet"](tmp_path / "mpnet", max_position_embeddings=514)
    words = [" ".join(f"river {n}" for n in range(count)) for count in (40, 90, 160)]
    expected = _reference(folder, words)
    with Encoder(str(folder), precision="float32", compile_cache=False) as encoder:
        assert _cosines(np.asarray(encoder.encode(words)), expected).min() >= 0.99999


@pytest.mark.parametrize("family", TINY)
def test_auto_precision_stays_near(tmp_path: Path, family: str) -> None:
    folder = TINY[family](tmp_path / family, initializer_range=0.1)
    expected = _reference(folder, LENGTHS)
    with Encoder(str(folder), compile_cache=False) as encoder:
        cosines = _cosines(np.asarray(encoder.encode(LENGTHS)), expected)
    assert cosines.mean() >= 0.9995
    assert cosines.min() >= 0.998


def test_matryoshka_like_the_reference(tmp_path: Path) -> None:
    folder = TINY["bert"](tmp_path / "model")
    expected = _reference(folder, LENGTHS, truncate_dim=8, normalize_embeddings=True)
    with Encoder(str(folder), precision="float32", compile_cache=False) as encoder:
        actual = np.asarray(encoder.encode(LENGTHS, truncate_dim=8, force_truncate_dim=True))
    np.testing.assert_allclose(actual, expected, atol=1e-4)
