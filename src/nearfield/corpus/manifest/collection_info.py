"""The description of a collection: its definition, counts, and the sizes of its vector tables."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.features import table_from_dict
from nearfield.corpus.manifest.index_progress import read_index_progress
from nearfield.corpus.manifest.manifest import Manifest
from nearfield.errors import InputError
from nearfield.stores import Store


def collection_info(
    name: str, address: str, config: CollectionConfig, manifest: Manifest, store: Store
) -> dict[str, Any]:
    """Return the definition, counts, states, and sizes of vector tables of a collection, as JSON data."""
    tables = []
    for table in manifest.vector_tables():
        size = store.size(table_from_dict(table.described))
        tables.append({"feature": table.feature, "state": table.state, "bytes": size, **table.space})
    return {
        "name": name,
        "store": hide_password(address),
        "definition": {**config.to_dict(), "store": hide_password(config.store)},
        "states": manifest.states(),
        **manifest.counts(),
        "tables": tables,
        "indexing": _indexing(manifest),
    }


def _indexing(manifest: Manifest) -> dict[str, Any] | None:
    progress = read_index_progress(manifest.path.parent)
    return None if progress is None else {**msgspec.structs.asdict(progress), "share": progress.share}


def other_store(name: str, address: str, target: str) -> InputError:
    """Return the error of a definition that names another store than the one with the vectors."""
    return InputError(
        f"The vectors of collection {name!r} are in {hide_password(address)}. To move them: "
        f"nearfield collections move {name} {hide_password(target)}"
    )


def hide_password(address: str) -> str:
    """Return a store's address with asterisks in the place of its password."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", address)
