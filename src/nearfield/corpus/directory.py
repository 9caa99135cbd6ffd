"""Folder: where a collection is kept on disk: its manifests, which of them counts, and the lock of whoever writes."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.errors import CollectionBusy, InputError
from nearfield.fileio.atomic import write_atomic
from nearfield.fileio.locks import reentrant_lock

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
#: A collection's first manifest.
FIRST = "manifest-1.db"
_CURRENT, _LOCK = "current", "lock"


def home() -> Path:
    """Return the folder of collections: ``NEARFIELD_COLLECTIONS``, else ``~/.local/share/nearfield/collections``."""
    told = os.environ.get("NEARFIELD_COLLECTIONS")
    return Path(told or Path.home() / ".local" / "share" / "nearfield" / "collections").expanduser().absolute()


def list_collections(place: Path | None = None) -> list[str]:
    """Return the names of all collections, sorted."""
    folder = place or home()
    return sorted(path.parent.name for path in folder.glob(f"*/{_CURRENT}")) if folder.is_dir() else []


def is_collection(names: Collection[str]) -> bool:
    """Say by what is in a folder whether a collection is kept there, whose own files are no documents."""
    return {_CURRENT, _LOCK} <= {*names} and any(name.startswith("manifest-") for name in names)


@dataclass(frozen=True)
class CollectionDirectory:
    """The folder of one collection, whether there is one yet or not."""

    name: str
    path: Path

    @classmethod
    def of(cls, name: str, place: Path | None = None) -> CollectionDirectory:
        """Return the folder of a name.

        Raises:
            InputError: no collection can have that name.
        """
        if not NAME.fullmatch(name):
            raise InputError(
                f"A collection's name is 1 to 63 of a-z, 0-9, - and _, after a letter or digit: not {name!r}.",
                param="name",
            )
        return cls(name, (place or home()) / name)

    @property
    def taken(self) -> bool:
        """Whether a collection is there."""
        return (self.path / _CURRENT).exists()

    @property
    def address(self) -> str:
        """Where vectors lie unless the definition says otherwise."""
        return f"lancedb://{self.path / 'vectors'}"

    def alone(self) -> AbstractContextManager[None]:
        """Hold the collection's write lock during a block; the thread that holds it may take it again.

        Raises:
            CollectionBusy: another process or thread has it.
        """
        return reentrant_lock(self.path / _LOCK, self._busy)

    def _busy(self) -> CollectionBusy:
        return CollectionBusy(
            f"Collection {self.name!r} is being written by another process or request: wait for its end."
        )

    def stamp(self) -> tuple[int, int]:
        """Return what tells a collection from another one of its name; zeros where it is gone."""
        try:
            found = (self.path / _LOCK).stat()
        except OSError:
            return (0, 0)
        return found.st_ino, found.st_ctime_ns  # a number alone may be given to the next file

    def remove(self) -> None:
        """Remove all of it; the collection is gone before its files are."""
        (self.path / _CURRENT).unlink(missing_ok=True)
        shutil.rmtree(self.path)

    # -- manifests ---------------------------------------------------------------------------------------------

    def current(self) -> str:
        """Return the name of the manifest that counts.

        Raises:
            FileNotFoundError: the collection was dropped.
        """
        return (self.path / _CURRENT).read_text(encoding="utf-8").strip()

    def point(self, name: str) -> None:
        """Let the collection be what a manifest says, in one step."""
        write_atomic(self.path / _CURRENT, name, durable=True)

    def manifests(self) -> Iterator[Path]:
        """Yield its manifests: the one that counts, and those that were begun beside it."""
        yield from self.path.glob("manifest-*.db")


def following(name: str) -> str:
    """Return the name of the manifest that replaces another."""
    return f"manifest-{_number(name) + 1}.db"


def older(name: str, than: str) -> bool:
    """Say whether a manifest was replaced by another, or by one before that."""
    return _number(name) < _number(than)


def _number(name: str) -> int:
    return int(re.sub(r"\D", "", name))


def begin(path: Path, config: CollectionConfig, *, uid: str) -> Manifest:
    """Make an empty manifest for a definition."""
    made = Manifest(path, language=config.language)
    made.set("config", config.told())
    made.set("uid", uid)
    return made


def discard(path: Path) -> None:
    """Remove a manifest that is closed."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
