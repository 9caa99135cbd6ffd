"""A model on its way to other machines: its recipe, and the digests of its files, which travel only where they lack.

A worker uses the files at the same path if they are the same (a shared folder, or the same machine), then a copy in the
cache of its machine, and otherwise requests the files; digests are compared in all cases.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

from nearfield.checkpoint.weights.digest import of_file
from nearfield.errors import ModelNotFound
from nearfield.fileio.locks import waiting_lock
from nearfield.hardware import memory_used
from nearfield.inference.uncompiled_model import UncompiledModel
from nearfield.settings import cache_dir

#: The bytes of files, by folder number and path in the folder.
FileBytes = dict[tuple[int, str], bytes]
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class FolderDigest:
    """A folder of a model: its path where the run began, and the SHA-256 of each of its files by relative path."""

    path: Path
    files: Mapping[str, str]

    @property
    def digest(self) -> str:
        """One digest of all names and contents."""
        lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()[:32]

    def is_at(self, place: Path) -> bool:
        """Return whether a folder of this machine has the same files."""
        try:
            return all(of_file(place / name) == digest for name, digest in self.files.items())
        except OSError:
            return False


@dataclass(frozen=True)
class ModelParcel:
    """A model, and the folders that it is read from."""

    model: UncompiledModel
    folders: tuple[FolderDigest, ...]

    @classmethod
    def pack(cls, model: UncompiledModel) -> ModelParcel:
        """Digest the files of a model that is on this machine."""
        return cls(model, tuple(_digest_folder(folder) for folder in _folders(model)))

    def read_files(self) -> FileBytes:
        """Return the bytes of all files."""
        return {
            (number, name): (folder.path / name).read_bytes()
            for number, folder in enumerate(self.folders)
            for name in folder.files
        }

    def unpack(self, files: FileBytes | None) -> UncompiledModel | None:
        """Return the model with the paths of this machine; None if files are missing here and in ``files``.

        Raises:
            ModelNotFound: the files did not arrive as they were sent.
        """
        places: dict[Path, Path] = {}
        for number, folder in enumerate(self.folders):
            place = _find(folder)
            if place is None and files is not None:
                place = _store(folder, {name: data for (at, name), data in files.items() if at == number})
            if place is None:
                return None
            places[folder.path] = place
        moved = _replace_paths(self.model, places)
        return dataclasses.replace(moved, started=time.perf_counter(), memory_before=memory_used())


def _folders(model: UncompiledModel) -> list[Path]:
    """Return the folders of a model, without those inside another one."""
    paths = {path if path.is_dir() else path.parent for path in _paths((model.recipe, model.adapters))}
    return sorted(path for path in paths if not paths.intersection(path.parents))


def _digest_folder(folder: Path) -> FolderDigest:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_hidden(path.relative_to(folder))]
    return FolderDigest(folder, {path.relative_to(folder).as_posix(): of_file(path) for path in files})


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _place(folder: FolderDigest) -> Path:
    # The name stays: models are called by the names of their folders.
    return cache_dir() / "cluster" / folder.digest / folder.path.name


def _find(folder: FolderDigest) -> Path | None:
    return next((place for place in (folder.path, _place(folder)) if folder.is_at(place)), None)


def _store(folder: FolderDigest, files: Mapping[str, bytes]) -> Path:
    """Write the files of a folder to the cache; of several workers of a machine, one does it."""
    place = _place(folder)
    place.parent.parent.mkdir(parents=True, exist_ok=True)
    with waiting_lock(place.parent.with_name(f"{folder.digest}.lock")):
        if folder.is_at(place):
            return place
        temporary = place.with_name(f"{place.name}.partial")
        shutil.rmtree(temporary, ignore_errors=True)
        for name, data in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(data)
        if not folder.is_at(temporary):
            raise ModelNotFound(f"The files of {folder.path} did not arrive as they were sent: run the command again.")
        shutil.rmtree(place, ignore_errors=True)
        temporary.rename(place)
    return place


def _children(value: object) -> Iterator[object]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from (getattr(value, field.name) for field in dataclasses.fields(value))
    elif isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, (list, tuple)):
        yield from value


def _paths(value: object) -> Iterator[Path]:
    """Yield all paths within data classes, mappings and sequences."""
    if isinstance(value, Path):
        yield value
    for child in _children(value):
        yield from _paths(child)


def _replace_paths(value: _Value, places: Mapping[Path, Path]) -> _Value:
    """Return a copy of data classes, mappings and sequences in which paths within one folder are in another."""
    return cast(_Value, _replaced(value, places))


def _replaced(value: Any, places: Mapping[Path, Path]) -> Any:
    if isinstance(value, Path):
        old = next((folder for folder in places if folder == value or folder in value.parents), None)
        return value if old is None else places[old] / value.relative_to(old)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        return dataclasses.replace(value, **{name: _replaced(getattr(value, name), places) for name in names})
    if isinstance(value, Mapping):
        changed = {name: _replaced(item, places) for name, item in value.items()}
        return MappingProxyType(changed) if isinstance(value, MappingProxyType) else changed
    if isinstance(value, (list, tuple)):
        items = [_replaced(item, places) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value
