"""Vector databases: the table of stores, and ``connect``, which opens one by its address.

One file per database: ``lancedb.py`` (the default), ``qdrant.py``, ``pgvector.py`` (PostgreSQL), ``chroma.py`` and
``memory.py``. To add a vector database, copy ``chroma.py``, implement the abstract methods of ``Store`` (``store.py``),
and add a row to ``REGISTRY``, its address schemes to ``SCHEMES``, and its extra to ``extras``. The page
``docs/architecture/stores.md`` lists all other places that a new store changes: packaging, tests and documentation.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import quote

from nearfield.arrays import Array
from nearfield.errors import InputError, nearest
from nearfield.registry import Registry
from nearfield.stores.store import Dtype, Kind, Metric, Quantization, Record, Store, StoreHit, TableSpec, Vector

__all__ = [
    "REGISTRY",
    "SCHEMES",
    "Array",
    "Dtype",
    "Kind",
    "Metric",
    "Quantization",
    "Record",
    "Store",
    "StoreHit",
    "TableSpec",
    "Vector",
    "connect",
]

REGISTRY = Registry(
    "store",
    {
        "memory": "nearfield.stores.memory:MemoryStore",
        "lancedb": "nearfield.stores.lancedb:LanceDbStore",
        "qdrant": "nearfield.stores.qdrant:QdrantStore",
        "pgvector": "nearfield.stores.pgvector:PgVectorStore",
        "chroma": "nearfield.stores.chroma:ChromaStore",
    },
    group="nearfield.stores",
    extras={"lancedb": "corpus", "qdrant": "qdrant", "pgvector": "pgvector", "chroma": "chroma"},
)
#: Stores by the scheme of an address.
SCHEMES: Mapping[str, str] = {
    "memory": "memory",
    "lancedb": "lancedb",
    "qdrant": "qdrant",
    "qdrant+https": "qdrant",
    "postgresql": "pgvector",
    "postgres": "pgvector",
    "chroma": "chroma",
    "chroma+https": "chroma",
}
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def connect(address: str) -> Store:
    """Open a store by its address, such as ``lancedb:///path``, ``qdrant://host:6333`` or ``postgresql://user@host/db``.

    ``${NAME}`` in it is replaced by the variable of the environment, so that the address need not contain a password.

    Raises:
        InputError: the address names an unknown store, or a variable that is not set.
        MissingExtra: its client is not installed.
    """
    scheme = address.partition(":")[0].lower()
    name = SCHEMES.get(scheme, scheme)
    if name not in REGISTRY.names():
        raise InputError(f"{scheme!r} is no store. {nearest(scheme, SCHEMES)}", param="store")
    store: Store = REGISTRY.load(name).connect(_VARIABLE.sub(_variable, address))
    return store


def _variable(match: re.Match[str]) -> str:
    value = os.environ.get(match[1])
    if value is None:
        raise InputError(f"The store's address names ${{{match[1]}}}, which is not set in the environment.")
    # A password or a key may have characters with a meaning in an address. In the path of a folder they stay.
    secret = match.string.startswith("@", match.end()) or "?" in match.string[: match.start()]
    return quote(value, safe="") if secret else value
