"""Models of components: when they are loaded and closed, how they are copied and pickled, and what is refused."""

from __future__ import annotations

import asyncio
import copy
import pickle
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.encoder import Encoder
from nearfield.engine.engine import Engine
from nearfield.errors import InputError, MissingExtra, ModelRefused, Overloaded
from nearfield.integrations.lazy_model import LazyEncoder, LazyReranker, dense_rows, merge_options
from nearfield.reranker import Reranker
from nearfield.testing import write_tiny_model

TEXTS = ["a cat", "the dog sat"]
OPTIONS: dict[str, Any] = {"precision": "float32", "compile_cache": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("lazy") / "lazy-tiny", prompts={"query": "search: "})


def test_a_model_is_loaded_at_its_first_use_and_once(folder: Path) -> None:
    lazy = LazyEncoder(folder, OPTIONS)
    assert lazy._loaded is None and lazy.name == str(folder)
    first = lazy.load()
    lazy.encode(TEXTS, "document")
    assert lazy.load() is first and copy.deepcopy(lazy).load() is first
    lazy.close()
    assert lazy._loaded is None
    assert lazy.load() is not first  # usable again after it was closed
    lazy.close()


def test_a_model_that_the_caller_loaded_stays_open(tiny: Encoder) -> None:
    lazy = LazyEncoder(tiny, {})
    assert lazy.load() is tiny
    lazy.close()
    assert np.asarray(tiny.encode(TEXTS)).shape == (2, 32)
    assert lazy.load() is tiny


def test_a_missing_model_fails_at_its_first_use_and_can_be_tried_again(tmp_path: Path) -> None:
    lazy = LazyEncoder(tmp_path / "later", OPTIONS)
    with pytest.raises(Exception, match="later"):
        lazy.load()
    write_tiny_model(tmp_path / "later")
    assert lazy.load().dimensions == 32
    lazy.close()


def test_pickling_loads_the_same_model_again(folder: Path) -> None:
    lazy = LazyEncoder(folder, {**OPTIONS, "adapters": {}}, query_options={"prompt": "hello "})
    expected = dense_rows(lazy.encode(TEXTS, "query"))
    again = pickle.loads(pickle.dumps(lazy))
    assert again._loaded is None
    assert dense_rows(again.encode(TEXTS, "query")) == expected
    for model in (lazy, again):
        model.close()


def test_what_only_this_process_has_cannot_be_pickled(tiny: Encoder, folder: Path) -> None:
    with pytest.raises(InputError, match=r"loaded Encoder.*create it with the model's name"):
        pickle.dumps(LazyEncoder(tiny, {}))
    engine = Engine(1)
    with pytest.raises(InputError, match=r"engine=.*leave it out"):
        pickle.dumps(LazyEncoder(folder, {"engine": engine}))
    engine.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize_embeddings": True}, r"option of encode.*encode_options=\{'normalize_embeddings': True\}"),
        ({"batch_size": 32}, "Unknown option 'batch_size' of Encoder"),
        ({"devise": "cpu"}, "Did you mean 'device'"),
    ],
)
def test_an_unknown_option_is_refused_at_once(options: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(InputError, match=message):
        LazyEncoder(folder, options)


def test_options_that_would_have_no_effect_are_refused(tiny: Encoder, folder: Path) -> None:
    with pytest.raises(InputError, match="loaded already, so device would have no effect"):
        LazyEncoder(tiny, {"device": "cpu"})
    unknown: Any = {"outputs": "sparse"}
    with pytest.raises(InputError, match="Unknown option 'outputs'"):
        LazyEncoder(folder, {}, encode_options=unknown)
    with pytest.raises(InputError, match="Unknown option 'outputs'"):
        LazyEncoder(folder, {}, query_options=unknown)
    unknown = {"top_k": 3}
    with pytest.raises(InputError, match="Unknown option 'top_k' of score"):
        LazyReranker(folder, {}, unknown)


def test_a_model_of_another_class_is_refused(tiny: Encoder, folder: Path) -> None:
    with pytest.raises(InputError, match="an instance of Reranker, not Encoder"):
        LazyReranker(tiny, {})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="an instance of Encoder, not NoneType"):
        LazyEncoder(None, {})  # type: ignore[arg-type]
    with pytest.raises(ModelRefused, match=r"load it as nearfield\.Encoder"):
        LazyReranker(folder, OPTIONS).load()
    with pytest.raises(InputError, match="no 'sparse' output"):
        LazyEncoder(tiny, {}, output="sparse").encode(TEXTS, "query")


