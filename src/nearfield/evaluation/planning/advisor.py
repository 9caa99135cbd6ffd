"""Advise: two or three models of the catalogue for a need, with reasons, figures, commands and what is not known."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nearfield import catalog
from nearfield.catalog import CatalogEntry
from nearfield.evaluation.planning.calibration import Calibration
from nearfield.evaluation.planning.index_size import index_size, seconds_to_index
from nearfield.evaluation.planning.requirements import (
    HEADROOM,
    MULTILINGUAL,
    RERANKED,
    ModelCandidate,
    Requirements,
    matching_models,
)

#: Languages that a benchmark's texts are in; those of many are not listed. Names of one benchmark are told as one.
_MANY = "many"
BENCHMARKS: Mapping[str, str] = MappingProxyType(
    {
        "MTEB English v1 average": "en",
        "MTEB English v2 average": "en",
        "MTEB multilingual v2 average": _MANY,
        "BEIR": "en",
        "NanoBEIR": "en",
        "MS MARCO MRR@10": "en",
        "semantic search, 6 data sets": "en",
        "sentence similarity, 14 data sets": "en",
    }
)
_SAME = {"BEIR nDCG@10": "BEIR"}
#: The share of the worst that is known, where that is better than what is not.
_LEAST = {"quality": 0.5}
_GENERAL = (
    "How good they are on your texts: nothing but a test on these tells (nearfield evaluate).",
    "Scores are their publishers', not measured here; models outside of the catalogue were not looked at.",
)


def advise(
    need: Requirements,
    calibration: Calibration | None = None,
    *,
    entries: Sequence[CatalogEntry] | None = None,
    here: Collection[str] = (),
    count: int = 3,
) -> dict[str, Any]:
    """Propose up to ``count`` models that break nothing of a need, the best first.

    ``here`` are ids of models whose files are on this machine. The rank is the weighted mean of three shares between 0
    (the worst of all that fit) and 1 (the best): of the published score on ``benchmark``, and of the logarithms of
    tokens a second and of memory, less being better. A model without a score on it counts as the worst of those with
    one; what nobody has does not count.

    Returns:
        ``candidates`` (each with id, reasons, speed, memory, storage, commands, unknown, rank), ``benchmark`` that
        scores were compared on or None, ``weights``, ``fitting`` (how many fit), ``ruled_out`` by each test, and
        ``unknown`` of all of them.
    """
    found, ruled_out = matching_models(need, catalog.entries() if entries is None else entries, calibration)
    benchmark = _benchmark(need, found)
    ranks = _ranks(need, found, benchmark)
    order = sorted(found, key=lambda each: (-ranks[each.entry.id]["rank"], each.entry.id))
    return {
        "need": {**vars(need), "weights": dict(need.weights)},
        "benchmark": benchmark,
        "weights": dict(need.weights),
        "fitting": len(found),
        "ruled_out": ruled_out,
        "candidates": [
            {
                "id": each.entry.id,
                "rank": ranks[each.entry.id],
                "reasons": _reasons(need, each, found, benchmark),
                "speed": _speed(need, each),
                "memory": {"model": each.model_bytes, "vectors": each.vector_bytes, "dtype": each.dtype},
                "storage": _storage(need, each),
                "commands": _commands(need, each),
                "unknown": list(_unknown(need, each, benchmark, each.entry.id in here, calibration)),
            }
            for each in order[:count]
        ],
        "unknown": list(_GENERAL),
        "calibration": None if calibration is None else _calibration(calibration),
    }


def _calibration(told: Calibration) -> dict[str, Any]:
    return {"precision": told.precision, "seconds": round(told.seconds, 1), "share of the cores": told.share}


# -- ranking ---------------------------------------------------------------------------------------------------------


def _score(entry: CatalogEntry, benchmark: str | None) -> float | None:
    """Return an entry's score on a benchmark."""
    if entry.score is None or benchmark is None:
        return None
    return entry.score.value if _named(entry) == benchmark else None


def _named(entry: CatalogEntry) -> str | None:
    return None if entry.score is None else _SAME.get(entry.score.benchmark, entry.score.benchmark)


def _benchmark(need: Requirements, found: Sequence[ModelCandidate]) -> str | None:
    """Return the benchmark that speaks of the languages and that most of the models have a score on."""
    wanted = ("en", _MANY) if set(need.languages) == {"en"} else (_MANY,)
    names = [name for each in found if (name := _named(each.entry)) and BENCHMARKS.get(name) in wanted]
    counts = Counter(names)
    return max(sorted(counts), key=lambda name: counts[name], default=None)


def _ranks(need: Requirements, found: Sequence[ModelCandidate], benchmark: str | None) -> dict[str, dict[str, float]]:
    values = {
        "quality": [_score(each.entry, benchmark) for each in found],
        "speed": [_log(each.tokens_per_second) for each in found],
        "memory": [_minus(_log(each.memory)) for each in found],
    }
    shares = {name: _shares(column, _LEAST.get(name, 0.0)) for name, column in values.items()}
    counted = {name: weight for name, weight in need.weights.items() if shares[name] is not None}
    total = sum(counted.values()) or 1.0
    ranks = {}
    for at, each in enumerate(found):
        row = {name: round(column[at], 3) for name, column in shares.items() if column is not None}
        rank = sum(weight * row[name] for name, weight in counted.items()) / total
        ranks[each.entry.id] = {**row, "rank": round(rank, 4)}
    return ranks


