"""`VectorMap`: a fitted function from the vectors of one space to those of another, and its folder.

A *query map* has one space on both sides: it moves queries nearer to what they look for, and documents do not change. A
*bridge* reads the vectors of one model and returns vectors for an index of another one.


A folder has ``adapter.safetensors``, with the numbers, the spaces, the digest, and what was measured, and ``map.json``
with all but the numbers. The rules are matrices, so that a vector takes microseconds:

====================  ==================================================================================
tensors               result for a row ``x``
====================  ==================================================================================
matrix, offset        ``x @ matrix + offset``
down, up, offset      ``x @ down @ up + offset`` (low rank)
hidden*, outer        added to one of those: ``relu(x @ hidden + hidden_offset) @ outer`` (residual)
centroids, local*     ``x @ local[c] + local_offset[c]`` of the nearest centroid ``c`` (local maps)
====================  ==================================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nearfield.arrays import Array
from nearfield.errors import InputError, SpaceMismatch
from nearfield.fileio.atomic import write_atomic
from nearfield.vectors.dense import normalize
from nearfield.vectors.fingerprint import mapped_space

MapKind = Literal["query", "bridge"]
TENSORS_FILE, FACTS_FILE = "adapter.safetensors", "map.json"
FORMAT = 1
#: Where ``adapter.safetensors`` has what ``map.json`` has.
_FACTS_KEY = "map"
#: Rows that are mapped together: a block of hidden values stays in the cache.
_ROWS_PER_BLOCK = 4096
#: For each form its tensors; those in the second set may be missing.
_FORMS: Mapping[str, tuple[set[str], set[str]]] = {
    "linear": ({"matrix"}, {"offset"}),
    "low-rank": ({"down", "up"}, {"offset"}),
    "residual": ({"matrix", "hidden", "hidden_offset", "outer"}, {"offset"}),
    "local": ({"centroids", "local", "local_offset"}, set()),
}


@dataclass(frozen=True)
class VectorMap:
    """A fitted map between vector spaces.

    Args:
        kind: ``query`` or ``bridge``.
        form: ``linear``, ``low-rank``, ``residual`` or ``local``; the module says what each computes.
        source: fingerprint of the vectors that it reads, without truncation, in float32.
        target: fingerprint of the vectors that its results are compared with; for a query map the same as ``source``.
        tensors: float32 arrays by name.
        unit: scale results to unit length.
        facts: what was fitted and measured, as JSON data.

    Raises:
        InputError: the tensors are not those of the form, do not fit together, or have values that are no numbers.
    """

    kind: MapKind
    form: str
    source: str
    target: str
    tensors: Mapping[str, Array]
    unit: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        needed, optional = _FORMS.get(self.form, ({""}, set()))
        if not needed <= set(self.tensors) <= needed | optional:
            raise InputError(f"A map of the form {self.form!r} with the tensors {sorted(self.tensors)} is not known.")
        bad = next((name for name, tensor in self.tensors.items() if not np.isfinite(tensor).all()), None)
        if bad is not None:
            raise InputError(f"The tensor {bad} of the map has values that are no numbers (NaN or infinite).")
        self._check_shapes()

    def _check_shapes(self) -> None:
        try:
            result = self._raw(np.zeros((1, self.width), np.float32))
        except (ValueError, IndexError) as error:
            raise InputError(f"The tensors of the map do not fit together: {error}") from error
        if result.shape != (1, width_of(self.target)) or self.width != width_of(self.source):
            raise InputError(
                f"The map has {self.width} dimensions on one side and {result.shape[-1]} on the other, and its spaces "
                f"are {self.source} and {self.target}."
            )

    @property
    def width(self) -> int:
        """The dimensions of the vectors that it reads."""
        first = next(self.tensors[name] for name in ("matrix", "down", "local") if name in self.tensors)
        return int(first.shape[-2])

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of form, spaces and numbers in hexadecimal."""
        state = hashlib.sha256(json.dumps([FORMAT, self.kind, self.form, self.source, self.target, self.unit]).encode())
        for name in sorted(self.tensors):
            tensor = np.ascontiguousarray(self.tensors[name], np.float32)
            state.update(json.dumps([name, tensor.shape]).encode() + tensor.tobytes())
        return state.hexdigest()

    @property
    def fingerprint(self) -> str:
        """The name of the space of its results: that of the target, joined with the digest of the map."""
        space, _, rest = self.target.partition(":")
        return f"{mapped_space(space, self.digest)}:{rest}"

    def apply(self, rows: Array) -> Array:
        """Return the results for full vectors [n, width] as float32 [n, dimensions of the target].

        Raises:
            InputError: the rows have another number of dimensions.
        """
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise InputError(f"The map reads vectors of {self.width} dimensions, not of the shape {rows.shape}.")
        blocks = [self._raw(rows[at : at + _ROWS_PER_BLOCK]) for at in range(0, max(1, len(rows)), _ROWS_PER_BLOCK)]
        result = np.concatenate(blocks).astype(np.float32, copy=False)
        return normalize(result) if self.unit else result

    def _raw(self, rows: Array) -> Array:
        tensors = self.tensors
        if self.form == "local":
            return self._local(rows)
        matrix = tensors.get("matrix")
        result = rows @ tensors["down"] @ tensors["up"] if matrix is None else rows @ matrix
        if "offset" in tensors:
            result = result + tensors["offset"]
        if self.form == "residual":
            result = result + np.maximum(rows @ tensors["hidden"] + tensors["hidden_offset"], 0) @ tensors["outer"]
        return np.asarray(result)

    def _local(self, rows: Array) -> Array:
        tensors = self.tensors
        clusters = nearest_centroids(rows, tensors["centroids"])
        result = np.empty((len(rows), tensors["local"].shape[2]), np.float32)
        for cluster in np.unique(clusters):
            at = clusters == cluster
            result[at] = rows[at] @ tensors["local"][cluster] + tensors["local_offset"][cluster]
        return result

    def require_source(self, fingerprint: str, what: str) -> None:
        """Raise SpaceMismatch unless the map reads vectors of this space; ``what`` names whose they are."""
        if self.source != fingerprint:
            raise SpaceMismatch(
                f"The {_KIND_NAMES[self.kind]} was fitted for vectors of the space {self.source}, and those of {what} "
                f"are of {fingerprint}. Fit it again for that model."
            )

    def save(self, folder: Path) -> None:
        """Write the map to a folder, in the place of an earlier one if there is one.

        The file of the numbers has the facts too, and is replaced in one step: a reader, also after a kill at any
        moment, has the old map or the new one. ``map.json`` is for people, and for older versions.
        """
        from safetensors.numpy import save as to_bytes

        folder.mkdir(parents=True, exist_ok=True)
        facts = self.to_dict()
        tensors = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in self.tensors.items()}
        write_atomic(folder / TENSORS_FILE, to_bytes(tensors, {_FACTS_KEY: json.dumps(facts)}), durable=True)
        write_atomic(folder / FACTS_FILE, json.dumps(facts, indent=2) + "\n", durable=True)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``map.json`` contains: all but the numbers."""
        return {
            "format": FORMAT,
            "kind": self.kind,
            "form": self.form,
            "source": self.source,
            "target": self.target,
            "unit": self.unit,
            "digest": self.digest,
            "fingerprint": self.fingerprint,
            "facts": dict(self.facts),
        }


_KIND_NAMES: Mapping[str, str] = {"query": "query map", "bridge": "bridge"}


def load_map(folder: str | Path, kind: MapKind) -> VectorMap:
    """Return the map in a folder.

    Raises:
        InputError: there is none, it is of another kind, or its files are damaged or of a newer format.
    """
    path = Path(folder).expanduser()
    name = _KIND_NAMES[kind]
    if not (path / TENSORS_FILE).is_file():
        raise InputError(f"There is no {name} in {path}: {TENSORS_FILE} is needed.", param="map")
    result, digest = _read(path)
    if result.kind != kind:
        raise InputError(f"{path} is a {_KIND_NAMES[result.kind]}, not a {name}.", param="map")
    if result.digest != digest:
        raise InputError(f"{path} is damaged: its numbers are not those of its digest. Fit it again.", param="map")
    return result


def read_query_map(value: object) -> VectorMap | None:
    """Return the query map that a caller passes as a folder or as itself; None for None.

    Raises:
        InputError: there is no query map in the folder, or it is damaged.
    """
    if isinstance(value, (str, Path)):
        return load_map(value, "query")
    if value is not None and not (isinstance(value, VectorMap) and value.kind == "query"):
        raise InputError(f"query_map is the folder of a query map, not {value!r:.100}.", param="query_map")
    return value


def _read(path: Path) -> tuple[VectorMap, object]:
    from safetensors import SafetensorError

    try:
        tensors, facts = _read_tensors(path / TENSORS_FILE)
        if facts is None:  # of a version that wrote them in map.json alone
            facts = json.loads((path / FACTS_FILE).read_text(encoding="utf-8"))
        if int(facts["format"]) > FORMAT:
            raise InputError(f"{path} has format {facts['format']}, of a newer version. Update Nearfield.", param="map")
        known = {name: facts[name] for name in ("kind", "form", "source", "target", "unit", "facts")}
        if known["kind"] not in _KIND_NAMES:
            raise ValueError(f"the kind {known['kind']!r} is not known")
        if not isinstance(known["facts"], dict):
            raise ValueError(f"facts is {known['facts']!r:.60}, and no object")
        return VectorMap(tensors=tensors, **known), facts["digest"]
    except InputError as error:
        raise InputError(f"{path}: {error}", param="map") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise InputError(f"{path} is damaged and cannot be read: {error}. Fit it again.", param="map") from error


def _read_tensors(path: Path) -> tuple[dict[str, Array], Any]:
    """Return the tensors of a file, and the facts in it, or None; both are of one write."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        facts = (file.metadata() or {}).get(_FACTS_KEY)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    return tensors, None if facts is None else json.loads(facts)


def width_of(fingerprint: str) -> int:
    """Return the dimensions that a fingerprint names.

    Raises:
        InputError: it names none.
    """
    parts = fingerprint.split(":")
    if len(parts) < 3 or not parts[1].isdigit():
        raise InputError(f"{fingerprint!r} is no fingerprint of a vector space.")
    return int(parts[1])


def nearest_centroids(rows: Array, centroids: Array) -> Array:
    """Return for each row the number of the nearest centroid by Euclidean distance."""
    return np.asarray(np.argmin((centroids**2).sum(1) - 2 * (rows @ centroids.T), axis=1))
