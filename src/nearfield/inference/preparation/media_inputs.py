"""Inputs of several modalities: which inputs are pictures or sounds, and runs of inputs of one modality."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, cast

import numpy as np

from nearfield.errors import InputError
from nearfield.media.audio import Audio
from nearfield.media.files import absolute_path, open_regular_file
from nearfield.media.image import Image, is_image
from nearfield.media.sound_formats import HEAD, find_sound_format
from nearfield.text_inputs import describe

#: What an input of each modality is called in messages, one and several. A part of a mapping, such as
#: ``{"image": picture}``, has the name of its modality.
NOUNS: Mapping[str, str] = {"text": "a text", "image": "a picture", "audio": "a sound"}
SEVERAL: Mapping[str, str] = {"text": "texts", "image": "pictures", "audio": "sounds"}
#: Sources of pictures and sounds whose type does not say which of both they are.
_RAW = (bytes, bytearray, memoryview, os.PathLike)


def modality_of(item: object) -> str:
    """Return the modality of one input that ``read_item`` has returned."""
    if isinstance(item, Image):
        return "image"
    return "audio" if isinstance(item, Audio) else "text"


def runs(items: Iterable[Any]) -> Iterator[tuple[str, Iterator[Any]]]:
    """Yield the modality and the inputs of each run of consecutive inputs of one modality."""
    return groupby(items, modality_of)


def is_medium(item: object, reads: tuple[str, ...]) -> bool:
    """Return whether a value is one picture or sound, or names its modality, for a model that ``reads`` modalities.

    Bytes, paths and arrays of pixels are media to a model that reads media. To a model of texts alone they are a
    mistake, for which the advice is to decode or to read them.
    """
    if isinstance(item, str):
        return False
    if is_image(item) or isinstance(item, Audio):
        return True
    if reads == ("text",):
        return False
    return isinstance(item, _RAW) or _is_pixels(item) or _part_of(item) is not None


def read_item(item: object, number: int, reads: tuple[str, ...]) -> Any:
    """Return an input for which ``is_medium`` is true as an `Image`, an `Audio`, or the text that it contains.

    Raises:
        InputError: it is of a modality that the model does not read, or has a part of another type.
    """
    try:
        modality, value = _part_of(item) or (_kind_of(item, reads), item)
        if modality == "text":
            if not isinstance(value, str):
                raise InputError(f"text must be a text, and is {describe(value)}.", param="input")
            return value
        if modality not in reads:
            raise InputError(f"This is {NOUNS[modality]}, and the model reads {listed(reads)}.", param="input")
        return _create(modality, value)
    except InputError as error:
        raise type(error)(f"Input {number}: {error}", param="input") from error


def listed(modalities: tuple[str, ...]) -> str:
    """Return the modalities that a model reads, for a message."""
    return " and ".join(SEVERAL[name] for name in modalities)


def _create(modality: str, value: object) -> Image | Audio:
    kind = Image if modality == "image" else Audio
    if isinstance(value, kind):
        return value
    if not isinstance(value, str):
        return kind(cast(Any, value))
    # Only where its key says what it is.
    if value.startswith("data:"):
        return kind(uri=value)
    raise InputError(
        f"the string in {modality!r} is no data URI. For a file, write nearfield.{kind.__name__}(path=...).",
        param="input",
    )


def _kind_of(item: object, reads: tuple[str, ...]) -> str:
    """Return the modality of a medium: by its type, by what the model reads, or by its first bytes."""
    if isinstance(item, Audio):
        return "audio"
    if not isinstance(item, _RAW) or "audio" not in reads:
        return "image"
    return "audio" if "image" not in reads or find_sound_format(_first_bytes(item)) else "image"


def _first_bytes(item: object) -> bytes:
    if not isinstance(item, os.PathLike):
        return bytes(memoryview(cast(bytes, item))[:HEAD])
    with open_regular_file(absolute_path(item), 2**62) as file:
        return file.read(HEAD)


def _part_of(item: object) -> tuple[str, Any] | None:
    """Return modality and value of a mapping with one part, such as ``{"image": picture}``; None for anything else."""
    if not isinstance(item, Mapping) or len(item) != 1:
        return None
    name, value = next(iter(item.items()))
    return (name, value) if name in NOUNS else None


def _is_pixels(item: object) -> bool:
    """Return whether a value is an array of pixels, uint8 [H, W, 3]: no list of token ids has that shape."""
    return isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim == 3 and item.shape[2] == 3
