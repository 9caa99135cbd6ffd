"""Files of pictures, videos and sounds in folders, with what the file system says of each."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nearfield.bulk.media_files.media_row import to_unicode
from nearfield.bulk.media_files.suffixes import MEDIA_SUFFIXES
from nearfield.errors import InputError


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file as it was listed: ``kind`` is ``image``, ``video`` or ``audio``, ``modified`` in nanoseconds."""

    path: Path
    kind: str
    size: int
    modified: int
    device: int
    inode: int

    @property
    def name(self) -> str:
        """The path, with escapes for bytes that are not UTF-8."""
        return to_unicode(str(self.path))

    def is_same_state(self, status: os.stat_result) -> bool:
        """Return whether a file has not been changed or replaced since it was listed."""
        state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        return stat.S_ISREG(status.st_mode) and state == (self.device, self.inode, self.size, self.modified)


@dataclass
class FolderListing:
    """The files of folders in the order of their paths, folders and files that cannot be read, and links left out."""

    files: list[ListedFile] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    links: int = 0


def list_media_files(folders: Sequence[Path]) -> FolderListing:
    """Return the files of pictures, videos and sounds in folders, searched recursively.

    Names that begin with a dot or an underscore are skipped, as by ``nearfield embed``. Symbolic links are not
    followed, so that none leads in a circle or out of the folder.

    Raises:
        InputError: a folder does not exist, or is no folder.
    """
    listing = FolderListing()
    paths: set[tuple[Path, str]] = set()
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{to_unicode(str(folder))} is no folder.", param="folder")
        paths.update(_walk(folder, listing))
    seen: set[tuple[str, ...]] = set()
    for path, kind in sorted(paths):
        place = Path(os.path.abspath(path)).parts  # noqa: PTH100 - links stay links
        if place not in seen:
            seen.add(place)
            _add_file(path, kind, listing)
    return listing


def _walk(folder: Path, listing: FolderListing) -> Iterator[tuple[Path, str]]:
    """Yield path and kind of the files, by their names."""

    def add_problem(error: OSError) -> None:
        listing.problems[to_unicode(os.fsdecode(error.filename))] = f"The folder cannot be read: {error.strerror}."

    for parent, folders, names in os.walk(folder, onerror=add_problem):
        listing.links += sum(Path(parent, name).is_symlink() for name in folders)
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        for name in names:
            kind = _kind_of(name)
            if kind is not None:
                yield Path(parent, name), kind


def _kind_of(name: str) -> str | None:
    if name.startswith((".", "_")):
        return None
    return next((kind for kind, suffixes in MEDIA_SUFFIXES.items() if name.lower().endswith(suffixes)), None)


def _add_file(path: Path, kind: str, listing: FolderListing) -> None:
    try:
        status = path.lstat()
    except OSError as error:  # it has vanished
        listing.problems[to_unicode(str(path))] = f"It cannot be read: {error.strerror}."
        return
    if stat.S_ISLNK(status.st_mode):
        listing.links += 1
    elif stat.S_ISREG(status.st_mode):
        facts = (status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino)
        listing.files.append(ListedFile(path, kind, *facts))
    else:
        listing.problems[to_unicode(str(path))] = "It is no regular file."
