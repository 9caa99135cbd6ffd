"""Documents from a zip archive: each member is a document, within limits of number, size and depth."""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from nearfield.corpus.document import SourceItem
from nearfield.corpus.sources import slack_export
from nearfield.errors import InputError

#: Suffixes of archives.
ARCHIVES = (".zip",)
#: Between the name of an archive and that of a member.
SEPARATOR = "!/"
#: Maximum number of members that are read of one archive with all archives in it, and of their bytes, whatever they
#: are compressed to; maximum bytes of an inner archive.
_MAX_MEMBERS, _MAX_BYTES, _MAX_INNER_BYTES = 20_000, 2**32, 2**26
#: Maximum depth of archives in archives.
_MAX_DEPTH = 3
_SKIPPED_FOLDERS = ("__MACOSX",)
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError)

#: Opens a file from its start; the caller closes it.
Opener = Callable[[], BinaryIO]


@dataclass
class ArchiveListing:
    """Lists the members of archives. ``skip_reason`` says why a member is left out; None leaves it out silently.

    ``record_skipped`` gets the key and the reason. ``max_bytes`` is the maximum size of one member.
    """

    skip_reason: Callable[[str], str | None]
    record_skipped: Callable[[str, str], None]
    max_bytes: int
    _members: int = field(default=0, init=False)
    _bytes: int = field(default=0, init=False)
    _latest: tuple[str, int, bytes] | None = field(default=None, init=False)

    def items(self, path: Path, key: str, stamp: str) -> Iterator[SourceItem]:
        """Yield the members of an archive, under keys such as ``archive.zip!/folder/member.txt``.

        A member that is damaged, encrypted or exceeds a limit is an item whose ``read`` raises the reason; so is an
        archive that cannot be read.
        """
        self._members = self._bytes = 0
        try:
            yield from self._list(lambda: path.open("rb"), key, stamp, 1)
        except InputError as error:
            yield _failed(key, error)

    def _list(self, opener: Opener, key: str, stamp: str, depth: int) -> Iterator[SourceItem]:
        """Yield the members of one archive.

        Raises:
            InputError: it cannot be read.
        """
        try:
            with opener() as file, zipfile.ZipFile(file) as archive:
                members = _by_name(archive.infolist())
        except InputError:  # an inner one that is encrypted, for example
            raise
        except _DAMAGED as error:
            raise InputError(f"{key}: damaged, or no zip archive.") from error
        if "[Content_Types].xml" in members or "mimetype" in members:  # a document whose name says .zip
            yield SourceItem(key, key, lambda: _read_all(opener, self.max_bytes, key), stamp)
            return
        root = slack_export.export_root(members)
        if root is not None:
            yield from self._channels(opener, members, key, root)
            members = {
                name: info
                for name, info in members.items()
                if not (name.startswith(root) and slack_export.is_part(name.removeprefix(root)))
            }
        yield from self._documents(opener, members, key, depth)

    def _documents(
        self, opener: Opener, members: Mapping[str, zipfile.ZipInfo], key: str, depth: int
    ) -> Iterator[SourceItem]:
        """Yield the members that are no parts of an export, up to the maximum number."""
        unread = 0
        for name, info in sorted(members.items()):
            member = f"{key}{SEPARATOR}{name}"
            reason = None if _SKIPPED_FOLDERS[0] in PurePosixPath(name).parts else self.skip_reason(member)
            if reason is None:
                continue
            if reason or stat.S_ISLNK(info.external_attr >> 16):
                self.record_skipped(member, reason or "a link")
            elif self._members >= _MAX_MEMBERS:
                unread += 1
            else:
                self._members += 1
                yield from self._member(opener, info, member, depth)
        if unread:
            yield _failed(key, InputError(f"{key}: {unread:,} of its files are not read, {_too_many()}"))

    def _channels(
        self, opener: Opener, members: dict[str, zipfile.ZipInfo], key: str, root: str
    ) -> Iterator[SourceItem]:
        """Yield the channels of a Slack export in an archive."""
        names = {name.removeprefix(root): str(info.CRC) for name, info in members.items() if name.startswith(root)}

        def read(name: str) -> bytes:
            return _read_member(opener, members[root + name], f"{key}{SEPARATOR}{root}{name}", self.max_bytes)

        for item in slack_export.channel_items(f"{key}{SEPARATOR}{root}", names, read, self.max_bytes):
            if self.skip_reason(f"{item.key}{slack_export.SUFFIX}") is not None:
                yield item

    def _member(self, opener: Opener, info: zipfile.ZipInfo, key: str, depth: int) -> Iterator[SourceItem]:
        """Yield a member, or the members of one that is an archive itself."""
        stamp = f"{info.file_size}-{info.CRC}-{info.date_time}"
        is_archive = PurePosixPath(key).suffix.lower() in ARCHIVES
        # One that is too large is not unpacked: reading it says so.
        size = info.file_size if info.file_size <= (_MAX_INNER_BYTES if is_archive else self.max_bytes) else 0
        if self._bytes + size > _MAX_BYTES:
            yield _failed(key, InputError(f"{key}: not read, {_too_large()}"))
            return
        self._bytes += size
        if is_archive:
            yield from self._inner(opener, info, key, stamp, depth)
        else:
            yield SourceItem(key, key, partial(_read_member, opener, info, key, self.max_bytes), stamp)

    def _inner(self, opener: Opener, info: zipfile.ZipInfo, key: str, stamp: str, depth: int) -> Iterator[SourceItem]:
        try:
            if depth >= _MAX_DEPTH:
                raise InputError(f"{key}: archives in archives more than {_MAX_DEPTH} deep are not read.")
            if info.file_size > _MAX_INNER_BYTES:
                raise InputError(
                    f"{key}: an archive in an archive may have {_MAX_INNER_BYTES:,} bytes. Unpack the outer one."
                )
            yield from self._list(partial(self._open_inner, opener, info, key), key, stamp, depth + 1)
        except InputError as error:
            yield _failed(key, error)

    def _open_inner(self, opener: Opener, info: zipfile.ZipInfo, key: str) -> BinaryIO:
        """Open an archive in an archive; the last one stays in memory, since its members are read one by one."""
        latest = self._latest
        if latest is None or latest[:2] != (key, info.CRC):
            latest = self._latest = (key, info.CRC, _read_member(opener, info, key, _MAX_INNER_BYTES))
        return io.BytesIO(latest[2])


