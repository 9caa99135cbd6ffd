"""Which inputs have pictures, videos or sounds, and how: as files, in a column of a table, or in tars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from nearfield.bulk.input_table import glob_files, list_files
from nearfield.bulk.media_files.suffixes import MEDIA_NOUNS, MEDIA_SUFFIXES, TAR_SUFFIXES
from nearfield.bulk.media_files.tar_rows import kind_of_tar
from nearfield.bulk.text_source import STDIN
from nearfield.errors import InputError, nearest
from nearfield.fileio.tabular import FORMATS
from nearfield.message_text import count_of

_TABLE_SUFFIXES = (*(f".{form}" for form in FORMATS), ".ndjson", ".text")
#: The format of tars, as ``--format`` takes it.
TAR = "tar"


class MediaLayout(Enum):
    """How items lie in inputs."""

    FILES = "files"
    TABLE = "table"
    TAR = TAR


@dataclass(frozen=True)
class MediaInputs:
    """What inputs hold: ``kind`` is ``image``, ``video`` or ``audio``."""

    kind: str
    layout: MediaLayout


def find_media(inputs: Sequence[Path], form: str | None, media: str | None) -> MediaInputs | None:
    """Return what inputs hold, or None if they are texts.

    A table has media only if ``media`` says so. Tars have them always, of the kind of their first samples.

    Args:
        inputs: files, folders and patterns.
        form: their format, ``image``, ``video`` or ``audio`` for such files, ``tar``, or that of a table.
        media: the kind of the items.

    Raises:
        InputError: ``media`` is unknown or another kind than ``form``, inputs differ in layout, or the kind of tars is
            not found.
    """
    if media is not None and media not in MEDIA_SUFFIXES:
        raise InputError(f"Unknown kind {media!r}. {nearest(media, MEDIA_SUFFIXES)}", param="media")
    layout = _layout(inputs, form, media)
    if layout is None:
        return None
    if layout is MediaLayout.TAR:
        return MediaInputs(media or _kind_of_tars(inputs), layout)
    kind = media or media_form(inputs, form)
    return None if kind is None else MediaInputs(kind, layout)


def _layout(inputs: Sequence[Path], form: str | None, media: str | None) -> MediaLayout | None:
    if form in MEDIA_SUFFIXES:
        if media not in (None, form):
            raise InputError(f"--format {form} are files of that kind: leave --media {media} out.", param="media")
        return MediaLayout.FILES
    if form is not None:
        return MediaLayout.TAR if form == TAR else MediaLayout.TABLE if media is not None else None
    layouts = {_layout_of(path, media) for path in inputs}
    if len(layouts) > 1 and media is not None:
        raise InputError("Tables, tars and files of media are embedded by a run each.", param="inputs")
    return layouts.pop() if len(layouts) == 1 else None


def _layout_of(path: Path, media: str | None) -> MediaLayout | None:
    table = MediaLayout.TABLE if media is not None else None
    if path == STDIN:
        return table
    if path.is_dir():
        return _layout_of_folder(path, media)
    if path.is_file():
        name = path.name.lower()
        return MediaLayout.TAR if name.endswith(TAR_SUFFIXES) else table if _is_table(name) else MediaLayout.FILES
    layouts = {_layout_of(match, media) for match in glob_files(str(path))}
    return layouts.pop() if len(layouts) == 1 else None


def _layout_of_folder(path: Path, media: str | None) -> MediaLayout | None:
    if list_files(path, None):
        return MediaLayout.TABLE if media is not None else None
    kinds = MEDIA_SUFFIXES if media is None else [media]
    has_files = any(list_files(path, kind) for kind in kinds)
    return MediaLayout.TAR if not has_files and list_files(path, TAR) else MediaLayout.FILES


def _is_table(name: str) -> bool:
    return name.endswith(_TABLE_SUFFIXES)


def _kind_of_tars(inputs: Sequence[Path]) -> str:
    matches = [match for path in inputs for match in ([path] if path.exists() else glob_files(str(path)))]
    tars = [file for match in matches for file in list_files(match, TAR)]
    kind = next((kind for file in tars if (kind := kind_of_tar(file)) is not None), None)
    if kind is None:
        place = tars[0] if tars else inputs[0]
        raise InputError(
            f"{place}: no member is named like a picture, a video or a sound. Name the kind with --media, and the "
            "end of the members' names with --field.",
            param="inputs",
        )
    return kind


def media_form(inputs: Sequence[Path], form: str | None) -> str | None:
    """Return ``"image"``, ``"video"`` or ``"audio"`` if inputs are such files, or None if they are texts.

    They are what the format says. Without one, every input must have files of one kind: a file by its suffix, a folder
    if it holds such files, no tables, and none of a kind that comes first: pictures, then videos, then sounds.
    """
    if form is not None:
        return form if form in MEDIA_SUFFIXES else None
    forms = {_form_of(path) for path in inputs}
    return forms.pop() if len(forms) == 1 else None


def _form_of(path: Path) -> str | None:
    """Return the format of the media of a file, folder or pattern by their suffixes; None if there are others."""
    if path == STDIN:
        return None
    if path.is_file() or path.is_dir():
        has_tables = path.is_dir() and bool(list_files(path, None))
        return None if has_tables else next((form for form in MEDIA_SUFFIXES if list_files(path, form)), None)
    forms = {_form_of(match) for match in glob_files(str(path))}
    return forms.pop() if len(forms) == 1 else None


def unread_media(inputs: Sequence[Path], form: str) -> Iterator[str]:
    """Yield a warning for each folder of files of a format that has those of another too, tables aside."""
    for path in filter(Path.is_dir, inputs):
        for other in MEDIA_SUFFIXES:
            if other != form and (files := list_files(path, other)):
                count = count_of(len(files), MEDIA_NOUNS[other])
                yield f"{path} holds {count} too, left out here: --format {other} reads them."
