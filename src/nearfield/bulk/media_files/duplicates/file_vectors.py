"""Vectors of files, from the cache or from a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nearfield.arrays import Array
from nearfield.bulk.media_files.duplicates.folder_listing import ListedFile
from nearfield.bulk.media_files.duplicates.hash_cache import HashCache
from nearfield.bulk.media_files.media_row import MediaReading
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.vectors.dense import normalize

#: Files that are encoded at a time.
_WINDOW = 64


@dataclass
class FileVectors:
    """Vectors of unit length, float32 [files, dim], with zeros for files that cannot be read; and why by file."""

    rows: Array
    problems: dict[ListedFile, str] = field(default_factory=dict)


def encode_files(
    encoder: Encoder, files: Sequence[ListedFile], cache: HashCache, on_done: Callable[[int], None]
) -> FileVectors:
    """Return the vectors of files of one kind, whose modality the model reads.

    Args:
        encoder: the model.
        files: the files.
        cache: where vectors are looked up and put.
        on_done: called with numbers of files that are done.

    Raises:
        WrongModel: the model has no dense vectors.
    """
    rule = f"vector {encoder.fingerprint}"
    vectors = FileVectors(np.zeros((len(files), encoder.recipe.dimensions), np.float32))
    for start in range(0, len(files), _WINDOW):
        missing = []
        for number, file in enumerate(files[start : start + _WINDOW], start):
            value = cache.get(file, rule)
            if value is None:
                missing.append(number)
            else:
                vectors.rows[number] = np.frombuffer(value, "<f4")
        for number, row in _encode(encoder, files, missing, vectors.problems):
            vectors.rows[number] = row
            cache.put(files[number], rule, row.astype("<f4").tobytes())
        on_done(min(_WINDOW, len(files) - start))
    return vectors


def _encode(
    encoder: Encoder, files: Sequence[ListedFile], numbers: Sequence[int], problems: dict[ListedFile, str]
) -> Iterator[tuple[int, Array]]:
    """Yield number and vector of some files; those that cannot be read are problems."""
    if not numbers:
        return
    reading = MediaReading(files[numbers[0]].kind)
    refused: dict[int, InputError] = {}
    inputs = (reading.open(Path(files[number].path)) for number in numbers)
    windows = list(encoder.stream(inputs, window=len(numbers), on_refused=refused.__setitem__, outputs="dense"))
    rows: Sequence[Array] | Array = (
        normalize(np.concatenate([np.asarray(window["dense"], np.float32) for window in windows])) if windows else []
    )
    problems |= {files[numbers[place]]: str(error) for place, error in refused.items()}
    yield from zip((number for place, number in enumerate(numbers) if place not in refused), rows, strict=True)
