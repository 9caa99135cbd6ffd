"""Documents from an archive: each member is a document, within limits of number, size and depth."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from nearfield.corpus.document import SourceItem
from nearfield.corpus.sources import slack_export
from nearfield.corpus.sources.archives.members import ArchiveContent, ArchiveMember, Opener, too_large
from nearfield.corpus.sources.archives.tar_members import open_tar
from nearfield.corpus.sources.archives.zip_members import open_zip
from nearfield.errors import InputError

_ZIP = ".zip"
#: Suffixes of archives. The first bytes of a tar say how it is compressed.
ARCHIVES = (
    _ZIP,
    *(".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".tzst"),
)
#: Between the name of an archive and that of a member.
SEPARATOR = "!/"
#: Maximum number of members that are read of one archive with all archives in it, and of their bytes, whatever they
#: are compressed to, also to list the members of tars; maximum bytes of an inner archive.
MAX_MEMBERS, MAX_UNPACKED, _MAX_INNER_BYTES = 20_000, 2**32, 2**26
#: Maximum depth of archives in archives.
MAX_DEPTH = 3
_SKIPPED_FOLDERS = ("__MACOSX",)
_UNPACK = "Unpack it, and index the folder."


def is_archive(name: str) -> bool:
    """Return whether a file of this name is an archive."""
    return name.lower().endswith(ARCHIVES)


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
    _scanned: int = field(default=0, init=False)
    _latest: tuple[str, str, bytes] | None = field(default=None, init=False)

    def items(self, path: Path, key: str, stamp: str) -> Iterator[SourceItem]:
        """Yield the members of an archive, under keys such as ``archive.zip!/folder/member.txt``.

        A member that is damaged, encrypted or exceeds a limit is an item whose ``read`` raises the reason; so is an
        archive that cannot be read.
        """
        self._members = self._bytes = self._scanned = 0
        try:
            yield from self._list(lambda: path.open("rb"), key, stamp, 1)
        except InputError as error:
            yield _failed(key, error)

    def _list(self, opener: Opener, key: str, stamp: str, depth: int) -> Iterator[SourceItem]:
        """Yield the members of one archive.

        Raises:
            InputError: it cannot be read.
        """
        with self._open(opener, key, stamp) as content:
            self._scanned += content.scanned
            yield from self._content(opener, content, key, stamp, depth)

    def _open(self, opener: Opener, key: str, stamp: str) -> AbstractContextManager[ArchiveContent]:
        if key.lower().endswith(_ZIP):
            return open_zip(opener, key)
        return open_tar(opener, key, stamp, MAX_UNPACKED - self._scanned)

    def _content(
        self, opener: Opener, content: ArchiveContent, key: str, stamp: str, depth: int
    ) -> Iterator[SourceItem]:
        """Yield the documents of an archive: channels of an export, and the other members."""
        members = content.members
        if content.is_document:
            yield SourceItem(key, key, lambda: _read_all(opener, self.max_bytes, key), stamp)
            return
        root = slack_export.export_root(members)
        if root is not None:
            yield from self._channels(members, key, root)
            members = {name: member for name, member in members.items() if not _is_of_export(name, root)}
        unread = yield from self._documents(members, key, depth)
        if unread:
            yield _failed(key, InputError(f"{key}: {unread:,} of its files are not read, {_too_many()}"))
        elif content.problem:
            yield _failed(key, InputError(f"{key}: not read to its end. {content.problem} {_UNPACK}"))

    def _documents(
        self, members: Mapping[str, ArchiveMember], key: str, depth: int
    ) -> Generator[SourceItem, None, int]:
        """Yield the members that are no parts of an export, up to the maximum number; return how many are not read."""
        unread = 0
        for name, member in members.items():
            place = f"{key}{SEPARATOR}{name}"
            reason = None if _SKIPPED_FOLDERS[0] in PurePosixPath(name).parts else self.skip_reason(place)
            if reason is None:
                continue
            if reason or member.left_out:
                self.record_skipped(place, reason or member.left_out)
            elif self._members >= MAX_MEMBERS:
                unread += 1
            else:
                self._members += 1
                yield from self._member(member, place, depth)
        return unread

    def _channels(self, members: Mapping[str, ArchiveMember], key: str, root: str) -> Iterator[SourceItem]:
        """Yield the channels of a Slack export in an archive."""
        marks = {name.removeprefix(root): member.mark for name, member in members.items() if name.startswith(root)}

        def read(name: str) -> bytes:
            return members[root + name].read(f"{key}{SEPARATOR}{root}{name}", self.max_bytes)

        for item in slack_export.channel_items(f"{key}{SEPARATOR}{root}", marks, read, self.max_bytes):
            if self.skip_reason(f"{item.key}{slack_export.SUFFIX}") is not None:
                yield item

    def _member(self, member: ArchiveMember, key: str, depth: int) -> Iterator[SourceItem]:
        """Yield a member, or the members of one that is an archive itself."""
        is_inner = is_archive(key)
        # One that is too large is not unpacked: reading it says so.
        size = member.size if member.size <= (_MAX_INNER_BYTES if is_inner else self.max_bytes) else 0
        if self._bytes + size > MAX_UNPACKED:
            yield _failed(key, InputError(f"{key}: not read, {_too_large()}"))
            return
        self._bytes += size
        if is_inner:
            yield from self._inner(member, key, depth)
        else:
            yield SourceItem(key, key, partial(member.read, key, self.max_bytes), member.stamp)

    def _inner(self, member: ArchiveMember, key: str, depth: int) -> Iterator[SourceItem]:
        try:
            if depth >= MAX_DEPTH:
                raise InputError(f"{key}: archives in archives more than {MAX_DEPTH} deep are not read.")
            if member.size > _MAX_INNER_BYTES:
                raise InputError(
                    f"{key}: an archive in an archive may have {_MAX_INNER_BYTES:,} bytes. Unpack the outer one."
                )
            yield from self._list(partial(self._open_inner, member, key), key, member.stamp, depth + 1)
        except InputError as error:
            yield _failed(key, error)

    def _open_inner(self, member: ArchiveMember, key: str) -> BinaryIO:
        """Open an archive in an archive; the last one stays in memory, since its members are read one by one."""
        latest = self._latest
        if latest is None or latest[:2] != (key, member.stamp):
            latest = self._latest = (key, member.stamp, member.read(key, _MAX_INNER_BYTES))
        return io.BytesIO(latest[2])


def find_member(path: Path, key: str, max_bytes: int) -> SourceItem | None:
    """Return the member of an archive with a key such as ``archive.zip!/photo.png``; None if there is none."""

    def skip_reason(member: str) -> str | None:
        return "" if key == member or key.startswith(f"{member}{SEPARATOR}") else None

    listing = ArchiveListing(skip_reason, lambda *_: None, max_bytes)
    members = listing.items(path, key.partition(SEPARATOR)[0], "")
    return next((item for item in members if item.key == key), None)


def _is_of_export(name: str, root: str) -> bool:
    return name.startswith(root) and slack_export.is_part(name.removeprefix(root))


def _too_many() -> str:
    return f"since an archive may have {MAX_MEMBERS:,} with those of archives in it. {_UNPACK}"


def _too_large() -> str:
    return f"since the files of its archive would unpack to more than {MAX_UNPACKED:,} bytes. {_UNPACK}"


def _read_all(opener: Opener, max_bytes: int, key: str) -> bytes:
    with opener() as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise too_large(key, max_bytes)
    return data


def _failed(key: str, error: InputError) -> SourceItem:
    """Return an item whose ``read`` raises an error."""

    def read() -> bytes:
        raise error

    return SourceItem(key, key, read)
