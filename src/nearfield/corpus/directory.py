"""The directory of a collection: its manifests, the file that names the current one, and the write lock."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from nearfield import stores
from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.features import check_models
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.errors import CollectionBusy, CollectionNotFound, InputError, NearfieldError
from nearfield.fileio.atomic import write_atomic
from nearfield.fileio.disk_space import explain_full_disk
from nearfield.fileio.locks import reentrant_lock

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
#: The first manifest of a collection.
FIRST_MANIFEST = "manifest-1.db"
#: Tries to remove a directory, and seconds between them.
_REMOVALS, _REMOVAL_PAUSE = 5, 0.1
_CURRENT, _LOCK = "current", "lock"


def home() -> Path:
    """Return the folder of all collections: ``NEARFIELD_COLLECTIONS``, or ``~/.local/share/nearfield/collections``."""
    configured = os.environ.get("NEARFIELD_COLLECTIONS")
    return Path(configured or Path.home() / ".local" / "share" / "nearfield" / "collections").expanduser().absolute()


def list_collections(place: Path | None = None) -> list[str]:
    """Return the names of all collections, sorted."""
    folder = place or home()
    return sorted(path.parent.name for path in folder.glob(f"*/{_CURRENT}")) if folder.is_dir() else []


def is_collection(names: Collection[str]) -> bool:
    """Return whether a folder with these entries is the directory of a collection."""
    return {_CURRENT, _LOCK} <= {*names} and any(name.startswith("manifest-") for name in names)


@dataclass(frozen=True)
class CollectionDirectory:
    """The directory of one collection. It need not exist yet."""

    name: str
    path: Path

    @classmethod
    def from_name(cls, name: str, place: Path | None = None) -> CollectionDirectory:
        """Return the directory for a collection's name.

        Raises:
            InputError: the name is not valid.
        """
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise InputError(
                f"{name!r} is not a valid name of a collection: a name is 1 to 63 characters of a-z, 0-9, - and _, and "
                "begins with a letter or digit.",
                param="name",
            )
        return cls(name, (place or home()) / name)

    @property
    def exists(self) -> bool:
        """Whether the collection exists."""
        return (self.path / _CURRENT).exists()

    @property
    def address(self) -> str:
        """The address of the default store."""
        return f"lancedb://{self.path / 'vectors'}"

    def write_lock(self) -> AbstractContextManager[None]:
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
        """Return the identity of the collection; one that is created later under the same name has another.

        Zeros mean that the collection does not exist.
        """
        try:
            status = (self.path / _LOCK).stat()
        except OSError:
            return (0, 0)
        return status.st_ino, status.st_ctime_ns  # the system may reuse an inode number

    def remove(self) -> None:
        """Remove the directory. The collection stops to exist first, so that a killed removal leaves no half of it.

        The lock is removed last: until then, no other collection of this name can be created.
        """
        (self.path / _CURRENT).unlink(missing_ok=True)
        for tries_left in reversed(range(_REMOVALS)):
            for path in self.path.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                elif path.name != _LOCK:
                    path.unlink(missing_ok=True)
            if tries_left and any(path.name != _LOCK for path in self.path.iterdir()):
                time.sleep(_REMOVAL_PAUSE)  # a request that still uses the collection has just written a file
        (self.path / _LOCK).unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    # -- manifests ---------------------------------------------------------------------------------------------

    def current_manifest(self) -> str:
        """Return the file name of the current manifest.

        Raises:
            CollectionNotFound: the collection was dropped.
        """
        try:
            return (self.path / _CURRENT).read_text(encoding="utf-8").strip()
        except FileNotFoundError as error:
            raise self.dropped() from error

    def dropped(self) -> CollectionNotFound:
        """Return the error for a collection that was dropped while it was used."""
        return CollectionNotFound(f"Collection {self.name!r} was dropped.", param="collection")

    def set_current_manifest(self, name: str) -> None:
        """Make another manifest the current one, atomically."""
        write_atomic(self.path / _CURRENT, name, durable=True)

    def manifests(self) -> Iterator[Path]:
        """Yield all manifests: the current one, and those that a rebuild has started or replaced."""
        yield from self.path.glob("manifest-*.db")


def create_collection(folder: CollectionDirectory, config: CollectionConfig) -> None:
    """Create the directory of an empty collection.

    Raises:
        InputError: the collection exists, there is no such store, or a model cannot read what its feature reads.
    """
    _check_new(folder)
    check_models(config)
    is_new = not folder.path.exists()
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        with explain_full_disk(folder.path), folder.write_lock():
            _check_new(folder)  # another process may have created it just now
            for path in folder.manifests():
                delete_manifest(path)  # of a removal that was killed
            # First, so that an unreachable store leaves no empty collection.
            stores.connect(config.store or folder.address).close()
            path = folder.path / FIRST_MANIFEST
            create_manifest(path, config, uid=secrets.token_hex(4)).close()
            folder.set_current_manifest(path.name)
    except FileNotFoundError as error:
        if folder.path.exists():
            raise
        raise CollectionBusy(f"Collection {folder.name!r} is being dropped: try again.") from error
    except CollectionBusy:  # another process is creating or dropping it
        raise
    except NearfieldError:
        if is_new and not folder.exists:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


def _check_new(folder: CollectionDirectory) -> None:
    if folder.exists:
        raise InputError(f"Collection {folder.name!r} exists already. Open it, or drop it first.", param="name")


def next_manifest(name: str) -> str:
    """Return the file name of the manifest after another one."""
    return f"manifest-{_number(name) + 1}.db"


def is_older(name: str, other: str) -> bool:
    """Return whether a manifest was created before another."""
    return _number(name) < _number(other)


def _number(name: str) -> int:
    return int(re.sub(r"\D", "", name))


def create_manifest(path: Path, config: CollectionConfig, *, uid: str) -> Manifest:
    """Create an empty manifest for a definition."""
    manifest = Manifest(path, language=config.language)
    manifest.set("config", config.to_dict())
    manifest.set("uid", uid)
    return manifest


def delete_manifest(path: Path) -> None:
    """Delete the files of a closed manifest."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
