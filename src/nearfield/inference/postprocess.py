"""Build results from the engine's rows: truncate, scale and quantise vectors, count tokens, concatenate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypedDict, cast

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.tokenizer.tokenizer import Tokens
from nearfield.errors import InputError
from nearfield.inference.encode_options import TOKEN_STATES, ResolvedOptions
from nearfield.inference.preparation.input_preparer import InputCounts, PreparedInputs
from nearfield.recipe import Multivector, Recipe
from nearfield.vectors.dense import Vectors, normalize, quantize, truncate
from nearfield.vectors.fingerprint import fingerprint, mapped_space
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.outputs import Outputs
from nearfield.vectors.sparse import SparseVectors, keep_largest

Result = Vectors | SparseVectors | MultiVectors | Outputs


#: A ticket's rows: dense vectors [n, dimensions], or the outputs of each input by name.
TicketRows = Array | Sequence[Mapping[str, Any]]


#: What is counted of each input.
Counted: TypeAlias = Sequence[Tokens] | Sequence[InputCounts]
#: Type of counts of tokens: half of NumPy's default, and more than any text has.
COUNT_TYPE = np.int32


class _TokenCounts(TypedDict):
    """Tokens of each input that were read, truncated and not known, and whether the call had a single input."""

    tokens: Array
    dropped: Array
    unknown: Array
    single: bool


def finish(
    recipe: Recipe, options: ResolvedOptions, rows: TicketRows, prepared: PreparedInputs, single: bool
) -> Result:
    """Return the result of a ticket's rows; inputs that were split into pieces get one vector each."""
    if prepared.owners is not None:
        plain = rows if isinstance(rows, np.ndarray) else np.stack([row["dense"] for row in rows])
        plain = normalize(plain) if prepared.unit_pieces else plain
        unit = recipe.normalized or prepared.unit_pieces
        rows = combine_pieces(plain, prepared.sizes, prepared.owners, len(prepared.tokens), unit)
    return build_result(recipe, options, rows, prepared.tokens, single)


def chunk_vectors(
    options: ResolvedOptions, rows: Iterable[Mapping[str, Any]], documents: Sequence[Sequence[Tokens]]
) -> list[Vectors]:
    """Return the vectors of each document's chunks, from a ticket's rows and the chunks' tokens."""
    return [
        build_dense(options, row["dense"], _count(chunks, single=False))
        for row, chunks in zip(rows, documents, strict=True)
    ]


def build_result(
    recipe: Recipe,
    options: ResolvedOptions,
    rows: TicketRows,
    tokens: Counted,
    single: bool,
) -> Result:
    """Return the requested kinds of output from a ticket's rows: an array, or for each input a dictionary by output."""
    counts = _count(tokens, single)
    if isinstance(rows, np.ndarray):
        results: dict[str, Result] = {"dense": build_dense(options, rows, counts)}
    else:
        results = {
            name: _build_kind(recipe, options, name, [row[name] for row in rows], counts) for name in options.outputs
        }
    return Outputs(**cast(Any, results)) if options.returns_outputs else results[options.outputs[0]]


def _build_kind(recipe: Recipe, options: ResolvedOptions, name: str, rows: list[Any], counts: _TokenCounts) -> Result:
    if name == "dense":
        width = recipe.dimensions
        return build_dense(options, np.stack(rows) if rows else np.zeros((0, width), np.float32), counts)
    if name == TOKEN_STATES:
        width = rows[0].shape[1] if rows else 0
        return MultiVectors.of(rows, width, fingerprint(options.space, width, TOKEN_STATES), **counts)
    if name == "sparse":
        size = int(recipe.config["vocab_size"])
        if recipe.max_active_dims is not None:
            rows = [keep_largest(row, recipe.max_active_dims) for row in rows]
        return SparseVectors.of(rows, size, fingerprint(options.space, size, "sparse"), **counts)
    spec = cast(Multivector, recipe.head("multivector"))
    space = fingerprint(options.space, spec.dimensions, "multivector")
    return MultiVectors.of(rows, spec.dimensions, space, average=spec.divide_by_query_length, **counts)


