"""Odd values of each parameter of the public API: an error in plain words that names the parameter, and no hang."""

from __future__ import annotations

import asyncio
import inspect
import math
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nearfield
from nearfield import Classifier, Collection, Encoder, Engine, Reranker
from nearfield.errors import InputError, NearfieldError
from nearfield.evaluation.datasets.dataset import Dataset, Retrieval
from nearfield.inference.loaded_model import LoadedModel

#: Values that make no sense, by a name for the test's report.
VALUES: dict[str, object] = {
    "None": None,
    "empty text": "",
    "text": "nonsense",
    "zero": 0,
    "minus one": -1,
    "fraction": 1.5,
    "nan": math.nan,
    "huge": 10**30,
    "bytes": b"text",
    "list": [],
    "list of lists": [[]],
    "dict": {},
    "set": {1},
    "object": object(),
    "function": len,
    "true": True,
}
#: Words of the inside, which say nothing to a caller.
INSIDE = re.compile(
    r"mappingproxy|unsized object|NoneType|object has no attribute|object is not|has no len\(\)|(?<![\w'])_\w+\(|"
    r"unsupported operand|not supported between|msgspec|must be real number|cannot be interpreted|os\.PathLike|"
    r"invalid literal|could not convert|ambiguous|argument of type|unhashable|not enough values|too many values|"
    r"too large to|out of bounds for|positional argument|Traceback|\bself\b|SchedulerState|_io\."
)
SECONDS = 20
TEXTS = ["the cat sat", "a dog"]


class TooSlowError(BaseException):
    """A call did not return."""


