"""Pictures and folders that cannot be read: the error names the input, and what comes next is as if it never came."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import psutil
import pytest

from nearfield.encoder import Encoder
from nearfield.errors import InputError, ModelRefused
from nearfield.media.image import Image
from nearfield.media.limits import decode_memory
from tests.support import odd_pictures, tiny_models, tiny_pictures
from tests.support.bad_media import PHOTO, PICTURES

pytestmark = pytest.mark.slow

GOOD = odd_pictures.encode(odd_pictures.smooth(60, 50, 1), "PNG")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Iterator[Encoder]:
    with Encoder(str(folder), precision="float32", compile_cache=False) as model:
        yield model


def bad_file(name: str, folder: Path) -> Path:
    """Write a file of ``bad_media.PICTURES`` and return its path."""
    path = folder / name
    path.write_bytes(PICTURES[name][0])
    return path


def all_memory_is_free() -> bool:
    """Return whether a decoder may have all of the memory of decoders."""

    def take() -> None:
        with decode_memory().reserve(decode_memory().capacity):
            pass

    thread = Thread(target=take, daemon=True)
    thread.start()
    thread.join(10)
    return not thread.is_alive()


@pytest.mark.parametrize("name", PICTURES)
def test_a_bad_file_among_good_ones(name: str, encoder: Encoder, tmp_path: Path) -> None:
    _, status, message = PICTURES[name]
    path = bad_file(name, tmp_path)
    before = np.asarray(encoder.encode([GOOD, "a cat"]))
    inputs = [*[GOOD] * 9, "a cat", path, PHOTO]
    with pytest.raises(InputError, match=message) as caught:
        encoder.encode(inputs)
    assert str(caught.value).startswith(f"Input 10: {path}") and caught.value.status == status
    with pytest.raises(InputError, match=f"Input 10: {path}"):
        asyncio.run(encoder.aencode(inputs))
    # A file that begins like a video is one, whatever its name.
    expected = "input 0 is of kind image, and input 1 of video" if name == "movie.jpg" else f"Input 1: {path}"
    with pytest.raises(InputError, match=expected):
        encoder.submit([GOOD, path])
    assert np.asarray(encoder.encode([GOOD, "a cat"])).tolist() == before.tolist()
    assert all_memory_is_free()


def test_results_before_a_bad_file_of_a_stream_arrive(encoder: Encoder, tmp_path: Path) -> None:
    path = bad_file("truncated.jpg", tmp_path)
    good = np.asarray(encoder.encode(GOOD))
    results: list[Any] = []
    inputs: list[Any] = [*[GOOD] * 200, path, *[GOOD] * 20]
    with pytest.raises(InputError, match=f"Input 200: {path}"):
        results.extend(encoder.stream(iter(inputs), window=10))
    assert len(results) > 2
    assert np.abs(np.concatenate([np.asarray(part) for part in results]) - good).max() < 2e-6


def test_memory_after_many_bad_files(encoder: Encoder, tmp_path: Path) -> None:
    files = [bad_file(name, tmp_path) for name in PICTURES]

    def refuse_all() -> None:
        for path in files:
            with pytest.raises(InputError):
                encoder.encode([GOOD, path, GOOD])

    for _ in range(3):
        refuse_all()
    before = psutil.Process().memory_info().rss
    for _ in range(10):
        refuse_all()
    assert psutil.Process().memory_info().rss - before < 24 * 2**20
    assert all_memory_is_free()


@pytest.mark.parametrize("uri", ["data:image/png;base64,%%%", "data:image/png;base64,", "data:,hello", "https://a.b/c"])
def test_a_bad_uri(uri: str, encoder: Encoder) -> None:
    inputs: list[Any] = [GOOD, {"image": uri}]
    with pytest.raises(InputError, match="Input 1"):
        encoder.encode(inputs)


def test_a_directory_and_a_device(encoder: Encoder, tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/zero"), tmp_path / "missing.jpg"):
        with pytest.raises(InputError, match=f"Input 1: .*{path}"):
            encoder.encode([GOOD, path])


def test_a_picture_for_a_model_of_texts(tmp_path: Path) -> None:
    with Encoder(str(tiny_models.tiny_bert(tmp_path)), compile_cache=False) as model:
        before = model.encode("red").tolist()
        pictures: Any
        for pictures in (Image(GOOD), [Image(GOOD)], ["red", Image(GOOD)], [odd_pictures.smooth(9, 9)]):
            with pytest.raises(InputError, match=r"This is a picture, and the model reads texts"):
                model.encode(pictures)
        assert model.encode("red").tolist() == before


def test_a_long_text_is_cut_and_counted(encoder: Encoder) -> None:
    """500 words of one letter are as many tokens; the model reads 16, two of which mark start and end."""
    vectors = encoder.encode([GOOD, "a " * 500])
    assert vectors.dropped.tolist() == [0, 486]
    assert vectors.tokens.tolist() == [17, 16]


def test_a_folder_without_a_processor_serves_texts(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    (copy / "preprocessor_config.json").unlink()
    with Encoder(str(copy), precision="float32", compile_cache=False) as model:
        before = model.encode("a cat").tolist()
        for _ in range(2):
            with pytest.raises(ModelRefused, match=r"no preprocessor_config\.json"):
                model.encode(GOOD)
        assert model.encode("a cat").tolist() == before
    with pytest.raises(ModelRefused, match=r"no preprocessor_config\.json"):
        Encoder(str(copy), compile_cache=False, modalities=("image",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"image_processor_type": "HologramProcessor"}, "HologramProcessor"),
        ({"image_processor_type": "CLIPImageProcessor", "do_sharpen": True}, "do_sharpen"),
        ({"image_processor_type": "CLIPImageProcessor", "auto_map": {"AutoImageProcessor": "a.B"}}, "auto_map"),
        ({"image_processor_type": "CLIPImageProcessor", "resample": 9}, "resample"),
    ],
)
def test_an_unknown_processor_is_refused_by_name(
    content: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    (copy / "preprocessor_config.json").write_text(json.dumps(content))
    with pytest.raises(ModelRefused, match=f"preprocessor_config.json.*{message}"):
        Encoder(str(copy), compile_cache=False)
