"""Recommend models of the catalogue for given requirements, with reasons, estimates, commands and unknowns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType

from nearfield import catalog
from nearfield.catalog import CatalogEntry
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.planning.advice.requirements import (
    HEADROOM,
    MULTILINGUAL,
    RERANKED,
    ModelCandidate,
    Requirements,
    matching_models,
)
from nearfield.evaluation.planning.index_size import index_size, seconds_to_index
from nearfield.evaluation.planning.speed.calibration import Calibration

#: Benchmarks with the language of their texts.
_MANY = "many"
BENCHMARKS: Mapping[str, str] = MappingProxyType(
    {
        "MTEB English v1 average": "en",
        "MTEB English v2 average": "en",
        "MTEB multilingual v2 average": _MANY,
        # Of 13 sets the mean of a model is 1.4 to 1.9 points higher than of 15.
        "BEIR, 13 sets": "en",
        "BEIR, 15 sets": "en",
        "BEIR": "en",
        "NanoBEIR": "en",
        "MS MARCO MRR@10": "en",
        "semantic search, 6 data sets": "en",
        "sentence similarity, 14 data sets": "en",
    }
)
#: The normalised value of the worst known measure, which ranks above unknown ones (0).
_MIN_SHARES = {"quality": 0.5}
_GENERAL = (
    "Quality on your own texts: measure it with nearfield evaluate.",
    "Scores are those of the publishers. Models outside the catalogue are not considered.",
)


def advise(
    need: Requirements,
    calibration: Calibration | None = None,
    *,
    entries: Sequence[CatalogEntry] | None = None,
    here: Collection[str] = (),
    count: int = 3,
) -> JsonDict:
    """Return up to ``count`` models that meet all requirements, the best first.

    ``here`` are ids of models whose files are on this machine. The rank is the weighted mean of three numbers between 0
    (the worst candidate) and 1 (the best): the published score on ``benchmark``, the logarithm of tokens per second,
    and the logarithm of memory (less is better). A model without a score counts less than the worst with one. A
    measure that no candidate has does not count.

    Returns:
        ``candidates`` (each with id, reasons, speed, memory, storage, commands, unknown, rank), ``benchmark`` of the
        compared scores or None, ``weights``, ``fitting`` (the number of matches), ``ruled_out`` by candidate test, and
        ``unknown`` of all candidates.
    """
    candidates, ruled_out = matching_models(need, catalog.entries() if entries is None else entries, calibration)
    benchmark = _benchmark(need, candidates)
    ranks = _ranks(need, candidates, benchmark)
    order = sorted(candidates, key=lambda candidate: (-ranks[candidate.entry.id]["rank"], candidate.entry.id))
    return {
        "need": {**vars(need), "weights": dict(need.weights)},
        "benchmark": benchmark,
        "weights": dict(need.weights),
        "fitting": len(candidates),
        "ruled_out": ruled_out,
        "candidates": [
            {
                "id": candidate.entry.id,
                "rank": ranks[candidate.entry.id],
                "reasons": _reasons(need, candidate, candidates, benchmark),
                "speed": _speed(need, candidate),
                "memory": {"model": candidate.model_bytes, "vectors": candidate.vector_bytes, "dtype": candidate.dtype},
                "storage": _storage(need, candidate),
                "commands": _commands(need, candidate),
                "unknown": list(_unknown(need, candidate, benchmark, candidate.entry.id in here, calibration)),
            }
            for candidate in order[:count]
        ],
        "unknown": list(_GENERAL),
        "calibration": None if calibration is None else _calibration(calibration),
    }


def _calibration(calibration: Calibration) -> JsonDict:
    return {
        "precision": calibration.precision,
        "seconds": round(calibration.seconds, 1),
        "share of the cores": calibration.share,
    }


# -- ranking ---------------------------------------------------------------------------------------------------------


def _score(entry: CatalogEntry, benchmark: str | None) -> float | None:
    """Return an entry's score on a benchmark."""
    if entry.score is None or benchmark is None:
        return None
    return entry.score.value if _benchmark_of(entry) == benchmark else None


def _benchmark_of(entry: CatalogEntry) -> str | None:
    return None if entry.score is None else entry.score.benchmark


def _benchmark(need: Requirements, candidates: Sequence[ModelCandidate]) -> str | None:
    """Return the benchmark for the languages on which most of the models have a score."""
    languages = ("en", _MANY) if set(need.languages) == {"en"} else (_MANY,)
    names = [
        name
        for candidate in candidates
        if (name := _benchmark_of(candidate.entry)) and BENCHMARKS.get(name) in languages
    ]
    counts = Counter(names)
    return max(sorted(counts), key=lambda name: counts[name], default=None)


def _ranks(
    need: Requirements, candidates: Sequence[ModelCandidate], benchmark: str | None
) -> dict[str, dict[str, float]]:
    values = {
        "quality": [_score(candidate.entry, benchmark) for candidate in candidates],
        "speed": [_log(candidate.tokens_per_second) for candidate in candidates],
        "memory": [_minus(_log(candidate.memory)) for candidate in candidates],
    }
    shares = {name: _shares(column, _MIN_SHARES.get(name, 0.0)) for name, column in values.items()}
    counted = {name: weight for name, weight in need.weights.items() if shares[name] is not None}
    total = sum(counted.values()) or 1.0
    ranks = {}
    for at, candidate in enumerate(candidates):
        row = {name: round(column[at], 3) for name, column in shares.items() if column is not None}
        rank = sum(weight * row[name] for name, weight in counted.items()) / total
        ranks[candidate.entry.id] = {**row, "rank": round(rank, 4)}
    return ranks


