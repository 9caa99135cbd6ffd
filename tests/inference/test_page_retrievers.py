"""Visual document retrievers: pages and queries as multi-vectors, compared with transformers."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Encoder
from nearfield.checkpoint.model_folder import read_model_folder
from nearfield.errors import InputError, InputTooLong, ModelRefused
from nearfield.inference.encode_options import EncodeOptions
from nearfield.inference.processors import space_of_recipe
from nearfield.inference.result_cache import ResultCache
from tests.support import odd_pictures, tiny_retrievers

pytestmark = pytest.mark.slow

#: Narrow, flat, of one tile, and of several.
PAGES = [odd_pictures.smooth(*size, seed) for seed, size in enumerate(((61, 97), (120, 40), (32, 32), (90, 90)))]
QUERIES = ["what is the river?", "", "a  red fox jumps \n over", "moon"]


@dataclass(frozen=True)
class Retriever:
    """A folder, its encoder, and what transformers gives for all pages and queries."""

    folder: Path
    encoder: Encoder
    pages: list[Any]
    queries: list[Any]


@pytest.fixture(scope="module", params=tiny_retrievers.WRITERS)
def retriever(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Retriever]:
    folder = tiny_retrievers.WRITERS[request.param](tmp_path_factory.mktemp(request.param))
    pages, queries = tiny_retrievers.rows_of_pages(folder, PAGES), tiny_retrievers.rows_of_queries(folder, QUERIES)
    with Encoder(str(folder), precision="float32", compile_cache=False) as encoder:
        yield Retriever(folder, encoder, pages, queries)


def assert_rows(found: Any, expected: list[Any]) -> None:
    """Every row points where the reference's does, and none is left out or added."""
    assert [len(rows) for rows in found] == [len(rows) for rows in expected]
    for rows, truth in zip(found, expected, strict=True):
        assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
        assert (rows * truth).sum(1).min() >= 0.99999


def test_pages_alone_batched_and_among_queries(retriever: Retriever) -> None:
    encoder, mixed = retriever.encoder, [item for pair in zip(PAGES, QUERIES, strict=True) for item in pair]
    assert_rows(encoder.encode(PAGES), retriever.pages)
    assert_rows([encoder.encode([page])[0] for page in PAGES], retriever.pages)
    assert_rows(list(encoder.encode(mixed))[::2], retriever.pages)


def test_queries(retriever: Retriever) -> None:
    encoder = retriever.encoder
    assert_rows(encoder.encode(QUERIES), retriever.queries)
    # A text is a query whatever its role is, as in sentence-transformers.
    assert_rows(encoder.encode_query(QUERIES), retriever.queries)
    assert_rows(encoder.encode_document(QUERIES), retriever.queries)


def test_scores_are_maxsim(retriever: Retriever) -> None:
    import torch

    processor = tiny_retrievers.load_processor(retriever.folder)
    queries, pages = ([torch.from_numpy(rows) for rows in side] for side in (retriever.queries, retriever.pages))
    expected = processor.score_retrieval(queries, pages).numpy()
    encoder = retriever.encoder
    found = encoder.similarity(encoder.encode_query(QUERIES), encoder.encode_document(PAGES))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_cache_knows_pages_by_content(retriever: Retriever) -> None:
    encoder = retriever.encoder
    encoder.cache = ResultCache(1 << 20)

    async def twice() -> tuple[Any, Any]:
        first = await encoder.run_encode([PAGES[0], QUERIES[0]], EncodeOptions())
        return first.result, (await encoder.run_encode([PAGES[0], QUERIES[0]], EncodeOptions())).result

    first, second = asyncio.run(twice())
    encoder.cache = None
    assert_rows(first, [retriever.pages[0], retriever.queries[0]])
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_tokens_are_those_of_the_sequence(retriever: Retriever) -> None:
    found = retriever.encoder.encode([PAGES[0], QUERIES[0]])
    assert found.tokens is not None
    assert found.tokens.tolist() == [len(retriever.pages[0]), len(retriever.queries[0])]


