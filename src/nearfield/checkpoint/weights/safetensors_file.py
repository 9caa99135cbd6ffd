"""Read the header of a safetensors file and map its tensors into memory, bfloat16 included.

Format: eight bytes of little-endian header length, a JSON header, then the tensors' bytes back to back.
"""

from __future__ import annotations

import json
import mmap
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.lazy_tensor import LAYOUT, LazyTensor
from nearfield.errors import WeightsError

MAX_HEADER = 100_000_000


def read_safetensors(path: Path) -> dict[str, LazyTensor]:
    """Return the tensors of one file by name; none is read yet. A damaged file is refused, saying what is wrong."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = _header(path, size, length, file.read(min(length, MAX_HEADER)))
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    start = 8 + length
    tensors = {name: _tensor(path, name, entry, mapped, start) for name, entry in header.items()}
    end = start + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if end != size:
        raise WeightsError(f"{path} is damaged: its header describes {end} bytes and the file has {size}")
    return tensors


def _header(path: Path, size: int, length: int, raw: bytes) -> JsonObject:
    if size < 8 or length > min(size - 8, MAX_HEADER):
        raise WeightsError(f"{path} is cut short or no safetensors file: {size} bytes, header of {length} bytes")
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is damaged: its header is not JSON ({error})") from error
    if not isinstance(header, dict):
        raise WeightsError(f"{path} is damaged: its header is not a JSON object")
    header.pop("__metadata__", None)
    return header


def _tensor(path: Path, name: str, entry: Any, mapped: mmap.mmap, start: int) -> LazyTensor:
    data = np.frombuffer(mapped, np.uint8)[start:]
    dtype, shape, begin, end = _tensor_location(path, name, entry)
    if end > data.size:
        raise WeightsError(
            f"{path} is cut short: {name} ends at byte {end} of the data, and only {data.size} are there; "
            "fetch the file again"
        )
    layout = LAYOUT.get(dtype)
    if layout is None:  # refused only if a family reads it: an unused tensor of an odd dtype does no harm
        return LazyTensor(path, dtype, shape, lambda: data[begin:end])
    expected = int(np.prod(shape, dtype=object)) * layout.itemsize
    if expected != end - begin:
        raise WeightsError(f"{path} is damaged: {name} {dtype}{list(shape)} needs {expected} bytes, has {end - begin}")
    return LazyTensor(
        path,
        dtype,
        shape,
        lambda: data[begin:end].view(layout).reshape(shape),
        partial(_release_pages, mapped, start + begin, start + end),
    )


def _release_pages(mapped: mmap.mmap, start: int, stop: int) -> None:
    """Unmap the whole pages between two bytes of a file; reading them brings them back."""
    first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, stop // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED, first, last - first)


def _tensor_location(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = (*shape, begin, end)
        sound = isinstance(dtype, str) and all(type(n) is int and n >= 0 for n in numbers) and begin <= end
    except (TypeError, KeyError, ValueError) as error:
        raise WeightsError(f"{path} is damaged: the header entry of {name} is incomplete") from error
    if not sound:
        raise WeightsError(f"{path} is damaged: the header entry of {name} makes no sense ({entry})")
    return dtype, shape, begin, end
