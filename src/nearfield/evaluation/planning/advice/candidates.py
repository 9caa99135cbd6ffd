"""Models that meet all requirements, with estimates of speed, memory and quality; and what would let more in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

from nearfield import families
from nearfield.catalog import CatalogEntry
from nearfield.catalog.languages import MULTILINGUAL, language_support
from nearfield.catalog.quality import BM25, QualityFigure, quality_figures
from nearfield.evaluation.planning.advice.purposes import best_figure, figure_names
from nearfield.evaluation.planning.advice.requirements import FEWER_RERANKED, HEADROOM, Requirements
from nearfield.evaluation.planning.advice.vector_forms import VectorForm, best_form
from nearfield.evaluation.planning.speed.model_shapes import (
    ModelShape,
    page_vectors_of,
    picture_tower_of,
    shape_of,
)
from nearfield.evaluation.planning.speed.speed_model import SpeedModel
from nearfield.evaluation.planning.vector_model import token_selection

#: Families of the texts of multimodal models: for texts alone a model of texts is better, and smaller.
MULTIMODAL_TEXTS = frozenset({"embedding_gemma2_text", "qwen3_vl_text"})


@dataclass(frozen=True)
class Quality:
    """Published quality for a need: a figure for each language that has one, and how far it is behind the best.

    ``behind`` is the distance in points to the best of the catalogue, both less half of their errors, after what the
    form of the vectors costs: that of the worst language, or the mean. None where a language has no figure.
    """

    figures: Mapping[str, QualityFigure]
    behind: float | None

    @property
    def error(self) -> float:
        """The largest standard error of the figures; 0 where all are published."""
        return max((figure.error for figure in self.figures.values()), default=0.0)


@dataclass(frozen=True)
class ModelCandidate:
    """A model with estimates for a machine; None: unknown.

    ``tokens`` are those of a text, or the patches of a picture; ``reranked`` is how many texts of a query it can rank;
    ``vectors`` is the number of all; ``capacity`` is the memory of the machine that a model can use. The speed of
    queries is also None for purposes without queries, and where queries are looked up in a table.
    """

    entry: CatalogEntry
    shape: ModelShape | None
    form: VectorForm
    quality: Quality
    model_bytes: int | None
    tokens: int
    tokens_per_second: float | None
    query_tokens_per_second: float | None
    reranked: int
    vectors: int
    capacity: int | None = None

    @property
    def memory(self) -> int | None:
        """Bytes of model and vectors."""
        return None if self.model_bytes is None else self.model_bytes + (self.form.bytes or 0)


def matching_models(
    need: Requirements, entries: Sequence[CatalogEntry], speed: SpeedModel | None
) -> tuple[list[ModelCandidate], dict[str, int]]:
    """Return the models that meet all requirements, the best first, and how many each test ruled out.

    Models are ordered by published quality less half its error; those whose quality is not known come last, the
    smallest of them first. Without ``speed`` it is unknown, and the memory is that of the weights in float32.
    """
    left, ruled_out = list(entries), {}
    for name, test in ENTRY_TESTS.items():
        passing = [entry for entry in left if test(need, entry)]
        ruled_out[name] = len(left) - len(passing)
        left = passing
    candidates = [_candidate(need, entry, speed) for entry in left]
    for name, meets in CANDIDATE_TESTS.items():
        remaining = [candidate for candidate in candidates if meets(need, candidate)]
        ruled_out[name] = len(candidates) - len(remaining)
        candidates = remaining
    return sorted(candidates, key=_order), ruled_out


def _order(candidate: ModelCandidate) -> tuple[bool, float, int, str]:
    """Order by quality; equal ones by size. Of unknown quality, the more is known of a model the sooner it comes."""
    behind = candidate.quality.behind
    size = candidate.model_bytes or candidate.entry.parameters or 0
    return behind is None, round(behind or 0.0, 3), size, candidate.entry.id


def best_left_out(
    need: Requirements, entries: Sequence[CatalogEntry], speed: SpeedModel | None, fitting: Sequence[ModelCandidate]
) -> tuple[ModelCandidate, str] | None:
    """Return the model that would be ahead of all that fit, and the test that it does not meet; None: there is none.

    A model that fits in a coarser form of its vectors is not left out.
    """
    behind = fitting[0].quality.behind if fitting else None
    if behind is None:
        return None
    inside = {candidate.entry.id for candidate in fitting}
    able = [
        entry
        for entry in entries
        if entry.id not in inside and all(ENTRY_TESTS[name](need, entry) for name in _ABILITIES)
    ]
    candidates = sorted((_candidate(replace(need, memory=None), entry, speed) for entry in able), key=_order)
    first = next(iter(candidates), None)
    if first is None or first.quality.behind is None or first.quality.behind >= behind:
        return None
    reason = next((name for name, test in ENTRY_TESTS.items() if not test(need, first.entry)), None)
    actual = _candidate(need, first.entry, speed)
    return first, reason or next(name for name, meets in CANDIDATE_TESTS.items() if not meets(need, actual))


def ways_out(
    need: Requirements, entries: Sequence[CatalogEntry], speed: SpeedModel | None
) -> Iterator[tuple[str, int]]:
    """Yield each relaxation of one requirement that would let models in, and how many."""
    for text, changed in _relaxed(need):
        count = len(matching_models(changed, entries, speed)[0])
        if count:
            yield text, count


def _relaxed(need: Requirements) -> Iterator[tuple[str, Requirements]]:
    if need.tokens > 512:
        yield "chunks of at most 512 tokens", replace(need, tokens=512)
    if need.memory is not None:
        yield "no limit of memory", replace(need, memory=None)
    if need.index_hours is not None:
        yield "more time to embed everything", replace(need, index_hours=None)
    if need.queries_per_second:
        yield "fewer queries a second, or a GPU (--on)", replace(need, queries_per_second=0)
    if need.output == "scores":
        yield "texts of 128 tokens", replace(need, tokens=min(need.tokens, 128))
        yield "10 texts reranked a query", replace(need, reranked=min(need.reranked, 10))
    if need.commercial or need.licences:
        yield "other licences", replace(need, commercial=False, licences=())
    if len(need.languages) > 1:
        yield "each language with a model for it", replace(need, languages=need.languages[:1])


# -- tests of what the catalogue says --------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _families() -> frozenset[str]:
    return frozenset(families.REGISTRY.names())


def _supports_languages(need: Requirements, entry: CatalogEntry) -> bool:
    if need.purpose == "image-labels" or (need.aim.reads == "audio" and set(need.languages) == {"en"}):
        return True
    return all(_supports(entry, language) for language in need.languages)


def _supports(entry: CatalogEntry, language: str) -> bool:
    """A model is for a language that it is listed for or was measured in; one for many also for unknown ones."""
    grade = language_support(entry, language).grade
    return grade == "good" or grade == "listed" or (grade in ("weak", "unknown") and MULTILINGUAL in entry.languages)


def _reads(need: Requirements, entry: CatalogEntry) -> bool:
    if need.aim.reads == "text":
        return entry.modalities == ("text",) and entry.family not in MULTIMODAL_TEXTS
    return {"text", need.aim.reads} <= set(entry.modalities)


def _has_licence(need: Requirements, entry: CatalogEntry) -> bool:
    named = not need.licences or entry.licence.lower() in {licence.lower() for licence in need.licences}
    return named and (entry.commercial or not need.commercial)


def _has_length(need: Requirements, entry: CatalogEntry) -> bool:
    if need.aim.reads != "text":
        return True
    return entry.max_length >= need.tokens + (need.query_tokens if need.output == "scores" else 0)


def _is_no_table(need: Requirements, entry: CatalogEntry) -> bool:
    """In English a table of word vectors finds less than search by words: 24 to 35 points, words 42."""
    return entry.family != "static" or need.output != "dense" or need.purpose not in ("retrieval", "long-documents")


def _is_for_its_purpose(need: Requirements, entry: CatalogEntry) -> bool:
    return need.purpose == "code" or not entry.is_for_code


ENTRY_TESTS: Mapping[str, Callable[[Requirements, CatalogEntry], bool]] = MappingProxyType(
    {
        "of another kind": lambda need, entry: entry.kind == need.output,
        "for other inputs": _reads,
        "for another purpose": _is_for_its_purpose,
        "not run by this version": lambda _, entry: entry.family in _families(),
        "not trained to the end": lambda _, entry: entry.stage == "finished",
        "by their licence": _has_licence,
        "by their languages": _supports_languages,
        "static, for search": _is_no_table,
        "by their length": _has_length,
    }
)


#: Tests of what a model is for; the others are about what is allowed and what fits.
_ABILITIES = (
    "of another kind",
    "for other inputs",
    "for another purpose",
    "not run by this version",
    "by their languages",
)


# -- estimates -------------------------------------------------------------------------------------------------------


def _candidate(need: Requirements, entry: CatalogEntry, speed: SpeedModel | None) -> ModelCandidate:
    shape, tokens = _shape_and_tokens(need, entry)
    parameters = entry.parameters or (shape.parameters if shape else None)
    size = None
    if parameters is not None:
        size = 4 * parameters if speed is None else speed.model_bytes(parameters)
    room = None if need.memory is None or size is None else need.memory - size
    vectors = _vectors(need, entry, tokens)
    form = best_form(entry, vectors, room, two_stage=need.aim.has_queries)
    candidate = ModelCandidate(
        entry,
        shape,
        form,
        _quality(need, entry, form),
        size,
        tokens,
        None if speed is None or shape is None else speed.tokens_per_second(shape, tokens),
        None if speed is None or shape is None else _query_speed(need, entry, speed, shape),
        need.reranked,
        vectors,
        getattr(speed, "capacity", None),
    )
    return replace(candidate, reranked=_affordable(need, candidate)) if need.output == "scores" else candidate


def _query_speed(need: Requirements, entry: CatalogEntry, speed: SpeedModel, shape: ModelShape) -> float | None:
    """Return tokens of queries a second. Those of models of pictures go through a smaller tower for texts."""
    if not need.aim.has_queries or entry.static_queries:
        return None
    return speed.tokens_per_second(shape, need.query_length)


def _vectors(need: Requirements, entry: CatalogEntry, tokens: int) -> int:
    """Return the number of vectors: one a text, or of late interaction those of its tokens, as ``size`` counts them."""
    if entry.kind != "multivector":
        return need.texts
    per_text = tokens if need.aim.reads != "text" else token_selection(entry).count(tokens).per_text
    return math.ceil(need.texts * per_text)


def _shape_and_tokens(need: Requirements, entry: CatalogEntry) -> tuple[ModelShape | None, int]:
    """Return the shape that computes a text or a picture, and how many tokens that costs."""
    if need.aim.reads != "image":
        return shape_of(entry), need.tokens
    tower = picture_tower_of(entry)
    return (None, page_vectors_of(entry)) if tower is None else (tower.shape, tower.patches)


def _quality(need: Requirements, entry: CatalogEntry, form: VectorForm) -> Quality:
    known = quality_figures(entry.id)
    names = figure_names(need.aim, need.languages)
    figures = {language: known[name] for language, name in names.items() if name is not None and name in known}
    if len(figures) < len(names):
        return Quality(MappingProxyType(figures), None)
    behind = [_points_behind(figure, form) for figure in figures.values()]
    return Quality(MappingProxyType(figures), max(behind) if need.coverage == "all" else sum(behind) / len(behind))


def _points_behind(figure: QualityFigure, form: VectorForm) -> float:
    best = best_figure(figure.purpose)
    return (best or 0.0) - (figure.value * form.share - figure.error / 2)


def _affordable(need: Requirements, candidate: ModelCandidate) -> int:
    """Return how many texts can be reranked a query: as many as asked for, or the most of fewer that is fast enough."""
    depths = (need.reranked, *(depth for depth in FEWER_RERANKED if depth < need.reranked))
    return next((depth for depth in depths if _queries_fit(need, candidate, depth)), depths[-1])


# -- tests of estimates ----------------------------------------------------------------------------------------------


def _fits_memory(need: Requirements, candidate: ModelCandidate) -> bool:
    return need.memory is None or candidate.memory is None or candidate.memory <= need.memory


def _fits_machine(_: Requirements, candidate: ModelCandidate) -> bool:
    return candidate.capacity is None or (candidate.model_bytes or 0) <= candidate.capacity


def _is_fast_enough(need: Requirements, candidate: ModelCandidate) -> bool:
    return _queries_fit(need, candidate, candidate.reranked if need.output == "scores" else 1)


def _queries_fit(need: Requirements, candidate: ModelCandidate, texts: int) -> bool:
    tokens = need.queries_per_second * need.query_length * texts
    return candidate.query_tokens_per_second is None or candidate.query_tokens_per_second * HEADROOM >= tokens


def _is_done_in_time(need: Requirements, candidate: ModelCandidate) -> bool:
    if need.index_hours is None or candidate.tokens_per_second is None or need.output == "scores":
        return True
    return need.texts * candidate.tokens / candidate.tokens_per_second <= need.index_hours * 3600


def _beats_words(need: Requirements, candidate: ModelCandidate) -> bool:
    """A model that finds less than search by words in every language is not proposed for search.

    In long texts words find more than any single vector; there they are the first advice.
    """
    worse = list(worse_than_words(need, candidate))
    return need.purpose == "long-documents" or not worse or len(worse) < len(candidate.quality.figures)


CANDIDATE_TESTS: Mapping[str, Callable[[Requirements, ModelCandidate], bool]] = MappingProxyType(
    {
        "by memory": _fits_memory,
        "by the memory of the machine": _fits_machine,
        "too slow for the queries": _is_fast_enough,
        "too slow to embed everything in time": _is_done_in_time,
        "worse than search by words (BM25)": _beats_words,
    }
)


def worse_than_words(need: Requirements, candidate: ModelCandidate) -> Iterator[tuple[str, float]]:
    """Yield each language in which search by words has a higher published figure, with that figure."""
    if need.aim.kinds[0] == "scores" or need.aim.reads != "text":
        return
    words = quality_figures(BM25)
    for language, figure in candidate.quality.figures.items():
        baseline = words.get(figure.purpose)
        if baseline is not None and figure.value * candidate.form.share < baseline.value:
            yield language, baseline.value