@contextmanager
def _limit(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _complaint(call: Callable[[], object], name: str) -> str | None:
    """Return what is wrong with how a call takes a value; None if it took it, or refused it in plain words."""
    try:
        with _limit(SECONDS):
            result: Any = call()
            if inspect.isgenerator(result):
                list(result)
            if isinstance(result, (LoadedModel, Collection, Engine)):
                result.close()
    except TooSlowError:
        return "it hangs"
    except (NearfieldError, TypeError, ValueError) as error:
        message = str(error)
        if INSIDE.search(message):
            return f"{type(error).__name__}: {message}"
        named = name in message or getattr(error, "param", None) == name
        return None if named or isinstance(error, NearfieldError) else f"the parameter is not named: {message}"
    except Exception as error:  # noqa: BLE001 - that is the fault
        return f"{type(error).__name__}: {error}"
    return None


Parts = dict[str, Any]


@pytest.fixture(scope="module")
def parts(fleet: dict[str, LoadedModel], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    home = tmp_path_factory.mktemp("collections")
    tiny = fleet["tiny"]
    retrieval = Retrieval({"d": "the cat", "e": "a dog"}, {"q": "cat"}, {"q": {"d": 1}})
    pytest.importorskip("lancedb")
    with Collection.create("odd", home=home, encoder_of=lambda _: tiny) as collection:  # type: ignore[arg-type,return-value]
        collection.put([{"id": "a", "text": "the cat sat on the mat"}])
        texts = [f"cat {number}" for number in range(10)]
        yield {
            **fleet,
            "topics": nearfield.find_topics(texts, count=2, vectors=np.eye(10)),
            "folder": str(tiny.recipe.folder),
            "home": home,
            "collection": collection,
            "data": Dataset("odd", "retrieval", retrieval),
        }


def _loading(name: str) -> Callable[[Parts, Any], object]:
    options: dict[str, Any] = {"compile_cache": False, "precision": "float32"}
    return lambda parts, value: Encoder(parts["folder"], **{**options, name: value})


def _encoding(name: str, kind: str = "tiny") -> Callable[[Parts, Any], object]:
    return lambda parts, value: parts[kind].encode(TEXTS, **{name: value})


def _searching(name: str) -> Callable[[Parts, Any], object]:
    return lambda parts, value: parts["collection"].search("cat", **{name: value})


def _copies(name: str) -> Callable[[Parts, Any], object]:
    return lambda _, value: nearfield.find_duplicate_files(".", **{name: value})


def _evaluating(name: str) -> Callable[[Parts, Any], object]:
    def options(value: object) -> dict[str, Any]:
        return {"samples": 0, name: value}

    return lambda parts, value: nearfield.evaluate(parts["tiny"], parts["data"], **options(value))


def _comparing(name: str) -> Callable[[Parts, Any], object]:
    return lambda parts, value: nearfield.compare([], parts["data"], speed=False, **{name: value})


def _working(call: str, name: str) -> Callable[[Parts, Any], object]:
    return lambda parts, value: getattr(nearfield, call)(**{**_job_options(call, parts), name: value})


def _job_options(call: str, parts: Parts) -> dict[str, Any]:
    """Return arguments with which a job takes a moment: vectors are given, and the model is the tiny one."""
    model, texts, points = {"model": parts["tiny"]}, [f"cat {number}" for number in range(10)], np.eye(10)
    examples = (TEXTS * 2, ["a", "b"] * 2)
    options: dict[str, dict[str, Any]] = {
        "classify": {"texts": TEXTS, **model},
        "next_to_label": {"texts": TEXTS, "count": 1, "examples": examples, **model},
        "train_classifier": {"examples": examples, **model},
        "find_topics": {"texts": texts, "count": 2, "vectors": points, **model},
        "draw_map": {"texts": texts, "count": 2, "vectors": points, **model},
        "find_outliers": {"texts": texts, "vectors": points, **model},
        "find_drift": {"reference": texts, "stream": texts, "vectors": (points, points), **model},
        "recommend": {"texts": texts, "like": [0], "vectors": points, **model},
        "Recommender": {"ids": range(10), "vectors": points},
        "find_duplicate_texts": {"texts": TEXTS},
        "read_job_items": {"inputs": __file__, "form": "txt"},
        "name_topics": {"topics": parts["topics"], "texts": texts, "endpoint": None},
    }
    return options.get(call, {})


_WORKING: dict[str, tuple[str, ...]] = {
    "classify": ("texts", "labels", "examples", "templates", "vectors"),
    "next_to_label": ("texts", "count", "examples", "seed"),
    "train_classifier": ("examples", "output", "test", "several", "sure", "seed"),
    "find_topics": ("texts", "count", "method", "min_size", "seed", "vectors"),
    "load_topics": ("folder",),
    "draw_map": ("texts", "output", "fields", "title", "count", "seed", "vectors"),
    "find_outliers": ("texts", "count", "seed", "vectors"),
    "find_drift": ("reference", "stream", "count", "seed", "vectors"),
    "recommend": ("texts", "like", "ids", "unlike", "seen", "count", "diversity", "half_life", "ages"),
    "Recommender": ("ids", "vectors", "ages"),
    "find_duplicate_texts": ("texts", "ids", "keep", "dates", "similarity", "vectors"),
    "read_job_items": ("inputs", "field", "id_field", "columns", "form"),
    "name_topics": ("topics", "texts"),
}
_LOADING = (
    "source",
    "revision",
    "precision",
    "backend",
    "threads",
    "streams",
    "max_length",
    "kind",
    "engine",
    "adapters",
    "file",
    "answer",
    "device",
    "devices",
    "truncate_dim",
)
_ENCODING = (
    "prompt_name",
    "prompt",
    "role",
    "instruction",
    "task",
    "outputs",
    "adapter",
    "truncate_dim",
    "precision",
    "ranges",
    "truncate",
    "max_length",
)
_SEARCHING = (
    "k",
    "mode",
    "where",
    "rerank",
    "rerank_depth",
    "mmr",
    "highlight",
    "weights",
    "fuse",
    "depth",
    "min_score",
)
#: Calls by what they are and the parameter that gets the value.
CALLS: dict[tuple[str, str], Callable[[Parts, Any], object]] = {
    ("Encoder", "model"): lambda _, value: Encoder(value),
    ("load", "model"): lambda _, value: nearfield.load(value),
    ("Reranker", "model"): lambda _, value: Reranker(value),
    ("Reranker", "instruction"): lambda parts, value: Reranker(str(parts["reranker"].recipe.folder), instruction=value),
    ("Classifier", "model"): lambda _, value: Classifier(value),
    **{("Encoder", name): _loading(name) for name in _LOADING},
    **{("Encoder.encode", name): _encoding(name) for name in _ENCODING},
    **{("m3.encode", name): _encoding(name, "m3") for name in ("outputs", "precision", "truncate")},
    ("Encoder.encode", "input"): lambda parts, value: parts["tiny"].encode(value),
    ("Encoder.encode_late", "documents"): lambda parts, value: parts["tiny"].encode_late(value),
    ("Encoder.stream", "window"): lambda parts, value: parts["tiny"].stream(TEXTS, window=value),
    ("Encoder.stream", "input"): lambda parts, value: parts["tiny"].stream(value),
    ("Encoder.submit", "input"): lambda parts, value: parts["tiny"].submit(value).result(5),
    ("Encoder.submit", "deadline"): lambda parts, value: parts["tiny"].submit(TEXTS, deadline=value).result(5),
    ("Encoder.aencode", "deadline"): lambda parts, value: asyncio.run(parts["tiny"].aencode(TEXTS, deadline=value)),
    ("Encoder.aencode", "max_tokens"): lambda parts, value: asyncio.run(parts["tiny"].aencode(TEXTS, max_tokens=value)),
    ("Encoder.similarity", "b"): lambda parts, value: parts["tiny"].similarity(TEXTS, value),
    ("Encoder.tokenize", "input"): lambda parts, value: parts["tiny"].tokenize(value),
    ("Encoder.require", "output"): lambda parts, value: parts["tiny"].require(value),
    ("Encoder.load_adapter", "adapter"): lambda parts, value: parts["tiny"].load_adapter(value),
    ("Encoder.remove_adapter", "name"): lambda parts, value: parts["tiny"].remove_adapter(value),
    ("Reranker.score", "query"): lambda parts, value: parts["reranker"].score(value, TEXTS),
    ("Reranker.score", "documents"): lambda parts, value: parts["reranker"].score("cat", value),
    ("Reranker.score", "activation"): lambda parts, value: parts["reranker"].score("a", TEXTS, activation=value),
    ("Reranker.score", "truncate"): lambda parts, value: parts["reranker"].score("cat", TEXTS, truncate=value),
    ("Reranker.score", "adapter"): lambda parts, value: parts["reranker"].score("cat", TEXTS, adapter=value),
    ("Reranker.rank", "top_k"): lambda parts, value: parts["reranker"].rank("cat", TEXTS, top_k=value),
    ("Classifier.predict", "input"): lambda parts, value: parts["classifier"].predict(value),
    ("Classifier.predict", "activation"): lambda parts, value: parts["classifier"].predict(TEXTS, activation=value),
    ("Engine", "lanes"): lambda _, value: Engine(value) if value != 10**30 else None,
    ("Engine", "limits"): lambda _, value: Engine(1, value),
    ("calibrate", "sample"): lambda _, value: nearfield.calibrate(value),
    ("read_multivectors", "output"): lambda parts, value: nearfield.read_multivectors(value),
    ("similarity", "a"): lambda parts, value: nearfield.similarity(value, parts["tiny"].encode(TEXTS)),
    ("similarity", "metric"): lambda parts, value: nearfield.similarity(
        parts["tiny"].encode(TEXTS),
        parts["tiny"].encode(TEXTS),
        value,
    ),
    ("maxsim", "documents"): lambda parts, value: nearfield.maxsim(
        parts["m3"].encode(TEXTS, outputs="multivector").multivector,
        value,
    ),
    ("Collection.create", "name"): lambda parts, value: Collection.create(value, home=parts["home"]),
    ("Collection.create", "config"): lambda parts, value: Collection.create("new", value or ["x"], home=parts["home"]),  # type: ignore[arg-type]
    ("Collection.open", "name"): lambda parts, value: Collection.open(value, home=parts["home"]),
    ("Collection.put", "documents"): lambda parts, value: parts["collection"].put(value),
    ("Collection.put", "id"): lambda parts, value: parts["collection"].put([{"id": value, "text": "x"}]),
    ("Collection.put", "text"): lambda parts, value: parts["collection"].put([{"id": "x", "text": value}]),
    ("Collection.remove", "documents"): lambda parts, value: parts["collection"].remove(value),
    ("Collection.forget", "source"): lambda parts, value: parts["collection"].forget(value),
    ("Collection.document", "document"): lambda parts, value: parts["collection"].document(value),
    ("Collection.documents", "limit"): lambda parts, value: parts["collection"].documents(limit=value),
    ("Collection.documents", "state"): lambda parts, value: parts["collection"].documents(state=value),
    ("Collection.search", "query"): lambda parts, value: parts["collection"].search(value),
    ("Collection.search_many", "queries"): lambda parts, value: parts["collection"].search_many(value),
    ("Collection.index", "sources"): lambda parts, value: parts["collection"].index(value),
    **{("Collection.search", name): _searching(name) for name in _SEARCHING},
    ("find_duplicate_files", "folders"): lambda parts, value: nearfield.find_duplicate_files(value),
    **{("find_duplicate_files", name): _copies(name) for name in ("model", "threshold", "max_distance")},
    **{(call, name): _working(call, name) for call, names in _WORKING.items() for name in names},
    ("Taste", "taste"): lambda _, value: nearfield.Recommender([0, 1], np.eye(2)).recommend(value),
    ("evaluate", "model"): lambda parts, value: nearfield.evaluate(value, parts["data"], samples=0),
    ("evaluate", "dataset"): lambda parts, value: nearfield.evaluate(parts["tiny"], value),
    **{("evaluate", name): _evaluating(name) for name in ("task", "k", "samples", "seed", "worst")},
    ("compare", "models"): lambda parts, value: nearfield.compare(value, parts["data"], speed=False),
    ("compare", "data"): lambda parts, value: nearfield.compare(["x"], value, speed=False),
    ("compare", "weights"): lambda parts, value: nearfield.compare([], parts["data"], weights=value),
    ("compare", "seconds"): lambda parts, value: nearfield.compare([], parts["data"], seconds=value),
    ("compare", "clients"): lambda parts, value: nearfield.compare([], parts["data"], clients=value),
    **{("compare", name): _comparing(name) for name in ("k", "samples", "seed")},
}


@pytest.mark.parametrize(("call", "name"), CALLS)
def test_odd_values_are_taken_or_refused_in_plain_words(
    call: str, name: str, parts: Parts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    complaints = {}
    for value_name, value in VALUES.items():
        complaint = _complaint(lambda value=value: CALLS[call, name](parts, value), name)  # type: ignore[misc]
        if complaint is not None:
            complaints[value_name] = complaint
    assert not complaints


def test_every_public_name_is_tried() -> None:
    tried = {call.partition(".")[0] for call, _ in CALLS}
    results = {"MultiVectors", "Outputs", "SparseVectors", "Vectors", "__version__"}
    media = {"Audio", "Image", "Video"}  # tried in tests/media
    long = {"train", "quantize"}  # tried in tests/training: each call would read data, or write a model
    assert set(nearfield.__all__) == tried - {"m3"} | results | media | long


def test_an_error_names_its_parameter(tiny: Encoder) -> None:
    with pytest.raises(
        InputError, match=r"max_length must be a whole number of 1 or more, and is the number 0\."
    ) as caught:
        tiny.encode(["a"], max_length=0)
    assert caught.value.param == "max_length"
    with pytest.raises(InputError, match=r"prompt must be a text, and is of type list \(\[\]\)"):
        tiny.encode(["a"], prompt=[])  # type: ignore[arg-type]
    assert np.asarray(tiny.encode(["a"], max_length=np.int64(5))).shape == (1, 32)
