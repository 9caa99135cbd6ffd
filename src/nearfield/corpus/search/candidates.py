"""Ranking: candidates on their way through the stages of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nearfield.corpus.search.hit import SearchHit
from nearfield.stores import Record

Stages = dict[str, dict[str, float]]


@dataclass
class SearchCandidate:
    """A record, its score by the last stage, and the score and rank that each stage gave."""

    record: Record
    score: float
    stages: Stages = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The record's id."""
        return self.record.id

    def found(self, highlights: tuple[tuple[int, int], ...], *, explain: bool) -> SearchHit:
        """Return what a caller gets."""
        record, place = self.record, self.record.payload
        return SearchHit(
            id=record.id,
            document=record.document,
            score=self.score,
            text=record.text,
            title=place.get("title", ""),
            start=place.get("start", 0),
            end=place.get("end", 0),
            page=place.get("page"),
            headings=tuple(place.get("headings", ())),
            fields=dict(record.fields),
            highlights=highlights,
            stages=self.stages if explain else {},
        )


#: Candidates for one query, the best first.
Ranking = list[SearchCandidate]


def ordered(stage: str, candidates: Sequence[SearchCandidate]) -> Ranking:
    """Put candidates in order, ties by id, and note what the stage said of each."""
    return noted(stage, sorted(candidates, key=lambda each: (-each.score, each.id)))


def noted(stage: str, ranking: Ranking) -> Ranking:
    """Note what the stage said of candidates that are in order."""
    for rank, each in enumerate(ranking, 1):
        each.stages[stage] = {"score": each.score, "rank": rank}
    return ranking


def rescored(stage: str, ranking: Ranking, scores: Mapping[str, float]) -> Ranking:
    """Give candidates new scores; those without one are left out."""
    kept = [each for each in ranking if each.id in scores]
    for each in kept:
        each.score = scores[each.id]
    return ordered(stage, kept)


def scores_of(ranking: Ranking) -> dict[str, float]:
    """Return the candidates' scores by id."""
    return {each.id: each.score for each in ranking}


def records_of(rankings: Sequence[Ranking]) -> list[list[Record]]:
    """Return the candidates' records."""
    return [[each.record for each in ranking] for ranking in rankings]


def merged(rankings: Sequence[Ranking], scores: Mapping[str, float]) -> Ranking:
    """Return each candidate once, with the score that it has of all rankings."""
    found: dict[str, SearchCandidate] = {}
    for each in (each for ranking in rankings for each in ranking):
        known = found.setdefault(each.id, SearchCandidate(each.record, scores[each.id]))
        known.stages.update(each.stages)
    return ordered("fused", list(found.values()))
