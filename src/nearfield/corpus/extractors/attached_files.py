"""Files within files: attachments of e-mails, and documents that Office files embed, read by their own extractors."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from nearfield.corpus import extractors
from nearfield.corpus.document import Document
from nearfield.corpus.extractors import Extractor
from nearfield.corpus.extractors.reader import kind_of
from nearfield.errors import InputError

#: Files in files that are read.
_MAX_DEPTH = 4
_DEPTH: ContextVar[int] = ContextVar("depth of files in files", default=0)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
#: The stream of an embedded object that has a whole file of today's Office.
_PACKAGE = "Package"


@contextmanager
def nested_file(name: str) -> Iterator[None]:
    """Count the depth of files that contain each other.

    Raises:
        InputError: they are nested too deep.
    """
    depth = _DEPTH.get()
    if depth >= _MAX_DEPTH:
        raise InputError(f"{name}: files within files more than {_MAX_DEPTH} times.")
    token = _DEPTH.set(depth + 1)
    try:
        yield
    finally:
        _DEPTH.reset(token)


def read_attached(data: bytes, name: str, outer: Extractor, media: str = "") -> Document:
    """Return the document of a file in another, read with the options of ``outer``.

    ``media`` is its media type if that is known: it counts for a name without a known suffix.

    Raises:
        InputError: it is empty, nested too deep, of an unknown type, or cannot be read.
        MissingExtra: the library that reads it is not installed.
    """
    if not data:
        raise InputError(f"{name}: the file is empty.")
    data = _without_wrapper(data)
    suffix = extractors.suffix_of(media) or (".txt" if media.startswith("text/") else "")
    typed = name if extractors.kind_of(name) else f"{name}{suffix}"
    by_name = extractors.kind_of(typed)
    kind = kind_of(data, typed if by_name else "attachment")
    if kind == "text" and by_name is None:
        raise InputError(f"{name}: no extractor for this type")
    inner = extractors.create_extractor(extractors.REGISTRY.load(kind), outer.options)
    inner.on_page = outer.on_page
    with nested_file(name):
        return inner.extract(data, name)


def read_embedded(data: bytes, name: str, outer: Extractor, media: str = "", page: int | None = None) -> Document:
    """Return the document of a file that a page of another shows: its blocks are on that page; raises as above."""
    document = read_attached(data, name, outer, media)
    return replace(document, blocks=tuple(replace(block, page=page) for block in document.blocks))


def _without_wrapper(data: bytes) -> bytes:
    """Return the Office file in an embedded object, or the data without a change."""
    if not data.startswith(_OLE):
        return data
    import olefile

    try:
        with olefile.OleFileIO(io.BytesIO(data)) as file:
            return bytes(file.openstream(_PACKAGE).read()) if file.exists(_PACKAGE) else data
    except (OSError, ValueError, IndexError):  # damaged: the extractor says so
        return data
