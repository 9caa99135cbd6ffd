"""Which inputs are files of pictures, of videos or of sounds, by their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from nearfield.bulk.input_table import glob_files, list_files
from nearfield.bulk.media_files.suffixes import MEDIA_NOUNS, MEDIA_SUFFIXES
from nearfield.bulk.text_source import STDIN
from nearfield.message_text import count_of


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
