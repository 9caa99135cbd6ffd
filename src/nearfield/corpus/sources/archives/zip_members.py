"""The files of a zip archive, by its directory."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from nearfield.corpus.sources.archives.members import (
    DAMAGED,
    ArchiveContent,
    ArchiveMember,
    Opener,
    by_name,
    relative_name,
    too_large,
)
from nearfield.errors import InputError

#: Files that Office documents, books and OpenDocument files have, and archives do not.
_DOCUMENT_FILES = frozenset({"[Content_Types].xml", "mimetype"})


@contextmanager
def open_zip(opener: Opener, key: str) -> Iterator[ArchiveContent]:
    """Yield the files of an archive.

    Raises:
        InputError: it is no zip archive, or damaged.
    """
    try:
        with opener() as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            members = by_name(_member(opener, info) for info in entries if not _is_folder(info))
    except InputError:  # an inner one that is encrypted, for example
        raise
    except DAMAGED as error:
        raise InputError(f"{key}: damaged, or no zip archive.") from error
    yield ArchiveContent(dict(sorted(members.items())), is_document=not _DOCUMENT_FILES.isdisjoint(members))


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return info.is_dir() or (info.filename.endswith("\\") and not info.file_size)


def _member(opener: Opener, info: zipfile.ZipInfo) -> ArchiveMember:
    return ArchiveMember(
        relative_name(_decoded_name(info)),
        info.file_size,
        str(info.CRC),
        f"{info.file_size}-{info.CRC}-{info.date_time}",
        partial(_read, opener, info),
        "a link" if stat.S_ISLNK(info.external_attr >> 16) else "",
    )


def _decoded_name(info: zipfile.ZipInfo) -> str:
    name = info.filename
    if not info.flag_bits & 0x800 and not name.isascii():  # no UTF-8 by the archive's own word
        try:
            return name.encode("cp437").decode()
        except UnicodeError:
            pass
    return name


def _read(opener: Opener, info: zipfile.ZipInfo, key: str, max_bytes: int) -> bytes:
    """Return a member's content.

    Raises:
        InputError: it is encrypted, damaged or too large.
    """
    if info.flag_bits & 1:
        raise InputError(f"{key}: encrypted. Unpack the archive with its password.")
    if info.file_size > max_bytes:
        raise too_large(key, max_bytes)
    try:
        with opener() as file, zipfile.ZipFile(file) as archive, archive.open(info) as member:
            data = member.read(max_bytes + 1)
    except NotImplementedError as error:
        raise InputError(f"{key}: compressed by a method that cannot be read. Unpack the archive.") from error
    except FileNotFoundError:
        raise
    except (*DAMAGED, RuntimeError) as error:
        raise InputError(f"{key}: damaged in the archive.") from error
    if len(data) > max_bytes:
        raise too_large(key, max_bytes)
    return data
