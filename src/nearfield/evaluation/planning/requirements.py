"""Need: what a user asks of a model, and which models it rules out."""

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
from nearfield.evaluation.planning.calibration import Calibration
from nearfield.evaluation.planning.index_size import index_size
from nearfield.evaluation.planning.model_shapes import ModelShape, shape_of
from nearfield.evaluation.weights import check_weights

KINDS = ("dense", "sparse", "multivector", "scores")
MULTILINGUAL = "multilingual"
WEIGHTS: Mapping[str, float] = MappingProxyType({"quality": 0.6, "speed": 0.25, "memory": 0.15})
#: Share of a model's speed in bulk that single queries may count on: they come when they like.
HEADROOM = 0.5
#: Documents that a reranker reads for a query.
RERANKED = 50
#: Dtypes of vectors that are tried until the memory holds them.
_DTYPES = ("float32", "int8", "binary")
_LANGUAGE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True)
class Requirements:
    """What is asked. A model that breaks any of it is not proposed.

    Args:
        languages: ISO 639-1 codes of the texts.
        tokens: tokens of a text that are to be read at once, prompt and special tokens included: a chunk's where
            documents are cut.
        texts: how many there are.
        queries_per_second: of ``query_tokens`` tokens each.
        memory: bytes for the model and its vectors, which are quantised where they do not fit else; None for any.
        commercial: whether the licence must allow commercial use.
        licences: the only ones that are accepted, where any are named.
        kind: dense, sparse, multivector or scores (rerankers).
        index_hours: how long embedding all texts may take; None for any time.
        weights: how much quality, speed and memory count in the ranking.

    Raises:
        InputError: a value is none that there can be.
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
        wrong = next((each for each in self.languages if not _is_language(each)), None)
        if wrong is not None or not self.languages:
            raise InputError(f"Languages are codes of ISO 639 such as en or de, not {wrong!r}.", param="languages")
        least = {"tokens": 1, "texts": 1, "queries_per_second": 0, "query_tokens": 1, "memory": 1, "index_hours": 0}
        for name, value in least.items():
            given = getattr(self, name)
            if given is not None and not value <= given < math.inf:
                raise InputError(f"{name} cannot be {given}: {value} at least.", param=name)
        check_weights(self.weights, WEIGHTS)


@dataclass(frozen=True)
class ModelCandidate:
    """A model with what it would take here; None where that is not known."""

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
    """Return the models that break nothing, and how many each test ruled out, in the order of the tests.

    Without a calibration no speed is known, and the memory of a model is that of its weights in float32.
    """
    left, ruled_out = list(entries), {}
    for name, test in _ENTRY_TESTS.items():
        kept = [entry for entry in left if test(need, entry)]
        ruled_out[name] = len(left) - len(kept)
        left = kept
    found = [_candidate(need, entry, calibration) for entry in left]
    for name, judge in _CANDIDATE_TESTS.items():
        kept_ones = [each for each in found if judge(need, each)]
        ruled_out[name] = len(found) - len(kept_ones)
        found = kept_ones
    return found, ruled_out


def _is_language(code: str) -> bool:
    return bool(_LANGUAGE.fullmatch(code)) and (len(code) == 3 or code in _two_letter_codes())


@lru_cache(maxsize=1)
def _two_letter_codes() -> frozenset[str]:
    """Return the codes of ISO 639-1; codes of three letters are not checked."""
    return frozenset((files(__package__) / "languages.txt").read_text(encoding="utf-8").split())


@lru_cache(maxsize=1)
def _families() -> frozenset[str]:
    return frozenset(families.REGISTRY.names())


def _speaks(need: Requirements, entry: CatalogEntry) -> bool:
    return MULTILINGUAL in entry.languages or set(need.languages) <= set(entry.languages)


def _may_be_used(need: Requirements, entry: CatalogEntry) -> bool:
    named = not need.licences or entry.licence.lower() in {each.lower() for each in need.licences}
    return named and (entry.commercial or not need.commercial)


def _reads(need: Requirements, entry: CatalogEntry) -> bool:
    # A reranker reads the query beside the text.
    return entry.max_length >= need.tokens + (need.query_tokens if need.kind == "scores" else 0)


_ENTRY_TESTS: Mapping[str, Callable[[Requirements, CatalogEntry], bool]] = MappingProxyType(
    {
        "of another kind": lambda need, entry: entry.kind == need.kind,
        "not run by this version": lambda _, entry: entry.family in _families(),
        "by their licence": _may_be_used,
        "by their languages": _speaks,
        "by their length": _reads,
    }
)


def _candidate(need: Requirements, entry: CatalogEntry, calibration: Calibration | None) -> ModelCandidate:
    shape = shape_of(entry)
    parameters = entry.parameters or (shape.parameters if shape else None)
    size = None
    if parameters is not None:
        size = 4 * parameters if calibration is None else calibration.model_bytes(parameters)
    room = None if need.memory is None or size is None else need.memory - size
    dtype, taken = _vectors(need, entry, room)
    known = calibration is not None and shape is not None
    return ModelCandidate(
        entry,
        shape,
        dtype,
        size,
        taken,
        calibration.tokens_per_second(shape, need.tokens) if known and calibration and shape else None,
        calibration.tokens_per_second(shape, _query_length(need)) if known and calibration and shape else None,
    )


def _vectors(need: Requirements, entry: CatalogEntry, room: int | None) -> tuple[str, int | None]:
    """Return the finest dtype whose vectors fit, and their bytes; None for sparse ones, which depend on the texts."""
    if need.kind == "scores":
        return "float32", 0
    if need.kind == "sparse":
        return "float32", None
    count = need.texts * (need.tokens if need.kind == "multivector" else 1)
    sizes = {dtype: index_size(count, entry.dimensions, dtype).raw for dtype in _dtypes(need, entry)}
    fitting = (dtype for dtype, size in sizes.items() if room is None or size <= room)
    dtype = next(fitting, list(sizes)[-1])
    return dtype, sizes[dtype]


def _dtypes(need: Requirements, entry: CatalogEntry) -> tuple[str, ...]:
    if need.kind != "dense":
        return ("float32",)
    return _DTYPES if entry.dimensions % 8 == 0 else _DTYPES[:2]


def _query_length(need: Requirements) -> int:
    return need.tokens + need.query_tokens if need.kind == "scores" else need.query_tokens


def _fits_memory(need: Requirements, found: ModelCandidate) -> bool:
    return need.memory is None or found.memory is None or found.memory <= need.memory


def _keeps_up(need: Requirements, found: ModelCandidate) -> bool:
    asked = need.queries_per_second * _query_length(need) * (RERANKED if need.kind == "scores" else 1)
    return found.query_tokens_per_second is None or found.query_tokens_per_second * HEADROOM >= asked


def _is_done_in_time(need: Requirements, found: ModelCandidate) -> bool:
    if need.index_hours is None or found.tokens_per_second is None or need.kind == "scores":
        return True
    return need.texts * need.tokens / found.tokens_per_second <= need.index_hours * 3600


_CANDIDATE_TESTS: Mapping[str, Callable[[Requirements, ModelCandidate], bool]] = MappingProxyType(
    {
        "by memory": _fits_memory,
        "too slow for the queries": _keeps_up,
        "too slow to index all texts in time": _is_done_in_time,
    }
)
