"""Inputs of several modalities: which are media of which kind, or have several parts, and runs of one modality."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, cast

import numpy as np

from nearfield.errors import InputError
from nearfield.media.audio import Audio
from nearfield.media.content import MixedContent
from nearfield.media.files import absolute_path, open_regular_file
from nearfield.media.formats import find_format
from nearfield.media.image import Image, is_image
from nearfield.media.sound.sound_formats import find_sound_format
from nearfield.media.video.video import Video
from nearfield.media.video.video_formats import HEAD, find_video_format
from nearfield.text_inputs import describe

#: What an input of each modality is called in messages, one and several. A part of a mapping, such as
#: ``{"image": picture}``, has the name of its modality.
NOUNS: Mapping[str, str] = {"text": "a text", "image": "a picture", "audio": "a sound", "video": "a video"}
SEVERAL: Mapping[str, str] = {"text": "texts", "image": "pictures", "audio": "sounds", "video": "videos"}
#: The modality of an input that a model reads together with its texts: of several parts, or one picture or sound.
MIXED = "mixed"
#: The modality of the tower that reads inputs of another: the frames of a video are pictures.
TOWERS: Mapping[str, str] = {"video": "image"}
_CLASSES: Mapping[str, type[Image] | type[Audio] | type[Video]] = {"image": Image, "audio": Audio, "video": Video}
#: Sources of media whose type does not say which of them they are.
_RAW = (bytes, bytearray, memoryview, os.PathLike)


def modality_of(item: object) -> str:
    """Return the modality of one input that ``read_item`` has returned."""
    if isinstance(item, str):
        return "text"
    if isinstance(item, MixedContent):
        return MIXED
    return next((name for name, kind in _CLASSES.items() if isinstance(item, kind)), "text")


def tower_modality(modality: str) -> str:
    """Return the modality of the tower that reads inputs of a modality."""
    return TOWERS.get(modality, modality)


def runs(items: Iterable[Any]) -> Iterator[tuple[str, Iterator[Any]]]:
    """Yield the modality and the inputs of each run of consecutive inputs of one modality."""
    return groupby(items, modality_of)


def is_medium(item: object, reads: tuple[str, ...], *, in_list: bool = False) -> bool:
    """Return whether a value is no text: a picture, sound or video, or what names its modality or has several parts.

    Bytes, paths and arrays of pixels are media to a model that reads media. To a model of texts alone they are a
    mistake, for which the advice is to decode or to read them.

    Args:
        item: the value.
        reads: the modalities that the model reads.
        in_list: whether it is an item of a list of inputs, where a list is one input of several parts.
    """
    if isinstance(item, str):
        return False
    if is_image(item) or isinstance(item, (Audio, Video, MixedContent)):
        return True
    if reads == ("text",):
        return False
    if isinstance(item, _RAW) or _is_pixels(item) or _named_parts(item) or _has_misnamed_parts(item, reads):
        return True
    return in_list and isinstance(item, (list, tuple)) and any(is_medium(part, reads) for part in item)


def refuse_medium(item: object, name: str) -> None:
    """Raise InputError for the bytes or the path of a picture, sound or video, where texts alone are read."""
    if not isinstance(item, _RAW):
        return
    try:
        head = _first_bytes(item)
    except InputError:  # no file that can be read
        return
    kind = "audio" if find_sound_format(head) else "video" if find_video_format(head) else "image"
    if kind != "image" or find_format(head):
        raise InputError(
            f"{name} is {NOUNS[kind]}, and texts alone are read. A model that reads {SEVERAL[kind]} does so unless it "
            'is loaded with modalities=("text",).',
            param="input",
        )


def read_item(item: object, number: int, reads: tuple[str, ...], *, fuses: bool = False) -> Any:
    """Return an input for which ``is_medium`` is true as an `Image`, `Audio` or `Video`, or the text that it contains.

    For a model that ``fuses`` its inputs, it is `MixedContent`, unless it is a text alone.

    Raises:
        InputError: it is of a modality that the model does not read, has a part of another type, or has several parts
            that the model does not read together.
    """
    try:
        parts = [_read_part(modality, value, reads) for modality, value in _parts(item, reads)]
        if all(isinstance(part, str) for part in parts) and len(parts) == 1:
            return parts[0]
        if fuses:
            return MixedContent(tuple(parts))
        if len(parts) > 1:
            raise InputError(_apart(parts))
        return parts[0]
    except InputError as error:
        raise type(error)(f"Input {number}: {error}", param="input") from error


def _apart(parts: list[str | Image | Audio | Video]) -> str:
    """Return the message for several parts that a model does not read together."""
    kinds = [modality_of(part) for part in parts]
    named = [NOUNS[kind] if kinds.count(kind) == 1 else SEVERAL[kind] for kind in dict.fromkeys(kinds)]
    return f"The model computes no vector of {' and '.join(named)} together. Give each in a separate input."


def _parts(item: object, reads: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Return modality and value of each part of an input.

    Raises:
        InputError: it has none.
    """
    if isinstance(item, MixedContent):
        return [(modality_of(part), part) for part in item.parts]
    if isinstance(item, (list, tuple)):
        return [pair for part in item for pair in _parts(part, reads)]
    if isinstance(item, str):
        return [("text", item)]
    named = _named_parts(item)
    if not named and isinstance(item, Mapping):
        raise InputError(f"It has the keys {', '.join(map(str, item))}. Parts are called {', '.join(reads)}.")
    if not named:
        return [(_kind_of(item, reads), item)]
    pairs = [(name, value) for name, values in named for value in _several(values)]
    if not pairs:
        raise InputError("It has no parts: give a text, or what else the model reads.", param="input")
    return pairs


