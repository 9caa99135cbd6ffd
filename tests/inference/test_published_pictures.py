"""Published figures of models of pictures, where weights and data are on the machine; nothing is downloaded.

Weights: those of openai/clip-vit-base-patch32 in the Hub's cache, or in the folder ``NEARFIELD_TEST_CLIP``. Data:
``NEARFIELD_TEST_CIFAR10`` is the file ``test_batch.bin`` of the binary version, or one in Parquet of the Hub's
``uoft-cs/cifar10`` (which is searched for in the cache too). ``NEARFIELD_TEST_IMAGENET`` is the folder of the
validation set, with one folder for each class; a part of it will do, since the figure's uncertainty is allowed for.
"""

from __future__ import annotations

import io
import itertools
import math
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image as Pillow

from nearfield import Encoder, Image, catalog, hub
from nearfield.errors import ModelNotFound, SourceUnavailable
from tests.support.paths import SHARED_FOLDER

#: Top-1 with ensembles of prompts, as open_clip's evaluation has it for "ViT-B-32 openai" (openclip_results.csv).
CIFAR10, IMAGENET = 89.83, 63.32
#: Points by which another decoder, resize and summation may change a figure of 10,000 pictures.
ALLOWED = 0.15
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
#: OpenAI's prompts for CIFAR-10 (data/prompts.md of its repository).
PROMPTS = [
    f"a {kind}photo of {article} {{}}."
    for article, kind in itertools.product(
        ("a", "the"), ("", "blurry ", "black and white ", "low contrast ", "high contrast ", "bad ", "good ")
    )
] + [f"a photo of {article} {size} {{}}." for article in ("a", "the") for size in ("small", "big")]
#: First values of the vector that fastembed's model of the same weights has for a picture, from its own tests.
GOLDEN = SHARED_FOLDER / "data/golden"

Labelled = tuple[Any, int]


@cache
def clip() -> Encoder:
    """Return CLIP B/32, or skip the test."""
    folder = os.environ.get("NEARFIELD_TEST_CLIP")
    entry = catalog.find("clip")
    assert entry is not None
    if folder is None:
        try:
            hub.locate(entry.id, pin=entry.pin, fetch=False)
        except (SourceUnavailable, ModelNotFound):
            pytest.skip(f"the weights of {entry.id} are not on this machine: set NEARFIELD_TEST_CLIP to their folder")
    return Encoder(folder or entry.id, precision="float32")


def cifar10(path: Path) -> Iterator[Labelled]:
    """Yield the pictures and labels of a file: a label and 3 x 32 x 32 bytes a picture, or rows of Parquet."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        table = parquet.read_table(path)
        for picture, label in zip(table["img"].to_pylist(), table["label"].to_pylist(), strict=True):
            yield np.asarray(Pillow.open(io.BytesIO(picture["bytes"])).convert("RGB")), label
        return
    for row in np.fromfile(path, np.uint8).reshape(-1, 3073):
        yield np.ascontiguousarray(row[1:].reshape(3, 32, 32).transpose(1, 2, 0)), int(row[0])


def imagenet(folder: Path) -> Iterator[Labelled]:
    """Yield the pictures and labels of the classes' folders, whose names are in the order of the labels."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    if len(classes) != 1000:
        pytest.skip(f"{folder} has folders for {len(classes)} classes, not for the 1000 of ImageNet")
    for label, path in enumerate(classes):
        yield from ((Image(path=file), label) for file in sorted(path.iterdir()))


def top1(encoder: Any, labelled: Iterable[Labelled], names: list[str], prompts: list[str]) -> tuple[float, int]:
    """Return the share of pictures, in percent, whose label is the most similar class, and their number."""
    classes = []
    for name in names:
        vectors = np.asarray(encoder.encode([prompt.format(name) for prompt in prompts]), np.float64)
        classes.append(vectors.mean(0) / np.linalg.norm(vectors.mean(0)))
    right = count = 0
    rows = iter(labelled)
    while part := list(itertools.islice(rows, 1000)):
        scores = np.asarray(encoder.encode([picture for picture, _ in part])) @ np.array(classes).T
        right += int((scores.argmax(1) == [label for _, label in part]).sum())
        count += len(part)
    return 100 * right / count, count


