"""The tensors of a model folder, each read on first use and checked against its expected shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np

from nearfield.checkpoint import json_file
from nearfield.checkpoint.weights import gguf_file, open_clip, safetensors_file, torch_file
from nearfield.checkpoint.weights.digest import of_files
from nearfield.checkpoint.weights.lazy_tensor import LazyTensor
from nearfield.checkpoint.weights.quantized.stored_matrices import decoded_tensors
from nearfield.errors import WeightsError, nearest

#: Tried in this order; the first that exists is the model. An index names the shards beside it.
CANDIDATES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.pt",
    "model.gguf",
)
#: Other formats of weights, named when they are all that is there.
UNREAD = frozenset({".onnx", ".xml", ".gguf", ".h5", ".msgpack", ".ot", ".tflite", ".mlpackage"})


@dataclass(frozen=True, eq=False)
class Lora:
    """Low-rank factors of several adapters, stacked (Hu et al. 2021, arXiv:2106.09685).

    ``down`` [ranks, inputs] and ``up`` [outputs, ranks], scaling included; ``owners`` [ranks] are the adapters'
    numbers, from 1 to ``count``.
    """

    down: np.ndarray
    up: np.ndarray
    owners: np.ndarray
    count: int


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear layer: ``weight`` [outputs, inputs] and ``bias`` [outputs] or None, float32."""

    weight: np.ndarray
    bias: np.ndarray | None
    lora: Lora | None = None

    def part(self, start: int, stop: int) -> Linear:
        """Return the layer that gives outputs ``start`` to ``stop`` alone: checkpoints fuse what is used apart."""
        lora = self.lora and Lora(self.lora.down, self.lora.up[start:stop], self.lora.owners, self.lora.count)
        return Linear(self.weight[start:stop], None if self.bias is None else self.bias[start:stop], lora)

    def parts(self, count: int) -> tuple[Linear, ...]:
        """Cut the outputs into ``count`` equal parts."""
        size = len(self.weight) // count
        return tuple(self.part(size * number, size * (number + 1)) for number in range(count))


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """An embedding table: ``weight`` [rows, size], float32."""

    weight: np.ndarray
    lora: Lora | None = None


@dataclass(frozen=True, eq=False)
class Norm:
    """The scale and shift of a normalisation, both [size], float32; ``bias`` is None where there is none."""

    weight: np.ndarray
    bias: np.ndarray | None


#: What adapters add to a layer of a full name, whose weight has the shape (outputs, inputs).
LayerFactors: TypeAlias = Callable[[str, tuple[int, int]], Lora | None]


def _no_factors(_layer: str, _shape: tuple[int, int]) -> Lora | None:
    return None


@dataclass(frozen=True)
class _Contents:
    """What one folder holds, and which of it has been taken: shared by all scopes of the same weights."""

    origin: Path
    files: tuple[Path, ...]
    tensors: Mapping[str, LazyTensor]
    taken: set[str]
    factors: LayerFactors = _no_factors
    #: The digest of tensors that are not as in the files.
    known_digest: str = ""

    @cached_property
    def digest(self) -> str:
        return self.known_digest or of_files(self.files)