def _several(values: object) -> list[Any]:
    return list(values) if isinstance(values, (list, tuple)) else [values]


def _read_part(modality: str, value: object, reads: tuple[str, ...]) -> str | Image | Audio | Video:
    if modality not in reads:
        raise InputError(f"This is {NOUNS[modality]}, and the model reads {listed(reads)}.", param="input")
    if modality != "text":
        return _create(modality, value)
    if not isinstance(value, str):
        raise InputError(f"text must be a text, and is {describe(value)}.", param="input")
    return value


def listed(modalities: tuple[str, ...]) -> str:
    """Return the modalities that a model reads, for a message."""
    *others, last = [SEVERAL[name] for name in modalities]
    return f"{', '.join(others)} and {last}" if others else last


def _create(modality: str, value: object) -> Image | Audio | Video:
    kind = _CLASSES[modality]
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
    if isinstance(item, (Audio, Video)):
        return modality_of(item)
    if not isinstance(item, _RAW):
        return "image"
    if "image" not in reads:
        return "audio"
    head = _first_bytes(item) if {"audio", "video"} & set(reads) else b""
    if "audio" in reads and find_sound_format(head):
        return "audio"
    return "video" if "video" in reads and find_video_format(head) else "image"


def _first_bytes(item: object) -> bytes:
    if not isinstance(item, os.PathLike):
        return bytes(memoryview(cast(bytes, item))[:HEAD])
    with open_regular_file(absolute_path(item), 2**62) as file:
        return file.read(HEAD)


def _named_parts(item: object) -> list[tuple[str, Any]]:
    """Return the parts of a mapping by modality, such as ``{"text": "red", "image": picture}``; none for others."""
    if not isinstance(item, Mapping) or not item or not item.keys() <= NOUNS.keys():
        return []
    return list(item.items())


def _has_misnamed_parts(item: object, reads: tuple[str, ...]) -> bool:
    """Return whether a mapping with other keys than modalities holds a medium: no table of texts does."""
    if not isinstance(item, Mapping) or item.keys() <= NOUNS.keys():
        return False
    return any(is_medium(part, reads) for value in item.values() for part in _several(value))


def _is_pixels(item: object) -> bool:
    """Return whether a value is an array of pixels, uint8 [H, W, 3]: no list of token ids has that shape."""
    return isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim == 3 and item.shape[2] == 3


def one_modality(items: Sequence[Any], default: str) -> str:
    """Return the modality of all inputs; ``default`` if there are none. Inputs of several kinds are refused."""
    kinds = [modality_of(item) for item in items] or [default]
    other = next((number for number, kind in enumerate(kinds) if kind != kinds[0]), None)
    if other is not None:
        named = f"input 0 is of kind {kinds[0]}, and input {other} of {kinds[other]}"
        raise InputError(f"submit takes inputs of one kind: {named}.", param="input")
    return kinds[0]
