"""Search by an index of faiss or usearch, with a second comparison of quantised matches: `IndexSearch`.

The libraries are imported when they are used. Both fill up results that are too short: these places are left out.
"""

from __future__ import annotations

import importlib
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nearfield.argument_checks import require_count
from nearfield.arrays import Array
from nearfield.errors import InputError

#: Neighbours of each vector in a graph.
_NEIGHBOURS = 16


@dataclass(frozen=True, slots=True)
class IndexSearchOptions:
    """Options of one search, as ``semantic_search_faiss`` documents them."""

    precision: str
    top_k: int
    ranges: Array | None
    calibration: Array | None
    rescore: bool
    multiplier: int
    exact: bool


@dataclass(frozen=True)
class Neighbours:
    """Matches of each query: scores and ids [queries, k], and which of them exist."""

    scores: Array
    ids: Array
    valid: Array


class IndexSearch(ABC):
    """An index of a library, and how it is searched."""

    name: ClassVar[str]
    package: ClassVar[str]
    module: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]

    def __init__(self, index: Any, options: IndexSearchOptions) -> None:
        self.index = index
        self.options = options

    @classmethod
    def create(cls, corpus: Array | None, index: Any | None, options: IndexSearchOptions) -> IndexSearch:
        """Return a search over an index, or over a new one of the vectors of a corpus.

        Raises:
            InputError: there are both or neither, the precision is unknown, a number is less than 1, or the library is
                not installed.
        """
        if (corpus is None) == (index is None):
            both = "not both" if corpus is not None else "and there is neither"
            raise InputError(f"Give corpus_embeddings or corpus_index, {both}.", param="corpus_embeddings")
        require_count("top_k", options.top_k)
        require_count("rescore_multiplier", options.multiplier)
        if options.precision not in cls.precisions:
            raise InputError(
                f"corpus_precision must be {', '.join(cls.precisions)} for {cls.name}, not {options.precision!r}.",
                param="corpus_precision",
            )
        library = _import_index_library(cls.module, cls.package)
        return cls(cls.build(library, corpus, options) if corpus is not None else index, options)

    @staticmethod
    @abstractmethod
    def build(library: Any, corpus: Array, options: IndexSearchOptions) -> Any:
        """Return an index of the vectors of a corpus."""

    @property
    @abstractmethod
    def is_quantized(self) -> bool:
        """Whether the index has other numbers than float32."""

    @abstractmethod
    def search(self, queries: Array, count: int) -> Neighbours:
        """Search queries of the index's number format."""

    @abstractmethod
    def vectors(self, neighbours: Neighbours) -> Array:
        """Return the stored vectors of matches, [queries, k, width]; any values where there is none."""


class FaissSearch(IndexSearch):
    """Search by faiss."""

    name, package, module = "faiss", "faiss-cpu", "faiss"
    precisions = ("float32", "uint8", "ubinary")

    @staticmethod
    def build(library: Any, corpus: Array, options: IndexSearchOptions) -> Any:
        """Return an index of inner products, or of Hamming distances for bits."""
        width = corpus.shape[1]
        if options.precision == "ubinary":
            bits = width * 8
            index = library.IndexBinaryFlat(bits) if options.exact else library.IndexBinaryHNSW(bits, _NEIGHBOURS)
        elif options.exact:
            index = library.IndexFlatIP(width)
        else:
            index = library.IndexHNSWFlat(width, _NEIGHBOURS, library.METRIC_INNER_PRODUCT)
        index.add(np.ascontiguousarray(corpus))
        return index

    @property
    def is_quantized(self) -> bool:
        """Whether the index has bytes or bits."""
        return self.options.precision != "float32"

    def search(self, queries: Array, count: int) -> Neighbours:
        """Search; faiss gives the id -1 where there is no match."""
        scores, ids = self.index.search(np.ascontiguousarray(queries), count)
        return Neighbours(scores, ids, ids != -1)

    def vectors(self, neighbours: Neighbours) -> Array:
        """Return stored vectors."""
        bits = self.options.precision == "ubinary"
        width = self.index.d // 8 if bits else self.index.d
        stored = np.zeros((*neighbours.ids.shape, width), np.uint8 if bits else np.float32)
        for place in zip(*np.nonzero(neighbours.valid), strict=True):
            stored[place] = self.index.reconstruct(int(neighbours.ids[place]))
        return stored