class Weights:
    """The tensors of a folder, seen from a prefix. Scopes of the same weights share the record of what was taken."""

    def __init__(self, contents: _Contents, prefix: str = "") -> None:
        self._contents = contents
        self._prefix = prefix

    @classmethod
    def open(cls, path: Path) -> Weights:
        """Open a folder's weights (safetensors first, sharded or not, else torch files), or those of one file."""
        paths = (path,) if path.is_file() else files(path)
        tensors: dict[str, LazyTensor] = {}
        for file in paths:
            tensors.update(_read(file))
        _check_index(path, tensors)
        return cls(_Contents(path, paths, decoded_tensors(tensors), set()))

    def adapted(self, factors: LayerFactors) -> Weights:
        """Return the same weights with adapters: ``factors`` gives what they add to the layer of a full name."""
        return Weights(replace(self._contents, factors=factors, taken=set()), self._prefix)

    def renamed(self, rename: Callable[[str], str]) -> Weights:
        """Return the same tensors under other full names."""
        tensors = {rename(name): stored for name, stored in self._contents.tensors.items()}
        return Weights(replace(self._contents, tensors=tensors, taken=set()), self._prefix)

    def replaced(self, tensors: Mapping[str, LazyTensor], digest: str) -> Weights:
        """Return the same weights with some replaced, or added, by full name; ``digest`` names the outcome."""
        both = {**self._contents.tensors, **tensors}
        return Weights(replace(self._contents, tensors=both, taken=set(), known_digest=digest), self._prefix)

    def stored(self, name: str) -> LazyTensor:
        """Return a tensor as it is stored, values unread.

        Raises:
            WeightsError: there is none of that name.
        """
        stored = self._contents.tensors.get(self._prefix + name)
        if stored is None:
            raise WeightsError(f"{self._contents.origin} lacks the weight {self._prefix + name}")
        return stored

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the weight files' contents, which names these weights wherever they lie."""
        return self._contents.digest

    @property
    def prefix(self) -> str:
        """The prefix that names are relative to, ``""`` or one that ends in a dot."""
        return self._prefix

    @classmethod
    def none(cls, path: Path) -> Weights:
        """Return no weights, for a model whose encoder lies in a graph's file."""
        return cls(_Contents(path, (), {}, set()))

    @property
    def top(self) -> Weights:
        """The same weights with no prefix: heads lie beside the encoder, not in it."""
        return Weights(self._contents)

    def names(self) -> frozenset[str]:
        """Return the names below the prefix, without it."""
        cut = len(self._prefix)
        return frozenset(name[cut:] for name in self._contents.tensors if name.startswith(self._prefix))

    def scope(self, prefix: str) -> Weights:
        """Return the weights below a further prefix; the dot at its end may be left out."""
        joined = self._prefix + prefix
        return Weights(self._contents, joined if not prefix or prefix.endswith(".") else joined + ".")

    def first_scope(self, prefixes: Sequence[str]) -> Weights:
        """Return the scope of the first prefix that has any tensor: base-model prefixes differ between exports."""
        for prefix in prefixes:
            scope = self.scope(prefix)
            if scope.names():
                return scope
        raise WeightsError(f"{self._contents.origin} has no weights under any of {', '.join(map(repr, prefixes))}")

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape in which a tensor is stored.

        Raises:
            WeightsError: there is none of that name.
        """
        return self.stored(name).shape

    def tensor(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return a tensor as C-contiguous float32 [shape]. It must exist and have exactly that shape."""
        full = self._prefix + name
        stored = self._contents.tensors.get(full)
        if stored is None:
            near = nearest(full, self._relatives(full))
            raise WeightsError(f"{self._contents.origin} lacks the weight {full} {list(shape)}. {near}")
        if stored.shape != shape:
            raise WeightsError(
                f"{full} in {stored.file} has shape {list(stored.shape)}, and the config asks for {list(shape)}"
            )
        self._contents.taken.add(full)
        return stored.read(full)

    def integers(self, name: str) -> np.ndarray:
        """Return a tensor of whole numbers, int64, in its own shape."""
        full = self._prefix + name
        stored = self._contents.tensors.get(full)
        if stored is None or stored.dtype not in ("I64", "I32", "I16", "I8", "U8"):
            raise WeightsError(f"{self._contents.origin} has no whole numbers under {full}")
        self._contents.taken.add(full)
        return stored.load().astype(np.int64)

    def linear(self, name: str, inputs: int, outputs: int, bias: bool = True) -> Linear:
        """Return the layer ``name.weight`` [outputs, inputs] and, unless ``bias`` is False, ``name.bias``.

        A file that holds one layer alone may leave out its name: it is then empty.
        """
        dotted = f"{name}." if name else ""
        weight = self.tensor(f"{dotted}weight", (outputs, inputs))
        return Linear(
            weight, self.tensor(f"{dotted}bias", (outputs,)) if bias else None, self._lora(name, (outputs, inputs))
        )

    def table(self, name: str, rows: int, size: int) -> EmbeddingTable:
        """Return the embedding table ``name.weight`` [rows, size]."""
        return EmbeddingTable(self.tensor(f"{name}.weight", (rows, size)), self._lora(name, (size, rows)))

    def norm(self, name: str, size: int, bias: bool = True) -> Norm:
        """Return ``name.weight`` and ``name.bias``, or what TensorFlow exports call them: ``gamma`` and ``beta``."""
        old = f"{self._prefix}{name}.gamma" in self._contents.tensors
        scale, shift = ("gamma", "beta") if old else ("weight", "bias")
        weight = self.tensor(f"{name}.{scale}", (size,))
        return Norm(weight, self.tensor(f"{name}.{shift}", (size,)) if bias else None)

    def _lora(self, name: str, shape: tuple[int, int]) -> Lora | None:
        """Return what the adapters add to the layer of that name and shape [outputs, inputs], if any does."""
        return self._contents.factors(self._prefix + name, shape)

    def untaken(self, ignore: Iterable[str] = ()) -> list[str]:
        """Return the full names that nothing has read, less those in which a regular expression of ``ignore`` is found.

        It answers for the whole folder, whatever the scope: a weight that no one wanted is a model not understood.
        """
        known = [re.compile(pattern) for pattern in ignore]
        rest = self._contents.tensors.keys() - self._contents.taken
        return sorted(name for name in rest if not any(pattern.search(name) for pattern in known))

    def _relatives(self, full: str) -> list[str]:
        """A few names to show when one is missing: those that end alike, or any."""
        last = full.rpartition(".")[2]
        names = sorted(self._contents.tensors)
        return ([name for name in names if name.endswith(last)] or names)[:8]


