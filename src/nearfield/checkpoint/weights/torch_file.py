"""Read torch's zip checkpoints (``.bin``, ``.pt``) without torch, through a pickle reader that can run no code.

A pickle is a program. This reader lets it name a handful of harmless things (an ordered dict, torch's storage
types, the functions that put a tensor together, all of which are our own stand-ins); anything else is refused by name.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from nearfield.checkpoint.weights.lazy_tensor import LAYOUT, LazyTensor
from nearfield.errors import UnsafeFile, WeightsError

#: All that Python's zipfile raises for one damage or another.
DAMAGE = (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError, struct.error)
MAX_PICKLE = 64 * 2**20
CONVERT = "load it once with torch.load(..., weights_only=True) and save it with safetensors.torch.save_file"


@dataclass(frozen=True)
class _StorageType:
    dtype: str


@dataclass(frozen=True)
class _Storage:
    dtype: str
    size: int
    load: Callable[[], np.ndarray]
    file: Path


STORAGES = {
    "DoubleStorage": _StorageType("F64"),
    "FloatStorage": _StorageType("F32"),
    "HalfStorage": _StorageType("F16"),
    "BFloat16Storage": _StorageType("BF16"),
    "LongStorage": _StorageType("I64"),
    "IntStorage": _StorageType("I32"),
    "ShortStorage": _StorageType("I16"),
    "CharStorage": _StorageType("I8"),
    "ByteStorage": _StorageType("U8"),
    "BoolStorage": _StorageType("BOOL"),
}


def _tensor(storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object) -> LazyTensor:
    """Replacement of ``torch._utils._rebuild_tensor_v2``; a view that reaches outside its storage is refused."""
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or not all(type(n) is int and n >= 0 for n in numbers):
        raise WeightsError(f"{storage.file} is damaged: a tensor of shape {shape} with strides {stride}")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) + 1
    if 0 not in shape and last > storage.size:
        raise WeightsError(f"{storage.file} is damaged: a tensor of shape {shape} reaches outside its storage")

    def load() -> np.ndarray:
        flat = storage.load()[offset:]
        steps = tuple(step * flat.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(flat, shape, steps, writeable=False)

    return LazyTensor(storage.file, storage.dtype, tuple(shape), load)


def _parameter(data: LazyTensor, *_: object) -> LazyTensor:
    """Replacement of ``torch._utils._rebuild_parameter``: a parameter is its tensor."""
    return data


ALLOWED: Mapping[tuple[str, str], object] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): kind for name, kind in STORAGES.items()},
}


class _Reader(pickle.Unpickler):
    def __init__(self, file: IO[bytes], path: Path, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(file)
        self.path, self.archive, self.root = path, archive, root

    def find_class(self, module: str, name: str) -> object:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise UnsafeFile(
                f"{self.path} would have to call {module}.{name} to be read, which could run any code. "
                f"Use a safetensors version of this model, or, if you trust the file, {CONVERT}."
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        try:
            tag, kind, key, _, size = pid
        except (TypeError, ValueError) as error:
            raise WeightsError(f"{self.path} is damaged: storage reference {pid!r}") from error
        if tag != "storage" or not isinstance(kind, _StorageType) or type(size) is not int:
            raise WeightsError(f"{self.path} is damaged: storage reference {pid!r}")
        layout = LAYOUT[kind.dtype]
        member = _stored_member(self.path, self.archive, f"{self.root}/data/{key}")
        if member.file_size != size * layout.itemsize:
            raise WeightsError(f"{self.path} is damaged: {member.filename} does not hold {size} items of {kind.dtype}")
        return _Storage(kind.dtype, size, lambda: _content(self.path, member.filename, layout), self.path)


def read_torch_file(path: Path) -> dict[str, LazyTensor]:
    """Return the tensors of a torch state dict by name; none is read yet. Anything else in the file is refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            state = _state(path, archive)
    except DAMAGE as error:
        raise _not_a_zip(path, error) from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path} holds {type(state).__name__}, not a state dict: {CONVERT}")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, LazyTensor):
            raise WeightsError(f"{path} is no plain state dict: {name!r} is {type(tensor).__name__}, not a tensor")
    return dict(state)


def _state(path: Path, archive: zipfile.ZipFile) -> object:
    names = archive.namelist()
    pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise WeightsError(f"{path} is a zip file, but not one that torch.save wrote: it has no single data.pkl")
    root = pickles[0].split("/")[0]
    if f"{root}/constants.pkl" in names:
        raise UnsafeFile(f"{path} is a TorchScript archive, which is code: use the model's safetensors weights")
    if f"{root}/byteorder" in names and archive.read(f"{root}/byteorder") != b"little":
        raise WeightsError(f"{path} was written on a big-endian machine: {CONVERT}")
    member = _stored_member(path, archive, pickles[0])
    if member.file_size > MAX_PICKLE:
        raise WeightsError(f"{path} is damaged: its data.pkl has {member.file_size} bytes")
    with archive.open(member) as file:
        reader = _Reader(file, path, archive, root)
        try:
            return reader.load()
        except (UnsafeFile, WeightsError):
            raise
        except Exception as error:  # a damaged pickle can fail in any way the machine has
            raise WeightsError(f"{path} is damaged: its data.pkl cannot be read ({error})") from error


def _stored_member(path: Path, archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise WeightsError(f"{path} is damaged: it has no {name}") from None
    if member.compress_type != zipfile.ZIP_STORED:
        raise WeightsError(f"{path}: {name} is compressed, which torch.save never does: {CONVERT}")
    return member


def _content(path: Path, name: str, layout: np.dtype) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive:
            return np.frombuffer(archive.read(name), dtype=layout)
    except (*DAMAGE, OSError) as error:
        raise WeightsError(f"{path} is damaged: {name} cannot be read ({error})") from error


def _not_a_zip(path: Path, error: Exception) -> WeightsError | UnsafeFile:
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"\x80"):
        return UnsafeFile(f"{path} is in torch's old format (before 1.6), a bare pickle: {CONVERT}")
    return WeightsError(f"{path} is cut short or no torch checkpoint: {error}")
