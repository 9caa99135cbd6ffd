"""Arguments of commands that may be pictures, videos or sounds, and the model for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nearfield.errors import InputError
from nearfield.message_text import escape_controls

if TYPE_CHECKING:
    from nearfield.encoder import Encoder
    from nearfield.media.audio import Audio
    from nearfield.media.image import Image
    from nearfield.media.video.video import Video

#: The model of pictures and texts where a command names none.
PICTURE_MODEL = "google/siglip2-base-patch16-224"
#: That of sounds and texts.
SOUND_MODEL = "laion/clap-htsat-unfused"
#: Ends of names by which an argument is meant as a file, whether or not there is one.
_PICTURE_NAMES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic")
_FILE_NAMES = (*_PICTURE_NAMES, ".mp4", ".mov", ".mkv", ".webm", ".avi", ".wav", ".flac", ".ogg", ".mp3", ".aiff")
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


def is_sound_file(name: str) -> bool:
    """Return whether an argument is the name of an existing file that begins like a sound, whatever its suffix."""
    from nearfield.media.sound.sound_formats import find_sound_format

    return find_sound_format(_first_bytes(name)) is not None


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


def is_media_name(name: str) -> bool:
    """Return whether an argument is a picture, video or sound, or ends like the name of one."""
    return name.lower().endswith(_FILE_NAMES) or not isinstance(read_argument(name), str)


def read_arguments(arguments: list[str]) -> list[str | Image | Video | Audio]:
    """Return arguments with pictures, videos and sounds in place of the names of such files; see `is_picture_file`."""
    return [read_argument(name) for name in arguments]


def read_argument(name: str) -> str | Image | Video | Audio:
    """Return the picture, video or sound that an argument names, or the argument if it names none."""
    from nearfield import Audio, Image, Video

    if is_picture_file(name):
        return Image(path=name)
    if is_video_file(name):
        return Video(path=name)
    return Audio(path=name) if is_sound_file(name) else name


def warn_of_missing_files(items: Sequence[str | Image | Video | Audio]) -> None:
    """Say on stderr which arguments are compared as texts although they end like the name of such a file."""
    for item in items:
        if isinstance(item, str) and item.lower().endswith(_FILE_NAMES):
            what = "is a file of another format" if _first_bytes(item) else "is no file that can be read"
            typer.echo(f"{escape_controls(item)} {what}, so its name is compared as a text.", err=True)


def choose_model(context: typer.Context, model: str, modality: str) -> str:
    """Return the model that an option names, or if it is left out the one for a modality other than text."""
    source = context.get_parameter_source("model")
    if modality == "text" or source is None or source.name != "DEFAULT":
        return model
    return SOUND_MODEL if modality == "audio" else PICTURE_MODEL


def require_modality(encoder: Encoder, modality: str, name: str, remedy: str) -> None:
    """Raise InputError unless a model reads a modality; ``name`` is an input of it, ``remedy`` what else to do."""
    if modality not in encoder.modalities:
        kind = {"image": "picture", "audio": "sound"}.get(modality, modality)
        raise InputError(
            f"{name} is a {kind}, and {encoder.name} reads none. Models that do: nearfield models list --input "
            f"{modality}.{remedy}",
            param="model",
        )
