"""Estimate the size of vectors and their index by published formulas, and the time to compute the vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from nearfield.errors import InputError, nearest
from nearfield.evaluation.json_types import JsonDict
from nearfield.vectors.quantization import PRECISIONS

#: Bits of a value, by dtype.
BITS: Mapping[str, int] = MappingProxyType(
    {"float32": 32, "float16": 16, "int8": 8, "uint8": 8, "binary": 1, "ubinary": 1}
)
#: Links of an HNSW node: the default of hnswlib, Qdrant and pgvector.
_LINKS = 16
#: A page of PostgreSQL, and its space for tuples, without the page header and that of pgvector.
_PAGE, _PAGE_SPACE = 8192, 8192 - 24 - 8


@dataclass(frozen=True)
class Index:
    """The bytes that an index adds to the vectors.

    ``formula`` gives bytes per vector from v (bytes of the vector), d (dimensions) and m (links of a node): the sum of
    ``of_vector`` v, ``of_dimensions`` d and ``fixed``, or for pgvector the share of a page. ``dtypes`` are supported.
    """

    formula: str
    source: str
    of_vector: float = 0.0
    of_dimensions: float = 0.0
    fixed: float = 0.0
    dtypes: tuple[str, ...] = PRECISIONS
    paged: bool = False

    def bytes_per_vector(self, size: float, dimensions: int) -> float:
        """Return the bytes added for a vector of ``size`` bytes."""
        if self.paged:
            return _on_pages(size)
        return self.of_vector * size + self.of_dimensions * dimensions + self.fixed


def _on_pages(size: float) -> float:
    """Return the bytes of a value's header and its share of an index page, which holds whole pairs only."""
    pair = _align_to_8(72 + 8 + size) + _align_to_8(4 + 2 * _LINKS * 6) + 8
    return 8 + _PAGE / max(1, _PAGE_SPACE // pair)


def _align_to_8(size: float) -> int:
    return -(-int(-(-size // 1)) // 8) * 8


_FLOATS = ("float32", "float16")
#: Indexes by name; ``none`` is a file of vectors, or exact search.
INDICES: Mapping[str, Index] = MappingProxyType(
    {
        "none": Index("0", "a file of vectors (.npy), a matrix in memory: nothing besides the values"),
        "lancedb": Index(
            "v + 8",
            "IVF_FLAT holds a copy of each vector and its row number (8 bytes, packed if consecutive)",
            of_vector=1,
            fixed=8,
            dtypes=(*_FLOATS, "binary", "ubinary"),
        ),
        "lancedb-int8": Index(
            "d + 8", "IVF_SQ holds a byte per value, and the row number", of_dimensions=1, fixed=8, dtypes=_FLOATS
        ),
        "lancedb-binary": Index(
            "d / 8 + 20",
            "IVF_RQ holds a bit per value, three factors of 4 bytes, and the row number",
            of_dimensions=1 / 8,
            fixed=20,
            dtypes=_FLOATS,
        ),
        "hnsw": Index(
            "8 m + 12 + (4 m + 4) / (m - 1), m = 16",
            "hnswlib (Chroma and FAISS are alike): 2 m links of 4 bytes, their number and a label; m more on each "
            "higher level, for one node of m; 8 to 10 m by https://github.com/nmslib/hnswlib/blob/master/ALGO_PARAMS.md",
            fixed=8 * _LINKS + 12 + (4 * _LINKS + 4) / (_LINKS - 1),
        ),
        "qdrant": Index(
            "v / 2",
            "vectors times 1.5, for index, versions and segments being merged; "
            "https://qdrant.tech/documentation/capacity-planning/",
            of_vector=0.5,
        ),
        "pgvector": Index(
            "8 + 8192 / floor(8160 / (align8(80 + v) + align8(4 + 12 m) + 8)), m = 16",
            "8 bytes for the header of a value (https://github.com/pgvector/pgvector#reference); its HNSW index has "
            "a copy of the vector and links of 6 bytes on pages of 8,192; an entry never spans two pages",
            dtypes=(*_FLOATS, "binary", "ubinary"),
            paged=True,
        ),
    }
)


@dataclass(frozen=True)
class Size:
    """Bytes of ``vectors`` vectors: of each, of all, of their index, and of stored texts."""

    vectors: int
    dimensions: int
    dtype: str
    index: str
    bytes_per_vector: float
    raw: int
    overhead: int
    texts: int = 0

    @property
    def total(self) -> int:
        """The sum of vectors, index and texts."""
        return self.raw + self.overhead + self.texts

    def to_dict(self) -> JsonDict:
        """Return the sizes as a dict for JSON."""
        names = {"bytes_per_vector": "each"}
        return {names.get(name, name): value for name, value in vars(self).items()} | {"total": self.total}


def vector_bytes(dimensions: int, dtype: str) -> float:
    """Return the bytes of a vector.

    Raises:
        InputError: the dtype is unknown, or the dimensions are not positive or, for bits, not a multiple of 8.
    """
    if dtype not in BITS:
        raise InputError(f"Unknown dtype {dtype!r}. {nearest(dtype, BITS)}", param="dtype")
    if dimensions < 1:
        raise InputError(f"A vector has at least one dimension, not {dimensions}.", param="dimensions")
    if BITS[dtype] == 1 and dimensions % 8:
        raise InputError(f"{dtype} needs a multiple of 8 dimensions, not {dimensions}.", param="dtype")
    return dimensions * BITS[dtype] / 8


def index_size(
    vectors: int, dimensions: int, dtype: str = "float32", index: str = "none", *, text_bytes: float = 0.0
) -> Size:
    """Return the size of ``vectors`` vectors in one of ``INDICES``; ``text_bytes`` are those of a stored text.

    Raises:
        InputError: a name is unknown, a number is negative, or the index does not support the dtype.
    """
    if vectors < 0 or text_bytes < 0:
        raise InputError(f"Vectors and bytes cannot be negative: {min(vectors, text_bytes):,}.", param="vectors")
    if index not in INDICES:
        raise InputError(f"Unknown index {index!r}. {nearest(index, INDICES)}", param="index")
    size, kind = vector_bytes(dimensions, dtype), INDICES[index]
    if dtype not in kind.dtypes:
        raise InputError(f"{index} supports {', '.join(kind.dtypes)}, not {dtype}.", param="index")
    overhead = round(vectors * kind.bytes_per_vector(size, dimensions))
    texts = round(vectors * text_bytes)
    return Size(vectors, dimensions, dtype, index, size, round(vectors * size), overhead, texts)


def sparse_size(texts: int, terms: float, dtype: str = "float32", *, text_bytes: float = 0.0) -> Size:
    """Return the size of ``texts`` sparse vectors of ``terms`` weights: an id of 4 bytes and a weight for each.

    ``dimensions`` of the result is the number of weights, rounded. An inverted index over them is not counted.

    Raises:
        InputError: the dtype is not float32 or float16, or a number is negative.
    """
    if dtype not in _FLOATS:
        raise InputError(f"Weights of sparse vectors are {' or '.join(_FLOATS)}, not {dtype}.", param="dtype")
    if texts < 0 or terms < 0 or text_bytes < 0:
        raise InputError(
            f"Texts, terms and bytes cannot be negative: {min(texts, terms, text_bytes):,}.", param="terms"
        )
    size = terms * (4 + BITS[dtype] / 8)
    return Size(texts, round(terms), dtype, "none", size, round(texts * size), 0, round(texts * text_bytes))


def seconds_to_index(texts: int, tokens: float, tokens_per_second: float) -> float:
    """Return the seconds to embed texts: texts x tokens / (tokens/s).

    Raises:
        InputError: the speed is not above 0.
    """
    if not tokens_per_second > 0:
        raise InputError(f"A speed must be above 0, not {tokens_per_second} tokens/s.", param="tokens_per_second")
    return texts * tokens / tokens_per_second
