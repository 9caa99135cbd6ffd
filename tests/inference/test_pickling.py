"""Models, results and errors that are sent to another process."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nearfield
from nearfield import errors
from nearfield.checkpoint.tokenizer.guarded_tokenizer import UntokenizableError
from nearfield.encoder import Encoder
from nearfield.errors import InputError, NearfieldError, SpaceMismatch
from nearfield.inference.loaded_model import LoadedModel
from nearfield.reranker import Classifier, Reranker
from nearfield.testing import write_tiny_model
from tests.parity.scores import classifier

TEXTS = ["the cat sat", "a dog", ""]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sent")


@pytest.fixture(scope="module")
def encoder(home: Path) -> Iterator[Encoder]:
    folder = write_tiny_model(home / "tiny", prompts={"query": "search: "})
    options: dict[str, Any] = {"precision": "float32", "compile_cache": False, "max_length": 16}
    with Encoder(str(folder), truncate_dim=None, **options) as encoder:
        yield encoder


def _sent(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def _encode(encoder: Encoder, texts: list[str]) -> Any:
    return np.asarray(encoder.encode(texts))


def test_an_encoder_is_loaded_again(encoder: Encoder) -> None:
    for again in (_sent(encoder), copy.deepcopy(encoder), copy.copy(encoder)):
        with again:
            assert again is not encoder and type(again) is Encoder
            assert again.fingerprint == encoder.fingerprint
            assert (again.max_length, again.precision) == (16, "float32")
            assert again.tasks == encoder.tasks
            np.testing.assert_array_equal(again.encode(TEXTS), encoder.encode(TEXTS))


def test_a_pickled_encoder_is_small(encoder: Encoder) -> None:
    assert len(pickle.dumps(encoder)) < 4096


def test_a_relative_path_is_right_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_tiny_model(home / "relative")
    monkeypatch.chdir(home)
    with Encoder("./relative", compile_cache=False) as encoder:
        data = pickle.dumps(encoder)
        monkeypatch.chdir(tmp_path)
        with pickle.loads(data) as again:
            assert again.fingerprint == encoder.fingerprint


def test_options_of_a_class_are_sent(home: Path) -> None:
    labels, scores = (classifier("bert", count)(home / str(count)) for count in (3, 1))
    loaded: list[Any] = [
        Classifier(str(labels), compile_cache=False),
        Reranker(str(scores), compile_cache=False, max_length=32),
    ]
    for model in loaded:
        with model, _sent(model) as again:
            assert type(again) is type(model)
            assert (again.fingerprint, again.max_length) == (model.fingerprint, model.max_length)


def test_files_that_changed_are_noticed(home: Path) -> None:
    folder = write_tiny_model(home / "changed")
    with Encoder(str(folder), compile_cache=False) as encoder:
        data = pickle.dumps(encoder)
    write_tiny_model(folder, spread=0.2)
    with pytest.raises(SpaceMismatch, match=r"Encoder changed was sent from a process whose files give other vectors"):
        pickle.loads(data)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_pool_gets_an_encoder(encoder: Encoder, method: str) -> None:
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        rows = pool.submit(_encode, encoder, TEXTS).result(timeout=100)
    np.testing.assert_allclose(rows, _encode(encoder, TEXTS), atol=1e-6)


@pytest.mark.process
@pytest.mark.slow
def test_joblib_gets_an_encoder(encoder: Encoder) -> None:
    joblib = pytest.importorskip("joblib")
    rows = joblib.Parallel(n_jobs=2)(joblib.delayed(_encode)(encoder, [text]) for text in TEXTS)
    np.testing.assert_allclose(np.concatenate(rows), _encode(encoder, TEXTS), atol=1e-6)


@pytest.mark.process
@pytest.mark.slow
def test_an_error_of_another_process_arrives(encoder: Encoder) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        task = pool.submit(_encode, encoder, [None])  # type: ignore[list-item]
        with pytest.raises(InputError, match="Input 0 is None") as caught:
            task.result(timeout=100)
    assert caught.value.param == "input"


def test_what_cannot_be_sent_says_so(encoder: Encoder) -> None:
    ticket = encoder.submit(["a"])
    for value in (encoder.engine, ticket):
        with pytest.raises(TypeError, match=rf"{type(value).__name__}.*process"):
            pickle.dumps(value)
    ticket.result()


def test_a_collection_is_opened_again(tmp_path: Path, encoder: Encoder) -> None:
    pytest.importorskip("lancedb")
    with nearfield.Collection.create("notes", home=tmp_path) as collection, _sent(collection) as again:
        assert (again.name, again.folder.path) == (collection.name, collection.folder.path)
    lent = nearfield.Collection.open("notes", home=tmp_path, encoder_of=lambda _: encoder)
    with lent, pytest.raises(InputError, match=r"Collection 'notes' uses models .* process"):
        pickle.dumps(lent)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if is_dataclass(a):
        return type(a) is type(b) and all(_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def test_results_are_sent_whole(fleet: dict[str, LoadedModel]) -> None:
    m3, reranker, labels = fleet["m3"], fleet["reranker"], fleet["classifier"]
    assert isinstance(m3, Encoder)
    assert isinstance(reranker, Reranker)
    assert isinstance(labels, Classifier)
    results = [
        m3.encode(TEXTS, outputs=["dense", "sparse", "multivector"]),
        m3.encode(TEXTS[0], outputs=["sparse"]),
        reranker.score("the cat", TEXTS[:2]),
        reranker.rank("the cat", TEXTS[:2]),
        labels.predict(TEXTS[:2]),
        m3.tokenize(TEXTS),
    ]
    for result in results:
        assert _equal(_sent(result), result)
        assert _equal(copy.deepcopy(result), result)


def _kinds(kind: type[NearfieldError]) -> Iterator[type[NearfieldError]]:
    yield kind
    for sub in kind.__subclasses__():
        yield from _kinds(sub)


def test_every_error_is_sent_with_its_fields() -> None:
    for kind in _kinds(NearfieldError):
        error = kind.__new__(kind, "what was wrong")
        error.args = ("what was wrong",)
        vars(error).update(param="text", extra=[1, 2])
        again: Any = _sent(error)
        assert type(again) is kind
        assert (str(again), vars(again)) == ("what was wrong", {"param": "text", "extra": [1, 2]})


def test_errors_with_fields_of_their_own_are_sent() -> None:
    examples: list[NearfieldError] = [
        InputError("wrong", param="k"),
        errors.Overloaded("full", retry_after=2.5),
        errors.ModelNotFound("none", name="x"),
        errors.ServerRefused("no", response_status=404),
        UntokenizableError(3, "it is too deep"),
    ]
    for error in examples:
        for again in (_sent(error), copy.copy(error)):
            assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
            assert (again.status, again.code) == (error.status, error.code)