def find_member(path: Path, key: str, max_bytes: int) -> SourceItem | None:
    """Return the member of an archive with a key such as ``archive.zip!/photo.png``; None if there is none."""

    def skip_reason(member: str) -> str | None:
        return "" if key == member or key.startswith(f"{member}{SEPARATOR}") else None

    listing = ArchiveListing(skip_reason, lambda *_: None, max_bytes)
    members = listing.items(path, key.partition(SEPARATOR)[0], "")
    return next((item for item in members if item.key == key), None)


def _too_many() -> str:
    return f"since an archive may have {_MAX_MEMBERS:,} with those of archives in it. Unpack it, and index the folder."


def _too_large() -> str:
    return (
        f"since the files of its archive would unpack to more than {_MAX_BYTES:,} bytes. Unpack it, and index the "
        "folder."
    )


def _by_name(entries: Iterable[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by their names.

    Of several with the same name all but the first get a number, unless they have the same content.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    repeated = []
    for info in entries:
        name = _member_name(info)
        if info.is_dir() or (info.filename.endswith("\\") and not info.file_size):
            continue
        first = members.setdefault(name, info)
        if (first.CRC, first.file_size) != (info.CRC, info.file_size):
            repeated.append((name, info))
    for name, info in repeated:
        members[_free_name(name, members)] = info
    return members


def _free_name(name: str, used: Mapping[str, object]) -> str:
    """Return a name with a number before its suffix that is not used."""
    path, number = PurePosixPath(name), 2
    while (free := str(path.with_name(f"{path.stem} ({number}){path.suffix}"))) in used:
        number += 1
    return free


def _member_name(info: zipfile.ZipInfo) -> str:
    """Return a member's name as a relative path with forward slashes."""
    name = info.filename
    if not info.flag_bits & 0x800 and not name.isascii():  # no UTF-8 by the archive's own word
        try:
            name = name.encode("cp437").decode()
        except UnicodeError:
            pass
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")) or "unnamed"


def _read_member(opener: Opener, info: zipfile.ZipInfo, key: str, max_bytes: int) -> bytes:
    """Return a member's content.

    Raises:
        InputError: it is encrypted, damaged or too large.
    """
    if info.flag_bits & 1:
        raise InputError(f"{key}: encrypted. Unpack the archive with its password.")
    if info.file_size > max_bytes:
        raise InputError(f"{key}: larger than {max_bytes:,} bytes. Increase 'largest', or split the file.")
    try:
        with opener() as file, zipfile.ZipFile(file) as archive, archive.open(info) as member:
            data = member.read(max_bytes + 1)
    except NotImplementedError as error:
        raise InputError(f"{key}: compressed by a method that cannot be read. Unpack the archive.") from error
    except FileNotFoundError:
        raise
    except (*_DAMAGED, RuntimeError) as error:
        raise InputError(f"{key}: damaged in the archive.") from error
    if len(data) > max_bytes:
        raise InputError(f"{key}: larger than {max_bytes:,} bytes. Increase 'largest', or split the file.")
    return data


def _read_all(opener: Opener, max_bytes: int, key: str) -> bytes:
    with opener() as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise InputError(f"{key}: larger than {max_bytes:,} bytes. Increase 'largest', or split the file.")
    return data


def _failed(key: str, error: InputError) -> SourceItem:
    """Return an item whose ``read`` raises an error."""

    def read() -> bytes:
        raise error

    return SourceItem(key, key, read)
