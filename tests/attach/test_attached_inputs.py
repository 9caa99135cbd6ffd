"""Attached models of pictures, sounds and videos, with adapters and tasks, and with fewer tokens than the server's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Audio, Encoder, Image, Reranker, Video, catalog, errors
from nearfield.attach import open_encoder, open_reranker
from nearfield.attach.attached_encoder import AttachedEncoder
from nearfield.attach.attached_scorer import AttachedReranker
from nearfield.server.models.model_pool import ModelPool
from nearfield.testing import write_tiny_model
from tests.inference.test_adapters import lora
from tests.parity.scores import classifier
from tests.support import films, tiny_models, tiny_multimodal, tiny_pictures, tiny_sounds
from tests.support.odd_pictures import encode, smooth
from tests.support.serving import serving

pytestmark = [
    pytest.mark.network,
    pytest.mark.slow,
    # peft's own call into transformers.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]
PNG = encode(smooth(90, 40, 1), "PNG")
OPTIONS: Any = {"precision": "float32", "compile_cache": False, "reproducible": True}
ENTRY = catalog.find("Qwen/Qwen3-VL-Reranker-2B")
assert ENTRY is not None and ENTRY.answer is not None
ANSWER = replace(ENTRY.answer, true="ed", false="er")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Models by kind, as a server has them."""
    home = tmp_path_factory.mktemp("media")
    bert, cross = tiny_models.tiny_bert(home / "bert"), classifier("bert", new=False)(home / "c").rename(home / "cross")
    folders: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "clip": (Encoder, tiny_pictures.write_clip(home / "clip"), {}),
        "clap": (Encoder, tiny_sounds.write_clap(home / "clap"), {}),
        "gemma": (Encoder, tiny_multimodal.embedding_gemma2_with_media(home / "gemma"), {}),
        "qwen": (Reranker, tiny_multimodal.qwen3_vl_embedding(home / "qwen", modules=False), {"answer": ANSWER}),
        "jina": (Encoder, tiny_models.tiny_jina_v3(home / "jina"), {}),
        "bert": (Encoder, bert, {"adapters": {"law": lora(bert, home / "law"), "tax": lora(bert, home / "tax", 1)}}),
        "cross": (Reranker, cross, {"adapters": {"law": lora(cross, home / "cross-law", task=True)}}),
    }
    models = {name: kind(str(folder), **options, **OPTIONS) for name, (kind, folder, options) in folders.items()}
    yield models
    for model in models.values():
        model.close()


@pytest.fixture(scope="module", autouse=True)
def url(models: dict[str, Any]) -> Iterator[str]:
    """A server of these models, which the tests attach to."""
    with serving(list(models.values())) as base, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEARFIELD_SERVER", base)
        yield base


def _attached(model: Any, **options: Any) -> Any:
    opened = (open_encoder if isinstance(model, Encoder) else open_reranker)(str(model.recipe.folder), **options)
    assert isinstance(opened, (AttachedEncoder, AttachedReranker))
    return opened


def test_pictures_films_and_labels_of_pictures(models: dict[str, Any]) -> None:
    local, film = models["clip"], films.write_film()
    inputs = ["a red fox", PNG, Image(PNG), Video(film), {"text": "a blue owl"}]
    with _attached(local) as encoder:
        assert encoder.modalities == local.modalities
        ours, theirs = encoder.encode(inputs), local.encode(inputs)
        np.testing.assert_array_equal(ours, theirs)
        assert ours.fingerprint == theirs.fingerprint
        np.testing.assert_array_equal(encoder.encode(Image(PNG)), local.encode(Image(PNG)))
        assert encoder.zero_shot(Image(PNG), ["fox", "owl"]) == local.zero_shot(Image(PNG), ["fox", "owl"])
        with pytest.raises(errors.InputError, match="encode it in this process"):
            encoder.encode([Video(film, fps=2)])


def test_sounds_and_inputs_of_several_parts(models: dict[str, Any]) -> None:
    sounds = [Audio(tiny_sounds.tone(0.5, 440), rate=tiny_sounds.RATE), "rain"]
    parts = [{"text": "a red fox", "image": PNG}, ["one", Image(PNG), "two"], "a blue owl"]
    for name, inputs in (("clap", sounds), ("gemma", parts)):
        with _attached(models[name]) as encoder:
            np.testing.assert_array_equal(encoder.encode(inputs), models[name].encode(inputs))
    with (
        _attached(models["clap"]) as encoder,
        pytest.raises(errors.InputError, match="a picture, and the model reads texts and sounds"),
    ):
        encoder.encode([Image(PNG)])


