"""Files that clients have sent to a collection, which stores them in its folder, as a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from nearfield.corpus.document import SourceItem
from nearfield.corpus.sources.files import FileSource
from nearfield.errors import InputError

#: The folders of complete files and of their owners in that of a collection, and bytes of a name.
FOLDER, _OWNERS, _MAX_NAME = "uploads", "uploads-owners", 200
#: The owner of files where clients have no names.
_EVERYONE = "everyone"


class UploadOwners:
    """Which client has sent each file: an empty file of the same name in a folder of the client."""

    def __init__(self, collection: Path) -> None:
        self._files, self._folder = collection / FOLDER, collection / _OWNERS

    def set(self, name: str, owner: str) -> None:
        """Record the owner of a file, in place of an earlier one."""
        self.remove(name)
        folder = self._folder_of(owner)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / name).touch(mode=0o600)

    def remove(self, name: str) -> None:
        """Remove the owner of a file."""
        for folder in self._folder.glob("*"):
            (folder / name).unlink(missing_ok=True)

    def count_bytes(self, owner: str) -> int:
        """Return the bytes of the files of an owner."""
        return sum(_size(self._files / mark.name) for mark in self._folder_of(owner).glob("*"))

    def _folder_of(self, owner: str) -> Path:
        return self._folder / (owner or _EVERYONE)


class UploadSource(FileSource):
    """The uploaded files of a collection; ``only`` limits the listing to these names."""

    kind = "uploads"
    NAME = "upload:"

    def __init__(self, collection: Path, only: Sequence[str] | None = None) -> None:
        super().__init__(str(collection / FOLDER))
        self.folder = collection / FOLDER
        self.owners = UploadOwners(collection)
        self.whole = only is None
        self._only = only

    @property
    def name(self) -> str:
        """The name of the source, without the folder: clients read it."""
        return self.NAME

    def items(self) -> Iterator[SourceItem]:
        """Yield the files; none if there is no folder."""
        if self._only is None:
            yield from super().items() if self.folder.is_dir() else ()
            return
        for name in sorted(set(self._only)):
            path = self.folder / name
            if path.is_file():
                yield from self._documents(path, name, path.stat())

    def watch(self) -> list[str]:
        """Return nothing: what is uploaded is indexed at once."""
        return []

    def check_name(self, name: str) -> str:
        """Return the name under which a file is stored: the last part of a path.

        Raises:
            InputError: it is no name of a file, or the collection does not read files of its type.
        """
        last = name.replace("\\", "/").rpartition("/")[2].strip()
        try:
            size = len(last.encode())
        except UnicodeEncodeError:
            size = 0
        if not 0 < size <= _MAX_NAME or last.startswith(".") or not last.isprintable():
            raise InputError(
                f"The file needs a name of 1 to {_MAX_NAME} bytes that begins with no dot, such as film.mp4, not "
                f"{name[:100]!r}.",
                param="filename",
            )
        reason = "its name is that of a generated file" if self._is_excluded(last) else self._type_reason(last)
        if reason:
            raise InputError(f"{last}: the collection does not read it: {reason}.", param="filename")
        return last

    def remove(self, documents: Sequence[str]) -> None:
        """Delete the files of documents, by their ids."""
        prefix = f"{self.NAME}#"
        for document in documents:
            name = document.removeprefix(prefix)
            if document != name and "/" not in name and name not in (".", ".."):
                (self.folder / name).unlink(missing_ok=True)
                self.owners.remove(name)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it was just removed
        return 0