@pytest.mark.parametrize("texts", ["a cat", ["a cat", None], [1, 2], [["a cat"]]])
async def test_anything_but_a_list_of_texts_is_refused(tiny: Encoder, texts: Any) -> None:
    lazy = LazyEncoder(tiny, {})
    with pytest.raises(InputError, match=r"texts must be a list of texts|Text [01] is"):
        lazy.encode(texts, "document")
    with pytest.raises(InputError, match=r"texts must be a list of texts|Text [01] is"):
        await lazy.aencode(texts, "query")


def test_options_of_queries_win_over_those_of_all_texts(tiny: Encoder) -> None:
    lazy = LazyEncoder(tiny, {}, encode_options={"prompt": "hello "}, query_options={"prompt": "search: "})
    assert dense_rows(lazy.encode(TEXTS, "document")) == np.asarray(tiny.encode(TEXTS, prompt="hello ")).tolist()
    assert dense_rows(lazy.encode(TEXTS, "query")) == np.asarray(tiny.encode(TEXTS, prompt="search: ")).tolist()


def test_arguments_that_are_none_are_left_out() -> None:
    assert merge_options({"a": 1, "b": None}, None, {"a": 2}, c=None, d=3) == {"a": 2, "b": None, "d": 3}


async def test_a_query_waits_while_the_queue_is_full(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy, attempts = LazyEncoder(tiny, {}), []

    async def full_at_first(*args: Any, **options: Any) -> Any:
        attempts.append(args)
        if len(attempts) < 3:
            raise Overloaded("The queue is full.", retry_after=0.001)
        return await Encoder.aencode(tiny, *args, **options)

    monkeypatch.setattr(tiny, "aencode", full_at_first)
    vectors = dense_rows(await lazy.aencode(["a cat"], "query"))
    assert len(attempts) == 3
    np.testing.assert_allclose(vectors, tiny.encode(["a cat"], role="query"), atol=1e-6)


async def test_loading_and_encoding_leave_the_event_loop_free(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy, loading = LazyEncoder(folder, OPTIONS), asyncio.Event()
    loop, load = asyncio.get_running_loop(), lazy.load

    def slow_load() -> Encoder:
        # It goes on only after the loop has run another task.
        assert asyncio.run_coroutine_threadsafe(loading.wait(), loop).result(10)
        return load()

    monkeypatch.setattr(lazy, "load", slow_load)
    tasks = [asyncio.create_task(lazy.aencode(TEXTS, role)) for role in ("query", "document")]
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    loading.set()
    query, document = await asyncio.gather(*tasks)
    assert np.asarray(query).shape == np.asarray(document).shape == (2, 32)
    lazy.close()


async def test_a_ranking_is_the_same_from_a_task(reranker: Reranker) -> None:
    lazy = LazyReranker(reranker, {}, {"activation": "identity", "max_length": 6})
    ranking = lazy.rank("a cat", TEXTS, 1)
    assert ranking == reranker.rank("a cat", TEXTS, top_k=1, activation="identity", max_length=6)
    assert ranking[0].score != reranker.rank("a cat", TEXTS, top_k=1, activation="identity")[0].score
    (ranked,) = await lazy.arank("a cat", TEXTS, 1)
    assert ranked.index == ranking[0].index
    assert ranked.score == pytest.approx(ranking[0].score, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("langchain", "langchain_core", "langchain"),
        ("llama_index", "llama_index", "llama-index"),
        ("haystack", "haystack", "haystack"),
    ],
)
def test_a_missing_framework_is_named_with_its_extra(
    name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [key for key in sys.modules if key.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, loaded, None)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"nearfield.integrations.{name}", raising=False)
    with pytest.raises(MissingExtra, match=rf"'{package}[\w.]*': pip install 'nearfield\[{extra}\]'"):
        import_module(f"nearfield.integrations.{name}")
