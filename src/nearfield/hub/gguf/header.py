"""The header of a GGUF file: its metadata, and a table of its tensors. Their values are not read here.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every count and length is compared with the size of
the file before anything of that size is allocated.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, prod
from pathlib import Path
from typing import Any

from nearfield.errors import ModelRefused

MAGIC = b"GGUF"
#: Version 1 has other widths of counts, and no file of an embedding model has it.
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4
#: Formats of single values, by their number in the file, as ``struct`` names them.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
#: The fewest bytes of a string, of an entry of the metadata and of one of the table.
_MIN_STRING, _MIN_ENTRY, _MIN_TENSOR = 8, 13, 32


@dataclass(frozen=True)
class TensorType:
    """How values are stored: in blocks of ``block`` values, each of ``size`` bytes."""

    name: str
    block: int = 1
    size: int = 0


#: Types whose values can be read, by their number in the file.
TYPES: Mapping[int, TensorType] = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    30: TensorType("BF16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
}
#: Types that are known by name alone.
_OTHERS: Mapping[int, str] = {
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
}


@dataclass(frozen=True)
class TensorEntry:
    """A tensor of the table; ``shape`` as NumPy has it, ``start`` in bytes from the start of the file."""

    name: str
    type: TensorType
    shape: tuple[int, ...]
    start: int

    @property
    def bytes(self) -> int:
        """The size of its values in the file."""
        return prod(self.shape) // self.type.block * self.type.size


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about itself."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorEntry]

    @property
    def architecture(self) -> str:
        """The architecture's name, which is also the prefix of its settings."""
        return str(self.metadata.get("general.architecture"))

    def setting(self, name: str, default: Any = None) -> Any:
        """Return a setting of the architecture, such as ``embedding_length``.

        Raises:
            ModelRefused: it is of another type than the default, or no positive number where that is a fraction.
        """
        key = f"{self.architecture}.{name}"
        value = self.metadata.get(key, default)
        fraction = isinstance(default, float)
        if default is not None and not isinstance(value, (float, int) if fraction else type(default)):
            raise ModelRefused(f"{self.path}: {key} is {value!r}, and must be like {default!r}.")
        if fraction and not 0 < value < inf:
            raise ModelRefused(f"{self.path}: {key} is {value!r}, and must be a positive number.")
        return value


