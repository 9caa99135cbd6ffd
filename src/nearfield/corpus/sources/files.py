"""Files: a file, a folder with all that is in it, or a glob."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from nearfield.corpus import extractors
from nearfield.corpus.directory import is_collection
from nearfield.corpus.document import SourceItem
from nearfield.corpus.sources import TABLES, Source
from nearfield.corpus.sources.globs import Globs
from nearfield.errors import InputError

#: Bytes from which on a file is not read.
LARGEST = 2**28
#: Folders that hold others' work, and files that programs wrote; all that is hidden is left out too.
_FOLDERS = (
    "node_modules bower_components __pycache__ site-packages venv CVS "
    ".git .hg .svn .venv .tox .nox .mypy_cache .ruff_cache .pytest_cache .hypothesis .eggs .idea .ipynb_checkpoints"
)
_WRITTEN = "*.min.js *.min.css package-lock.json npm-shrinkwrap.json pnpm-lock.yaml *.egg-info/ ~$*"
_ALWAYS = Globs([*(f"{name}/" for name in _FOLDERS.split()), *_WRITTEN.split()])
#: Files left out that are named.
_NAMED = 10_000
_MAGIC = "*?["


class FileSource(Source):
    """Files of known types. Keys are paths relative to the folder, with forward slashes, in order.

    ``include`` and ``exclude`` are patterns as in .gitignore files. ``largest`` is in bytes. Hidden files are taken
    with ``hidden``. Within a folder, links to files in it are followed, other links are not; tables are left to their
    own source.
    """

    kind = "files"

    def __init__(
        self,
        location: str,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        largest: int = LARGEST,
        hidden: bool = False,
    ) -> None:
        options = {"include": _texts("include", include), "exclude": _texts("exclude", exclude)}
        path = os.path.abspath(Path(location).expanduser())  # noqa: PTH100 - links stay links
        super().__init__(path, **options, largest=largest, hidden=hidden)
        self._path, pattern = _split(Path(path))
        self._glob, self._include, self._exclude = Globs(pattern), Globs(include), Globs(exclude)
        self._largest, self._hidden = largest, hidden
        self.skipped: list[tuple[str, str]] = []
        self._unread: list[str] = []

    def items(self) -> Iterator[SourceItem]:
        """Yield the files of known types; the others are named in ``skipped``.

        Raises:
            InputError: there is nothing at the location, or a folder cannot be listed; that is told after all others.
        """
        self.skipped, self._unread = [], []
        if self._path.is_file():
            yield self._single()
            return
        if not self._path.is_dir():
            raise InputError(f"There is no file or folder {self._path}.", param="location")
        yield from self._walk()
        if self._unread:
            raise InputError(f"Not listed: {'; '.join(self._unread[:5])}. What is there was left as it is.")

    def watch(self) -> list[str]:
        """Return the file, or the folder."""
        return [str(self._path)]

    def _single(self) -> SourceItem:
        if self._path.suffix.lower() in TABLES:
            raise InputError(f"{self._path} is a table: name it as a source of kind 'table'.", param="location")
        return self._item(self._path, self._path.name, self._path.stat())

    def _walk(self) -> Iterator[SourceItem]:
        """Yield what is in the folder and those below it, however deep."""
        open_ones = [("", iter(self._entries(self._path, "")))]
        while open_ones:
            above, rest = open_ones[-1]
            entry = next(rest, None)
            if entry is None:
                open_ones.pop()
                continue
            key = above + entry.name
            if entry.is_dir(follow_symlinks=False):
                if self._enters(key) and not (self.without and Path(entry.path).resolve() in self.without):
                    open_ones.append((key + "/", iter(self._entries(Path(entry.path), key))))
            elif self._wants(key):
                yield from self._file(entry, _readable(key))

    def _entries(self, folder: Path, above: str) -> list[os.DirEntry[str]]:
        """Return what is in a folder, such that all keys come in order."""
        try:
            with os.scandir(folder) as found:
                entries = [each for each in found if self._hidden or not each.name.startswith(".")]
        except OSError as error:
            if not above or not isinstance(error, FileNotFoundError):  # else it was removed meanwhile
                self._unread.append(f"{folder} ({error.strerror})")
            return []
        if is_collection([each.name for each in entries]):
            self.skipped.append((above, "a collection of Nearfield's, not documents"))
            return []
        return sorted(entries, key=lambda each: each.name + ("/" if each.is_dir(follow_symlinks=False) else ""))

    def _file(self, entry: os.DirEntry[str], key: str) -> Iterator[SourceItem]:
        """Yield a file if it is one to read; where not, note why."""
        try:
            reason = self._why_not(entry, key)
            if not reason:
                yield self._item(Path(entry.path), key, entry.stat())
            elif len(self.skipped) < _NAMED:
                self.skipped.append((key, reason))
        except FileNotFoundError:  # removed while it was looked at
            return
        except OSError:  # told by whoever reads it
            yield SourceItem(key, key, partial(_read, Path(entry.path), self._largest))

    def _enters(self, key: str) -> bool:
        return not _ALWAYS.match(key, folder=True) and not self._exclude.match(key, folder=True)

    def _wants(self, key: str) -> bool:
        """Return whether the patterns let a file through."""
        if _ALWAYS.match(key) or self._exclude.match(key):
            return False
        return all(not globs or globs.covers(key) for globs in (self._glob, self._include))

    def _why_not(self, entry: os.DirEntry[str], key: str) -> str:
        if entry.is_symlink():
            target = Path(os.path.realpath(entry.path))
            if not target.is_relative_to(os.path.realpath(self._path)):
                return "a link that leaves the folder"
            if target.is_dir():
                return "a link to a folder, whose files are found where they lie"
            if not target.exists():
                return "a link that leads nowhere"
        if not entry.is_file():
            return "no regular file"
        suffix = PurePosixPath(key).suffix.lower()
        if suffix in TABLES:
            return "a table: name it as a source of its own, of kind 'table'"
        if extractors.kind_of(key) is None:
            return f"no extractor for {suffix}" if suffix else "no extractor for a name without suffix"
        return ""

    def _item(self, path: Path, key: str, found: os.stat_result) -> SourceItem:
        stamp = f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_ino}"
        return SourceItem(key, key, partial(_read, path, self._largest), stamp)


def _read(path: Path, largest: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise InputError(f"{path}: larger than {largest:,} bytes. Raise 'largest', or split the file.")
    return data


def _split(path: Path) -> tuple[Path, list[str]]:
    """Return a location's folder, and the pattern below it where the location is a glob."""
    if path.exists() or not any(letter in str(path) for letter in _MAGIC):
        return path, []
    first = next(at for at, part in enumerate(path.parts) if any(letter in part for letter in _MAGIC))
    return Path(*path.parts[:first]), ["/" + "/".join(path.parts[first:])]


def _readable(key: str) -> str:
    """Return a name as text, also one that is not UTF-8."""
    return key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _texts(option: str, value: Sequence[str]) -> list[str]:
    if isinstance(value, str) or not all(isinstance(each, str) for each in value):
        raise InputError(f"{option}: a list of patterns, not {value!r}.", param=option)
    return list(value)
