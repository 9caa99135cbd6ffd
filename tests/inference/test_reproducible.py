"""A reproducible model gives an input the same bytes, whatever other inputs there are and however they are batched."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Encoder, Reranker
from nearfield.inference.result_cache import ResultCache
from nearfield.testing import WORDS, write_tiny_model
from tests.parity.m3 import write as write_m3
from tests.parity.scores import classifier

pytestmark = pytest.mark.slow

OPTIONS: dict[str, Any] = {"compile_cache": False, "reproducible": True, "threads": 2, "streams": 2}


def _texts(count: int) -> list[str]:
    chance = random.Random(3)
    return [" ".join(chance.choices(WORDS, k=chance.choice([0, 1, 2, 5, 9, 20, 61]))) for _ in range(count)]


@pytest.fixture(scope="module", params=["auto", "float32"])
def encoder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Encoder]:
    folder = write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny", size=64)
    with Encoder(str(folder), precision=request.param, **OPTIONS) as encoder:
        yield encoder


def _array(result: Any) -> Any:
    return np.asarray(result)


async def test_sixty_texts_alone_and_in_batches(encoder: Encoder) -> None:
    texts = _texts(60)
    alone = np.stack([_array(encoder.encode(text)) for text in texts])
    assert np.array_equal(_array(encoder.encode(texts)), alone)
    assert np.array_equal(_array(encoder.encode(texts[::-1]))[::-1], alone)
    assert np.array_equal(np.concatenate([_array(part) for part in encoder.stream(texts, window=7)]), alone)
    at_once = await asyncio.gather(*(encoder.aencode(texts[start::6]) for start in range(6)))
    for start, part in enumerate(at_once):
        assert np.array_equal(_array(part), alone[start::6])


async def test_the_cache_does_not_mix_them(encoder: Encoder) -> None:
    texts = _texts(8)
    precision = "float32" if encoder.precision == "float32" else "auto"
    with Encoder(str(encoder.recipe.folder), precision=precision, compile_cache=False) as other:
        cache = ResultCache(2**20)
        other.cache = encoder.cache = cache
        try:
            await other.aencode(texts)
            size = len(cache)
            result = await encoder.aencode(texts)
            assert np.array_equal(_array(result), np.stack([_array(encoder.encode(text)) for text in texts]))
            assert len(cache) == 2 * size
            assert np.array_equal(_array(await encoder.aencode(texts)), _array(result))
        finally:
            other.cache = encoder.cache = None


def test_sparse_vectors_and_token_vectors(tmp_path: Path) -> None:
    texts = [text for text in _texts(20) if text]
    with Encoder(str(write_m3(tmp_path)), **OPTIONS) as m3:
        together = m3.encode(texts, outputs=["dense", "sparse", "multivector"])
        for index, text in enumerate(texts):
            alone = m3.encode([text], outputs=["dense", "sparse", "multivector"])
            assert np.array_equal(alone.kinds["dense"].data[0], together.kinds["dense"].data[index])
            for kind in ("sparse", "multivector"):
                for one, other in zip(_parts(alone.kinds[kind][0]), _parts(together.kinds[kind][index]), strict=True):
                    assert np.array_equal(one, other)


def _parts(vectors: Any) -> tuple[Any, ...]:
    return vectors if isinstance(vectors, tuple) else (vectors,)


def test_scores(tmp_path: Path) -> None:
    documents = _texts(20)
    with Reranker(str(classifier("bert", 1)(tmp_path / "model")), **OPTIONS) as reranker:
        together = _array(reranker.score("the cat", documents))
        alone = np.concatenate([_array(reranker.score("the cat", [document])) for document in documents])
        assert np.array_equal(together, alone)