def _shares(column: Sequence[float | None], minimum: float) -> list[float] | None:
    """Scale known values to between ``minimum`` and 1, and unknown ones to 0; None if all are unknown."""
    known = [value for value in column if value is not None]
    if not known:
        return None
    low, span = min(known), max(known) - min(known)
    return [
        0.0 if value is None else minimum + (1 - minimum) * ((value - low) / span if span else 1.0) for value in column
    ]


def _log(value: float | None) -> float | None:
    return math.log(value) if value else None


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


# -- description -----------------------------------------------------------------------------------------------------


def _reasons(
    need: Requirements, candidate: ModelCandidate, candidates: Sequence[ModelCandidate], benchmark: str | None
) -> list[str]:
    entry = candidate.entry
    spoken = MULTILINGUAL if MULTILINGUAL in entry.languages else ", ".join(entry.languages)
    use = "allows commercial use" if entry.commercial else "does not allow commercial use"
    reasons = [f"reads {entry.max_length:,} tokens ({need.tokens:,} are needed)", f"languages: {spoken}"]
    reasons.append(f"licence {entry.licence}, which {use}")
    score = _score(entry, benchmark)
    if score is not None and entry.score is not None:
        others = [value for other in candidates if (value := _score(other.entry, benchmark)) is not None]
        place = 1 + sum(value > score for value in others)
        reasons.append(f"{score:g} on {benchmark} ({entry.score.source}): {_nth(place)} of {len(others)} candidates")
    if candidate.dtype != "float32":
        reasons.append(f"fits the memory with {candidate.dtype} vectors")
    return reasons


def _nth(place: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(place % 10 if place % 100 not in (11, 12, 13) else 0, "th")
    return f"{place}{ending}"


def _speed(need: Requirements, candidate: ModelCandidate) -> JsonDict | None:
    if candidate.tokens_per_second is None or candidate.query_tokens_per_second is None:
        return None
    texts = candidate.tokens_per_second / need.tokens
    queries = candidate.query_tokens_per_second * HEADROOM / need.query_tokens
    if need.kind == "scores":
        queries = candidate.query_tokens_per_second * HEADROOM / (RERANKED * (need.tokens + need.query_tokens))
    indexing = None if need.kind == "scores" else seconds_to_index(need.texts, need.tokens, candidate.tokens_per_second)
    return {
        "tokens_per_second": round(candidate.tokens_per_second, 1),
        "texts_per_second": round(texts, 2),
        "queries_per_second": round(queries, 2),
        "seconds_to_index": indexing,
    }


def _storage(need: Requirements, candidate: ModelCandidate) -> JsonDict | None:
    """Return the bytes of the vectors, and those in LanceDB with its index."""
    if candidate.vector_bytes is None or need.kind == "scores":
        return None
    count = need.texts * (need.tokens if need.kind == "multivector" else 1)
    index, dtype = ("lancedb-int8", "float32") if candidate.dtype == "int8" else ("lancedb", candidate.dtype)
    return {
        "vectors": candidate.vector_bytes,
        "lancedb": index_size(count, candidate.entry.dimensions, dtype, index).total,
    }


def _commands(need: Requirements, candidate: ModelCandidate) -> list[str]:
    name = min((candidate.entry.id, *candidate.entry.aliases), key=len)
    accept = "" if candidate.entry.commercial else " --accept-license"
    own = {
        "dense": f"nearfield index trial FOLDER --model {name}{accept}",
        "sparse": f"nearfield index trial FOLDER --feature sparse={name}:sparse{accept}",
        "multivector": f"nearfield index trial FOLDER --feature tokens={name}:multivector{accept}",
        "scores": f"nearfield rerank 'a query' 'a text' 'another' --model {name}{accept}",
    }
    commands = [f"nearfield models pull {name}{accept}", own[need.kind]]
    return [*commands, f"nearfield speed {name}{accept}"] if need.kind != "scores" else commands


def _unknown(
    need: Requirements, candidate: ModelCandidate, benchmark: str | None, here: bool, calibration: Calibration | None
) -> Iterator[str]:
    """Yield what is unknown about a model."""
    entry, named = candidate.entry, _benchmark_of(candidate.entry)
    if entry.score is None:
        yield "the catalogue has no published score"
    elif named != benchmark:
        yield f"its score ({entry.score.value:g}) is on {named}, and is not compared with others"
    if named is not None and BENCHMARKS.get(named) == "en" and set(need.languages) != {"en"}:
        others = ", ".join(language for language in need.languages if language != "en")
        yield f"its score is on English texts, and says nothing about {others}"
    if MULTILINGUAL in entry.languages:
        yield f"how well this multilingual model supports {', '.join(need.languages)}: see its model card"
    if entry.revision is None and entry.package is None:
        yield "no revision is pinned: its files may change"
    if entry.gated:
        yield "its files need an access request (HF_TOKEN)"
    if calibration is None or candidate.shape is None:
        yield "its speed on this machine" if candidate.shape else "its shape, and therefore its speed and memory"
    elif candidate.shape.slower:
        yield "it computes more than its size suggests: it is slower than estimated"
    if not here:
        yield "its files are not on this machine: speed and memory are estimated from its shape"
    if need.kind == "sparse":
        yield "the size of its vectors depends on the texts: 8 bytes per term"
