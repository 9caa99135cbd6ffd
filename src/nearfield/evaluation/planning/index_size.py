"""Size: the bytes that vectors and their index take, by formulas that are shown, and the time to make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from nearfield.errors import InputError, nearest
from nearfield.vectors.quantization import PRECISIONS

#: Bits of a value, by dtype.
BITS: Mapping[str, int] = MappingProxyType(
    {"float32": 32, "float16": 16, "int8": 8, "uint8": 8, "binary": 1, "ubinary": 1}
)
#: Links of a node of HNSW: what hnswlib, Qdrant and pgvector take when they are not told.
_LINKS = 16
#: A page of PostgreSQL, and what tuples fill of it: the page's header and pgvector's own are taken off.
_PAGE, _PAGE_ROOM = 8192, 8192 - 24 - 8


@dataclass(frozen=True)
class Index:
    """What an index adds to the vectors themselves.

    ``formula`` is in bytes a vector, of v (the vector's own bytes), d (its dimensions) and m (links of a node): the sum
    of ``of_vector`` v, ``of_dimensions`` d and ``fixed``, or what pgvector's pages make of v. ``dtypes`` are those that
    it may hold.
    """

    formula: str
    source: str
    of_vector: float = 0.0
    of_dimensions: float = 0.0
    fixed: float = 0.0
    dtypes: tuple[str, ...] = PRECISIONS
    paged: bool = False

    def each(self, size: float, dimensions: int) -> float:
        """Return the bytes for a vector of ``size`` bytes."""
        if self.paged:
            return _on_pages(size)
        return self.of_vector * size + self.of_dimensions * dimensions + self.fixed


def _on_pages(size: float) -> float:
    """A value's header, then pages of the index: each holds as many whole pairs of element and neighbours as fit."""
    pair = _aligned(72 + 8 + size) + _aligned(4 + 2 * _LINKS * 6) + 8
    return 8 + _PAGE / max(1, _PAGE_ROOM // pair)


def _aligned(size: float) -> int:
    return -(-int(-(-size // 1)) // 8) * 8


_FLOATS = ("float32", "float16")
#: By name: ``none`` is a file of vectors, or a search that compares with all.
INDICES: Mapping[str, Index] = MappingProxyType(
    {
        "none": Index("0", "a file of vectors (.npy), a matrix in memory: nothing beside the values"),
        "lancedb": Index(
            "v + 8",
            "IVF_FLAT holds a copy of each vector and its row's number (8 bytes, packed where they follow each other)",
            of_vector=1,
            fixed=8,
            dtypes=(*_FLOATS, "binary", "ubinary"),
        ),
        "lancedb-int8": Index(
            "d + 8", "IVF_SQ holds a byte a value, and the row's number", of_dimensions=1, fixed=8, dtypes=_FLOATS
        ),
        "lancedb-binary": Index(
            "d / 8 + 20",
            "IVF_RQ holds a bit a value, three factors of 4 bytes, and the row's number",
            of_dimensions=1 / 8,
            fixed=20,
            dtypes=_FLOATS,
        ),
        "hnsw": Index(
            "8 m + 12 + (4 m + 4) / (m - 1), m = 16",
            "hnswlib (Chroma, FAISS alike): 2 m links of 4 bytes, their number and a label; m more on each level "
            "above, for one of m; 8 to 10 m by https://github.com/nmslib/hnswlib/blob/master/ALGO_PARAMS.md",
            fixed=8 * _LINKS + 12 + (4 * _LINKS + 4) / (_LINKS - 1),
        ),
        "qdrant": Index(
            "v / 2",
            "vectors times 1.5, for index, versions and segments being joined; "
            "https://qdrant.tech/documentation/capacity-planning/",
            of_vector=0.5,
        ),
        "pgvector": Index(
            "8 + 8192 / floor(8160 / (align8(80 + v) + align8(4 + 12 m) + 8)), m = 16",
            "8 bytes a value's header (https://github.com/pgvector/pgvector#reference); its HNSW index keeps a copy of "
            "the vector beside links of 6 bytes on pages of 8,192, where what does not fit whole goes to the next",
            dtypes=(*_FLOATS, "binary", "ubinary"),
            paged=True,
        ),
    }
)


@dataclass(frozen=True)
class Size:
    """Bytes of ``vectors`` vectors: of each, of all, of their index, of the texts kept beside them."""

    vectors: int
    dimensions: int
    dtype: str
    index: str
    each: float
    raw: int
    overhead: int
    texts: int = 0

    @property
    def total(self) -> int:
        """All together."""
        return self.raw + self.overhead + self.texts

    def told(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**vars(self), "total": self.total}


def vector_bytes(dimensions: int, dtype: str) -> float:
    """Return the bytes of a vector.

    Raises:
        InputError: unknown dtype, no dimensions, or dimensions that bits do not fill to whole bytes.
    """
    if dtype not in BITS:
        raise InputError(f"Unknown dtype {dtype!r}. {nearest(dtype, BITS)}", param="dtype")
    if dimensions < 1:
        raise InputError(f"A vector has at least one dimension, not {dimensions}.", param="dimensions")
    if BITS[dtype] == 1 and dimensions % 8:
        raise InputError(f"{dtype} packs eight values to a byte, and {dimensions} is no multiple of 8.", param="dtype")
    return dimensions * BITS[dtype] / 8


def index_size(
    vectors: int, dimensions: int, dtype: str = "float32", index: str = "none", *, text_bytes: float = 0.0
) -> Size:
    """Return what ``vectors`` vectors take in an index, one of ``INDICES``; ``text_bytes`` are those of a text kept.

    Raises:
        InputError: something is unknown or no number to count with, or the index does not hold such a dtype.
    """
    if vectors < 0 or text_bytes < 0:
        raise InputError(f"There are no {min(vectors, text_bytes):,} vectors or bytes.", param="vectors")
    if index not in INDICES:
        raise InputError(f"Unknown index {index!r}. {nearest(index, INDICES)}", param="index")
    each, kind = vector_bytes(dimensions, dtype), INDICES[index]
    if dtype not in kind.dtypes:
        raise InputError(f"{index} holds {', '.join(kind.dtypes)}, not {dtype}.", param="index")
    overhead = round(vectors * kind.each(each, dimensions))
    texts = round(vectors * text_bytes)
    return Size(vectors, dimensions, dtype, index, each, round(vectors * each), overhead, texts)


def seconds_to_index(texts: int, tokens: float, tokens_per_second: float) -> float:
    """Return the seconds that ``texts`` texts of ``tokens`` tokens each take: texts x tokens / (tokens/s).

    Raises:
        InputError: the speed is none.
    """
    if not tokens_per_second > 0:
        raise InputError(f"A speed must be above 0, not {tokens_per_second} tokens/s.", param="tokens_per_second")
    return texts * tokens / tokens_per_second
