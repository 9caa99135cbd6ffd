"""Which inputs have pictures, videos or sounds, and how: as files, in a column of a table, or in tars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from nearfield.bulk.input_table import glob_files, list_files, suffixes_of
from nearfield.bulk.media_files.suffixes import MEDIA_NOUNS, MEDIA_SUFFIXES, TAR_SUFFIXES
from nearfield.bulk.media_files.tar_rows import kind_of_tar
from nearfield.bulk.text_source import STDIN
from nearfield.errors import InputError, nearest
from nearfield.fileio.s3.matching import find_objects, is_folder, listed
from nearfield.fileio.s3.path import Location, S3Path
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


def find_media(inputs: Sequence[Location], form: str | None, media: str | None) -> MediaInputs | None:
    """Return what inputs hold, or None if they are texts.

    A table has media only if ``media`` says so. Tars have them always, of the kind of their first samples. Inputs on S3
    are listed, unless ``form`` says what they are.

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


def _layout(inputs: Sequence[Location], form: str | None, media: str | None) -> MediaLayout | None:
    if form in MEDIA_SUFFIXES:
        if media not in (None, form):
            raise InputError(f"--format {form} are files of that kind: leave --media {media} out.", param="media")
        return MediaLayout.FILES
    if form is not None:
        return MediaLayout.TAR if form == TAR else MediaLayout.TABLE if media is not None else None
    layouts = {layout for path in inputs for layout in _layouts_of(path, media)}
    if len(layouts) > 1 and media is not None:
        raise InputError("Tables, tars and files of media are embedded by a run each.", param="inputs")
    return layouts.pop() if len(layouts) == 1 else None


def _layouts_of(path: Location, media: str | None) -> set[MediaLayout | None]:
    """Return the layouts of a file, a folder, or all that match a pattern; None stands for texts."""
    if isinstance(path, S3Path):
        named = _named_objects(path)
        return {_layout_of_name(file.name, media) for file in named} if named else {_layout_of_folder(path, media)}
    if path == STDIN:
        return {MediaLayout.TABLE if media is not None else None}
    if path.is_dir():
        return {_layout_of_folder(path, media)}
    if path.is_file():
        return {_layout_of_name(path.name, media)}
    layouts = {layout for match in glob_files(str(path)) for layout in _layouts_of(match, media)}
    return layouts if len(layouts) == 1 else {None}


def _layout_of_name(name: str, media: str | None) -> MediaLayout | None:
    if name.lower().endswith(TAR_SUFFIXES):
        return MediaLayout.TAR
    if name.lower().endswith(_TABLE_SUFFIXES):
        return MediaLayout.TABLE if media is not None else None
    return MediaLayout.FILES


def _layout_of_folder(path: Location, media: str | None) -> MediaLayout | None:
    if _files_in(path, None):
        return MediaLayout.TABLE if media is not None else None
    kinds = MEDIA_SUFFIXES if media is None else [media]
    has_files = any(_files_in(path, kind) for kind in kinds)
    return MediaLayout.TAR if not has_files and _files_in(path, TAR) else MediaLayout.FILES


def _files_in(path: Location, form: str | None) -> Sequence[Location]:
    """Return the files of a format in a folder, or a file itself if its suffix is one of those; None: of tables."""
    if not isinstance(path, S3Path):
        return list_files(path, form)
    suffixes = suffixes_of(form)
    return [file for file in find_objects(path, suffixes) if file.name.lower().endswith(suffixes)]


def _named_objects(path: S3Path) -> list[S3Path]:
    return [item.file for item in listed(path).objects if item.is_named]


def _kind_of_tars(inputs: Sequence[Location]) -> str:
    matches: list[Location] = []
    for path in inputs:
        is_single = isinstance(path, S3Path) or path.exists()
        matches += [path] if is_single else glob_files(str(path))
    tars = [file for match in matches for file in _files_in(match, TAR)]
    kind = next((kind for file in tars if (kind := kind_of_tar(file)) is not None), None)
    if kind is None:
        place = tars[0] if tars else inputs[0]
        raise InputError(
            f"{place}: no member is named like a picture, a video or a sound. Name the kind with --media, and the "
            "end of the members' names with --field.",
            param="inputs",
        )
    return kind


def media_form(inputs: Sequence[Location], form: str | None) -> str | None:
    """Return ``"image"``, ``"video"`` or ``"audio"`` if inputs are such files, or None if they are texts.

    They are what the format says. Without one, every input must have files of one kind: a file by its suffix, a folder
    if it holds such files, no tables, and none of a kind that comes first: pictures, then videos, then sounds.
    """
    if form is not None:
        return form if form in MEDIA_SUFFIXES else None
    forms = {form for path in inputs for form in _forms_of(path)}
    return forms.pop() if len(forms) == 1 else None


def _forms_of(path: Location) -> set[str | None]:
    """Return the formats of the media of a file, folder or pattern by their suffixes; None stands for others."""
    if isinstance(path, S3Path):
        named = _named_objects(path)
        return {_form_of_name(file.name) for file in named} if named else {_form_of_folder(path)}
    if path.is_dir():
        return {_form_of_folder(path)}
    if path == STDIN or path.is_file():
        return {_form_of_name(path.name)}
    return {form for match in glob_files(str(path)) for form in _forms_of(match)} or {None}


def _form_of_name(name: str) -> str | None:
    return next((form for form, suffixes in MEDIA_SUFFIXES.items() if name.lower().endswith(suffixes)), None)


def _form_of_folder(path: Location) -> str | None:
    if _files_in(path, None):
        return None
    return next((form for form in MEDIA_SUFFIXES if _files_in(path, form)), None)


def unread_media(inputs: Sequence[Location], form: str) -> Iterator[str]:
    """Yield a warning for each folder of files of a format that has those of another too, tables aside."""
    for path in inputs:
        if not (is_folder(path) if isinstance(path, S3Path) else path.is_dir()):
            continue
        for other in MEDIA_SUFFIXES:
            if other != form and (files := _files_in(path, other)):
                count = count_of(len(files), MEDIA_NOUNS[other])
                yield f"{path} holds {count} too, left out here: --format {other} reads them."
