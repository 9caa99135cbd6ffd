"""What an archive has: its files under relative names, whatever names the archive gives them."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from nearfield.errors import InputError

#: What reading an archive raises that is damaged.
DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, ValueError, NotImplementedError),
)

#: Opens a file from its start; the caller closes it.
Opener = Callable[[], BinaryIO]


@dataclass(frozen=True)
class ArchiveMember:
    """A file in an archive.

    Attributes:
        name: its relative name, with forward slashes.
        size: bytes that it unpacks to, as the archive states.
        mark: what changes with its content: a checksum, or a time.
        stamp: what changes with its content; its size first.
        read: returns its bytes. It gets the key for messages, and the maximum number of bytes.
        left_out: what it is if it is no regular file, such as "a link".
    """

    name: str
    size: int
    mark: str
    stamp: str
    read: Callable[[str, int], bytes]
    left_out: str = ""


@dataclass(frozen=True)
class ArchiveContent:
    """The files of an archive.

    Attributes:
        members: by name.
        scanned: bytes that were unpacked to list them.
        problem: why the rest of the archive cannot be listed.
        is_document: whether the archive is a document, whose name says otherwise.
    """

    members: Mapping[str, ArchiveMember]
    scanned: int = 0
    problem: str = ""
    is_document: bool = False


def by_name(members: Iterable[ArchiveMember]) -> dict[str, ArchiveMember]:
    """Return the files of an archive by their names.

    Of several with the same name all but the first get a number, unless they have the same content.
    """
    named: dict[str, ArchiveMember] = {}
    repeated = []
    for member in members:
        first = named.setdefault(member.name, member)
        if (first.mark, first.size) != (member.mark, member.size):
            repeated.append(member)
    for member in repeated:
        named[_free_name(member.name, named)] = member
    return named


def relative_name(name: str) -> str:
    """Return a member's name as a relative path with forward slashes, of valid Unicode."""
    parts = (part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))
    return "/".join(parts).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") or "unnamed"


def too_large(key: str, max_bytes: int) -> InputError:
    """Return the error of a member that has more bytes than are read."""
    return InputError(f"{key}: larger than {max_bytes:,} bytes. Increase 'largest', or split the file.")


def _free_name(name: str, used: Mapping[str, object]) -> str:
    """Return a name with a number before its suffix that is not used."""
    path, number = PurePosixPath(name), 2
    while (free := str(path.with_name(f"{path.stem} ({number}){path.suffix}"))) in used:
        number += 1
    return free
