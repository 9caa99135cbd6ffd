"""Models that are attached to a server: equal to loaded ones bit for bit, or an error that says what to do."""

from __future__ import annotations

import asyncio
import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nearfield
from nearfield import errors
from nearfield.attach import open_encoder, open_reranker
from nearfield.attach.attached_encoder import AttachedEncoder
from nearfield.attach.attached_scorer import AttachedClassifier, AttachedReranker
from nearfield.corpus.collection_models import ModelProvider
from nearfield.encoder import Encoder
from nearfield.integrations.lazy_model import LazyEncoder
from nearfield.testing import write_tiny_model
from tests.parity.m3 import write as write_m3
from tests.parity.scores import classifier
from tests.support.cli_runner import run
from tests.support.serving import listening, serving

TEXTS = ["a cat sat on the mat", "", "the dog " * 60, "hello world", "red blue search"] * 30
PROMPTS = {"query": "search: ", "passage": "hello "}
KINDS = ("dense", "sparse", "multivector")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Models by kind, each input computed by itself: last bits do not depend on the inputs beside it."""
    home = tmp_path_factory.mktemp("attached")
    folders = {
        "tiny": write_tiny_model(home / "tiny", prompts=PROMPTS),
        "m3": write_m3(home),
        "reranker": classifier("bert", 1)(home / "1").rename(home / "tiny-reranker"),
        "classifier": classifier("bert", 3)(home / "3").rename(home / "tiny-classifier"),
    }
    options: dict[str, Any] = {"precision": "float32", "compile_cache": False, "reproducible": True}
    models = {kind: nearfield.load(str(folder), **options) for kind, folder in folders.items()}
    yield models
    for model in models.values():
        model.close()


@pytest.fixture(scope="module")
def loaded_url(loaded: dict[str, Any]) -> Iterator[str]:
    """A server of these models."""
    with serving(list(loaded.values())) as base:
        yield base


@pytest.fixture(scope="module")
def local(loaded: dict[str, Any]) -> Encoder:
    """The model of dense vectors among them."""
    encoder: Encoder = loaded["tiny"]
    return encoder


@pytest.fixture
def attached(loaded: dict[str, Any], loaded_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Encoder]:
    """The tiny model on the server."""
    monkeypatch.setenv("NEARFIELD_SERVER", loaded_url)
    with open_encoder(str(loaded["tiny"].recipe.folder)) as encoder:
        assert isinstance(encoder, AttachedEncoder)
        yield encoder


def _same(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert a.fingerprint == b.fingerprint
    for name in ("tokens", "dropped", "unknown"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert getattr(a, name).dtype == getattr(b, name).dtype


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"role": "query"},
        {"role": "document"},
        {"prompt_name": "passage"},
        {"prompt": "red "},
        {"truncate_dim": 8, "force_truncate_dim": True},
        {"precision": "int8"},
        {"precision": "ubinary"},
        {"truncate": "chunk"},
        {"truncate": "left"},
        {"max_length": 6},
        {"ranges": np.array([[-1.0] * 32, [1.0] * 32]), "precision": "uint8"},
    ],
)
def test_dense_vectors_are_those_of_a_loaded_model(local: Encoder, attached: Encoder, options: dict[str, Any]) -> None:
    _same(attached.encode(TEXTS, **options), local.encode(TEXTS, **options))


def test_facts_are_those_of_a_loaded_model(local: Encoder, attached: Encoder) -> None:
    for name in ("fingerprint", "name", "dimensions", "max_length", "prompts", "tasks", "modalities", "precision"):
        assert getattr(attached, name) == getattr(local, name), name
    assert attached.tokenize(["a cat"]) == local.tokenize(["a cat"])
    assert attached.prompt_of(role="query") == local.prompt_of(role="query")


def test_one_text_no_text_token_ids_and_streams(local: Encoder, attached: Encoder) -> None:
    _same(attached.encode("a cat"), local.encode("a cat"))
    assert attached.encode("a cat").shape == (32,)
    _same(attached.encode([]), local.encode([]))
    ids = local.tokenize(["a cat"])[0].ids
    _same(attached.encode([list(ids), list(ids)]), local.encode([list(ids), list(ids)]))
    parts = zip(
        attached.stream(iter(TEXTS), window=40, steady=True),
        local.stream(iter(TEXTS), window=40, steady=True),
        strict=True,
    )
    for ours, theirs in parts:
        _same(ours, theirs)


def test_asynchronous_calls_and_similarity(local: Encoder, attached: Encoder) -> None:
    _same(asyncio.run(attached.aencode(TEXTS)), local.encode(TEXTS))
    np.testing.assert_array_equal(attached.similarity(TEXTS[:3], TEXTS[3:5]), local.similarity(TEXTS[:3], TEXTS[3:5]))


def test_late_chunks(local: Encoder, attached: Encoder) -> None:
    documents = [["a cat ", "sat on"], ["hello ", "world ", "search"]]
    for ours, theirs in zip(attached.encode_late(documents), local.encode_late(documents), strict=True):
        _same(ours, theirs)
    awaited = asyncio.run(attached.aencode_late(documents))
    assert [len(rows) for rows in awaited] == [2, 3]


def test_kinds_of_output(loaded: dict[str, Any], loaded_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARFIELD_SERVER", loaded_url)
    with open_encoder(str(loaded["m3"].recipe.folder)) as encoder:
        ours, theirs = (model.encode(TEXTS, outputs=KINDS) for model in (encoder, loaded["m3"]))
    for kind in ("dense", "sparse"):
        _same(ours[kind], theirs[kind])
    for name in ("data", "indptr"):
        np.testing.assert_array_equal(getattr(ours.multivector, name), getattr(theirs.multivector, name))
    assert ours.multivector.average == theirs.multivector.average
    assert ours.multivector.fingerprint == theirs.multivector.fingerprint


def test_scores_and_ranks(loaded: dict[str, Any], loaded_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARFIELD_SERVER", loaded_url)
    local = loaded["reranker"]
    with open_reranker(str(local.recipe.folder)) as reranker:
        assert isinstance(reranker, AttachedReranker) and reranker.fingerprint == local.fingerprint
        settings: tuple[dict[str, Any], ...] = ({}, {"activation": "identity"}, {"activation": "sigmoid"})
        for options in settings:
            ours, theirs = (model.score("a cat", TEXTS, **options) for model in (reranker, local))
            np.testing.assert_array_equal(ours, theirs)
            np.testing.assert_array_equal(ours.tokens, theirs.tokens)
        queries = ["a", "a", "dog"]
        np.testing.assert_array_equal(reranker.score(queries, TEXTS[:3]), local.score(queries, TEXTS[:3]))
        assert reranker.rank("a cat", TEXTS, top_k=3) == local.rank("a cat", TEXTS, top_k=3)
        assert len(reranker.score("a cat", [])) == 0
        for options in ({"max_length": 8}, {"prompt": "red "}):
            ours, theirs = (model.score("a cat", TEXTS, **options) for model in (reranker, local))
            np.testing.assert_array_equal(ours, theirs)
            np.testing.assert_array_equal(ours.dropped, theirs.dropped)
        with pytest.raises(errors.InputError, match="no instruction"):
            open_reranker(str(local.recipe.folder), instruction="x")
        assert pickle.loads(pickle.dumps(reranker)).fingerprint == local.fingerprint


def test_classes_of_texts_and_of_pairs(
    loaded: dict[str, Any], loaded_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARFIELD_SERVER", loaded_url)
    local = loaded["classifier"]
    with nearfield.load(str(local.recipe.folder)) as classifier:
        assert isinstance(classifier, AttachedClassifier) and classifier.labels == local.labels
        assert classifier.predict(TEXTS) == local.predict(TEXTS)
        assert classifier.predict("a cat") == local.predict("a cat")
        pairs = [(text, "hello") for text in TEXTS[:70]]
        assert classifier.predict(pairs, activation="sigmoid") == local.predict(pairs, activation="sigmoid")
        assert classifier.predict(TEXTS, max_length=6, prompt="red ") == local.predict(
            TEXTS, max_length=6, prompt="red "
        )
        assert asyncio.run(classifier.apredict(TEXTS[:3]))[0] == local.predict(TEXTS[:3])
        assert classifier.predict([]) == [] == local.predict([])
        again = pickle.loads(pickle.dumps(classifier))
        assert again.predict("a cat") == local.predict("a cat")


def test_load_attaches_unless_it_gets_an_engine(local: Encoder, attached: Encoder) -> None:
    folder = str(local.recipe.folder)
    model = nearfield.load(folder, truncate_dim=8, force_truncate_dim=True)
    assert isinstance(model, AttachedEncoder) and model.encode("a").shape == (8,)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.encode("a"), model.encode("a"))
    with nearfield.load(folder, engine=local.engine, compile_cache=False) as model:
        assert type(model) is Encoder


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", 1),
        ("device", "cuda"),
        ("devices", "cuda:0,cuda:1"),
        ("backend", "reference"),
        ("reproducible", True),
        ("precision", "bfloat16"),
    ],
)
def test_options_of_loading_are_refused_by_name(local: Encoder, attached: Encoder, name: str, value: object) -> None:
    with pytest.raises(errors.InputError, match=name) as caught:
        open_encoder(str(local.recipe.folder), **{name: value})
    assert caught.value.param == name and "NEARFIELD_SERVER" in str(caught.value)


def test_calls_that_need_weights_are_refused(attached: Encoder) -> None:
    calls = (lambda: attached.submit(["a"]), lambda: attached.encode_tokens(["a"]), lambda: attached.load_adapter("x"))
    for call in calls:
        with pytest.raises(errors.InputError, match="is attached to"):
            call()


def test_errors_are_those_of_a_loaded_model(local: Encoder, attached: Encoder) -> None:
    texts = [*(["a"] * 70), "the dog " * 60]
    messages = []
    for model in (local, attached):
        with pytest.raises(errors.InputTooLong) as caught:
            model.encode(texts, truncate="error")
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and messages[0].startswith("input 70")
    for options in ({"truncate_dim": 8}, {"prompt_name": "none"}, {"precision": "int7"}):
        with pytest.raises(errors.InputError) as here:
            local.encode("a", **options)
        with pytest.raises(type(here.value), match=str(here.value)[:30]):
            attached.encode("a", **options)


def test_another_model_under_the_name_is_refused(tmp_path: Path, attached: Encoder) -> None:
    folder = write_tiny_model(tmp_path / "tiny", spread=0.2)
    with pytest.raises(errors.SpaceMismatch, match="Use the same files in both, or unset NEARFIELD_SERVER"):
        open_encoder(str(folder))


def test_a_change_of_the_model_is_noticed_in_the_reply(attached: AttachedEncoder) -> None:
    attached._model.space = "0" * 16
    with pytest.raises(errors.SpaceMismatch, match="other weights"):
        attached.encode("a")


def test_a_model_that_is_not_served(tmp_path: Path, attached: Encoder) -> None:
    folder = write_tiny_model(tmp_path / "unserved")
    with pytest.raises(errors.ModelNotFound, match=r"does not serve unserved\. It has tiny, "):
        open_encoder(str(folder))


def test_no_server_and_no_url(local: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARFIELD_SERVER", "http://127.0.0.1:1")
    with pytest.raises(errors.NearfieldError, match="does not answer"):
        open_encoder(str(local.recipe.folder))
    monkeypatch.setenv("NEARFIELD_SERVER", "127.0.0.1:8080")
    with pytest.raises(errors.SettingsError, match="NEARFIELD_SERVER: The URL"):
        open_encoder(str(local.recipe.folder))


def test_a_server_that_goes_away(local: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([local]) as url:
        monkeypatch.setenv("NEARFIELD_SERVER", url)
        encoder = open_encoder(str(local.recipe.folder))
        parts = encoder.stream(iter(TEXTS), window=20)
        next(parts)
    with pytest.raises(errors.NearfieldError, match=r"does not answer: .* Is a server running\?"):
        next(parts)


def test_keys(local: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving([local], api_keys=["sesame-open"]) as url:
        monkeypatch.setenv("NEARFIELD_SERVER", url)
        with pytest.raises(errors.AccessDenied, match="Set NEARFIELD_KEY"):
            open_encoder(str(local.recipe.folder))
        monkeypatch.setenv("NEARFIELD_KEY", "sesame-open")
        with open_encoder(str(local.recipe.folder)) as encoder:
            np.testing.assert_array_equal(encoder.encode("a"), local.encode("a"))


def test_a_unix_socket(local: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening([local], uds=tmp_path / "s"):
        monkeypatch.setenv("NEARFIELD_SERVER", f"unix:{tmp_path / 's'}")
        with open_encoder(str(local.recipe.folder)) as encoder:
            np.testing.assert_array_equal(encoder.encode(TEXTS), local.encode(TEXTS))


@pytest.mark.parametrize("command", ["embed", "similarity", "rerank"])
def test_commands_attach(
    loaded: dict[str, Any],
    loaded_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "texts.txt"
    source.write_text("\n".join(text or "mat" for text in TEXTS), encoding="utf-8")
    tiny, reranker = (str(loaded[kind].recipe.folder) for kind in ("tiny", "reranker"))
    words = {
        "embed": (source, "-o", tmp_path / "out.npy", "--model", tiny, "-q"),
        "similarity": ("a cat", "a dog", "hello", "--model", tiny, "--json"),
        "rerank": ("a cat", "a dog", "hello", "--model", reranker, "--json"),
    }[command]
    monkeypatch.setenv("NEARFIELD_SERVER", loaded_url)
    # Whatever would load a model here fails.
    monkeypatch.setattr("nearfield.inference.loaded_model.CompiledModel", None)
    done = run(capsys, monkeypatch, command, *words)
    assert done.code == 0, done.err
    if command == "embed":
        expected = loaded["tiny"].encode([text or "mat" for text in TEXTS])
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    elif command == "similarity":
        scores = [row["score"] for row in json.loads(done.out)["scores"]]
        assert scores == pytest.approx(loaded["tiny"].similarity(["a cat"], ["a dog", "hello"])[0], abs=1e-6)
    else:
        expected = {rank.index: rank.score for rank in loaded["reranker"].rank("a cat", ["a dog", "hello"])}
        assert {row["index"]: row["score"] for row in json.loads(done.out)["results"]} == pytest.approx(
            expected, abs=1e-6
        )


def test_files_that_differ_by_their_prompts(local: Encoder, attached: Encoder, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(local.recipe.folder, tmp_path / "tiny"))
    config = folder / "config_sentence_transformers.json"
    facts = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(facts | {"prompts": {"query": "other: "}}), encoding="utf-8")
    with pytest.raises(errors.SpaceMismatch, match="prompts"):
        open_encoder(str(folder))


def test_collections_and_components_attach(local: Encoder, attached: Encoder) -> None:
    folder = str(local.recipe.folder)
    provider, lazy = ModelProvider(None, None), LazyEncoder(folder, {})
    assert isinstance(provider.encoder(folder), AttachedEncoder) and isinstance(lazy.load(), AttachedEncoder)
    np.testing.assert_array_equal(lazy.encode(["a cat"], "query"), local.encode(["a cat"], role="query"))
    provider.close()
    lazy.close()


def test_a_deadline(attached: Encoder) -> None:
    with pytest.raises(errors.DeadlineExceeded, match="did not answer within"):
        asyncio.run(attached.aencode(TEXTS * 20, deadline=0.001))
    with pytest.raises(errors.InputError, match="max_tokens"):
        asyncio.run(attached.aencode("a", max_tokens=8))
