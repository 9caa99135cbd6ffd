"""Reading of the dense vectors in a folder of shards that `nearfield embed` wrote, with ids and carried columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.bulk.row_files.formats import OUTPUT_COLUMNS
from nearfield.bulk.row_files.vector_rows import MULTIVECTOR
from nearfield.bulk.shard_writer import shard_file_names
from nearfield.errors import InputError
from nearfield.fileio.tabular import require_parquet
from nearfield.vectors.dense import Vectors

_MANIFEST = "_manifest.json"
#: The key of a Parquet file's metadata with the ranges of int8 and uint8.
_RANGES = b"nearfield.ranges"


@dataclass(frozen=True, eq=False)
class StoredVectors:
    """Rows of shards: vectors, the columns by name (``id`` and those that ``--keep`` carried over), and the model."""

    vectors: Vectors
    columns: Mapping[str, Sequence[Any]]
    model: str


@dataclass(frozen=True, eq=False)
class _ShardPart:
    data: Array
    columns: Mapping[str, Sequence[Any]]
    ranges: Array | None = None


def is_shard_folder(path: Path) -> bool:
    """Return whether a path is a folder of shards."""
    return (path / _MANIFEST).is_file()


def read_shard_vectors(home: Path) -> StoredVectors:
    """Return all rows of a folder of shards, in order.

    Raises:
        InputError: the folder is not complete or damaged, or has several vectors of each input.
    """
    manifest = _read_manifest(home)
    facts = manifest["terms"]
    if facts.get("kind") == MULTIVECTOR:
        raise InputError(f"{home} has several vectors of each input, and jobs need one: embed with --output dense.")
    if manifest["state"] != "complete":
        raise InputError(f"{home} is not complete: repeat the command that writes it.", param="inputs")
    form, shards = str(facts["format"]), sorted(manifest["shards"], key=lambda shard: int(shard["number"]))
    try:
        names = [shard_file_names(form, int(shard["number"])) for shard in shards]
        parts = [_READERS[form]([home / name for name in group]) for group in names]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"A shard of {home} cannot be read: {error}. Repeat the command that writes it.") from error
    return _join(parts, facts)


def _read_manifest(home: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((home / _MANIFEST).read_text(encoding="utf-8"))
        return {name: manifest[name] for name in ("terms", "state", "shards")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{home / _MANIFEST} cannot be read: {error}.", param="inputs") from error


def _join(parts: Sequence[_ShardPart], facts: Mapping[str, Any]) -> StoredVectors:
    dims = int(facts["dims"])
    data = np.concatenate([part.data for part in parts]) if parts else np.zeros((0, dims), np.float32)
    names = dict.fromkeys(name for part in parts for name in part.columns)
    columns = {name: [value for part in parts for value in _column(part, name)] for name in names}
    ranges = next((part.ranges for part in parts if part.ranges is not None), None)
    vectors = Vectors(data, facts["fingerprint"], dims, facts["dtype"], ranges=ranges)
    return StoredVectors(vectors, columns, str(facts.get("model", "")))


def _column(part: _ShardPart, name: str) -> Sequence[Any]:
    return part.columns.get(name) or [None] * len(part.data)


def _read_parquet(paths: Sequence[Path]) -> _ShardPart:
    with require_parquet().ParquetFile(paths[0]) as file:
        table, metadata = file.read(), file.schema_arrow.metadata or {}
    lists = table.column("embedding").combine_chunks()
    width = lists.type.list_size
    data = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    names = [name for name in table.column_names if name == "id" or name not in OUTPUT_COLUMNS]
    ranges = np.array(json.loads(metadata[_RANGES]), np.float32) if _RANGES in metadata else None
    return _ShardPart(data, {name: table.column(name).to_pylist() for name in names}, ranges)


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        yield from map(json.loads, file)


def _carried(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = [name for name in lines[0] if name == "id" or name not in OUTPUT_COLUMNS] if lines else []
    return {name: [line.get(name) for line in lines] for name in names}


def _read_json_lines(paths: Sequence[Path]) -> _ShardPart:
    lines = list(_read_lines(paths[0]))
    return _ShardPart(np.array([line.pop("embedding") for line in lines]), _carried(lines))


def _read_npy(paths: Sequence[Path]) -> _ShardPart:
    return _ShardPart(np.load(paths[0]), _carried(list(_read_lines(paths[1]))))


#: Of the format of shards: what reads the files of one.
_READERS: dict[str, Callable[[Sequence[Path]], _ShardPart]] = {
    "parquet": _read_parquet,
    "npy": _read_npy,
    "jsonl": _read_json_lines,
}