def cifar10_file() -> Path:
    """Return the file of CIFAR-10's test set, or skip the test."""
    home = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface"), "hub"))
    found = sorted(home.expanduser().glob("datasets--uoft-cs--cifar10/snapshots/*/plain_text/test-*.parquet"))
    path = os.environ.get("NEARFIELD_TEST_CIFAR10") or (found[-1] if found else None)
    return Path(path) if path else pytest.skip("CIFAR-10 is not on this machine: set NEARFIELD_TEST_CIFAR10")


@pytest.mark.slow
def test_cifar10_has_the_published_accuracy() -> None:
    encoder, path = clip(), cifar10_file()
    accuracy, count = top1(encoder, cifar10(path), list(CLASSES), PROMPTS)
    assert count == 10_000
    assert abs(accuracy - CIFAR10) <= ALLOWED, accuracy


@pytest.mark.slow
def test_imagenet_has_the_published_accuracy() -> None:
    encoder, folder = clip(), os.environ.get("NEARFIELD_TEST_IMAGENET")
    if not folder:
        pytest.skip("ImageNet is not on this machine: set NEARFIELD_TEST_IMAGENET to the folder of its validation set")
    names = pytest.importorskip("open_clip.zero_shot_metadata", reason="the names of the classes are in open_clip")
    prompts = [prompt("{}") for prompt in names.OPENAI_IMAGENET_TEMPLATES]
    accuracy, count = top1(encoder, imagenet(Path(folder)), list(names.IMAGENET_CLASSNAMES), prompts)
    sampled = 300 * math.sqrt(IMAGENET / 100 * (1 - IMAGENET / 100) / count) if count < 50_000 else 0
    assert abs(accuracy - IMAGENET) <= ALLOWED + sampled, (accuracy, count)


@pytest.mark.slow
def test_the_vector_of_a_picture_is_that_of_fastembed() -> None:
    encoder = clip()
    if not GOLDEN.exists():
        pytest.skip(f"the picture and its vector are not here ({GOLDEN})")
    values = msgspec.json.decode((GOLDEN / "fastembed_canonical.json").read_bytes())
    expected = values["test_image_onnx_embeddings.CANONICAL_VECTOR_VALUES"]["Qdrant/clip-ViT-B-32-vision"]
    vector = encoder.encode(GOLDEN / "fastembed_image.jpeg")
    np.testing.assert_allclose(np.asarray(vector)[: len(expected)], expected, atol=1e-3)


# -- the way of measuring itself, without weights


def test_prompts_are_those_of_openai() -> None:
    assert len(PROMPTS) == len(set(PROMPTS)) == 18
    assert {"a photo of a {}.", "a bad photo of the {}.", "a photo of the small {}."} < set(PROMPTS)


def test_both_forms_of_cifar10(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    rows = [bytes([label]) + pixels[label].transpose(2, 0, 1).tobytes() for label in range(3)]
    (tmp_path / "test_batch.bin").write_bytes(b"".join(rows))
    files = [io.BytesIO() for _ in pixels]
    for file, one in zip(files, pixels, strict=True):
        Pillow.fromarray(one).save(file, "PNG")
    images = [{"bytes": file.getvalue(), "path": None} for file in files]
    parquet.write_table(pyarrow.table({"img": images, "label": [0, 1, 2]}), tmp_path / "test.parquet")
    for name in ("test_batch.bin", "test.parquet"):
        labelled = list(cifar10(tmp_path / name))
        assert [label for _, label in labelled] == [0, 1, 2]
        np.testing.assert_array_equal(np.array([picture for picture, _ in labelled]), pixels)


def test_accuracy_of_an_encoder_that_knows_the_classes() -> None:
    class Oracle:
        def encode(self, inputs: list[Any]) -> Any:
            vectors = np.eye(2)
            return np.array([vectors[CLASSES.index(item.split()[-1][:-1])] if isinstance(item, str) else vectors[item]
                             for item in inputs])  # fmt: skip

    labelled = [(0, 0), (1, 1), (1, 0), (0, 0)]
    assert top1(Oracle(), labelled, ["airplane", "automobile"], PROMPTS) == (75.0, 4)
