"""EmbeddingGemma 2: texts, pictures and sounds in one sequence, against transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield import Audio, Encoder, Image
from nearfield.checkpoint.model_folder import read_model_folder
from nearfield.errors import InputError, InputTooLong, ModelRefused
from tests.support import tiny_multimodal
from tests.support.odd_pictures import smooth

pytestmark = pytest.mark.slow

BACKENDS = ("reference", "openvino", "torch")
WIDE, TALL, SMALL = smooth(90, 40, 1), smooth(33, 120, 2), smooth(5, 7, 3)
SOUND = (np.sin(np.arange(9000) ** 1.4 / 50) * 0.3).astype(np.float32)
LONG = np.cos(np.arange(500_000) / 9).astype(np.float32)
PROMPT = "title: none | text: "
#: Inputs as a call takes them, and the texts, pictures and sounds that the reference reads one after the other.
INPUTS: list[tuple[Any, list[Any]]] = [
    ("a river of stone", ["a river of stone"]),
    ({"text": "a river", "image": WIDE}, ["a river", WIDE]),
    ({"image": WIDE, "text": "a river"}, [WIDE, "a river"]),
    (Image(TALL), [TALL]),
    ({"image": [WIDE, SMALL, TALL], "text": "all of them"}, [WIDE, SMALL, TALL, "all of them"]),
    (["red ", SMALL, "fox ", WIDE, " jumps"], ["red ", SMALL, "fox ", WIDE, " jumps"]),
    ({"text": "<|image|> beside <|image|>", "image": [SMALL, WIDE]}, [SMALL, " beside ", WIDE]),
    (Audio(SOUND, rate=16_000), [SOUND]),
    (
        ["a song", Audio(SOUND, rate=16_000), SMALL, Audio(SOUND[:3000], rate=16_000)],
        ["a song", SOUND, SMALL, SOUND[:3000]],
    ),
    ({"text": "<|audio|> of <|image|>", "image": SMALL, "audio": Audio(SOUND, rate=16_000)}, [SOUND, " of ", SMALL]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_multimodal.embedding_gemma2_with_media(tmp_path_factory.mktemp("gemma") / "model", sounds=True)


@pytest.fixture(scope="module")
def truth(folder: Path) -> Any:
    return vectors(folder, [parts for _, parts in INPUTS])


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Any:
    with load(folder, "openvino") as encoder:
        yield encoder


def vectors(folder: Path, inputs: list[list[Any]]) -> Any:
    return tiny_multimodal.embedding_gemma2_vectors(folder, inputs)


def load(folder: Path, backend: str = "reference", **options: Any) -> Encoder:
    return Encoder(str(folder), backend=backend, compile_cache=False, **{"precision": "float32", **options})


@pytest.mark.parametrize("backend", BACKENDS)
def test_texts_pictures_and_sounds_in_any_mixture_are_as_in_transformers(
    backend: str, folder: Path, truth: Any
) -> None:
    assert np.corrcoef(truth[:7]).min() < 0.5 and np.abs(truth[1] - truth[2]).max() > 0.01  # the order counts
    items = [item for item, _ in INPUTS]
    with load(folder, backend) as encoder:
        together = np.asarray(encoder.encode(items))
        alone = np.stack([np.asarray(encoder.encode([item]))[0] for item in items[6:9]])
    np.testing.assert_allclose(together, truth, atol=5e-6)
    np.testing.assert_allclose(alone, truth[6:9], atol=5e-6)


def test_a_prompt_comes_first(encoder: Encoder, folder: Path) -> None:
    expected = vectors(folder, [[PROMPT, WIDE, "a river"], [PROMPT + "a river", WIDE], [PROMPT, WIDE]])
    items = [{"image": WIDE, "text": "a river"}, {"text": "a river", "image": WIDE}, WIDE]
    np.testing.assert_allclose(encoder.encode(items, prompt=PROMPT), expected, atol=5e-6)


def test_the_prompts_of_the_catalogue_are_for_pictures_too(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "model"
    shutil.copytree(folder, copied)
    (copied / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"document": PROMPT}}))
    with load(copied, "openvino") as encoder:
        found = encoder.encode_document([{"image": WIDE, "text": "a river"}])
    np.testing.assert_allclose(found, vectors(folder, [[PROMPT, WIDE, "a river"]]), atol=5e-6)


def test_placeholders_and_pictures_are_as_many(encoder: Encoder) -> None:
    with pytest.raises(
        InputError, match=r"Input 1: The placeholder <\|image\|> is 1 times in the text, and there are 2"
    ):
        encoder.encode(["a", {"text": "a <|image|>", "image": [WIDE, SMALL]}])


def test_texts_are_cut_and_pictures_stay(encoder: Encoder, folder: Path) -> None:
    words = encoder.tokenizer.encode_bare(["river stone night " * 30], 300)[0].ids
    picture = 60 + 2  # tokens of the wide picture and around it
    text = encoder.tokenizer.backend.decode(words)
    read = encoder.encode([["fox ", WIDE, text]], max_length=picture + 22)
    assert read.tokens is not None and read.dropped is not None
    assert read.tokens[0] == picture + 22
    fox = len(encoder.tokenizer.encode_bare(["fox "], 9)[0].ids)
    kept = 20 - fox
    assert read.dropped[0] == len(words) - kept
    short = encoder.tokenizer.backend.decode(words[:kept])
    np.testing.assert_allclose(read, vectors(folder, [["fox ", WIDE, short]]), atol=5e-6)
    left = encoder.encode([[text, WIDE]], max_length=picture + 22, truncate="left", prompt="fox:")
    tail = encoder.tokenizer.backend.decode(words[-(20 - len(encoder.tokenizer.encode_bare(["fox:"], 9)[0].ids)) :])
    np.testing.assert_allclose(left, vectors(folder, [["fox:" + tail, WIDE]]), atol=5e-6)
    with pytest.raises(InputTooLong, match=r"the input has .* tokens, and the model reads at most 84"):
        encoder.encode([[text, WIDE]], max_length=84, truncate="error")
    with pytest.raises(InputTooLong, match=r"its pictures and sounds have .* tokens"):
        encoder.encode([WIDE], max_length=40)


def test_texts_alone_read_no_weights_of_the_tower(folder: Path) -> None:
    with load(folder) as encoder:
        encoder.encode(["a river", ""])
        assert encoder._model.media_is_missing and encoder.modalities == ("text", "image", "audio")
    with load(folder, modalities=("text",)) as texts:
        assert texts.modalities == ("text",) and texts.fingerprint == encoder.fingerprint


def test_of_a_sound_the_first_thirty_seconds_are_read(encoder: Encoder) -> None:
    cut, read = (encoder.encode([Audio(samples, rate=16_000)], max_length=1000) for samples in (LONG, LONG[:480_000]))
    assert np.array_equal(cut, read) and cut.dropped is not None and cut.dropped.tolist() == [31]


def test_a_model_that_overflows_in_float16_is_refused_in_it(folder: Path) -> None:
    with pytest.raises(InputError, match="overflows in float16"):
        load(folder, "torch", precision="float16")


def test_a_processor_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "model"
    shutil.copytree(folder, copied)
    stored = json.loads((copied / "processor_config.json").read_text())
    for change, message in (
        ({"pooling_kernel_size": 2}, "must be Gemma4ImageProcessor, with the pooling_kernel_size"),
        ({"max_soft_tokens": 100}, "max_soft_tokens must be one of 70, 140, 280, 560, 1120"),
        ({"do_resize": False}, "do_resize must be true for this kind of processor"),
        ({"sharpen": True}, "unknown key 'sharpen'"),
    ):
        images = {**stored["image_processor"], **change}
        (copied / "processor_config.json").write_text(json.dumps({**stored, "image_processor": images}))
        with pytest.raises(ModelRefused, match=message):
            load(copied)


def test_what_a_config_leaves_out_is_that_of_the_reference(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "model"
    shutil.copytree(folder, copied)
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "vision_config": {}}))
    tower = read_model_folder(copied).fused["image"].config
    assert (tower["num_hidden_layers"], tower["head_dim"], tower["position_embedding_size"]) == (16, 64, 10240)
    assert tower["text_hidden_size"] == config["text_config"]["hidden_size"]


def test_a_placeholder_in_a_text_without_its_medium_is_padding_as_in_transformers(
    encoder: Encoder, folder: Path
) -> None:
    texts = ["a <|image|> b", "<|audio|>", "x <|video|> y"]
    expected = vectors(folder, [[text] for text in texts] + [["a <|video|> b", SMALL]])
    found = encoder.encode([*texts, {"text": "a <|video|> b", "image": SMALL}])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with load(folder, modalities=("text",)) as words:
        np.testing.assert_allclose(words.encode(texts), expected[:3], atol=1e-5)
