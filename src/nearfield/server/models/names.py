"""Names of models: full ids, short names, aliases of settings and catalogue, and patterns of ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from nearfield import catalog
from nearfield.hub import existing_path, is_path
from nearfield.server.models.model_entry import ModelEntry

#: Maximum characters of the name of a model or prompt; a longer one is not looked up.
MAX_NAME_LENGTH = 512


def is_pattern(name: str) -> bool:
    """Return whether a name is a pattern such as ``BAAI/*``."""
    return any(mark in name for mark in "*?[")


def full_id(name: str) -> str:
    """Return the full id of a name in the catalogue, or the name itself."""
    entry = catalog.find_unless_folder(name)
    return entry.id if entry is not None else name


def matches_pattern(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a pattern allows a name. Patterns match ids of the Hub and the catalogue, never local folders."""
    # Without patterns, and for paths, nothing that a client sends is looked for on the disk.
    if not patterns or is_path(name) or name.startswith("\\"):
        return False
    entry = catalog.find_unless_folder(name)
    if entry is None and (name.count("/") != 1 or existing_path(name) is not None):
        return False
    known = entry.id if entry is not None else name
    return any(fnmatchcase(known.lower(), pattern.lower()) for pattern in patterns if is_pattern(pattern))


def index_names(entries: Iterable[ModelEntry]) -> dict[str, ModelEntry]:
    """Return entries by all their names, in lower case. An ambiguous short name is left out; full ids never are."""
    entries = tuple(entries)
    owners: dict[str, set[ModelEntry]] = {}
    for entry in entries:
        for name in _names_of(entry):
            owners.setdefault(name.lower(), set()).add(entry)
    index = {name: next(iter(owned)) for name, owned in owners.items() if len(owned) == 1}
    return index | {entry.name.lower(): entry for entry in entries}


def _names_of(entry: ModelEntry) -> Iterator[str]:
    yield entry.loader_name
    yield entry.name.rpartition("/")[2]
    yield from entry.aliases
    known = catalog.find_by_id(entry.name) if not entry.pinned else None
    if known is not None:
        yield from known.names
