"""Inputs of several modalities: which inputs are pictures or sounds, and runs of inputs of one modality."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, cast

import numpy as np

from nearfield.errors import InputError
from nearfield.media.image import Image, ImageSource, is_image
from nearfield.text_inputs import describe

#: Modalities of inputs. A part of a mapping, such as ``{"image": ...}``, has the name of its modality.
MODALITIES = ("text", "image")
#: What an input of each modality is called in messages.
NOUNS: Mapping[str, str] = {"text": "a text", "image": "a picture", "audio": "a sound"}
#: Sources of pictures whose type does not say that they are pictures.
_RAW = (bytes, bytearray, memoryview, os.PathLike)


def modality_of(item: object) -> str:
    """Return the modality of one input that ``read_item`` has returned."""
    return "image" if isinstance(item, Image) else "text"


def runs(items: Iterable[Any]) -> Iterator[tuple[str, Iterator[Any]]]:
    """Yield the modality and the inputs of each run of consecutive inputs of one modality."""
    return groupby(items, modality_of)


def is_medium(item: object, reads: tuple[str, ...]) -> bool:
    """Return whether a value is one picture, or names its modality, for a model that ``reads`` some modalities.

    Bytes, paths and arrays of pixels are pictures to a model that reads pictures. To a model of texts alone they stay
    what they were: a mistake, for which the advice is to decode or to read them.
    """
    if isinstance(item, str):
        return False
    if is_image(item):
        return True
    if reads == ("text",):
        return False
    return isinstance(item, _RAW) or _is_pixels(item) or _part_of(item) is not None


def read_item(item: object, number: int, reads: tuple[str, ...]) -> Any:
    """Return an input for which ``is_medium`` is true as an `Image`, or as the text that it contains.

    Raises:
        InputError: it is of a modality that the model does not read, or has a part of another type.
    """
    part = _part_of(item)
    modality, value = part or ("image", item)
    if modality == "text":
        if not isinstance(value, str):
            raise InputError(f"Input {number}: text must be a text, and is {describe(value)}.", param="input")
        return value
    if modality not in reads:
        raise InputError(f"Input {number} is {NOUNS[modality]}, and this model reads {listed(reads)}.", param="input")
    if isinstance(value, str):  # only where its key says that it is a picture
        return _of_text(value, number)
    try:
        return value if isinstance(value, Image) else Image(cast("ImageSource", value))
    except InputError as error:
        raise InputError(f"Input {number}: {error}", param="input") from error


def listed(modalities: tuple[str, ...]) -> str:
    """Return the modalities that a model reads, for a message."""
    nouns = [{"text": "texts", "image": "pictures", "audio": "sounds"}[name] for name in modalities]
    return " and ".join(nouns)


def _of_text(value: str, number: int) -> Image:
    if value.startswith("data:"):
        return Image(uri=value)
    raise InputError(
        f"Input {number}: the string in 'image' is no data URI. For a file, write nearfield.Image(path=...).",
        param="input",
    )


def _part_of(item: object) -> tuple[str, Any] | None:
    """Return modality and value of a mapping with one part, such as ``{"image": picture}``; None for anything else."""
    if not isinstance(item, Mapping) or len(item) != 1:
        return None
    name, value = next(iter(item.items()))
    return (name, value) if name in NOUNS else None


def _is_pixels(item: object) -> bool:
    """Return whether a value is an array of pixels, uint8 [H, W, 3]: no list of token ids has that shape."""
    return isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim == 3 and item.shape[2] == 3
