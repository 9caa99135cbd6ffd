"""The files of one shard: written block by block under temporary names, and renamed when they are complete."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypedDict, cast

import numpy as np

from nearfield.arrays import Array
from nearfield.bulk.row_files.formats import ArrowType, Columns, arrow_schema, arrow_table, json_lines, npy_header
from nearfield.bulk.row_files.vector_rows import VectorRows
from nearfield.fileio.tabular import require_parquet

if TYPE_CHECKING:
    from typing_extensions import Buffer

_BYTES_PER_READ = 1 << 20
#: Bytes of a row group of pictures, sounds or videos, of which some 60 are encoded together.
_GROUP_BYTES = 8 << 20
#: The field of a line that says how many vectors a row of multi-vectors in NPY has.
VECTOR_COUNT = "vectors"


class FileDigest(TypedDict):
    """Size and digest of a shard's file, as its record stores them."""

    bytes: int
    digest: str


@dataclass(frozen=True)
class ShardLayout:
    """What the shards of a folder have in common.

    Attributes:
        form: the format.
        blank: no rows, an example of their type and width.
        string_ids: whether the data set has ids; otherwise ids are row numbers.
        types: the Arrow types of carried columns, for Parquet only.
        metadata: the key-value metadata of the file, for Parquet only.
        has_gaps: whether rows may be missing, and blocks may be small.
    """

    form: str
    blank: VectorRows
    string_ids: bool
    types: Mapping[str, ArrowType] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    has_gaps: bool = False


@dataclass(frozen=True)
class RowBlock:
    """Rows to write: ids, carried columns, vectors, and (tokens, dropped) [n, 2]."""

    ids: Sequence[object]
    columns: Columns
    rows: VectorRows
    counts: Array


class BlockWriter(Protocol):
    """Writes blocks to the files of a shard, and leaves the files open."""

    def add(self, block: RowBlock) -> None:
        """Write a block."""

    def close(self) -> None:
        """Write what follows the last block."""

    def abandon(self) -> None:
        """Write nothing more."""


class _ParquetWriter:
    def __init__(self, layout: ShardLayout, files: Sequence[BinaryIO], _: int) -> None:
        self._schema = arrow_schema(
            layout.blank, string_ids=layout.string_ids, metadata=layout.metadata, types=layout.types
        )
        self._writer = require_parquet().ParquetWriter(files[0], self._schema)
        self._group_bytes = _GROUP_BYTES if layout.has_gaps else 0
        self._waiting: list[ArrowType] = []

    def add(self, block: RowBlock) -> None:
        self._waiting.append(arrow_table(self._schema, block.ids, block.rows, block.counts, block.columns))
        if sum(table.nbytes for table in self._waiting) >= self._group_bytes:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow as arrow

        if self._waiting:
            self._writer.write_table(arrow.concat_tables(self._waiting).combine_chunks())
            self._waiting = []

    def close(self) -> None:
        self._write_group()
        self._writer.close()

    def abandon(self) -> None:
        self._waiting = []
        self._writer.is_open = False  # otherwise its finalizer would write a footer to a file that is closed by then


class _JsonlWriter:
    def __init__(self, _: ShardLayout, files: Sequence[BinaryIO], __: int) -> None:
        self._file = files[0]

    def add(self, block: RowBlock) -> None:
        self._file.writelines(json_lines(block.ids, block.rows, block.counts, block.columns))

    def close(self) -> None:
        """Nothing follows the last line."""

    abandon = close


class _NpyWriter:
    """Vectors in the first file; ids, counts and carried columns as JSON lines in the second."""

    def __init__(self, layout: ShardLayout, files: Sequence[BinaryIO], count: int) -> None:
        self._vectors, self._lines = files
        self._vectors.write(npy_header(layout.blank.data, count))

    def add(self, block: RowBlock) -> None:
        self._vectors.write(np.ascontiguousarray(block.rows.data).tobytes())
        self._lines.writelines(json_lines(block.ids, None, block.counts, block.columns))

    def close(self) -> None:
        """Nothing follows the last row."""

    abandon = close


