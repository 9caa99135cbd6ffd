"""Inputs of several parts, of text, pictures, videos and sounds, as one input of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TypeAlias, TypeVar

from nearfield.errors import InputError
from nearfield.inference.preparation.media_inputs import NOUNS, SEVERAL, modality_of
from nearfield.media.audio import Audio
from nearfield.media.content import MixedContent
from nearfield.media.image import Image
from nearfield.media.video.video import Video

#: One input of a request that is no list of token ids.
Content: TypeAlias = str | Image | Audio | Video | MixedContent
MediumT = TypeVar("MediumT", bound=Image | Audio | Video)


def join_parts(
    parts: Sequence[str | MediumT], field: str, request_field: str, separator: str = ""
) -> str | MediumT | MixedContent:
    """Return the one input that several parts make: a text, one picture, video or sound, or their `MixedContent`.

    Which models read that together is known later: ``Encode`` refuses it for others.

    Args:
        parts: texts, pictures, videos and sounds, in order.
        field: where they are in the request; messages begin with it.
        request_field: name of the field of the request, the ``param`` of errors.
        separator: what is put between texts that follow one another.

    Raises:
        InputError: there are none.
    """
    if not parts:
        raise InputError(f"{field} is empty: send a text, or a picture, video or sound.", param=request_field)
    joined: list[str | MediumT] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] = f"{joined[-1]}{separator}{part}"
        else:
            joined.append(part)
    return joined[0] if len(joined) == 1 else MixedContent(tuple(joined))


def pictures_of(inputs: Iterable[object]) -> list[Image]:
    """Return the pictures of a request, those of inputs with several parts too."""
    return [part for part in parts_of(inputs) if isinstance(part, Image)]


def videos_of(inputs: Iterable[object]) -> list[Video]:
    """Return the videos of a request."""
    return [part for part in parts_of(inputs) if isinstance(part, Video)]


def parts_of(inputs: Iterable[object]) -> Iterator[object]:
    """Yield inputs, with the parts of those that have several in their place."""
    for item in inputs:
        yield from item.parts if isinstance(item, MixedContent) else (item,)


def describe_parts(content: MixedContent) -> str:
    """Return what an input consists of, for a message: ``a text and 2 pictures``."""
    kinds = sorted(map(modality_of, content.parts), reverse=True)
    return " and ".join(_describe(name, len(list(run))) for name, run in groupby(kinds))


def _describe(modality: str, count: int) -> str:
    if count == 1:
        return NOUNS[modality]
    return f"{count} {SEVERAL[modality]}"
