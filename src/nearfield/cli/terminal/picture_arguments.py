"""Arguments of commands that may be pictures or videos, and the model for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nearfield.errors import InputError

if TYPE_CHECKING:
    from nearfield.encoder import Encoder
    from nearfield.media.image import Image
    from nearfield.media.video.video import Video

#: The model of pictures and texts where a command names none.
PICTURE_MODEL = "google/siglip2-base-patch16-224"
#: First bytes of a file by which its format is recognised.
_HEAD_BYTES = 1024


def is_picture_file(name: str) -> bool:
    """Return whether an argument is the name of an existing file that begins like a picture, whatever its suffix."""
    from nearfield.media.formats import find_format

    return find_format(_first_bytes(name)) is not None


def is_video_file(name: str) -> bool:
    """Return whether an argument is the name of an existing file that begins like a video, whatever its suffix."""
    from nearfield.media.video.video_formats import find_video_format

    return find_video_format(_first_bytes(name)) is not None


def _first_bytes(name: str) -> bytes:
    """Return the first bytes of a file; none if there is no such file, or it may not be read."""
    from nearfield.media.files import open_regular_file

    try:
        if not Path(name).is_file():
            return b""
        with open_regular_file(Path(name), 2**63 - 1) as file:
            return file.read(_HEAD_BYTES)
    except (InputError, OSError, ValueError):  # ValueError: a name that no file can have
        return b""


def read_arguments(arguments: list[str]) -> list[str | Image | Video]:
    """Return arguments with pictures and videos in place of the names of such files; see `is_picture_file`."""
    return [_read_argument(name) for name in arguments]


def _read_argument(name: str) -> str | Image | Video:
    from nearfield import Image, Video

    if is_picture_file(name):
        return Image(path=name)
    return Video(path=name) if is_video_file(name) else name


def choose_model(context: typer.Context, model: str, has_pictures: bool) -> str:
    """Return the model that an option names, or the one for pictures if it is left out and there are pictures."""
    source = context.get_parameter_source("model")
    return PICTURE_MODEL if has_pictures and source is not None and source.name == "DEFAULT" else model


def require_pictures(encoder: Encoder, name: str, remedy: str) -> None:
    """Raise InputError unless a model reads pictures; ``name`` is one, or a video, and ``remedy`` what else is done."""
    if "image" not in encoder.modalities:
        kind = "video" if is_video_file(name) else "picture"
        raise InputError(
            f"{name} is a {kind}, and {encoder.name} reads none. Models that do: nearfield models list --input image."
            f"{remedy}",
            param="model",
        )
