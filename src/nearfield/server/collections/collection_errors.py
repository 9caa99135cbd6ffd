"""Errors of the system, of SQLite and of databases as errors of collections, without paths of the server."""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from nearfield.errors import CollectionBusy, CollectionNotFound, MissingExtra, NearfieldError, StoreFailed
from nearfield.server.files.storage_errors import out_of_descriptors
from nearfield.server.logs import LOG


class NotInstalled(MissingExtra):
    """A request needs a library of an extra that the server lacks."""

    status = 501
    code = "not_installed"


#: Error codes of SQLite that mean that another connection has a lock.
_LOCKED = ("SQLITE_BUSY", "SQLITE_LOCKED")


@contextmanager
def convert_collection_errors(
    name: str, home: Path | None, version: tuple[int, int] | None = None, dropping: Container[str] = ()
) -> Iterator[None]:
    """Convert errors of a collection's files and database in a block; their own messages are logged.

    Args:
        name: the collection; empty if the block uses no single one.
        home: folder of the collections.
        version: what ``collection_version`` returned when the collection was opened.
        dropping: the names of the collections that are being dropped now.

    Raises:
        CollectionNotFound: the collection was dropped in the block.
        CollectionBusy: it was dropped and created again, or another process has locked its manifest for long.
        StoreFailed: any other failure.
    """
    from nearfield.corpus.manifest.manifest import ManifestDamaged

    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, NearfieldError) and not isinstance(error, (StoreFailed, ManifestDamaged)):
            raise
        current = collection_version(home, name) if name else (0, 0)
        if version is not None and (version != current or name in dropping):
            raise _changed(name, exists=any(current) and name not in dropping) from error
        if isinstance(error, sqlite3.Error) and str(getattr(error, "sqlite_errorname", "")).startswith(_LOCKED):
            raise CollectionBusy(
                f"Collection {name!r} is being written by another process. Try again later."
            ) from error
        if not isinstance(error, (NearfieldError, OSError, sqlite3.Error)):
            raise
        if version is None and name and not any(current):
            raise _changed(name, exists=False) from error
        LOG.error("collection %r failed: %s", name, error)
        if not isinstance(error, NearfieldError) and out_of_descriptors():
            raise StoreFailed("The server has too many files and connections open. Try again in a moment.") from error
        what = f"collection {name!r}" if name else "the collections"
        raise StoreFailed(f"The server cannot use the files or the database of {what}; see its log.") from error


def collection_version(home: Path | None, name: str) -> tuple[int, int]:
    """Return what distinguishes a collection from another one of its name; zeros if it does not exist."""
    from nearfield.corpus.directory import CollectionDirectory

    return CollectionDirectory.from_name(name, home).stamp()


def _changed(name: str, *, exists: bool) -> NearfieldError:
    if exists:
        return CollectionBusy(f"Collection {name!r} was dropped and created again just now. Send the request again.")
    return CollectionNotFound(f"Collection {name!r} was dropped.", param="collection")
