"""fastembed's classes for pictures, which Nearfield does not have."""

from __future__ import annotations

from typing import Any, NoReturn

from nearfield.errors import InputError


class ImageEmbedding:
    """Not available: Nearfield reads no pictures."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _refuse_pictures(type(self).__name__)


class LateInteractionMultimodalEmbedding:
    """Not available: Nearfield reads no pictures."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _refuse_pictures(type(self).__name__)


def _refuse_pictures(name: str) -> NoReturn:
    raise InputError(
        f"{name} is not available: Nearfield reads texts only. Keep fastembed for pictures; both can be used in one "
        "program.",
        param="model_name",
    )
