"""Query maps of attached encoders: applied here to the server's vectors, as a loaded model applies them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nearfield
from nearfield.attach.attached_encoder import AttachedEncoder
from nearfield.encoder import Encoder
from nearfield.errors import SpaceMismatch
from nearfield.testing import write_tiny_model
from nearfield.vectors.vector_map import VectorMap
from tests.support.serving import serving

TEXTS = ["a cat sat on the mat", "", "hello world", "red blue search"]
OPTIONS: dict[str, Any] = {"precision": "float32", "compile_cache": False, "reproducible": True}
CALLS: tuple[dict[str, Any], ...] = (
    {"role": "query"},
    {"role": "query", "truncate_dim": 8, "force_truncate_dim": True},
    {"role": "query", "precision": "int8"},
    {"role": "document"},
    {},
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    folder = write_tiny_model(tmp_path_factory.mktemp("maps") / "tiny", prompts={"query": "search: "})
    with Encoder(str(folder), **OPTIONS) as encoder:
        yield encoder


def write_map(folder: Path, plain: Encoder, seed: int) -> Path:
    matrix = np.eye(32) + 0.3 * np.random.default_rng(seed).standard_normal((32, 32))
    space = plain.fingerprint
    VectorMap("query", "linear", space, space, {"matrix": matrix.astype(np.float32)}).save(folder)
    return folder


@pytest.fixture(scope="module")
def folder(plain: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_map(tmp_path_factory.mktemp("query-map"), plain, seed=1)


def attach(url: str, plain: Encoder, query_map: Path, monkeypatch: pytest.MonkeyPatch) -> AttachedEncoder:
    monkeypatch.setenv("NEARFIELD_SERVER", url)
    encoder = nearfield.load(str(plain.recipe.folder), query_map=query_map)
    assert isinstance(encoder, AttachedEncoder)
    return encoder


@pytest.mark.parametrize("server_has_it", [False, True], ids=["map-here", "map-on-both"])
def test_queries_are_those_of_a_loaded_model_with_the_map(
    plain: Encoder, folder: Path, monkeypatch: pytest.MonkeyPatch, server_has_it: bool
) -> None:
    with local_copy(plain, folder) as local, serving([local if server_has_it else plain]) as url:
        attached = attach(url, plain, folder, monkeypatch)
        for encoder in (attached, pickle.loads(pickle.dumps(attached))):
            for options in CALLS:
                ours, theirs = encoder.encode(TEXTS, **options), local.encode(TEXTS, **options)
                assert ours.fingerprint == theirs.fingerprint
                np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), atol=1e-6)
                np.testing.assert_array_equal(ours.tokens, theirs.tokens)
        moved, still = (np.asarray(model.encode(TEXTS, role="query")) for model in (local, plain))
    assert np.abs(moved - still).max() > 0.01


def local_copy(plain: Encoder, folder: Path) -> Encoder:
    return Encoder(str(plain.recipe.folder), query_map=folder, **OPTIONS)


def test_a_server_with_another_map_is_refused(
    plain: Encoder, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = write_map(tmp_path / "other", plain, seed=2)
    with local_copy(plain, other) as local, serving([local]) as url:
        attached = attach(url, plain, folder, monkeypatch)
        with pytest.raises(SpaceMismatch, match="moves queries of tiny by another map"):
            attached.encode(TEXTS, role="query")
        np.testing.assert_allclose(np.asarray(attached.encode(TEXTS)), np.asarray(plain.encode(TEXTS)), atol=1e-6)


def test_a_map_of_another_model_is_refused_at_once(
    plain: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    VectorMap("query", "linear", "eeee:32:float32", "eeee:32:float32", {"matrix": np.eye(32)}).save(tmp_path / "map")
    with serving([plain]) as url, pytest.raises(SpaceMismatch, match="fitted for vectors of the space eeee"):
        attach(url, plain, tmp_path / "map", monkeypatch)
