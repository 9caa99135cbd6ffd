"""Results: from what the engine gives back to what a caller gets: cut, scaled, quantised, counted, joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from nearfield.checkpoint.tokenizer.tokenizer import Tokens
from nearfield.inference.encode_options import ResolvedOptions
from nearfield.recipe import Multivector, Recipe
from nearfield.vectors.dense import Vectors, fingerprint, normalize, quantize, truncate
from nearfield.vectors.outputs import MultiVectors, Outputs, SparseVectors

Array = np.ndarray[Any, np.dtype[Any]]
Result = Vectors | SparseVectors | MultiVectors | Outputs


def build_result(recipe: Recipe, request: ResolvedOptions, rows: Any, tokens: Sequence[Tokens], single: bool) -> Result:
    """Turn a ticket's rows into the kinds of output that were asked for."""
    counts = {
        "tokens": np.fromiter((len(item.ids) for item in tokens), np.int64, len(tokens)),
        "dropped": np.fromiter((item.dropped for item in tokens), np.int64, len(tokens)),
        "single": single,
    }
    if isinstance(rows, np.ndarray):
        found: dict[str, Any] = {"dense": dense(request, rows, counts)}
    else:
        found = {name: _kind(recipe, request, name, [row[name] for row in rows], counts) for name in request.outputs}
    return Outputs(**found) if request.named else cast(Result, found[request.outputs[0]])


def _kind(recipe: Recipe, request: ResolvedOptions, name: str, rows: list[Any], counts: dict[str, Any]) -> Any:
    if name == "dense":
        width = recipe.dimensions
        return dense(request, np.stack(rows) if rows else np.zeros((0, width), np.float32), counts)
    if name == "sparse":
        size = int(recipe.config["vocab_size"])
        return SparseVectors.of(rows, size, fingerprint(request.space, size, "sparse"), **counts)
    spec = cast(Multivector, recipe.head("multivector"))
    mark = fingerprint(request.space, spec.dimensions, "multivector")
    return MultiVectors.of(rows, spec.dimensions, mark, average=spec.average, **counts)


def dense(request: ResolvedOptions, rows: Array, counts: dict[str, Any]) -> Vectors:
    """Scale, cut and quantise dense rows [n, dimensions]."""
    data = normalize(rows) if request.normalize else rows
    if request.dim < data.shape[1]:
        if request.centre:
            # A layer norm without weights, of which scaling to unit length leaves the centring alone.
            data = data - data.mean(1, keepdims=True)
        data = truncate(data, request.dim, renormalize=request.unit)
    vectors = Vectors(data, fingerprint(request.space, request.dim, "float32"), request.dim, **counts)
    if request.precision == "float32" and request.ranges is None:
        return vectors
    return quantize(vectors, request.precision, request.ranges, unit=request.unit)


def combine(rows: Array, sizes: Sequence[int], owners: Array, count: int, unit: bool) -> Array:
    """Combine the vectors of each input's pieces: their mean, weighted by tokens; of unit length where they are."""
    weights = np.asarray(sizes, np.float64)
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, owners, rows * weights[:, None])
    totals = np.bincount(owners, weights, count)
    means = (sums / totals[:, None]).astype(np.float32)
    return normalize(means) if unit else means


def concatenate_results(parts: Sequence[Result], single: bool) -> Any:
    """Join the results of consecutive windows."""
    if len(parts) == 1 and not single:
        return parts[0]
    first: Any = parts[0]
    if isinstance(first, Outputs):
        return Outputs(
            **{name: concatenate_results([cast(Outputs, part)[name] for part in parts], single) for name in first.kinds}
        )
    facts: dict[str, Any] = {name: _column(parts, name) for name in ("tokens", "dropped", *_COLUMNS[type(first)])}
    if isinstance(first, Vectors):
        facts["clipped"] = sum(cast(Vectors, part).clipped for part in parts)
    else:
        lengths = np.concatenate([np.diff(cast(Any, part).indptr) for part in parts])
        facts["indptr"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return replace(first, single=single, **facts)


_COLUMNS: dict[type, tuple[str, ...]] = {
    Vectors: ("data",),
    SparseVectors: ("indices", "values"),
    MultiVectors: ("data",),
}


def _column(parts: Sequence[Result], name: str) -> Array:
    return np.concatenate([cast(Array, getattr(part, name)) for part in parts])