def test_what_is_no_page_is_refused(retriever: Retriever) -> None:
    encoder = retriever.encoder
    for several in ({"text": "a", "image": PAGES[0]}, [PAGES[0], PAGES[1]]):
        with pytest.raises(InputError, match=r"Input 1: .*one picture"):
            encoder.encode(["a", several])
    with pytest.raises(InputError, match="A page has no prompt"):
        encoder.encode([PAGES[0]], prompt="find ")
    with pytest.raises(InputTooLong, match=r"Input 0: .*at most 20"):
        encoder.encode([PAGES[0]], max_length=20)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_backends(retriever: Retriever, backend: str) -> None:
    with Encoder(str(retriever.folder), backend=backend, precision="float32", device="cpu") as encoder:
        assert_rows(encoder.encode(PAGES), retriever.pages)
        assert_rows(encoder.encode(QUERIES), retriever.queries)


def test_only_some_tokens_have_a_vector(retriever: Retriever, tmp_path: Path) -> None:
    """``keep_only_token_ids``, in the layout of sentence-transformers."""
    recipe = read_model_folder(retriever.folder)
    placeholder = recipe.config["image_token_id"]
    tiny_retrievers.as_sentence_transformers(retriever.folder, tmp_path, keep_only_token_ids=[placeholder])
    places = tiny_retrievers.places_of(retriever.folder, PAGES, placeholder)
    expected = [rows[place] for rows, place in zip(retriever.pages, places, strict=True)]
    with Encoder(str(tmp_path), precision="float32", compile_cache=False) as encoder:
        assert_rows(encoder.encode_document(PAGES), expected)
        assert_rows(encoder.encode_query(PAGES), retriever.pages)
        assert_rows(encoder.encode_query(QUERIES), retriever.queries)


def test_folders_of_colpali_engine(retriever: Retriever, tmp_path: Path) -> None:
    """The same weights under its names; queries have no prefix or end there, and pages of ColPali two ``<bos>``."""
    augmentation = tiny_retrievers.as_colpali_engine(retriever.folder, tmp_path)
    with Encoder(str(tmp_path), precision="float32", compile_cache=False) as encoder:
        assert_rows(encoder.encode(PAGES), tiny_retrievers.rows_of_engine_pages(retriever.folder, PAGES))
        queries = tiny_retrievers.rows_of_engine_queries(retriever.folder, QUERIES, augmentation)
        assert_rows(encoder.encode(QUERIES), queries)


def test_the_same_files_elsewhere_have_the_same_space(retriever: Retriever, tmp_path: Path) -> None:
    shutil.copytree(retriever.folder, tmp_path, dirs_exist_ok=True)
    whole = retriever.encoder.fingerprint.partition(":")[0]
    assert space_of_recipe(read_model_folder(tmp_path)) == whole
    path = tmp_path / "processor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "query_prefix": "Find: "}))
    assert space_of_recipe(read_model_folder(tmp_path)) != whole


def test_texts_alone_need_no_tower(retriever: Retriever) -> None:
    with Encoder(str(retriever.folder), precision="float32", modalities=("text",), compile_cache=False) as encoder:
        assert encoder.modalities == ("text",)
        assert encoder.fingerprint == retriever.encoder.fingerprint
        assert_rows(encoder.encode(QUERIES), retriever.queries)
        with pytest.raises(InputError, match="reads texts"):
            encoder.encode([PAGES[0]])


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"vlm_config": None}, "vlm_config must be an object"),
        ("config.json", {"vlm_config": {"model_type": "llava"}}, "'llava' of a retriever is not known"),
        ("processor_config.json", {"visual_prompt_prefix": 3}, "visual_prompt_prefix must be a text"),
    ],
)
def test_files_that_say_something_unknown_are_refused(
    file: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = tiny_retrievers.colmodernvbert(tmp_path)
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelRefused, match=message):
        read_model_folder(folder)
