"""Inputs of the HTTP clients as Nearfield's API takes them: texts as strings, media as the bytes of their files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from nearfield.errors import InputError
from nearfield.text_inputs import describe, one_or_many, one_text, refuse_item

if TYPE_CHECKING:
    from nearfield.media.audio import Audio
    from nearfield.media.content import MixedContent
    from nearfield.media.image import Image
    from nearfield.media.video.video import Video

#: An input whose type was checked, and whose file was not opened.
RemoteInput: TypeAlias = "str | Image | Audio | Video | MixedContent"
#: An input in the body of a request.
BodyInput: TypeAlias = "str | dict[str, object]"
#: Inputs in one request, and bytes of files from which on a request takes no further input: a server accepts bodies
#: of 32 MiB by default.
BATCH_SIZE, BATCH_BYTES = 64, 8 * 2**20
#: What is sent; which of them the model reads, the server knows.
_MODALITIES = ("text", "image", "audio", "video")


def read_inputs(inputs: object, param: str = "texts", unit: str = "Text") -> list[RemoteInput]:
    """Return several inputs: texts, pictures, sounds, videos, and lists or mappings of several of these.

    Nothing is opened yet, except for the first bytes of paths, which say what a file is.

    Raises:
        InputError: it is one input, has columns or keys, or an item is none of these.
    """
    _refuse_one(inputs, param)
    return [_checked(item, number, param, unit) for number, item in enumerate(one_or_many(inputs, param))]


def read_input(item: object, param: str) -> RemoteInput:
    """Return one input. Raises InputError for what is none."""
    from nearfield.inference.preparation.media_inputs import is_medium

    if not isinstance(item, str) and is_medium(item, _MODALITIES, in_list=True):
        return _checked(item, 0, param, param.capitalize())
    return one_text(item, param)


def body_inputs(inputs: Iterable[RemoteInput]) -> Iterator[list[BodyInput]]:
    """Yield the inputs of each request, with the bytes of files, which are read only then.

    Raises:
        InputError: a file cannot be read, or the API has no form for an input.
    """
    batch: list[BodyInput] = []
    size = 0
    for item in inputs:
        batch.append(to_body(item))
        size += _bytes_of(batch[-1])
        if len(batch) == BATCH_SIZE or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def to_body(item: RemoteInput) -> BodyInput:
    """Return an input in the body of a request. Raises as ``body_inputs`` does."""
    if isinstance(item, str):
        return item
    from nearfield.media.content import MixedContent

    if isinstance(item, MixedContent):
        return {"content": [_part(part) for part in item.parts]}
    return _part(item)


def has_files(items: Sequence[BodyInput]) -> bool:
    """Return whether the body of a request has the bytes of files, which JSON has no form for."""
    return any(not isinstance(item, str) for item in items)


def _part(part: str | Image | Audio | Video) -> dict[str, object]:
    from nearfield.inference.preparation.media_inputs import modality_of

    return {modality_of(part): part if isinstance(part, str) else part.to_file()}


def _checked(item: object, number: int, param: str, unit: str) -> RemoteInput:
    if isinstance(item, str):
        return item
    from nearfield.inference.preparation.media_inputs import is_medium, read_item
    from nearfield.media.content import MixedContent

    if not is_medium(item, _MODALITIES, in_list=True):
        refuse_item(item, number, param, unit)
    content: RemoteInput = read_item(item, number, _MODALITIES, fuses=True)
    return content.parts[0] if isinstance(content, MixedContent) and len(content.parts) == 1 else content


def _refuse_one(inputs: object, param: str) -> None:
    """Raise InputError for one input in place of several."""
    if isinstance(inputs, str):
        raise InputError(f"{param} must be a list of texts, and is one text.", param=param)
    if isinstance(inputs, (list, tuple, Mapping)):
        return
    from nearfield.inference.preparation.media_inputs import is_medium

    if is_medium(inputs, _MODALITIES):
        raise InputError(f"{param} must be a list of inputs, and is one, {describe(inputs)}: give a list.", param=param)


def _bytes_of(item: object) -> int:
    """Return the bytes of files in an input of a body."""
    if isinstance(item, dict):
        return sum(map(_bytes_of, item.values()))
    if isinstance(item, list):
        return sum(map(_bytes_of, item))
    return len(item) if isinstance(item, bytes) else 0
