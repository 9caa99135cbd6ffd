"""Arguments of commands that may be pictures, and the model for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nearfield.errors import InputError

if TYPE_CHECKING:
    from nearfield.encoder import Encoder
    from nearfield.media.image import Image

#: The model of pictures and texts where a command names none.
PICTURE_MODEL = "google/siglip2-base-patch16-224"
#: First bytes of a file by which its format is recognised.
_HEAD_BYTES = 1024


def is_picture_file(name: str) -> bool:
    """Return whether an argument is the name of an existing file that begins like a picture, whatever its suffix."""
    from nearfield.media.files import open_regular_file
    from nearfield.media.formats import find_format

    try:
        if not Path(name).is_file():
            return False
        with open_regular_file(Path(name), 2**63 - 1) as file:
            return find_format(file.read(_HEAD_BYTES)) is not None
    except (InputError, OSError, ValueError):  # a name that no file can have, or a file that may not be read
        return False


def read_arguments(arguments: list[str]) -> list[str | Image]:
    """Return arguments with pictures in place of the names of files that are pictures; see `is_picture_file`."""
    from nearfield import Image

    return [Image(path=name) if is_picture_file(name) else name for name in arguments]


def choose_model(context: typer.Context, model: str, has_pictures: bool) -> str:
    """Return the model that an option names, or the one for pictures if it is left out and there are pictures."""
    source = context.get_parameter_source("model")
    return PICTURE_MODEL if has_pictures and source is not None and source.name == "DEFAULT" else model


def require_pictures(encoder: Encoder, name: str, remedy: str) -> None:
    """Raise InputError unless a model reads pictures; ``name`` is a picture, and ``remedy`` what else may be done."""
    if "image" not in encoder.modalities:
        raise InputError(
            f"{name} is a picture, and {encoder.name} reads none. Models that do: nearfield models list --input image."
            f"{remedy}",
            param="model",
        )
