"""A user's requirements on a model, and the catalogue entries that meet them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType

from nearfield import families
from nearfield.catalog import CatalogEntry
from nearfield.errors import InputError, nearest
from nearfield.evaluation.planning.index_size import index_size
from nearfield.evaluation.planning.speed.calibration import Calibration
from nearfield.evaluation.planning.speed.model_shapes import ModelShape, shape_of
from nearfield.evaluation.weights import check_weights

KINDS = ("dense", "sparse", "multivector", "scores")
MULTILINGUAL = "multilingual"
WEIGHTS: Mapping[str, float] = MappingProxyType({"quality": 0.6, "speed": 0.25, "memory": 0.15})
#: Share of the bulk speed that is available to single queries, which arrive at random times.
HEADROOM = 0.5
#: Documents that a reranker scores for a query.
RERANKED = 50
#: Dtypes of vectors, tried in this order until the vectors fit the memory.
_DTYPES = ("float32", "int8", "binary")
_LANGUAGE = re.compile(r"[a-z]{2,3}")

#: Families of the texts of multimodal models: for texts alone a model of texts is better, and smaller.
MULTIMODAL_TEXTS = frozenset({"embedding_gemma2_text", "qwen3_vl_text"})


@dataclass(frozen=True)
class Requirements:
    """Requirements on a model. A model that fails one of them is not proposed.

    Args:
        languages: ISO 639-1 codes of the texts.
        tokens: tokens of a text (of a chunk, if documents are split), with prompt and special tokens.
        texts: number of texts.
        queries_per_second: queries of ``query_tokens`` tokens per second.
        memory: bytes for model and vectors, which are quantised if they do not fit otherwise; None: no limit.
        commercial: whether the licence must allow commercial use.
        licences: accepted licences; empty: any.
        kind: dense, sparse, multivector or scores (rerankers).
        index_hours: maximum time to embed all texts; None: no limit.
        weights: of quality, speed and memory in the ranking.

    Raises:
        InputError: a value is invalid.
    """

    languages: tuple[str, ...] = ("en",)
    tokens: int = 256
    texts: int = 100_000
    queries_per_second: float = 1.0
    query_tokens: int = 16
    memory: int | None = None
    commercial: bool = True
    licences: tuple[str, ...] = ()
    kind: str = "dense"
    index_hours: float | None = 48.0
    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"Unknown kind {self.kind!r}. {nearest(self.kind, KINDS)}", param="kind")
        wrong = next((code for code in self.languages if not _is_language(code)), None)
        if wrong is not None or not self.languages:
            raise InputError(f"Languages are codes of ISO 639 such as en or de, not {wrong!r}.", param="languages")
        minima = {
            "tokens": 1,
            "texts": 1,
            "queries_per_second": 0,
            "query_tokens": 1,
            "memory": 1,
            "index_hours": 0,
        }
        for name, minimum in minima.items():
            value = getattr(self, name)
            if value is not None and not minimum <= value < math.inf:
                raise InputError(f"{name} must be at least {minimum}, not {value}.", param=name)
        check_weights(self.weights, WEIGHTS)


@dataclass(frozen=True)
class ModelCandidate:
    """A model with estimates for this machine; None: unknown."""

    entry: CatalogEntry
    shape: ModelShape | None
    dtype: str
    model_bytes: int | None
    vector_bytes: int | None
    tokens_per_second: float | None
    query_tokens_per_second: float | None

    @property
    def memory(self) -> int | None:
        """Bytes of model and vectors."""
        return None if self.model_bytes is None else self.model_bytes + (self.vector_bytes or 0)


def matching_models(
    need: Requirements, entries: Sequence[CatalogEntry], calibration: Calibration | None
) -> tuple[list[ModelCandidate], dict[str, int]]:
    """Return the models that meet all requirements, and how many each test ruled out.

    Without a calibration the speed is unknown, and the memory is that of the weights in float32.
    """
    left, ruled_out = list(entries), {}
    for name, test in _ENTRY_TESTS.items():
        passing = [entry for entry in left if test(need, entry)]
        ruled_out[name] = len(left) - len(passing)
        left = passing
    candidates = [_candidate(need, entry, calibration) for entry in left]
    for name, meets in _CANDIDATE_TESTS.items():
        remaining = [candidate for candidate in candidates if meets(need, candidate)]
        ruled_out[name] = len(candidates) - len(remaining)
        candidates = remaining
    return candidates, ruled_out


def _is_language(code: str) -> bool:
    return bool(_LANGUAGE.fullmatch(code)) and (len(code) == 3 or code in _two_letter_codes())


@lru_cache(maxsize=1)
def _two_letter_codes() -> frozenset[str]:
    """Return the codes of ISO 639-1; codes of three letters are not checked."""
    return frozenset((files(__package__) / "languages.txt").read_text(encoding="utf-8").split())


@lru_cache(maxsize=1)
def _families() -> frozenset[str]:
    return frozenset(families.REGISTRY.names())


def _supports_languages(need: Requirements, entry: CatalogEntry) -> bool:
    return MULTILINGUAL in entry.languages or set(need.languages) <= set(entry.languages)


def _has_licence(need: Requirements, entry: CatalogEntry) -> bool:
    named = not need.licences or entry.licence.lower() in {licence.lower() for licence in need.licences}
    return named and (entry.commercial or not need.commercial)


def _has_length(need: Requirements, entry: CatalogEntry) -> bool:
    # A reranker reads query and text together.
    return entry.max_length >= need.tokens + (need.query_tokens if need.kind == "scores" else 0)


_ENTRY_TESTS: Mapping[str, Callable[[Requirements, CatalogEntry], bool]] = MappingProxyType(
    {
        "of another kind": lambda need, entry: entry.kind == need.kind,
        "for pictures": lambda _, entry: entry.modalities == ("text",) and entry.family not in MULTIMODAL_TEXTS,
        "not run by this version": lambda _, entry: entry.family in _families(),
        "by their licence": _has_licence,
        "by their languages": _supports_languages,
        "by their length": _has_length,
    }
)


def _candidate(need: Requirements, entry: CatalogEntry, calibration: Calibration | None) -> ModelCandidate:
    shape = shape_of(entry)
    parameters = entry.parameters or (shape.parameters if shape else None)
    size = None
    if parameters is not None:
        size = 4 * parameters if calibration is None else calibration.model_bytes(parameters)
    free = None if need.memory is None or size is None else need.memory - size
    dtype, vector_bytes = _vector_dtype(need, entry, free)
    known = calibration is not None and shape is not None
    return ModelCandidate(
        entry,
        shape,
        dtype,
        size,
        vector_bytes,
        calibration.tokens_per_second(shape, need.tokens) if known and calibration and shape else None,
        calibration.tokens_per_second(shape, _query_length(need)) if known and calibration and shape else None,
    )


def _vector_dtype(need: Requirements, entry: CatalogEntry, free: int | None) -> tuple[str, int | None]:
    """Return the most precise dtype whose vectors fit, and their bytes; None for sparse vectors, which vary."""
    if need.kind == "scores":
        return "float32", 0
    if need.kind == "sparse":
        return "float32", None
    count = need.texts * (need.tokens if need.kind == "multivector" else 1)
    sizes = {dtype: index_size(count, entry.dimensions, dtype).raw for dtype in _dtypes(need, entry)}
    fitting = (dtype for dtype, size in sizes.items() if free is None or size <= free)
    dtype = next(fitting, list(sizes)[-1])
    return dtype, sizes[dtype]


def _dtypes(need: Requirements, entry: CatalogEntry) -> tuple[str, ...]:
    if need.kind != "dense":
        return ("float32",)
    return _DTYPES if entry.dimensions % 8 == 0 else _DTYPES[:2]


def _query_length(need: Requirements) -> int:
    return need.tokens + need.query_tokens if need.kind == "scores" else need.query_tokens


def _fits_memory(need: Requirements, candidate: ModelCandidate) -> bool:
    return need.memory is None or candidate.memory is None or candidate.memory <= need.memory


def _is_fast_enough(need: Requirements, candidate: ModelCandidate) -> bool:
    tokens = need.queries_per_second * _query_length(need) * (RERANKED if need.kind == "scores" else 1)
    return candidate.query_tokens_per_second is None or candidate.query_tokens_per_second * HEADROOM >= tokens


def _is_done_in_time(need: Requirements, candidate: ModelCandidate) -> bool:
    if need.index_hours is None or candidate.tokens_per_second is None or need.kind == "scores":
        return True
    return need.texts * need.tokens / candidate.tokens_per_second <= need.index_hours * 3600


_CANDIDATE_TESTS: Mapping[str, Callable[[Requirements, ModelCandidate], bool]] = MappingProxyType(
    {
        "by memory": _fits_memory,
        "too slow for the queries": _is_fast_enough,
        "too slow to index all texts in time": _is_done_in_time,
    }
)