def files(folder: Path) -> tuple[Path, ...]:
    """Return the weight files of a folder, shards included. A folder that has only other formats is refused."""
    single = next((folder / name for name in _candidates(folder) if (folder / name).is_file()), None)
    if single is None:
        others = sorted(str(path.relative_to(folder)) for path in folder.glob("**/*") if path.suffix in UNREAD)
        only = f" It has {', '.join(others[:3])}: {_advice(others)}" if others else ""
        raise WeightsError(f"{folder} has no weights (looked for {', '.join(CANDIDATES)}).{only}")
    if single.suffix != ".json":
        return (single,)
    return tuple(_shard(single, name) for name in sorted(set(_index(single).values())))


def _candidates(folder: Path) -> tuple[str, ...]:
    """Return the names of weight files in the order in which they count; many folders have those of two libraries."""
    others = open_clip.FILES
    return (*others, *CANDIDATES) if open_clip.is_open_clip(folder) else (*CANDIDATES, *others)


def _index(path: Path) -> dict[str, str]:
    index = json_file.read_object(path).get("weight_map")
    if not isinstance(index, dict) or not index or not all(isinstance(file, str) for file in index.values()):
        raise WeightsError(f"{path} has no weight_map from tensor names to file names")
    return index


def _shard(index: Path, name: str) -> Path:
    path = index.parent / name
    if Path(name).name != name:
        raise WeightsError(f"{index} names {name!r}: shards must lie beside their index")
    if not path.is_file():
        raise WeightsError(f"{index} names {name}, which is missing")
    return path


def _check_index(folder: Path, tensors: Mapping[str, LazyTensor]) -> None:
    """Every tensor that the index in use promises must be in the shard it names."""
    single = next((name for name in _candidates(folder) if (folder / name).is_file()), "")
    if not single.endswith(".json"):
        return
    for name, file in _index(folder / single).items():
        if name not in tensors or tensors[name].file.name != file:
            raise WeightsError(f"{folder / single} says that {name} is in {file}, and it is not")


def _advice(others: Sequence[str]) -> str:
    if any(name.endswith(".gguf") for name in others):
        return "pass the path of the GGUF file in place of the folder's."
    return "that format is not read."


_READERS: Mapping[str, Callable[[Path], dict[str, LazyTensor]]] = {
    ".safetensors": safetensors_file.read_safetensors,
    ".gguf": gguf_file.read_gguf,
}


def _read(file: Path) -> dict[str, LazyTensor]:
    tensors = _READERS.get(file.suffix, torch_file.read_torch_file)(file)
    return open_clip.rename_tensors(tensors) if file.name in open_clip.FILES else tensors
