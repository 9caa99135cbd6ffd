"""Reading of the multi-vectors that `nearfield embed` wrote: files and folders of shards, a block at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.arrays import Array
from nearfield.bulk.file_job import OUTPUT_FORMATS, offsets_file
from nearfield.bulk.row_files.vector_rows import MULTIVECTOR
from nearfield.bulk.shard_writer import VECTOR_COUNT, shard_file_names
from nearfield.errors import InputError, nearest
from nearfield.fileio.s3.path import S3Path, parse_location
from nearfield.fileio.tabular import require_parquet
from nearfield.vectors.multivector import MultiVectors

#: Inputs of a block: a page has some thousand vectors.
_BLOCK_INPUTS = 256
_COLUMNS = ("id", "embedding", "tokens", "truncated")


@dataclass(frozen=True, eq=False)
class MultiVectorBlock:
    """Some inputs: their ids (numbers where the data set has none) and their vectors as float32."""

    ids: list[Any]
    vectors: MultiVectors


#: Ids, vectors [total, dim], their numbers [n], and (tokens, dropped) [n, 2] where the file has them.
_Part = tuple[Sequence[Any], Array, Array, "Array | None"]


def read_multivectors(output: str | Path) -> Iterator[MultiVectorBlock]:
    """Yield the multi-vectors of a file or of a folder of shards in order, in blocks of up to 256 inputs.

    Memory is bounded by a block, and float16 becomes float32. What was written beside a file is read with it.

    Args:
        output: what ``nearfield embed`` wrote, on this machine.

    Raises:
        InputError: there is no such output, it holds other vectors, or a run has not completed it.
    """
    path = parse_location(str(output))
    if isinstance(path, S3Path):
        raise InputError(f"{path} is in a bucket: copy the folder to this machine, and read it there.", param="output")
    facts, parts = _open_folder(path) if path.is_dir() else _open_file(path)
    return _blocks(facts, parts)


def _blocks(facts: Mapping[str, Any], parts: Iterator[_Part]) -> Iterator[MultiVectorBlock]:
    for ids, data, lengths, counts in parts:
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        tokens, dropped = (None, None) if counts is None else (counts[:, 0], counts[:, 1])
        vectors = data.astype(np.float32)
        block = MultiVectors(vectors, indptr, facts["fingerprint"], bool(facts["average"]), tokens, dropped)
        yield MultiVectorBlock(list(ids), block)


def _open_file(path: Path) -> tuple[Mapping[str, Any], Iterator[_Part]]:
    form = path.suffix.removeprefix(".").lower()
    if form not in OUTPUT_FORMATS:
        raise InputError(f"{path}: no file of multi-vectors. {nearest(form, OUTPUT_FORMATS)}", param="output")
    facts = _checked(path, _read_object(path.with_name(path.name + ".json")))
    read = {"parquet": _read_parquet, "jsonl": _read_lines, "npy": _read_array}[form]
    return facts, read(_existing(path), int(facts["dims"]))


def _open_folder(home: Path) -> tuple[Mapping[str, Any], Iterator[_Part]]:
    manifest = _read_object(home / "_manifest.json")
    facts = _checked(home, manifest["terms"])
    if manifest["state"] != "complete":
        raise InputError(f"{home} is not complete: repeat the command that writes it.", param="output")
    form, dims = str(facts["format"]), int(facts["dims"])
    numbers = sorted(int(shard["number"]) for shard in manifest["shards"])
    files = [[_existing(home / name) for name in shard_file_names(form, number)] for number in numbers]
    return facts, (part for shard in files for part in _SHARD_READERS[form](shard, dims))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"There is no file {path}.", param="output")
    return path


def _read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}, which `nearfield embed` writes with the vectors, cannot be read: {error}.", param="output"
        ) from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object.", param="output")
    return value


def _checked(path: Path, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    if facts.get("kind") != MULTIVECTOR:
        raise InputError(f"{path} holds one vector of each input, no multi-vectors.", param="output")
    return facts


def _read_parquet(path: Path, dims: int) -> Iterator[_Part]:
    with require_parquet().ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BLOCK_INPUTS, columns=list(_COLUMNS)):
            lists = batch.column("embedding")
            flat = lists.flatten().flatten().to_numpy(zero_copy_only=False)
            counts = np.stack([batch.column(name).to_numpy() for name in _COLUMNS[2:]], 1)
            lengths = np.diff(lists.offsets.to_numpy())
            yield batch.column("id").to_pylist(), flat.reshape(-1, dims), lengths, counts


def _lines(path: Path) -> Iterator[list[Any]]:
    """Yield the objects of a file of JSON lines, a block at a time."""
    with path.open("rb") as file:
        while lines := list(islice(file, _BLOCK_INPUTS)):
            yield [json.loads(line) for line in lines]


def _read_lines(path: Path, dims: int) -> Iterator[_Part]:
    for lines in _lines(path):
        arrays = [np.array(line["embedding"], np.float32).reshape(-1, dims) for line in lines]
        lengths = np.array([len(array) for array in arrays])
        yield [line["id"] for line in lines], np.concatenate(arrays), lengths, _counts(lines)


def _read_array(path: Path, _: int) -> Iterator[_Part]:
    data, offsets = np.load(path, "r"), np.load(_existing(offsets_file(path)))
    for start in range(0, len(offsets) - 1, _BLOCK_INPUTS):
        ends = offsets[start : start + _BLOCK_INPUTS + 1]
        yield range(start, start + len(ends) - 1), data[ends[0] : ends[-1]], np.diff(ends), None


def _read_array_with_lines(paths: Sequence[Path], _: int) -> Iterator[_Part]:
    data, start = np.load(paths[0], "r"), 0
    for lines in _lines(paths[1]):
        lengths = np.array([line[VECTOR_COUNT] for line in lines])
        stop = start + int(lengths.sum())
        yield [line["id"] for line in lines], data[start:stop], lengths, _counts(lines)
        start = stop


def _counts(lines: Sequence[Mapping[str, Any]]) -> Array:
    return np.array([[line["tokens"], line["truncated"]] for line in lines], np.int64).reshape(-1, 2)


#: Of the format of shards: what reads the files of one.
_SHARD_READERS: dict[str, Callable[[Sequence[Path], int], Iterator[_Part]]] = {
    "parquet": lambda paths, dims: _read_parquet(paths[0], dims),
    "jsonl": lambda paths, dims: _read_lines(paths[0], dims),
    "npy": _read_array_with_lines,
}