def test_pictures_are_ranked_and_an_instruction_is_sent(models: dict[str, Any]) -> None:
    local, documents = models["qwen"], [Image(PNG), {"text": "a red fox", "image": PNG}, "a blue owl"]
    with _attached(local, answer=ANSWER) as reranker:
        np.testing.assert_array_equal(reranker.score("a fox", documents), local.score("a fox", documents))
        assert reranker.rank(Image(PNG), documents) == local.rank(Image(PNG), documents)
    with _attached(local, answer=ANSWER, instruction="Find owls.") as reranker:
        expected = local.score("a fox", documents, prompt="Find owls.")
        np.testing.assert_array_equal(reranker.score("a fox", documents), expected)
        assert not np.array_equal(expected, local.score("a fox", documents))


def test_tasks_of_a_model_with_adapters_of_its_own(models: dict[str, Any]) -> None:
    local, texts = models["jina"], ["river bank", "water"]
    assert local.tasks
    with _attached(local) as encoder:
        assert encoder.tasks == local.tasks and encoder.adapters == local.adapters
        for task in local.tasks:
            ours, theirs = encoder.encode(texts, task=task), local.encode(texts, task=task)
            np.testing.assert_array_equal(ours, theirs)
            assert ours.fingerprint == theirs.fingerprint


def test_adapters_that_the_server_has_loaded(models: dict[str, Any], tmp_path: Path) -> None:
    local, texts = models["bert"], ["river bank", "water"]
    folders = {adapter.name: adapter.folder for adapter in local._model.adapters.loaded.values()}
    with _attached(local, adapters=folders) as encoder:
        assert encoder.adapters == ("law", "tax")
        for name in (None, "law", "tax"):
            ours, theirs = encoder.encode(texts, adapter=name), local.encode(texts, adapter=name)
            np.testing.assert_array_equal(ours, theirs)
            assert ours.fingerprint == theirs.fingerprint
        with pytest.raises(errors.InputError, match="no adapter 'other'"):
            encoder.encode(texts, adapter="other")
    # Another adapter under a name of the server's, and one that it does not have.
    with (
        _attached(local, adapters={"law": folders["tax"], "new": folders["law"]}) as encoder,
        pytest.raises(errors.SpaceMismatch, match="other weights"),
    ):
        encoder.encode(texts, adapter="law")
    with (
        _attached(local, adapters={"new": folders["law"]}) as encoder,
        pytest.raises(errors.InputError, match="no adapter 'new'"),
    ):
        encoder.encode(texts, adapter="new")
    cross = models["cross"]
    law = next(iter(cross._model.adapters.loaded.values())).folder
    with _attached(cross, adapters={"law": law}) as reranker:
        ours, theirs = (model.score("water", texts, adapter="law") for model in (reranker, cross))
        np.testing.assert_array_equal(ours, theirs)


def test_fewer_tokens_than_the_server_reads_are_sent_with_each_request(models: dict[str, Any]) -> None:
    local, texts = models["bert"], ["river bank water " * 10]
    with _attached(local, max_length=6) as encoder:
        assert encoder.max_length == 6
        ours, theirs = encoder.encode(texts), local.encode(texts, max_length=6)
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(ours.dropped, theirs.dropped)
        np.testing.assert_array_equal(encoder.encode(texts, max_length=4), local.encode(texts, max_length=4))
        with pytest.raises(errors.InputError, match="encode_late with a smaller max_length is for a model that is"):
            encoder.encode_late([["river ", "bank"]])
    with _attached(models["cross"], max_length=8) as reranker:
        ours, theirs = reranker.score("water", texts), models["cross"].score("water", texts, max_length=8)
        np.testing.assert_array_equal(ours, theirs)


def test_a_server_that_reads_fewer_tokens_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(write_tiny_model(tmp_path / "short"))
    with Encoder(folder, max_length=16, compile_cache=False) as short, serving([short]) as base:
        monkeypatch.setenv("NEARFIELD_SERVER", base)
        with pytest.raises(errors.InputError, match="pass max_length=16, or unset NEARFIELD_SERVER"):
            open_encoder(folder)
        with open_encoder(folder, max_length=16) as encoder:
            np.testing.assert_array_equal(encoder.encode("a cat"), short.encode("a cat"))


def test_a_model_that_the_server_loads_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(write_tiny_model(tmp_path / "late"))
    pool = ModelPool(loader=lambda name: Encoder(name, compile_cache=False), on_demand=(folder,))
    with serving(pool) as base:
        monkeypatch.setenv("NEARFIELD_SERVER", base)
        with open_encoder(folder) as encoder, Encoder(folder, compile_cache=False) as local:
            assert isinstance(encoder, AttachedEncoder)
            np.testing.assert_array_equal(encoder.encode("a cat"), local.encode("a cat"))
            assert encoder.precision == local.precision
    pool = ModelPool(loader=lambda name: Encoder(name, max_length=16, compile_cache=False), on_demand=(folder,))
    with serving(pool) as base:
        monkeypatch.setenv("NEARFIELD_SERVER", base)
        with open_encoder(folder) as encoder, pytest.raises(errors.InputError, match="pass max_length=16"):
            encoder.encode("a cat")
