"""Inputs of several parts, of text, pictures and sounds, as one input of a model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TypeVar

from nearfield.errors import InputError
from nearfield.inference.preparation.media_inputs import NOUNS, SEVERAL, modality_of
from nearfield.media.audio import Audio
from nearfield.media.image import Image

MediumT = TypeVar("MediumT", bound=Image | Audio)


def join_parts(parts: Sequence[str | MediumT], field: str, request_field: str, separator: str = "") -> str | MediumT:
    """Return the one input that several parts make: texts are joined, and any other must be the only part.

    Args:
        parts: texts, pictures and sounds, in order.
        field: where they are in the request; messages begin with it.
        request_field: name of the field of the request, the ``param`` of errors.
        separator: what is put between texts.

    Raises:
        InputError: there are none, or they are more than texts or one other: the models here have no vector for them.
    """
    texts = [part for part in parts if isinstance(part, str)]
    if texts and len(texts) == len(parts):
        return separator.join(texts)
    if len(parts) == 1:
        return parts[0]
    if not parts:
        raise InputError(f"{field} is empty: send a text, or a picture or sound.", param=request_field)
    listed = " and ".join(_describe(name, len(list(run))) for name, run in groupby(sorted(map(modality_of, parts))))
    raise InputError(
        f"{field} has {listed}. No model here computes one vector of them together: send each in a separate input.",
        param=request_field,
    )


def _describe(modality: str, count: int) -> str:
    if count == 1:
        return NOUNS[modality]
    return f"{count} {SEVERAL[modality]}"
