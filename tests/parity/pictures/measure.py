"""Measure: how near Nearfield's vectors of picture files come to the reference's, alone and in other company."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nearfield import Encoder
from tests.parity import Array
from tests.parity.measure import Nearness, nearness
from tests.parity.pictures.case import TEXTS, PictureCase, Rows, prepare
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


def encode(
    folder: Path, calls: Sequence[Sequence[Any]], precision: str = "float32", **options: Any
) -> list[list[Array]]:
    """Return the vectors of the inputs of each call [rows, dim], in the length that the model gives them."""
    with Encoder(str(folder), precision=precision, compile_cache=False, **options) as model:
        results = [model.encode(list(call), normalize_embeddings=False) for call in calls]
    return [[np.atleast_2d(np.asarray(row)) for row in result] for result in results]


def measure(case: PictureCase, folder: Path, files: Sequence[Path]) -> dict[str, Nearness]:
    """Return how near a model that ``case`` wrote to a folder comes to its reference, for each way of asking."""
    texts = TEXTS if case.of_texts else []
    mixed: list[Any] = [item for pair in zip(files, [*texts, *files], strict=False) for item in pair]
    together, among, *alone = encode(folder, [files, mixed, *([file] for file in files)])
    expected, found = case.of_files(folder, files), {}
    if case.of_pixels:
        found["same pixels, batched"] = scaled(together, case.of_pixels(folder, prepare(case, folder, files)))
    found["files, batched"] = scaled(together, expected)
    found["files, alone"] = scaled([rows for one in alone for rows in one], expected)
    found["files, mixed"] = scaled([among[mixed.index(file)] for file in files], expected)
    if case.of_texts:
        found["texts, mixed"] = scaled([among[mixed.index(text)] for text in texts], case.of_texts(folder, texts))
    return found


def scaled(rows: Rows, truth: Rows) -> Nearness:
    """Compare vectors, row by row; the largest difference is relative to the largest value."""
    whole, expected = (np.concatenate([np.atleast_2d(one) for one in side]) for side in (rows, truth))
    size = float(np.abs(expected).max())
    return nearness(list(whole / size), list(expected / size))
