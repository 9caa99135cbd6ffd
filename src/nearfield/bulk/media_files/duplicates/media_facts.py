"""`MediaFacts`: what is known of the content of a file, read by threads and stored for the next run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from nearfield.bulk.media_files.duplicates.folder_listing import ListedFile
from nearfield.bulk.media_files.duplicates.hash_cache import HashCache
from nearfield.bulk.media_files.read_ahead import read_ahead
from nearfield.bulk.media_files.suffixes import PICTURES
from nearfield.errors import InputError, MissingExtra, NearfieldError
from nearfield.media.copies.picture_hash import MIN_SIDE, hash_picture
from nearfield.media.copies.video_hash import hash_video
from nearfield.media.decoding import decode_file
from nearfield.media.files import open_regular_file
from nearfield.media.limits import DEFAULT_PICTURE_LIMITS, DEFAULT_VIDEO_LIMITS
from nearfield.media.video.video import Video

#: Rules of the values in the cache; a change of what they hold gets another number.
DIGEST_RULE, FACTS_RULE = "sha256", "facts 1"
#: Bytes that are hashed at a time, and a size that no file has.
_BLOCK, _ANY_SIZE = 1 << 20, 2**63 - 1
_THREADS = os.cpu_count() or 1
#: What reads the value of a file.
ReadValue = Callable[[ListedFile], bytes]


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What a file of a picture or video holds: pixels of the sides, seconds, and hashes of a picture or some frames.

    There is no hash of a picture of several frames or pages: it is more than what its first one looks like.
    """

    width: int
    height: int
    seconds: float = 0.0
    frames: tuple[bytes, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the facts as msgpack."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> MediaFacts:
        """Return the facts that ``to_bytes`` wrote."""
        return msgspec.msgpack.decode(data, type=cls)


@dataclass(frozen=True, slots=True)
class FileValue:
    """The value of a file, or why there is none."""

    file: ListedFile
    value: bytes = b""
    problem: str = ""
    is_cached: bool = False


def read_values(files: Iterable[ListedFile], rule: str, read: ReadValue, cache: HashCache) -> Iterator[FileValue]:
    """Yield the values of files, in order: from the cache, or read by threads and put there.

    Raises:
        MissingExtra: a package is not installed.
    """

    def read_one(item: FileValue) -> FileValue:
        return item if item.is_cached else _read_value(item.file, read)

    cached = ((file, cache.get(file, rule)) for file in files)
    items = (FileValue(file, value or b"", "", value is not None) for file, value in cached)
    for result in read_ahead(read_one, items, _THREADS):
        if result.value and not result.is_cached:
            cache.put(result.file, rule, result.value)
        yield result


def _read_value(file: ListedFile, read: ReadValue) -> FileValue:
    try:
        return FileValue(file, read(file))
    except MissingExtra:
        raise
    except (NearfieldError, OSError) as error:
        return FileValue(file, problem=str(error))


def read_digest(file: ListedFile) -> bytes:
    """Return the SHA-256 of a file's bytes.

    Raises:
        InputError: it cannot be read, or is another one than was listed.
    """
    digest = hashlib.sha256()
    with open_regular_file(file.path, _ANY_SIZE) as source:
        while part := source.read(_BLOCK):
            digest.update(part)
        require_unchanged(file, os.fstat(source.fileno()))
    return digest.digest()


def read_facts(file: ListedFile) -> bytes:
    """Return the facts of a picture or video, as bytes.

    Raises:
        InputError: it cannot be read or decoded, or is another one than was listed.
        MissingExtra: a package is not installed.
    """
    facts = _picture_facts(file) if file.kind == PICTURES else _video_facts(file)
    return facts.to_bytes()


def require_unchanged(file: ListedFile, status: os.stat_result) -> None:
    """Raise InputError if a file is another one than was listed."""
    if not file.is_same_state(status):
        raise InputError(f"{file.name} was changed while it was read: run the command again.")


def _picture_facts(file: ListedFile) -> MediaFacts:
    limits = DEFAULT_PICTURE_LIMITS
    with open_regular_file(file.path, limits.max_bytes) as source:
        data = source.read(limits.max_bytes + 1)
        require_unchanged(file, os.fstat(source.fileno()))
    picture = decode_file(data, limits, file.name, MIN_SIDE)
    header = picture.header
    width, height = (picture.width, picture.height) if header is None else (header.width, header.height)
    frames = () if picture.frames > 1 else (hash_picture(picture).to_bytes(),)
    return MediaFacts(width, height, 0.0, frames)


def _video_facts(file: ListedFile) -> MediaFacts:
    with open_regular_file(file.path, DEFAULT_VIDEO_LIMITS.max_bytes) as source:
        require_unchanged(file, os.fstat(source.fileno()))
        # A path that is UTF-8 whatever the name is, of the file that was opened.
        video = Video(path=_path_of(source, file.path))
        try:
            header = video.header()
            frames = tuple(frame.to_bytes() for frame in hash_video(video, header.seconds).frames)
        except InputError as error:
            raise InputError(str(error).replace(video.name, file.name)) from error
    require_unchanged(file, file.path.lstat())
    return MediaFacts(header.width, header.height, header.seconds, frames)


def _path_of(source: BinaryIO, path: Path) -> Path:
    try:
        os.fsencode(path).decode()
    except UnicodeDecodeError:
        return Path(f"/dev/fd/{source.fileno()}")
    return path