def is_gguf(path: Path) -> bool:
    """Return whether a file has the name of a GGUF file, or begins as one does: Ollama names files by digests."""
    try:
        if path.suffix.lower() == ".gguf":
            return path.is_file()
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_header(path: Path) -> GgufHeader:
    """Read the header of a GGUF file.

    Raises:
        ModelRefused: the file is cut short, damaged, or of a version or type that cannot be read.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _HeaderReader(path, data).read_header()
    except (OSError, ValueError) as error:
        raise ModelRefused(f"{path} cannot be read: {error}") from error


class _HeaderReader:
    """Reads values one after another, none of which may reach beyond the end of the file."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data, self._at = path, data, 0

    def read_header(self) -> GgufHeader:
        if self._take(len(MAGIC), "its first bytes") != MAGIC:
            raise ModelRefused(f"{self._path} is no GGUF file: it does not begin with GGUF.")
        version = self._number("I", "its version")
        if version not in VERSIONS:
            order = "It is in big-endian byte order. " if version > 0xFFFF else ""
            raise ModelRefused(
                f"{self._path} has version {version} of GGUF, which is not read (2 and 3 are). {order}Convert the "
                "model again with a current llama.cpp."
            )
        tensors = self._count("tensors", _MIN_TENSOR)
        metadata = self._metadata(self._count("entries of metadata", _MIN_ENTRY))
        entries = [self._tensor() for _ in range(tensors)]
        start = self._data_start(metadata)
        return GgufHeader(self._path, metadata, self._table(entries, start))

    def _metadata(self, count: int) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        for _ in range(count):
            name = self._text("the name of an entry")
            if name in metadata:
                raise self._damaged(f"its metadata has {name!r} twice")
            metadata[name] = self._value(self._number("I", name), name)
        return metadata

    def _value(self, kind: int, name: str) -> Any:
        if kind == _STRING:
            return self._text(name)
        if kind == _ARRAY:
            return self._array(self._number("I", name), name)
        if kind not in _SCALARS:
            raise self._damaged(f"{name} is of the unknown type {kind}")
        return self._number(_SCALARS[kind], name)

    def _array(self, kind: int, name: str) -> list[Any]:
        if kind == _STRING:
            return [self._text(name) for _ in range(self._count(f"elements of {name}", _MIN_STRING))]
        if kind not in _SCALARS:
            raise self._damaged(f"{name} is a list of the unknown type {kind}")
        size = struct.calcsize(_SCALARS[kind])
        count = self._count(f"elements of {name}", size)
        return list(struct.unpack(f"<{count}{_SCALARS[kind]}", self._take(count * size, name)))

    def _tensor(self) -> TensorEntry:
        name = self._text("the name of a tensor")
        dimensions = self._number("I", name)
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise self._damaged(f"{name} has {dimensions} dimensions")
        shape = tuple(self._number("Q", name) for _ in range(dimensions))[::-1]
        number, start = self._number("I", name), self._number("Q", name)
        return TensorEntry(name, TYPES.get(number) or TensorType(_OTHERS.get(number, f"type {number}")), shape, start)

    def _data_start(self, metadata: Mapping[str, Any]) -> int:
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise self._damaged(f"general.alignment is {alignment!r}, and no power of two")
        return -(-self._at // alignment) * alignment

    def _table(self, entries: list[TensorEntry], start: int) -> dict[str, TensorEntry]:
        table: dict[str, TensorEntry] = {}
        for entry in entries:
            if entry.name in table:
                raise self._damaged(f"it has the tensor {entry.name!r} twice")
            placed = TensorEntry(entry.name, entry.type, entry.shape, start + entry.start)
            self._check_place(placed)
            table[entry.name] = placed
        return table

    def _check_place(self, entry: TensorEntry) -> None:
        if 0 in entry.shape:
            raise self._damaged(f"{entry.name} {list(entry.shape)} has no values")
        if not entry.type.size:
            known = ", ".join(known.name for known in TYPES.values())
            raise ModelRefused(
                f"{self._path}: {entry.name} is stored as {entry.type.name}, which is not read. Take a file with "
                f"weights of these types: {known}."
            )
        if entry.shape[-1] % entry.type.block:
            blocks = f"whose blocks have {entry.type.block} values"
            raise self._damaged(f"{entry.name} {list(entry.shape)} cannot be {entry.type.name}, {blocks}")
        if entry.start + entry.bytes > len(self._data):
            raise self._cut_short(f"{entry.name} {list(entry.shape)}", entry.start + entry.bytes)

    def _count(self, what: str, size: int) -> int:
        """Read a number of things of at least ``size`` bytes, for which the rest of the file must have room."""
        count = self._number("Q", f"the number of {what}")
        if count * size > len(self._data) - self._at:
            raise self._damaged(f"it claims {count} {what}, for which it is too small")
        return count

    def _text(self, what: str) -> str:
        try:
            return self._take(self._number("Q", what), what).decode()
        except UnicodeDecodeError as error:
            raise self._damaged(f"{what} is no text in UTF-8") from error

    def _number(self, form: str, what: str) -> Any:
        return struct.unpack(f"<{form}", self._take(struct.calcsize(f"<{form}"), what))[0]

    def _take(self, count: int, what: str) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise self._cut_short(what, end)
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def _cut_short(self, what: str, end: int) -> ModelRefused:
        size = len(self._data)
        return ModelRefused(
            f"{self._path} is cut short: {what} ends at byte {end}, and the file has {size}. Download it again."
        )

    def _damaged(self, reason: str) -> ModelRefused:
        return ModelRefused(f"{self._path} is damaged: {reason}. Download it again.")
