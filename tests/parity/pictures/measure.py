"""Measure: how near Nearfield's vectors of picture files come to the reference's, alone and in other company."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nearfield import Encoder
from tests.parity import Array
from tests.parity.measure import Nearness, nearness
from tests.parity.pictures.case import TEXTS, PictureCase, prepare
from tests.support import odd_pictures

#: Width, height, format and mode of the files: of the model's own size, smaller, much larger, narrow, flat, and grey.
FILES = (
    *((32, 32, "PNG", "RGB"), (640, 427, "JPEG", "RGB"), (223, 225, "PNG", "L"), (20, 160, "WEBP", "RGB")),
    *((300, 40, "JPEG", "RGB"), (9, 7, "PNG", "RGB"), (1600, 1200, "JPEG", "RGB")),
)


def write_files(folder: Path) -> list[Path]:
    """Write the picture files and return their paths."""
    folder.mkdir(exist_ok=True)
    files = []
    for number, (width, height, kind, mode) in enumerate(FILES):
        files.append(folder / f"{number}.{kind.lower()}")
        files[-1].write_bytes(odd_pictures.encode(odd_pictures.smooth(width, height, number).convert(mode), kind))
    return files


def encode(folder: Path, calls: Sequence[Sequence[Any]], precision: str = "float32", **options: Any) -> list[Array]:
    """Return the vectors of each call, in the length that the model gives them."""
    with Encoder(str(folder), precision=precision, compile_cache=False, **options) as model:
        return [np.asarray(model.encode(list(call), normalize_embeddings=False)) for call in calls]


def measure(case: PictureCase, folder: Path, files: Sequence[Path]) -> dict[str, Nearness]:
    """Return how near a model that ``case`` wrote to a folder comes to its reference, for each way of asking."""
    texts = TEXTS if case.of_texts else []
    mixed: list[Any] = [item for pair in zip(files, [*texts, *files], strict=False) for item in pair]
    places = {name: [mixed.index(item) for item in items] for name, items in (("files", files), ("texts", texts))}
    together, among, *alone = encode(folder, [files, mixed, *([file] for file in files)])
    expected = case.of_files(folder, files)
    found = {
        "same pixels, batched": scaled(together, case.of_pixels(folder, prepare(folder, files))),
        "files, batched": scaled(together, expected),
        "files, alone": scaled(np.concatenate(alone), expected),
        "files, mixed": scaled(among[places["files"]], expected),
    }
    if case.of_texts:
        found["texts, mixed"] = scaled(among[places["texts"]], case.of_texts(folder, texts))
    return found


def scaled(rows: Array, truth: Array) -> Nearness:
    """Compare vectors; the largest difference is relative to the largest value."""
    size = float(np.abs(truth).max())
    return nearness(list(rows / size), list(truth / size))
