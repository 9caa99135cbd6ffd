"""Pictures and texts in one encoder, compared with transformers: every form of input, order, call and process."""

from __future__ import annotations

import asyncio
import base64
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from nearfield.encoder import Encoder
from nearfield.errors import InputError, TooLarge
from nearfield.inference.calls.limits import CallLimits
from nearfield.inference.encode_options import EncodeOptions
from nearfield.inference.result_cache import ResultCache
from nearfield.inference.weightless import pack_weightless, unpack_weightless
from nearfield.media.image import Image
from nearfield.media.limits import MediaLimits, PictureLimits
from nearfield.progress import Progress
from tests.support import tiny_pictures

pytestmark = pytest.mark.slow

TEXTS = ["a cat", "a red dog ran over the hill and away from it all", "x"]
PICTURES = tiny_pictures.pictures()
TOLERANCE = 2e-6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def truth(folder: Path) -> tuple[Any, Any]:
    """The vectors of the texts and of the pictures, from transformers."""
    return tiny_pictures.clip_vectors(folder, TEXTS, PICTURES)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Iterator[Encoder]:
    with Encoder(str(folder), precision="float32", compile_cache=False) as model:
        yield model


def png(picture: PIL.Image.Image) -> bytes:
    """Return the bytes of a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_texts_and_pictures_agree_with_transformers(encoder: Encoder, truth: tuple[Any, Any]) -> None:
    texts, pictures = encoder.encode(TEXTS), encoder.encode(PICTURES)
    assert np.abs(np.asarray(texts) - truth[0]).max() < TOLERANCE
    assert np.abs(np.asarray(pictures) - truth[1]).max() < TOLERANCE
    assert texts.fingerprint == pictures.fingerprint
    assert pictures.tokens.tolist() == [17] * len(PICTURES)
    assert texts.dropped.tolist() == [0, 23, 0]


def test_any_order(encoder: Encoder, truth: tuple[Any, Any]) -> None:
    mixed = encoder.encode([TEXTS[0], PICTURES[0], PICTURES[1], TEXTS[1], PICTURES[2]])
    expected = np.stack([truth[0][0], truth[1][0], truth[1][1], truth[0][1], truth[1][2]])
    assert np.abs(np.asarray(mixed) - expected).max() < TOLERANCE
    alternating = encoder.encode([TEXTS[0], PICTURES[0]] * 300)
    assert np.abs(np.asarray(alternating) - np.stack([truth[0][0], truth[1][0]] * 300)).max() < TOLERANCE


def test_every_form_of_a_picture(encoder: Encoder, truth: tuple[Any, Any], tmp_path: Path) -> None:
    data = png(PICTURES[0])
    path = tmp_path / "photo of no name"
    path.write_bytes(data)
    uri = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    pixels = np.asarray(PICTURES[0])
    forms: list[Any] = [
        path,
        data,
        bytearray(data),
        pixels,
        PICTURES[0],
        Image(path=str(path)),
        Image(uri=uri),
        {"image": uri},
    ]
    alone = [encoder.encode(form) for form in forms]
    assert all(vector.shape == (24,) for vector in alone)
    together = np.asarray(encoder.encode(forms))
    assert np.abs(together - truth[1][0]).max() < TOLERANCE
    assert np.abs(np.asarray(alone) - truth[1][0]).max() < TOLERANCE
    assert encoder.encode(np.stack([pixels, pixels])).shape == (2, 24)
    assert encoder.encode({"text": TEXTS[0]}).shape == (24,)


def test_tensors_of_pixels_are_pictures_alone_and_in_lists(encoder: Encoder) -> None:
    torch = pytest.importorskip("torch")
    pixels = np.array(PICTURES[0])
    expected = encoder.encode(pixels)
    np.testing.assert_array_equal(encoder.encode(torch.from_numpy(pixels)), expected)
    np.testing.assert_array_equal(encoder.encode([torch.from_numpy(pixels)])[0], expected)


def test_a_text_that_looks_like_a_path_is_a_text(encoder: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(png(PICTURES[0]))
    assert encoder.encode(str(path)).tokens > 0
    assert np.abs(np.asarray(encoder.encode(str(path))) - np.asarray(encoder.encode(path))).max() > 0.01


def test_calls_without_waiting(encoder: Encoder, truth: tuple[Any, Any]) -> None:
    items: list[Any] = [TEXTS[0], PICTURES[0], PICTURES[1]]
    expected = np.stack([truth[0][0], truth[1][0], truth[1][1]])

    async def calls() -> list[Any]:
        encoder.cache = ResultCache(10**6)
        first = await encoder.aencode(items)
        again = await encoder.aencode([Image(item) if isinstance(item, PIL.Image.Image) else item for item in items])
        hits, encoder.cache = encoder.cache.hits, None
        assert hits == 3
        return [first, again]

    for result in asyncio.run(calls()):
        assert np.abs(np.asarray(result) - expected).max() < TOLERANCE
    parts = list(encoder.stream(iter(items), window=1))
    assert np.abs(np.concatenate([np.asarray(part) for part in parts]) - expected).max() < TOLERANCE
    assert np.abs(encoder.submit(PICTURES[:2]).result(30)).max() > 0
    with pytest.raises(InputError, match="input 0 is of kind text, and input 1 of image"):
        encoder.submit(items)


def test_a_stream_loses_nothing_before_a_bad_input(encoder: Encoder) -> None:
    items: list[Any] = [*PICTURES, *TEXTS, PICTURES[0], b"no picture", TEXTS[0]]
    stream = encoder.stream(items, window=1)
    assert [next(stream).shape for _ in range(9)] == [(1, 24)] * 9
    with pytest.raises(InputError, match="Input 9"):
        next(stream)


def test_roles_and_similarity(encoder: Encoder, truth: tuple[Any, Any]) -> None:
    scores = encoder.similarity(encoder.encode_query(TEXTS), encoder.encode_document(PICTURES))
    assert np.abs(scores - truth[0] @ truth[1].T).max() < TOLERANCE
    assert np.abs(encoder.similarity(PICTURES, TEXTS) - scores.T).max() < TOLERANCE


def test_dimensions_and_lengths(encoder: Encoder) -> None:
    raw = encoder.encode(PICTURES, normalize_embeddings=False)
    assert np.linalg.norm(np.asarray(raw), axis=1).min() > 1.5
    assert raw.fingerprint != encoder.fingerprint
    short = encoder.encode([PICTURES[0], TEXTS[0]], truncate_dim=8, force_truncate_dim=True)
    assert short.shape == (2, 8)
    assert np.abs(np.linalg.norm(np.asarray(short), axis=1) - 1).max() < 1e-5
    assert encoder.encode([PICTURES[0], TEXTS[0]], precision="ubinary").shape == (2, 3)


def test_zero_shot_warns_of_a_text_that_looks_like_a_file(
    encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "cat"
    file.touch()
    for text in ("Cat.PNG", str(file)):
        caplog.clear()
        encoder.zero_shot(["a cat", text], ["cat", "dog"])
        assert "Input 1" in caplog.text and text in caplog.text and "nearfield.Image(path=...)" in caplog.text
    caplog.clear()
    encoder.zero_shot(["a cat", "a dog.", "a\0b", ""], ["cat", "dog"])
    assert "compared as a text" not in caplog.text


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_zero_shot(encoder: Encoder, folder: Path, truth: tuple[Any, Any], activation: str | None) -> None:
    labels, templates = ["cat", "dog"], ["a {}", "one {}!"]
    sentences = [template.replace("{}", label) for label in labels for template in templates]
    vectors, _ = tiny_pictures.clip_vectors(folder, sentences, PICTURES[:1])
    classes = vectors.reshape(2, 2, -1).mean(1)
    classes /= np.linalg.norm(classes, axis=1, keepdims=True)
    logits = tiny_pictures.reference_scale(folder) * truth[1] @ classes.T
    expected = (
        np.exp(logits) / np.exp(logits).sum(1, keepdims=True) if activation is None else 1 / (1 + np.exp(-logits))
    )
    predictions = encoder.zero_shot(PICTURES, labels, templates=templates, activation=activation)
    scores = np.array([[one.scores[label] for label in labels] for one in predictions])
    assert np.abs(scores - expected).max() < 1e-5
    assert [one.label for one in predictions] == [labels[index] for index in expected.argmax(1)]
    assert encoder.zero_shot(PICTURES[0], labels, templates=templates[0]).score > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": []}, "labels is empty"),
        ({"labels": "cat"}, "is one text"),
        ({"labels": ["cat", "cat"]}, "'cat' twice"),
        ({"labels": ["cat"], "templates": ["a photo"]}, "has no {}"),
        ({"labels": ["cat"], "templates": []}, "templates is empty"),
        ({"labels": ["cat"], "activation": "argmax"}, "Unknown activation"),
    ],
)
def test_wrong_labels_are_refused(encoder: Encoder, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder.zero_shot(PICTURES[0], **arguments)


def test_one_tower_alone(folder: Path, encoder: Encoder, truth: tuple[Any, Any]) -> None:
    with Encoder(str(folder), precision="float32", compile_cache=False, modalities=("image",)) as pictures:
        assert pictures.modalities == ("image", "video")
        assert "max_length=17" in repr(pictures)
        assert np.abs(np.asarray(pictures.encode(PICTURES)) - truth[1]).max() < TOLERANCE
        assert pictures.fingerprint == encoder.fingerprint
        with pickle.loads(pickle.dumps(pictures)) as copy:
            assert copy.encode(PICTURES[0]).tolist() == pictures.encode(PICTURES[0]).tolist()
        refused: Any
        for refused in ("a text", [1, 2], ["a", PICTURES[0]]):
            with pytest.raises(InputError, match=r"reads pictures|reads no texts"):
                pictures.encode(refused)
    with Encoder(str(folder), precision="float32", compile_cache=False, modalities="text") as texts:
        assert texts.fingerprint == encoder.fingerprint
        with pytest.raises(InputError, match="Input 0: This is a picture, and the model reads texts"):
            texts.encode(PICTURES[0])
    with pytest.raises(InputError, match="reads no 'audio'"):
        Encoder(str(folder), modalities=("audio",))


def test_a_text_user_pays_for_one_tower(folder: Path) -> None:
    with Encoder(str(folder), precision="float32", compile_cache=False) as model:
        model.encode(TEXTS)
        assert list(model._towers) == []
        model.encode(PICTURES[0])
        assert len(list(model._towers)) == 1


def test_another_process(encoder: Encoder) -> None:
    with pickle.loads(pickle.dumps(encoder)) as copy:
        assert copy.encode(PICTURES[0]).tolist() == encoder.encode(PICTURES[0]).tolist()
    image = pickle.loads(pickle.dumps(Image(png(PICTURES[0]))))
    assert encoder.encode(image).tolist() == encoder.encode(PICTURES[0]).tolist()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"", "empty"),
        (b"plain text, renamed to .jpg", "a text, no picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (png(PICTURES[0])[:60], "Input 1"),
        (Path("/nonexistent/photo.jpg"), "No such file"),
        ({"image": "photo.jpg"}, "no data URI"),
        ({"image": "data:image/png;base64,%%%"}, "not base64"),
        ({"audio": b"RIFF"}, "a sound"),
        (np.zeros((4, 4, 3), np.float32), "float32.*A picture is an array of uint8"),
        (np.zeros((3, 4, 4), np.uint8), r"A picture is an array of uint8 \[height, width, 3\]"),
        (np.zeros((4, 4), np.uint8), r"a grey one is nearfield.Image\(array\)"),
        ({"text": "a cat", "images": [PICTURES[0]]}, "keys text, images. Parts are called text, image, video"),
        ({"text": "a cat", "image": PICTURES[0]}, "The model computes no vector of a text and a picture together"),
    ],
)
def test_a_bad_picture_is_named(encoder: Encoder, bad: Any, message: str) -> None:
    inputs: list[Any] = [PICTURES[0], bad, TEXTS[0]]
    with pytest.raises(InputError, match=message) as caught:
        encoder.encode(inputs)
    assert "1" in str(caught.value)
    del inputs[1]
    assert encoder.encode(inputs).shape == (2, 24)


def test_a_progress_bar_shows_inputs_and_megapixels(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bars: list[Progress] = []

    class NotedProgress(Progress):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            bars.append(self)

    monkeypatch.setattr("nearfield.encoder.Progress", NotedProgress)
    (tmp_path / "a.png").write_bytes(png(PICTURES[0]))
    pixels = np.asarray(PICTURES[1])
    encoder.encode([tmp_path / "a.png", "a cat", png(PICTURES[2]), pixels, PICTURES[3]], show_progress_bar=True)
    (bar,) = bars
    assert bar.texts == 5
    assert bar.megapixels == pytest.approx(sum(picture.width * picture.height for picture in PICTURES[:4]) / 1e6)
    assert bar._bar is not None
    assert "inputs/s" in bar._bar.tasks[0].fields["speed"]
    assert "megapixels/s" in bar._bar.tasks[0].fields["speed"]
    encoder.encode("a cat", show_progress_bar=True)
    assert bars[1].megapixels == 0


def test_prompts_are_for_texts(encoder: Encoder) -> None:
    options: Any
    for options in ({"prompt": "query: "}, {"instruction": "find"}):
        with pytest.raises(InputError, match="Only texts have a prompt"):
            encoder.encode(PICTURES[0], **options)


def test_limits_of_a_call(encoder: Encoder) -> None:
    limits = CallLimits(media=MediaLimits(PictureLimits(max_pixels=1000)))
    inputs: list[Any] = [TEXTS[0], PICTURES[0]]
    with pytest.raises(TooLarge, match="Input 1"):
        asyncio.run(encoder.run_encode(inputs, EncodeOptions(), limits))


def test_a_process_without_weights_prepares_the_same(encoder: Encoder) -> None:
    encoder.load_towers()
    (copy,) = unpack_weightless(pack_weightless([encoder]), encoder.engine)
    assert isinstance(copy, Encoder) and len(copy.runners) == len(encoder.runners) == 2
    items: list[Any] = [Image(PICTURES[0]), Image(PICTURES[1])]
    tickets = [
        one._prepare("image", items, one._resolve(EncodeOptions()), bulk=False).ticket for one in (copy, encoder)
    ]
    digests = [[job.features.digest() for job in ticket.jobs] for ticket in tickets]
    assert digests[0] == digests[1]
    assert tickets[0].runner is copy.runners[1]