def _count(tokens: Counted, single: bool) -> _TokenCounts:
    size = len(tokens)
    return {
        "tokens": np.fromiter((item.count for item in tokens), COUNT_TYPE, size),
        "dropped": np.fromiter((item.dropped for item in tokens), COUNT_TYPE, size),
        "unknown": np.fromiter((item.unknown for item in tokens), COUNT_TYPE, size),
        "single": single,
    }


def build_dense(options: ResolvedOptions, rows: Array, counts: _TokenCounts) -> Vectors:
    """Return dense vectors, scaled, mapped, truncated and quantised, from float32 rows [n, dimensions]."""
    data, name = normalize(rows) if options.normalize_first else rows, options.space
    if options.query_map is not None:
        data, name = options.query_map.apply(data), mapped_space(name, options.query_map.digest)
    if options.dimensions < data.shape[1]:
        if options.subtract_mean:
            # A layer norm without weights: scaling to unit length follows, so that only the centring matters.
            data = data - data.mean(1, keepdims=True)
        data = truncate(data, options.dimensions, renormalize=options.rescale_after_truncation)
    space = fingerprint(name, options.dimensions, "float32")
    vectors = Vectors(data, space, options.dimensions, **counts)
    if options.precision == "float32" and options.ranges is None:
        return vectors
    return quantize(vectors, options.precision, options.ranges, unit=options.rescale_after_truncation)


def combine_pieces(rows: Array, sizes: Sequence[int], owners: Array, count: int, unit: bool) -> Array:
    """Return one vector for each of ``count`` inputs: the mean of its pieces' vectors, weighted by their tokens.

    Args:
        rows: the pieces' vectors, float32 [pieces, dimensions].
        sizes: tokens of each piece.
        owners: for each piece, the number of the input that it is a part of.
        count: number of inputs.
        unit: scale the means to unit length.
    """
    weights = np.asarray(sizes, np.float64)
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, owners, rows * weights[:, None])
    totals = np.bincount(owners, weights, count)
    means = (sums / totals[:, None]).astype(np.float32)
    return normalize(means) if unit else means


def concatenate_results(parts: Sequence[Result], single: bool) -> Any:
    """Return one result from those of consecutive windows, all of the same kind."""
    if len(parts) == 1 and not single:
        return parts[0]
    first: Any = parts[0]
    if isinstance(first, Outputs):
        return Outputs(
            **{name: concatenate_results([cast(Outputs, part)[name] for part in parts], single) for name in first.kinds}
        )
    if isinstance(first, Vectors):
        vectors = np.concatenate(cast("list[Vectors]", parts)) if len(parts) > 1 else first
        return vectors[0] if single else vectors
    columns = ("tokens", "dropped", "unknown", *_COLUMNS[type(first)])
    changes: dict[str, Any] = {name: _concatenate_column(parts, name) for name in columns}
    lengths = np.concatenate([np.diff(cast(Any, part).indptr) for part in parts])
    changes["indptr"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return replace(first, single=single, **changes)


_COLUMNS: Mapping[type, tuple[str, ...]] = {SparseVectors: ("indices", "values"), MultiVectors: ("data",)}


def _concatenate_column(parts: Sequence[Result], name: str) -> Array:
    return np.concatenate([cast(Array, getattr(part, name)) for part in parts])


class ResultCollector:
    """Joins the results of consecutive windows.

    Where the number of inputs is known, dense vectors are copied into one array as they come, so that a long result is
    in memory once, not twice.
    """

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._parts: list[Result] = []
        self._data: Array | None = None
        self._facts: list[Any] = []
        self._count = 0

    def add(self, part: Result) -> None:
        """Add the result of the next window.

        Raises:
            InputError: there are more inputs than the sequence had at first.
        """
        if self._total is None or len(part) == self._total or not isinstance(part, Vectors):
            self._parts.append(part)
            return
        if self._data is None:
            self._data = np.empty((self._total, part.data.shape[1]), part.dtype)
        end = self._count + len(part)
        if end > self._total:
            raise InputError("The list of inputs grew while it was encoded. Encode a copy of it.", param="input")
        self._data[self._count : end] = part.data
        self._facts.append(part.facts)
        self._count = end

    def result(self, empty: Callable[[], Result], single: bool) -> Any:
        """Return the result of all inputs; ``empty`` creates one without any."""
        if self._data is not None:
            return Vectors.annotate(self._data[: self._count], self._facts[0].join(self._facts[1:]))
        return concatenate_results(self._parts or [empty()], single)
