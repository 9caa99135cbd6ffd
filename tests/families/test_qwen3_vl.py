"""Qwen3-VL-Embedding: texts and pictures in one sequence, against transformers."""

from __future__ import annotations

import asyncio
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from nearfield import Encoder, Image
from nearfield.checkpoint.model_folder import read_model_folder
from nearfield.errors import InputError, InputTooLong
from nearfield.inference.encode_options import EncodeOptions
from nearfield.inference.preparation.fused import FusedOptions
from nearfield.inference.preparation.media_inputs import MIXED
from nearfield.inference.result_cache import ResultCache
from nearfield.inference.weightless import pack_weightless, unpack_weightless
from nearfield.media.content import MixedContent
from tests.support import tiny_multimodal, tiny_pictures
from tests.support.odd_pictures import smooth

pytestmark = pytest.mark.slow

BACKENDS = ("reference", "openvino", "torch")
WIDE, TALL, SMALL = smooth(90, 40, 1), smooth(33, 120, 2), smooth(5, 7, 3)
#: A text and its pictures, as a call takes them and as the reference does.
INPUTS: list[tuple[Any, tuple[str, list[PIL.Image.Image]]]] = [
    ("a river of stone", ("a river of stone", [])),
    ({"text": "a river", "image": WIDE}, ("a river", [WIDE])),
    ({"image": TALL}, ("", [TALL])),
    ({"image": [WIDE, SMALL, TALL], "text": "all of them"}, ("all of them", [WIDE, SMALL, TALL])),
    (Image(SMALL), ("", [SMALL])),
    (["red ", SMALL, "fox"], ("red fox", [SMALL])),
    ("", ("NULL", [])),
    ("fox", ("fox", [])),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_multimodal.qwen3_vl_embedding(tmp_path_factory.mktemp("qwen") / "model")


@pytest.fixture(scope="module")
def truth(folder: Path) -> Any:
    return tiny_multimodal.qwen3_vl_vectors(folder, [expected for _, expected in INPUTS])


def load(folder: Path, backend: str = "reference", **options: Any) -> Encoder:
    return Encoder(str(folder), precision="float32", backend=backend, compile_cache=False, **options)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Any:
    with load(folder, "openvino") as encoder:
        yield encoder


@pytest.mark.parametrize("backend", BACKENDS)
def test_texts_and_pictures_in_any_mixture_are_as_in_transformers(backend: str, folder: Path, truth: Any) -> None:
    assert np.corrcoef(truth).min() < 0.9
    items = [item for item, _ in INPUTS]
    with load(folder, backend) as encoder:
        together = np.asarray(encoder.encode(items))
        alone = np.stack([np.asarray(encoder.encode([item]))[0] for item in items[1:4]])
    np.testing.assert_allclose(together, truth, atol=2e-5)
    np.testing.assert_allclose(alone, truth[1:4], atol=2e-5)


def test_a_model_whose_results_depend_on_no_neighbour(folder: Path) -> None:
    items = [item for item, _ in INPUTS]
    with load(folder, "openvino", reproducible=True) as encoder:
        together = np.asarray(encoder.encode(items))
        for row, item in zip(together, items, strict=True):
            assert np.array_equal(np.asarray(encoder.encode([item]))[0], row)


def test_files_are_decoded_as_pictures_in_memory_are(encoder: Encoder, tmp_path: Path) -> None:
    WIDE.save(tmp_path / "wide.png")
    from_file = encoder.encode([{"text": "a river", "image": tmp_path / "wide.png"}])
    assert np.array_equal(from_file, encoder.encode([{"text": "a river", "image": WIDE}]))


def test_texts_alone_read_no_weights_of_the_tower(folder: Path) -> None:
    with load(folder) as encoder:
        encoder.encode(["a river", ""])
        assert encoder._model.media_is_missing
        assert encoder.modalities == ("text", "image", "video") and encoder.recipe.fuses
    with load(folder, modalities=("text",)) as texts, load(folder) as both:
        assert texts.modalities == ("text",) and texts.fingerprint == both.fingerprint
        with pytest.raises(InputError, match=r"Input 1: This is a picture, and the model reads texts"):
            texts.encode(["a", Image(WIDE)])


def test_counts_are_the_tokens_that_the_language_model_saw(encoder: Encoder) -> None:
    vectors = encoder.encode([{"text": "fox", "image": WIDE}, "fox"], prompt="")
    picture = (24 // 8) * (56 // 8) + 2
    assert vectors.tokens is not None
    assert vectors.tokens.tolist()[0] - vectors.tokens.tolist()[1] == picture


def test_a_text_that_is_too_long_is_cut_and_its_pictures_stay(encoder: Encoder) -> None:
    long = {"image": WIDE, "text": " river" * 500}
    vectors = encoder.encode([long])
    assert vectors.tokens is not None and vectors.dropped is not None
    assert vectors.tokens.tolist() == [encoder.max_length] and vectors.dropped[0] > 0
    kept = 500 - int(vectors.dropped[0])
    np.testing.assert_allclose(vectors, encoder.encode([{"image": WIDE, "text": " river" * kept}]), atol=1e-5)
    with pytest.raises(InputTooLong, match=r"Input 1: the input has .* tokens, and the model reads at most"):
        encoder.encode(["fox", long], truncate="error")
    with pytest.raises(InputTooLong, match=r"Input 0: its pictures and sounds have .* at most 40 are read"):
        encoder.encode([long], max_length=40)


def test_an_instruction_ends_in_a_full_stop(encoder: Encoder, folder: Path) -> None:
    expected = tiny_multimodal.qwen3_vl_vectors(folder, [("fox", [SMALL]), ("fox", [])], "Find the fox.")
    for instruction in ("Find the fox", " Find the fox. "):
        found = encoder.encode([{"text": "fox", "image": SMALL}, "fox"], instruction=instruction)
        np.testing.assert_allclose(found, expected, atol=2e-5)
    # One of no words is none, as in the model's code.
    assert np.array_equal(encoder.encode("fox", instruction=" "), encoder.encode("fox"))
    asked = tiny_multimodal.qwen3_vl_vectors(folder, [("fox", [SMALL])], "Which fox?")
    np.testing.assert_allclose(
        encoder.encode([{"text": "fox", "image": SMALL}], instruction="Which fox?"), asked, atol=2e-5
    )


def test_prompts_of_the_folder_are_instructions(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "model"
    copied.symlink_to(folder)
    prompts = {"query": "Retrieve relevant images.", "document": ""}
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    try:
        recipe = read_model_folder(copied)
    finally:
        (folder / "config_sentence_transformers.json").unlink()
    assert recipe.prompts["query"] == "<|im_start|>system\nRetrieve relevant images.<|im_end|>\n<|im_start|>user\n"
    assert recipe.prompts["document"].startswith("<|im_start|>system\nRepresent the user's input.")


def test_errors_name_the_input(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="Input 2: "):
        encoder.encode(["a", WIDE, {"text": "b", "image": b"no picture"}])
    with pytest.raises(InputError, match=r"Input 0: .*too long and narrow"):
        encoder.encode([{"text": "b", "image": smooth(3000, 4)}])
    with pytest.raises(InputError, match="Input 1: text must be a text"):
        encoder.encode(["a", {"text": 7, "image": WIDE}])
    with pytest.raises(InputError, match="truncate"):
        encoder.encode([{"text": "b", "image": WIDE}], truncate="chunk")


def test_a_model_of_two_towers_refuses_several_parts_by_name(tmp_path: Path) -> None:
    clip = tiny_pictures.write_clip(tmp_path / "clip")
    with load(clip, "openvino") as encoder:
        for several in ({"text": "a", "image": WIDE}, [WIDE, "a"]):
            with pytest.raises(InputError, match=r"Input 1: The model computes no vector of .* together"):
                encoder.encode(["b", several])
        with pytest.raises(InputError, match="no vector of pictures together"):
            encoder.encode([{"image": [WIDE, SMALL]}])


def test_results_are_cached_by_content(folder: Path) -> None:
    async def run() -> tuple[int, int]:
        with load(folder, "openvino") as encoder:
            encoder.cache = ResultCache(10**6)
            first = await encoder.aencode([{"text": "fox", "image": WIDE}, "fox"])
            again = await encoder.aencode([{"image": WIDE.copy(), "text": "fox"}, "fox"])
            other = await encoder.aencode([{"image": WIDE, "text": "dog"}, {"image": TALL, "text": "fox"}])
            assert np.array_equal(first, again) and not np.array_equal(first, other)
            return encoder.cache.hits, encoder.cache.misses

    assert asyncio.run(run()) == (2, 4)


def test_short_texts_beside_the_template_are_known_and_cut_on_the_left_after_it(
    encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    encoder.encode(["fox", {"text": "fox", "image": SMALL}, "a"])
    assert not caplog.records
    whole = encoder.tokenize([" river" * 500 + " fox"], truncate="left")[0].ids
    frame = encoder.tokenizer.prompt_length(encoder.prompt_of())
    short = encoder.tokenize(["fox"])[0].ids
    assert whole[:frame] == short[:frame] and len(whole) == encoder.max_length


def test_a_process_without_weights_prepares_the_same(encoder: Encoder) -> None:
    encoder.load_towers()
    (copy,) = unpack_weightless(pack_weightless([encoder]), encoder.engine)
    assert isinstance(copy, Encoder) and len(copy.runners) == len(encoder.runners) == 1
    items = [MixedContent(("fox", Image(WIDE)))]
    tickets = [one._prepare(MIXED, items, one._resolve(EncodeOptions()), bulk=False).ticket for one in (copy, encoder)]
    assert tickets[0].jobs[0].features.digest() == tickets[1].jobs[0].features.digest()
    assert tickets[0].runner is copy.runners[0]


def test_prepared_inputs_survive_the_way_to_another_process(encoder: Encoder) -> None:
    processor = encoder._model.fused_processor
    assert processor is not None
    features = processor.read(MixedContent(("fox", Image(WIDE))), FusedOptions(max_length=200)).features
    sent = pickle.loads(pickle.dumps(features))
    assert sent.digest() == features.digest() and sent.cost == features.cost > features.rows
    assert np.array_equal(sent.positions, np.asarray(features.positions))
