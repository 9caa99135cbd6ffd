"""Candidates that differ in kind: the best, the safe and the small one, each by a rule with a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from nearfield.catalog import CatalogEntry
from nearfield.catalog.quality import win_share
from nearfield.evaluation.planning.advice.candidates import ModelCandidate

#: Points below which two models are alike, and above which one is better.
ALIKE, BETTER = 2.0, 8.0
_FREE_LICENCES = frozenset({"apache-2.0", "mit", "bsd-3-clause"})


@dataclass(frozen=True)
class Role:
    """A kind of candidate, and the rule by which it was chosen."""

    name: str
    rule: str


ROLES: Mapping[str, Role] = MappingProxyType(
    {
        role.name: role
        for role in (
            Role("best", "the highest published figure less half its error, of all that fits"),
            Role("start", "the smallest of what fits, as nothing is published by which to rank it"),
            Role(
                "safe", "the best whose figures are all published, with a free licence, a pinned revision and no gate"
            ),
            Role("small", "the smallest within 8 points of the best, at most half as large"),
            Role("other", "the best of another publisher, no larger than the first"),
            Role("next", "the next by the same measure"),
        )
    }
)


@dataclass(frozen=True)
class Chosen:
    """A candidate with its roles, the main one first."""

    candidate: ModelCandidate
    roles: tuple[Role, ...]


def choose(candidates: Sequence[ModelCandidate], count: int) -> list[Chosen]:
    """Return up to ``count`` of the candidates, which are in the order of their quality: first those with a role."""
    names: dict[str, list[str]] = {}
    picks = _PICKS if candidates and candidates[0].quality.behind is not None else {"start": _first}
    for name, pick in picks.items():
        picked = pick(candidates)
        if picked is not None:
            names.setdefault(picked.entry.id, []).append(name)
    publishers = set(map(_of_publisher, names))
    # A model that is behind and larger has nothing for it.
    other = next(
        (one for one in candidates if _publisher(one) not in publishers and _size(one) <= _size(candidates[0])), None
    )
    if other is not None and other.quality.behind is not None and len(names) < min(3, count):
        names[other.entry.id] = ["other"]
    for candidate in candidates:
        names.setdefault(candidate.entry.id, ["next"])
    by_id = {candidate.entry.id: candidate for candidate in candidates}
    return [Chosen(by_id[model], tuple(ROLES[name] for name in roles)) for model, roles in list(names.items())[:count]]


def _publisher(candidate: ModelCandidate) -> str:
    return _of_publisher(candidate.entry.id)


def _of_publisher(model: str) -> str:
    return model.partition("/")[0]


def _first(candidates: Sequence[ModelCandidate]) -> ModelCandidate | None:
    return next(iter(candidates), None)


def _safe(candidates: Sequence[ModelCandidate]) -> ModelCandidate | None:
    near = [candidate for candidate in candidates if _is_near(candidates[0], candidate)]
    return next((candidate for candidate in near if is_safe(candidate.entry) and not candidate.quality.error), None)


def is_safe(entry: CatalogEntry) -> bool:
    """Return whether nothing outside the model can get in the way: its licence, a gate, files that change."""
    pinned = entry.revision is not None or entry.package is not None
    return entry.licence in _FREE_LICENCES and entry.commercial and not entry.gated and pinned


def _small(candidates: Sequence[ModelCandidate]) -> ModelCandidate | None:
    if not candidates:
        return None
    near = [candidate for candidate in candidates if _is_near(candidates[0], candidate)]
    smallest = min(near, key=_size)
    return smallest if _size(smallest) <= _size(candidates[0]) / 2 else None


def _is_near(first: ModelCandidate, other: ModelCandidate) -> bool:
    """Return whether both are of known quality, and less than "better" apart; or both of unknown quality."""
    ahead = points_ahead(first, other)
    return ahead is not None and ahead <= BETTER if first.quality.behind is not None else other.quality.behind is None


def _size(candidate: ModelCandidate) -> int:
    return candidate.entry.parameters or candidate.model_bytes or 2**62


_PICKS: Mapping[str, Callable[[Sequence[ModelCandidate]], ModelCandidate | None]] = MappingProxyType(
    {"best": _first, "safe": _safe, "small": _small}
)


# -- differences -----------------------------------------------------------------------------------------------------


def points_ahead(first: ModelCandidate, other: ModelCandidate) -> float | None:
    """Return by how many points the first is ahead; None if the quality of one is not known."""
    if first.quality.behind is None or other.quality.behind is None:
        return None
    return other.quality.behind - first.quality.behind


def difference(points: float) -> str:
    """Return what a difference in points means for one's own data."""
    size = abs(points)
    return "alike" if size < ALIKE else "better" if size > BETTER else "probably better"


def compare(first: ModelCandidate, other: ModelCandidate) -> dict[str, object] | None:
    """Return points, word, and how often such a lead was confirmed on other tasks; None: not known.

    Of several languages one decides the points: ``languages`` has the difference of the figures in each.
    """
    points = points_ahead(first, other)
    if points is None:
        return None
    names = [figure.purpose for figure in first.quality.figures.values()]
    shares = [win_share(name, abs(points)) for name in names]
    return {
        "than": first.entry.id,
        "points": round(points, 1),
        "verdict": difference(points),
        "share": min((share for share in shares if share is not None), default=None),
        "languages": _by_language(first, other),
    }


def _by_language(first: ModelCandidate, other: ModelCandidate) -> dict[str, float]:
    """Return by how many points the other's figure is above the first's, in each language that both have."""
    figures = first.quality.figures
    return {
        language: round(figure.value - figures[language].value, 1)
        for language, figure in other.quality.figures.items()
        if language in figures
    }
