"""Inputs of several parts, of text and of pictures, as one input of a model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from nearfield.errors import InputError
from nearfield.inference.preparation.media_inputs import NOUNS, modality_of
from nearfield.media.image import Image


def join_parts(parts: Sequence[str | Image], field: str, request_field: str, separator: str = "") -> str | Image:
    """Return the one input that several parts make: texts are joined, and a picture must be the only part.

    Args:
        parts: texts and pictures, in order.
        field: where they are in the request; messages begin with it.
        request_field: name of the field of the request, the ``param`` of errors.
        separator: what is put between texts.

    Raises:
        InputError: there are none, or they are more than texts or one picture: the models here have no vector for them.
    """
    texts = [part for part in parts if isinstance(part, str)]
    if texts and len(texts) == len(parts):
        return separator.join(texts)
    if len(parts) == 1:
        return parts[0]
    if not parts:
        raise InputError(f"{field} is empty: send a text or a picture.", param=request_field)
    listed = " and ".join(_describe(name, len(list(run))) for name, run in groupby(sorted(map(modality_of, parts))))
    raise InputError(
        f"{field} has {listed}. No model here computes one vector of them together: send each in a separate input.",
        param=request_field,
    )


def _describe(modality: str, count: int) -> str:
    if count == 1:
        return NOUNS[modality]
    return f"{count} {'texts' if modality == 'text' else 'pictures'}"