def _shares(column: Sequence[float | None], least: float) -> list[float] | None:
    """Scale what is known to between ``least`` and 1; the rest is 0. None where nothing is known."""
    known = [value for value in column if value is not None]
    if not known:
        return None
    low, span = min(known), max(known) - min(known)
    return [0.0 if value is None else least + (1 - least) * ((value - low) / span if span else 1.0) for value in column]


def _log(value: float | None) -> float | None:
    return math.log(value) if value else None


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


# -- telling ---------------------------------------------------------------------------------------------------------


def _reasons(
    need: Requirements, each: ModelCandidate, found: Sequence[ModelCandidate], benchmark: str | None
) -> list[str]:
    entry = each.entry
    spoken = MULTILINGUAL if MULTILINGUAL in entry.languages else ", ".join(entry.languages)
    use = "allows commercial use" if entry.commercial else "does not allow commercial use"
    told = [f"reads {entry.max_length:,} tokens ({need.tokens:,} are needed)", f"languages: {spoken}"]
    told.append(f"licence {entry.licence}, which {use}")
    score = _score(entry, benchmark)
    if score is not None and entry.score is not None:
        others = [value for other in found if (value := _score(other.entry, benchmark)) is not None]
        place = 1 + sum(value > score for value in others)
        told.append(f"{score:g} on {benchmark} ({entry.score.source}): {_nth(place)} of {len(others)} that fit")
    if each.dtype != "float32":
        told.append(f"fits the memory with {each.dtype} vectors")
    return told


def _nth(place: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(place % 10 if place % 100 not in (11, 12, 13) else 0, "th")
    return f"{place}{ending}"


def _speed(need: Requirements, each: ModelCandidate) -> dict[str, Any] | None:
    if each.tokens_per_second is None or each.query_tokens_per_second is None:
        return None
    texts = each.tokens_per_second / need.tokens
    queries = each.query_tokens_per_second * HEADROOM / need.query_tokens
    if need.kind == "scores":
        queries = each.query_tokens_per_second * HEADROOM / (RERANKED * (need.tokens + need.query_tokens))
    indexing = None if need.kind == "scores" else seconds_to_index(need.texts, need.tokens, each.tokens_per_second)
    return {
        "tokens_per_second": round(each.tokens_per_second, 1),
        "texts_per_second": round(texts, 2),
        "queries_per_second": round(queries, 2),
        "seconds_to_index": indexing,
    }


def _storage(need: Requirements, each: ModelCandidate) -> dict[str, Any] | None:
    """Return the bytes in a file or in memory, and in LanceDB with its index."""
    if each.vector_bytes is None or need.kind == "scores":
        return None
    count = need.texts * (need.tokens if need.kind == "multivector" else 1)
    index, dtype = ("lancedb-int8", "float32") if each.dtype == "int8" else ("lancedb", each.dtype)
    return {"vectors": each.vector_bytes, "lancedb": index_size(count, each.entry.dimensions, dtype, index).total}


def _commands(need: Requirements, each: ModelCandidate) -> list[str]:
    name = min((each.entry.id, *each.entry.aliases), key=len)
    accept = "" if each.entry.commercial else " --accept-license"
    own = {
        "dense": f"nearfield index trial FOLDER --model {name}{accept}",
        "sparse": f"nearfield index trial FOLDER --feature sparse={name}:sparse{accept}",
        "multivector": f"nearfield index trial FOLDER --feature tokens={name}:multivector{accept}",
        "scores": f"nearfield rerank 'a query' 'a text' 'another' --model {name}{accept}",
    }
    told = [f"nearfield models pull {name}{accept}", own[need.kind]]
    return [*told, f"nearfield speed {name}{accept}"] if need.kind != "scores" else told


def _unknown(
    need: Requirements, each: ModelCandidate, benchmark: str | None, here: bool, calibration: Calibration | None
) -> Iterator[str]:
    """Yield what is not known of a model."""
    entry, named = each.entry, _named(each.entry)
    if entry.score is None:
        yield "no published score stands in the catalogue"
    elif named != benchmark:
        yield f"its score ({entry.score.value:g}) is on {named}, and was not compared with others"
    if named is not None and BENCHMARKS.get(named) == "en" and set(need.languages) != {"en"}:
        others = ", ".join(language for language in need.languages if language != "en")
        yield f"its score is on English texts, and says nothing of {others}"
    if MULTILINGUAL in entry.languages:
        yield f"that it is multilingual does not say how well it knows {', '.join(need.languages)}: see its card"
    if entry.revision is None and entry.package is None:
        yield "no revision of it is pinned: its files may change"
    if entry.gated:
        yield "its files are given out on request alone (HF_TOKEN)"
    if calibration is None or each.shape is None:
        yield "its speed here was not measured" if each.shape else "its shape, and so its speed and memory"
    elif each.shape.slower:
        yield "it computes more than its size tells: it will be slower than estimated"
    if not here:
        yield "its files are not here: speed and memory are estimated from its shape"
    if need.kind == "sparse":
        yield "its vectors' size depends on the texts: 8 bytes for each term that it gives"