class _NpyListWriter:
    """Vectors whose number, which the header has, is known at the end; until then they are in a temporary file.

    Multi-vectors lie end to end, and the lines have their numbers (``vectors``).
    """

    def __init__(self, layout: ShardLayout, files: Sequence[BinaryIO], folder: Path) -> None:
        self._vectors, self._lines = files
        self._blank, self._count = layout.blank.data, 0
        self._spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close and abandon

    def add(self, block: RowBlock) -> None:
        self._spool.write(np.ascontiguousarray(block.rows.data).tobytes())
        self._count += len(block.rows.data)
        lengths = block.rows.lengths
        columns = block.columns if lengths is None else {VECTOR_COUNT: lengths.tolist(), **block.columns}
        self._lines.writelines(json_lines(block.ids, None, block.counts, columns))

    def close(self) -> None:
        self._vectors.write(npy_header(self._blank, self._count))
        self._spool.seek(0)
        shutil.copyfileobj(self._spool, self._vectors, _BYTES_PER_READ)
        self._spool.close()

    def abandon(self) -> None:
        self._spool.close()


#: Created from the layout, the open files and the number of rows.
_WRITERS: dict[str, Callable[[ShardLayout, Sequence[BinaryIO], int], BlockWriter]] = {
    "parquet": _ParquetWriter,
    "npy": _NpyWriter,
    "jsonl": _JsonlWriter,
}
_SUFFIXES = {"parquet": (".parquet",), "npy": (".npy", ".jsonl"), "jsonl": (".jsonl",)}
SHARD_FORMATS = tuple(_WRITERS)


def shard_file_names(form: str, number: int) -> list[str]:
    """Return the names of a shard's files."""
    return [f"part-{number:05d}{suffix}" for suffix in _SUFFIXES[form]]


def _create_writer(layout: ShardLayout, files: Sequence[BinaryIO], rows: int, folder: Path) -> BlockWriter:
    if layout.form == "npy" and (layout.has_gaps or layout.blank.lengths is not None):
        return _NpyListWriter(layout, files, folder)
    return _WRITERS[layout.form](layout, files, rows)


class _DigestFile(io.RawIOBase):
    """A file that is written from start to end and digested on the way."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._digest = blake2b(digest_size=16)
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        self._digest.update(data)
        self._file.write(data)
        size = memoryview(data).nbytes
        self.size += size
        return size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Return the position, which ``tell`` asks for in this way; it cannot be changed."""
        if (offset, whence) != (0, os.SEEK_CUR):
            raise io.UnsupportedOperation("This file is written from start to end.")
        return self.size

    def sync(self) -> FileDigest:
        """Flush the bytes to the disk; return their number and digest."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return {"bytes": self.size, "digest": self._digest.hexdigest()}

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class PendingShard:
    """A shard that is being written to ``paths``; ``digests`` has an entry for each file once all are complete."""

    def __init__(self, layout: ShardLayout, paths: Sequence[Path], rows: int) -> None:
        self.paths = paths
        self.digests: list[FileDigest] = []
        self._files = [_DigestFile(path) for path in paths]
        self._writer = _create_writer(layout, cast("list[BinaryIO]", self._files), rows, paths[0].parent)

    def add(self, block: RowBlock) -> None:
        """Write rows."""
        self._writer.add(block)

    def complete(self) -> None:
        """Write the end of the files and flush them to the disk."""
        self._writer.close()
        self.digests = [file.sync() for file in self._files]

    def close(self) -> None:
        """Close the files."""
        if not self.digests:
            self._writer.abandon()
        for file in self._files:
            file.close()


@contextmanager
def pending_shard(layout: ShardLayout, paths: Sequence[Path], rows: int) -> Iterator[PendingShard]:
    """Open a shard for writing; files that have not been renamed by the end of the block are removed."""
    with ExitStack() as stack:
        for path in paths:
            stack.callback(path.unlink, missing_ok=True)
        pending = PendingShard(layout, paths, rows)
        stack.callback(pending.close)
        yield pending


def digest_of_file(path: Path) -> str:
    """Return the digest of the bytes of a file.

    Raises:
        OSError: the file cannot be read.
    """
    digest = blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_BYTES_PER_READ):
            digest.update(block)
    return digest.hexdigest()