class UsearchSearch(IndexSearch):
    """Search by usearch."""

    name, package, module = "usearch", "usearch", "usearch.index"
    precisions = ("float32", "int8", "ubinary", "binary")

    @staticmethod
    def build(library: Any, corpus: Array, options: IndexSearchOptions) -> Any:
        """Return an index of cosines, of inner products for int8, or of Hamming distances for bits."""
        width = corpus.shape[1]
        kinds = {"float32": (width, "cos", "f32"), "int8": (width, "ip", "i8")}
        dimensions, metric, dtype = kinds.get(options.precision, (width * 8, "hamming", "b1"))
        index = library.Index(ndim=dimensions, metric=metric, dtype=dtype)
        index.add(np.arange(len(corpus)), _unsigned_bits(corpus, options.precision))
        return index

    @property
    def is_quantized(self) -> bool:
        """Whether the index has bytes or bits."""
        kinds = importlib.import_module("usearch.compiled").ScalarKind
        return bool(self.index.dtype != kinds.F32)

    def search(self, queries: Array, count: int) -> Neighbours:
        """Search; usearch counts the matches of each query, unless there is a single one."""
        codes = _unsigned_bits(queries, self.options.precision)
        matches = self.index.search(codes, count=count, exact=self.options.exact)
        scores, ids = np.atleast_2d(matches.distances), np.atleast_2d(matches.keys)
        counts = np.asarray(getattr(matches, "counts", ids.shape[1])).reshape(-1, 1)
        return Neighbours(scores, ids, np.broadcast_to(np.arange(ids.shape[1]) < counts, ids.shape))

    def vectors(self, neighbours: Neighbours) -> Array:
        """Return stored vectors."""
        some = neighbours.ids[neighbours.valid][0]
        ids = np.where(neighbours.valid, neighbours.ids, some)
        return np.stack([np.asarray(self.index.get(row)) for row in ids])


def search_index(
    search: IndexSearch, queries: Array, originals: Array | None, ranges: Array | None
) -> tuple[list[list[dict[str, int | float]]], float]:
    """Search queries; return the matches of each, and the seconds.

    Args:
        search: the index.
        queries: vectors of the index's number format.
        originals: the queries in float32, to compare the matches with again; None not to.
        ranges: those of int8 and uint8.
    """
    started, options = time.perf_counter(), search.options
    count = options.top_k * (1 if originals is None else options.multiplier)
    neighbours = search.search(queries, count)
    if originals is not None and neighbours.valid.any():
        stored = _decode(search.vectors(neighbours), options.precision, originals.shape[-1], ranges)
        neighbours = _rank_again(neighbours, np.einsum("ij,ikj->ik", np.atleast_2d(originals), stored), options.top_k)
    seconds = time.perf_counter() - started
    rows = zip(neighbours.scores, neighbours.ids, neighbours.valid, strict=True)
    results = [
        [{"corpus_id": int(i), "score": float(s)} for s, i in zip(scores[valid], ids[valid], strict=True)]
        for scores, ids, valid in rows
    ]
    return results, seconds


def _rank_again(neighbours: Neighbours, scores: Array, top_k: int) -> Neighbours:
    scores = np.where(neighbours.valid, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    parts = (scores, neighbours.ids, neighbours.valid)
    return Neighbours(*(np.take_along_axis(part, order, 1) for part in parts))


def _decode(stored: Array, precision: str, dim: int, ranges: Array | None) -> Array:
    """Return stored vectors in the scale of the queries; of bits 0 and 1, without those that fill up the last byte."""
    if precision in ("binary", "ubinary"):
        return np.unpackbits(stored.view(np.uint8), axis=-1)[..., :dim].astype(np.float64)
    if ranges is None:
        return stored.astype(np.float64)
    low, high = np.asarray(ranges).astype(np.float32, copy=False)
    steps = (high - low) / 255
    codes = stored.astype(np.float64) + (128 if precision == "int8" else 0)
    return codes * np.where(steps == 0, 1, steps) + low


def _unsigned_bits(vectors: Array, precision: str) -> Array:
    """Return bytes of signs as usearch reads them: ``binary`` is shifted by 128."""
    return vectors.view(np.uint8) ^ 0x80 if precision == "binary" else vectors


def _import_index_library(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"This search needs {package}, which is not installed: pip install {package}, or use semantic_search."
        ) from error
