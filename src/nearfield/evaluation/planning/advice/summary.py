"""Advice in sentences: what to take, what instead if it has to be smaller, and what not to take, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nearfield.evaluation.planning.advice.candidates import ModelCandidate
from nearfield.evaluation.planning.advice.purposes import figure_names
from nearfield.evaluation.planning.advice.requirements import Requirements
from nearfield.evaluation.planning.advice.roles import ALIKE, Chosen, difference, points_ahead


def summarize(
    need: Requirements,
    candidates: Sequence[ModelCandidate],
    chosen: Sequence[Chosen],
    left_out: tuple[ModelCandidate, str] | None,
) -> list[str]:
    """Return the sentences, the most important first; empty if nothing fits.

    ``left_out`` is the model that would be ahead, and the test that it does not meet.
    """
    if not chosen:
        return []
    sentences = list(_sentences(need, candidates, chosen))
    return sentences if left_out is None else [*sentences, _not(chosen[0].candidate, *left_out)]


def _sentences(need: Requirements, candidates: Sequence[ModelCandidate], chosen: Sequence[Chosen]) -> Iterator[str]:
    first = chosen[0].candidate
    yield _take(need, first)
    small = next((one.candidate for one in chosen[1:] if "small" in _names(one)), None)
    if small is not None:
        yield _instead(first, small)
    safe = next((one.candidate for one in chosen[1:] if "safe" in _names(one)), None)
    if safe is not None and safe is not small:
        yield f"{safe.entry.id} if you want published figures and a free licence: {_apart(first, safe)}."
    yield from _compared_by(need)
    alike = [one for one in candidates[1:] if (points_ahead(first, one) or ALIKE) < ALIKE]
    if alike:
        word = "is" if len(alike) == 1 else "are"
        yield f"{len(alike)} more within {ALIKE:g} points {word} alike by these figures: your own data can order them."


def _names(chosen: Chosen) -> list[str]:
    return [role.name for role in chosen.roles]


def _take(need: Requirements, first: ModelCandidate) -> str:
    if first.quality.behind is None:
        return (
            f"Take {first.entry.id} to start with: it fits, but nothing is published by which to rank what fits "
            f"for {need.purpose} in {', '.join(need.languages)}."
        )
    lead = "the best of what fits" if first.quality.behind > 0.05 else "the best of the catalogue"
    behind = (
        f", {first.quality.behind:.1f} points behind the best of the catalogue" if first.quality.behind > 0.05 else ""
    )
    return f"Take {first.entry.id}: {lead}{behind}."


def _instead(first: ModelCandidate, small: ModelCandidate) -> str:
    share = (small.entry.parameters or 0) / (first.entry.parameters or 1)
    size = "less than 1%" if share < 0.01 else f"{share:.0%}"
    return f"{small.entry.id} if it has to be smaller: {size} of the size, {_apart(first, small)}."


def _apart(first: ModelCandidate, other: ModelCandidate) -> str:
    points = points_ahead(first, other)
    if points is None:
        return "their difference is not known"
    word = difference(points)
    if word == "alike":
        return f"alike ({points:.1f} points)"
    return f"{word.replace('better', 'worse')} by {points:.1f} points"


def _not(first: ModelCandidate, other: ModelCandidate, reason: str) -> str:
    points = points_ahead(other, first)
    ahead = "" if points is None else f", {points:.1f} points ahead"
    return f"Not {other.entry.id}{ahead}: ruled out {_REASONS.get(reason, reason)}."


_REASONS = {
    "by their licence": "by its licence",
    "by their length": "by its length: it would cut the texts",
    "not trained to the end": "as it is not trained to the end",
    "too slow for the queries": "as too slow for the queries",
    "too slow to embed everything in time": "as too slow to embed everything in time",
    "by memory": "by its memory",
    "by the memory of the machine": "by the memory of the machine",
}


def _compared_by(need: Requirements) -> Iterator[str]:
    """Yield for the languages that are compared by another figure than their own, which one that is."""
    stand_ins: dict[str | None, list[str]] = {}
    for language, name in figure_names(need.aim, need.languages).items():
        stand_ins.setdefault(name, []).append(language)
    for name, languages in stand_ins.items():
        lack = f"No figures for {need.purpose} in {', '.join(languages)} are published"
        if name is None:
            yield f"{lack}: quality is not known."
        elif need.aim.has_languages and name.endswith(":multilingual"):
            yield f"{lack}: ranked by {name} instead."
