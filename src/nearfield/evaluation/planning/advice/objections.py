"""What speaks against a model, and what is not known about it."""

from __future__ import annotations

from collections.abc import Iterator

from nearfield.catalog.languages import language_support
from nearfield.catalog.quality import quality_figures
from nearfield.evaluation.planning.advice.candidates import (
    ModelCandidate,
    worse_than_words,
)
from nearfield.evaluation.planning.advice.purposes import figure_names
from nearfield.evaluation.planning.advice.requirements import Requirements
from nearfield.evaluation.planning.speed.speed_model import SpeedModel

_HUGE = 1_000_000_000


def objections(need: Requirements, candidate: ModelCandidate) -> Iterator[str]:
    """Yield what speaks against a model."""
    entry, form = candidate.entry, candidate.form
    if candidate.quality.error:
        yield f"its figure is estimated from others, ± {candidate.quality.error:.1f} points"
    for language in need.languages if need.purpose != "image-labels" else ():
        if language_support(entry, language).grade == "weak":
            yield f"weak in {language}: it finds 50 to 85% of what it finds in English"
    for language, words in worse_than_words(need, candidate):
        yield f"search by words alone has {words:.1f} points in {language}"
    if not entry.commercial:
        yield f"its licence ({entry.licence}) does not allow commercial use"
    if entry.gated:
        yield "its files need an access request (HF_TOKEN)"
    if entry.revision is None and entry.package is None:
        yield "no revision is pinned: its files may change"
    yield from _cost(need, candidate)
    if form.dtype != "float32" or (need.output == "dense" and form.dimensions < entry.dimensions):
        yield _form_loss(candidate)


def _form_loss(candidate: ModelCandidate) -> str:
    form = candidate.form
    two = ", if whole vectors on disk order what these find (--mode two-stage)" if form.two_stage else ""
    return (
        f"fits the memory only with {form.dimensions} dimensions in {form.dtype}, "
        f"which keep about {form.share:.1%} of the quality{two}"
    )


def _cost(need: Requirements, candidate: ModelCandidate) -> Iterator[str]:
    entry = candidate.entry
    if need.output == "scores" and candidate.reranked < need.reranked:
        yield f"fast enough for {candidate.reranked} texts a query, not for {need.reranked}"
    if need.output == "multivector":
        part, whole = ("token", "text") if need.aim.reads == "text" else ("patch", "page")
        yield f"one vector a {part}: {candidate.vectors / need.texts:,.0f} times as many as with one a {whole}"
    if entry.parameters and entry.parameters > _HUGE:
        yield f"{entry.parameters / 1e9:.1f} billion parameters: each input costs many times what a small model does"
    if candidate.shape is not None and candidate.shape.slower:
        yield "it computes more than its size suggests: it is slower than estimated"


def _estimated_from(candidate: ModelCandidate) -> str:
    if candidate.shape is not None:
        return ": speed and memory are estimated from its shape"
    return "" if candidate.model_bytes is None else ": its memory is estimated from its number of parameters"


def unknowns(need: Requirements, candidate: ModelCandidate, speed: SpeedModel | None, is_here: bool) -> Iterator[str]:
    """Yield what is not known about a model."""
    entry = candidate.entry
    names = figure_names(need.aim, need.languages)
    missing = [language for language in names if language not in candidate.quality.figures]
    if missing:
        yield f"its quality for {need.purpose} in {', '.join(missing)}: nothing is published from which to estimate it"
    for language in need.languages:
        if need.aim.has_languages and language_support(entry, language).grade == "unknown":
            yield f"how well it works in {language}: neither measured nor listed"
    if need.purpose == "long-documents" and "long-documents" not in quality_figures(entry.id):
        yield "how well it reads far into long texts: no whole run is published"
    if candidate.shape is None:
        yield "its shape, and therefore its speed" + (" and memory" if candidate.model_bytes is None else "")
    elif speed is None:
        yield "its speed: no machine was named or measured"
    if not is_here:
        yield f"its files are not on this machine{_estimated_from(candidate)}"
    if need.output == "sparse":
        yield "the size of its vectors: 8 bytes a term, and texts differ"
