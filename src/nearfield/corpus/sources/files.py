"""Documents from a file, a folder with everything below it, or a glob."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from nearfield.corpus import extractors
from nearfield.corpus.directory import is_collection
from nearfield.corpus.document import Document, MediaContent, NamedBytes, SourceItem, StoredFile, file_stamp
from nearfield.corpus.extractors.media.kinds import FILES_WITHOUT_TEXT, media_type
from nearfield.corpus.extractors.text_encoding import require_encoding, to_utf8
from nearfield.corpus.sources import TABLES, Source, slack_export
from nearfield.corpus.sources.archives.archive_listing import SEPARATOR, ArchiveListing, find_member, is_archive
from nearfield.corpus.sources.file_parts import FilePart, part_item, split_file
from nearfield.errors import InputError, MissingExtra
from nearfield.media.files import file_digest

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

#: Maximum size of a file in bytes.
MAX_BYTES = 2**28
#: Folders that programs write, and generated files; hidden files and folders are skipped too.
_SKIPPED_FOLDERS = (
    "node_modules bower_components __pycache__ site-packages venv CVS "
    ".git .hg .svn .venv .tox .nox .mypy_cache .ruff_cache .pytest_cache .hypothesis .eggs .idea .ipynb_checkpoints"
)
_SKIPPED_FILES = "*.min.js *.min.css package-lock.json npm-shrinkwrap.json pnpm-lock.yaml *.egg-info/ ~$*"
_SKIPPED = (*(f"{name}/" for name in _SKIPPED_FOLDERS.split()), *_SKIPPED_FILES.split())
#: Maximum number of skipped files that are recorded, and of folders that an error names.
_MAX_SKIPPED, _MAX_NAMED = 10_000, 5
_WILDCARDS = "*?["
_RECORDINGS = (extractors.SOUND, extractors.VIDEO)
#: Maximum size of a sound or video, unless the source has another: it is never in memory as a whole.
MAX_RECORDING_BYTES = 2**36
#: A byte of a name that is not UTF-8, in a key.
_ESCAPED_BYTE = re.compile(rb"\\x([89a-f][0-9a-f])")
#: Media types of texts, beside those that begin with "text/".
_TEXTS = ("application/json", "application/jsonl", "application/x-ndjson", "application/xml", "application/yaml")


class FileSource(Source):
    """Files of known types. Keys are paths relative to the folder, with forward slashes, in order.

    ``include`` and ``exclude`` are patterns as in .gitignore files. ``largest`` is the maximum size of a file in bytes.
    ``hidden`` includes hidden files. ``encoding`` is that of texts that are not UTF-8; None recognises it. Links to
    files inside the folder are followed, other links are not. Members of archives (zip and tar), messages of mailboxes,
    channels of Slack exports and groups of rows of large tables are documents. Parquet files are skipped: they are
    sources of kind ``table``.
    """

    kind = "files"

    def __init__(
        self,
        location: str,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        largest: int = MAX_BYTES,
        hidden: bool = False,
        encoding: str | None = None,
    ) -> None:
        options = {"include": _pattern_list("include", include), "exclude": _pattern_list("exclude", exclude)}
        path = os.path.abspath(Path(location).expanduser())  # noqa: PTH100 - links stay links
        stated = {} if encoding is None else {"encoding": require_encoding(encoding)}
        super().__init__(path, **options, largest=largest, hidden=hidden, **stated)
        self._path, glob = _split_glob(Path(path))
        #: A file must match one pattern of each list.
        self._required = [compile_patterns(patterns) for patterns in (glob, include) if any(map(str.strip, patterns))]
        self._excluded = compile_patterns(exclude)
        self._max_bytes, self._hidden, self._encoding = largest, hidden, encoding
        #: Parts of files, by path, with the stamp for which they are right.
        self._parts: dict[Path, tuple[str, list[FilePart] | None]] = {}
        self.skipped: list[tuple[str, str]] = []
        self._unlisted: list[str] = []

    @cached_property
    def _always_excluded(self) -> GitIgnoreSpec:
        return compile_patterns(_SKIPPED)

    def items(self) -> Iterator[SourceItem]:
        """Yield the files of known types; others are recorded in ``skipped``.

        Raises:
            InputError: the location does not exist, or a folder cannot be listed (raised after all other files).
        """
        self.skipped, self._unlisted = [], []
        if self._path.is_file():
            yield from self._single_file()
            return
        if not self._path.is_dir():
            raise InputError(f"There is no file or folder {self._path}.", param="location")
        yield from self._walk()
        if self._unlisted:
            folders = "; ".join(self._unlisted[:_MAX_NAMED])
            raise InputError(f"Cannot list: {folders}. Documents from there were not changed.")

    def watch(self) -> list[str]:
        """Return the file or folder."""
        return [str(self._path)]

    def file_of(self, key: str) -> SourceItem | None:
        """Return the file or the member of an archive with a key, as it is now; None if the folder has none."""
        path = self._path_of(key)
        if path is not None:
            return SourceItem(key, key, path.read_bytes, _stamp(path.stat()), path=path)
        archive, _, member = key.partition(SEPARATOR)
        path = self._path_of(archive) if member else None
        return None if path is None else find_member(path, key, self._max_bytes)

    def _path_of(self, key: str) -> Path | None:
        """Return the path of a file by its key; None if it is no file, or outside of the folder."""
        if self._path.is_file():
            return self._path if key == self._path.name else None
        paths = (self._path / key, self._path / _encoded_name(key))
        return next((path for path in paths if self._is_inside(path) and path.is_file()), None)

    def _is_inside(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._path))

    def _single_file(self) -> Iterator[SourceItem]:
        if self._path.suffix.lower() in TABLES:
            raise InputError(f"{self._path} is a table: add it as a source of kind 'table'.", param="location")
        yield from self._documents(self._path, self._path.name, self._path.stat())

    def _walk(self) -> Iterator[SourceItem]:
        """Yield the files of the folder tree, of any depth."""
        stack = [("", self._folder(self._path, ""))]
        while stack:
            prefix, entries = stack[-1]
            entry = next(entries, None)
            if entry is None:
                stack.pop()
                continue
            if isinstance(entry, SourceItem):
                yield entry
                continue
            key = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                if not self._is_excluded(f"{key}/") and not self._is_own(entry):
                    stack.append((key + "/", self._folder(Path(entry.path), key)))
            elif not self._is_excluded(key) and all(patterns.match_file(key) for patterns in self._required):
                yield from self._file(entry, _printable(key))

    def _folder(self, folder: Path, key: str) -> Iterator[os.DirEntry[str] | SourceItem]:
        """Yield the entries of a folder; of a Slack export its channels."""
        entries = self._entries(folder, key)
        if not slack_export.is_export([entry.name for entry in entries]):
            yield from entries
            return
        prefix, stamps = f"{_printable(key)}/" if key else "", _stamps(entries)
        channels = {name.partition("/")[0] for name in stamps if "/" in name and slack_export.is_part(name)}
        for item in slack_export.channel_items(prefix, stamps, partial(_read_below, folder), self._max_bytes):
            if not self._is_excluded(item.key) and all(patterns.match_file(item.key) for patterns in self._required):
                yield item
        if not channels:
            yield from entries
            return
        for entry in entries:
            if entry.name not in channels and not slack_export.is_part(entry.name):
                yield entry
        for name in stamps:
            if name.partition("/")[0] in channels and not slack_export.is_part(name):
                self._record_skipped(f"{prefix}{name}", "beside the messages of a Slack export")

    def _entries(self, folder: Path, key: str) -> list[os.DirEntry[str]]:
        """Return the entries of a folder, sorted so that all keys are in order."""
        try:
            with os.scandir(folder) as scan:
                entries = [entry for entry in scan if self._hidden or not entry.name.startswith(".")]
        except OSError as error:
            if not key or not isinstance(error, FileNotFoundError):  # else it was just removed
                self._unlisted.append(f"{folder} ({error.strerror})")
            return []
        if is_collection([entry.name for entry in entries]):
            self.skipped.append((key, "a collection of Nearfield's, not documents"))
            return []
        return sorted(entries, key=lambda entry: entry.name + ("/" if entry.is_dir(follow_symlinks=False) else ""))

    def _is_own(self, entry: os.DirEntry[str]) -> bool:
        return bool(self.without) and Path(entry.path).resolve() in self.without

    def _is_excluded(self, key: str) -> bool:
        """Return whether patterns exclude a file, or a folder (its key ends with a slash)."""
        return self._always_excluded.match_file(key) or self._excluded.match_file(key)

    def _file(self, entry: os.DirEntry[str], key: str) -> Iterator[SourceItem]:
        """Yield a file, or record why it is skipped."""
        try:
            reason = self._skip_reason(entry, key)
            if not reason:
                yield from self._documents(Path(entry.path), key, entry.stat())
            else:
                self._record_skipped(key, reason)
        except FileNotFoundError:  # it was just removed
            return
        except OSError:  # reading it raises the error again, for the report
            yield SourceItem(key, key, partial(_read, Path(entry.path), self._max_bytes))

    def _record_skipped(self, key: str, reason: str) -> None:
        if len(self.skipped) < _MAX_SKIPPED:
            self.skipped.append((key, reason))

    def _skip_reason(self, entry: os.DirEntry[str], key: str) -> str:
        """Return why a file is skipped; an empty string if it is not."""
        if entry.is_symlink():
            target = Path(os.path.realpath(entry.path))
            if not target.is_relative_to(os.path.realpath(self._path)):
                return "a link that leaves the folder"
            if target.is_dir():
                return "a link to a folder, whose files are listed at their own paths"
            if not target.exists():
                return "a broken link"
        if not entry.is_file():
            return "not a regular file"
        return self._type_reason(key)

    def _documents(self, path: Path, key: str, status: os.stat_result) -> Iterator[SourceItem]:
        """Yield the document of a file; of an archive or mailbox all its documents."""
        stamp = _stamp(status)
        stamp = stamp if self._encoding is None else f"{stamp}-{self._encoding}"
        if is_archive(path.name):
            listing = ArchiveListing(self._member_reason, self._record_skipped, self._max_bytes)
            for item in listing.items(path, key, stamp):
                yield self._decoded(item)
            return
        if self._is_recording(key):
            yield SourceItem(key, key, partial(_read_stored, path, self._max_bytes), stamp, path=path)
            return
        if (media := media_type(key)) in FILES_WITHOUT_TEXT and media in self.media:
            yield SourceItem(key, key, partial(_read_media, path, key, media), stamp)
            return
        known, parts = self._parts.get(path, ("", None))
        if known != stamp:
            parts = split_file(path, status.st_size)
            self._parts[path] = stamp, parts
        if parts is None:
            yield self._decoded(SourceItem(key, key, partial(_read, path, self._max_bytes), stamp, path=path))
            return
        for part in parts:
            yield self._decoded(part_item(path, key, stamp, part, self._max_bytes))

    def _is_recording(self, key: str) -> bool:
        return self.recordings and extractors.kind_of(key) in _RECORDINGS

    def _member_reason(self, key: str) -> str | None:
        """Return why a member of an archive is skipped; an empty string if it is not, None if patterns exclude it."""
        parts = PurePosixPath(key).parts
        if (not self._hidden and any(part.startswith(".") for part in parts)) or self._is_excluded(key):
            return None
        return self._type_reason(key)

    def _type_reason(self, key: str) -> str:
        """Return why a file of this name is skipped; an empty string if its type is known."""
        suffix, kind = PurePosixPath(key).suffix.lower(), extractors.kind_of(key)
        media = media_type(key)
        if kind == extractors.PICTURE and not self.pictures and media not in self.media:
            return "a picture: its text is read with OCR, if the collection has 'ocr = true' (--ocr)"
        if kind in _RECORDINGS and not self.recordings and media not in self.media:
            return f"no extractor for {suffix}"
        if is_archive(key) or kind is not None or media in self.media:
            return ""
        if suffix in TABLES:
            return "a table: add it as a source of kind 'table'"
        return f"no extractor for {suffix}" if suffix else "no extractor for a name without a suffix"

    def _decoded(self, item: SourceItem) -> SourceItem:
        """Return an item whose text is decoded with the stated encoding, if there is one and it is a text."""
        media = extractors.media_type_of(item.name)
        if self._encoding is None or not (media.startswith("text/") or media in _TEXTS):
            return item
        return replace(item, read=partial(_read_decoded, item, self._encoding), path=None)


def _read_decoded(item: SourceItem, encoding: str) -> bytes | Document:
    data = item.read()
    if isinstance(data, Document):
        return data
    text = to_utf8(data, encoding)
    return NamedBytes(text, data.name) if isinstance(data, NamedBytes) else text


def _stamp(status: os.stat_result) -> str:
    """Return what changes when a file changes: size and time first."""
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"


def _stamps(entries: Sequence[os.DirEntry[str]]) -> dict[str, str]:
    """Return the files of a folder and of its folders, by their paths in it, with what changes when they change."""
    stamps = {}
    for entry in entries:
        below = [entry]
        if entry.is_dir(follow_symlinks=False):
            with os.scandir(entry.path) as scan:
                below = list(scan)
        for file in below:
            if file.is_file(follow_symlinks=False):
                status = file.stat()
                name = file.name if file is entry else f"{entry.name}/{file.name}"
                stamps[name] = f"{status.st_size}-{status.st_mtime_ns}"
    return stamps


def _read_below(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()


def compile_patterns(patterns: Sequence[str]) -> GitIgnoreSpec:
    """Return a matcher of patterns as in .gitignore files. Paths of folders must end with a slash.

    Raises:
        InputError: a pattern is not valid.
        MissingExtra: pathspec is not installed.
    """
    try:
        from pathspec import GitIgnoreSpec
    except ModuleNotFoundError as error:
        raise MissingExtra("Listing files needs pathspec: pip install 'nearfield[corpus]'") from error
    # ``a/**`` matches what is in the folder a, but pathspec applies it to the folder itself: ``a/*`` has git's meaning.
    lines = [f"{pattern[:-3]}/*" if pattern.endswith("/**") else pattern for pattern in patterns]
    for pattern, line in zip(patterns, lines, strict=True):
        try:
            GitIgnoreSpec.from_lines([line])
        except (ValueError, re.error) as error:
            raise InputError(f"{pattern!r} is not a valid pattern: {error}.", param="pattern") from error
    return GitIgnoreSpec.from_lines(lines)


def _read(path: Path, max_bytes: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise InputError(f"{path}: larger than {max_bytes:,} bytes. Increase 'largest', or split the file.")
    return data


def _read_media(path: Path, key: str, media: str) -> Document:
    """Return a sound or video without its bytes: its file is read again when it is decoded."""
    stamp = file_stamp(path)
    with path.open("rb") as file:
        digest = file_digest(file).hex()
    return Document("", media=MediaContent(key, media, digest, path=str(path), stamp=stamp))


def _read_stored(path: Path, max_bytes: int) -> StoredFile:
    max_bytes = MAX_RECORDING_BYTES if max_bytes == MAX_BYTES else max_bytes
    if path.stat().st_size > max_bytes:
        raise InputError(f"{path}: larger than {max_bytes:,} bytes. Increase 'largest', or split the file.")
    return StoredFile.from_path(path)


def _split_glob(path: Path) -> tuple[Path, list[str]]:
    """Return the folder of a location, and the pattern below it if the location is a glob."""
    if path.exists() or not any(letter in str(path) for letter in _WILDCARDS):
        return path, []
    first = next(at for at, part in enumerate(path.parts) if any(letter in part for letter in _WILDCARDS))
    return Path(*path.parts[:first]), ["/" + "/".join(path.parts[first:])]


def _printable(key: str) -> str:
    """Return a name as valid Unicode, also if its bytes are not UTF-8."""
    return key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _encoded_name(key: str) -> str:
    """Return the name of a file whose bytes are not UTF-8, of which ``_printable`` returned the key."""
    return os.fsdecode(_ESCAPED_BYTE.sub(lambda match: bytes([int(match[1], 16)]), key.encode()))


def _pattern_list(option: str, value: Sequence[str]) -> list[str]:
    if isinstance(value, str) or not all(isinstance(pattern, str) for pattern in value):
        raise InputError(f"{option}: a list of patterns, not {value!r}.", param=option)
    return list(value)
