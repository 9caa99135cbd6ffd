"""The files of one shard: written block by block under names of their own, and put in place when they are whole."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np

from nearfield.bulk.formats import json_lines, npy_header, schema, table
from nearfield.fileio.tabular import require_parquet

Array = np.ndarray[Any, np.dtype[Any]]
_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class ShardLayout:
    """What the shards of a folder have in common.

    ``blank`` [0, width] shows the type and width of a row; ``named`` says that ids are given, not row numbers;
    ``types`` are the Arrow types of kept columns and ``told`` is the metadata, both for Parquet alone.
    """

    form: str
    blank: Array
    named: bool
    types: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RowBlock:
    """Rows to write: ids, kept columns, vectors [n, width], and (tokens, dropped) [n, 2]."""

    ids: Sequence[Any]
    kept: Mapping[str, Sequence[Any]]
    rows: Array
    counts: Array


class Writer(Protocol):
    """Writes blocks to a shard's files, which it leaves open."""

    def add(self, block: RowBlock) -> None:
        """Write a block."""

    def close(self) -> None:
        """Write what comes after the last block."""

    def abandon(self) -> None:
        """Write nothing more."""


class _Parquet:
    def __init__(self, layout: ShardLayout, files: Sequence[BinaryIO], _: int) -> None:
        self._shape = schema(layout.blank, named=layout.named, told=layout.told, types=layout.types)
        self._writer = require_parquet().ParquetWriter(files[0], self._shape)

    def add(self, block: RowBlock) -> None:
        self._writer.write_table(table(self._shape, block.ids, block.rows, block.counts, block.kept))

    def close(self) -> None:
        self._writer.close()

    def abandon(self) -> None:
        self._writer.is_open = False  # else its end would write a footer to a file that is closed by then


class _Jsonl:
    def __init__(self, _: ShardLayout, files: Sequence[BinaryIO], __: int) -> None:
        self._file = files[0]

    def add(self, block: RowBlock) -> None:
        self._file.writelines(json_lines(block.ids, block.rows, block.counts, block.kept))

    def close(self) -> None:
        """Nothing comes after the last line."""

    abandon = close


class _Npy:
    """Vectors in the first file; ids, counts and kept columns as JSON lines in the second."""

    def __init__(self, layout: ShardLayout, files: Sequence[BinaryIO], count: int) -> None:
        self._vectors, self._lines = files
        self._vectors.write(npy_header(layout.blank, count))

    def add(self, block: RowBlock) -> None:
        self._vectors.write(np.ascontiguousarray(block.rows).tobytes())
        self._lines.writelines(json_lines(block.ids, None, block.counts, block.kept))

    def close(self) -> None:
        """Nothing comes after the last row."""

    abandon = close


_WRITERS: dict[str, Any] = {"parquet": _Parquet, "npy": _Npy, "jsonl": _Jsonl}
_SUFFIXES = {"parquet": (".parquet",), "npy": (".npy", ".jsonl"), "jsonl": (".jsonl",)}
FORMS = tuple(_WRITERS)


def names(form: str, number: int) -> list[str]:
    """Return the names of a shard's files."""
    return [f"part-{number:05d}{suffix}" for suffix in _SUFFIXES[form]]


class _Digested(io.RawIOBase):
    """A file that is written from start to end, and its digest on the way."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._digest = blake2b(digest_size=16)
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._digest.update(data)
        self._file.write(data)
        self.size += memoryview(data).nbytes
        return memoryview(data).nbytes

    def tell(self) -> int:
        return self.size

    def settle(self) -> dict[str, Any]:
        """Have the bytes on the disk; return their number and digest."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return {"bytes": self.size, "digest": self._digest.hexdigest()}

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class PendingShard:
    """A shard being written to ``paths``. ``settled`` tells bytes and digest of each once it is whole."""

    def __init__(self, layout: ShardLayout, paths: Sequence[Path], rows: int) -> None:
        self.paths = paths
        self.settled: list[dict[str, Any]] = []
        self._files = [_Digested(path) for path in paths]
        self._writer: Writer = _WRITERS[layout.form](layout, cast(Any, self._files), rows)

    def add(self, block: RowBlock) -> None:
        """Write rows."""
        self._writer.add(block)

    def settle(self) -> None:
        """End the files and have them on the disk."""
        self._writer.close()
        self.settled = [file.settle() for file in self._files]

    def close(self) -> None:
        """Let go of the files."""
        if not self.settled:
            self._writer.abandon()
        for file in self._files:
            file.close()


@contextmanager
def draft(layout: ShardLayout, paths: Sequence[Path], rows: int) -> Iterator[PendingShard]:
    """Open a draft of a shard; whatever has not been renamed by the end is removed."""
    with ExitStack() as stack:
        for path in paths:
            stack.callback(path.unlink, missing_ok=True)
        made = PendingShard(layout, paths, rows)
        stack.callback(made.close)
        yield made


def digest_of(path: Path) -> str:
    """Return the digest of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    digest = blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()
