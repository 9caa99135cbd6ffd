"""Search candidates: the records that pass through the stages of a search, with their scores and ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nearfield.corpus.search.hit import SearchHit, frames_of, place_of
from nearfield.stores import Record

Stages = dict[str, dict[str, float]]


@dataclass
class SearchCandidate:
    """A record, its score in the last stage, the score and rank of each stage, and candidates folded into it."""

    record: Record
    score: float
    stages: Stages = field(default_factory=dict)
    others: tuple[SearchCandidate, ...] = ()

    @property
    def id(self) -> str:
        """The record's id."""
        return self.record.id

    def to_hit(self, highlights: tuple[tuple[int, int], ...], *, explain: bool, bridge: str = "") -> SearchHit:
        """Return the hit for the caller; with ``explain``, it has the scores of all stages."""
        record, payload = self.record, self.record.payload
        return SearchHit(
            id=record.id,
            document=record.document,
            score=self.score,
            text=record.text,
            title=payload.get("title", ""),
            headings=tuple(payload.get("headings", ())),
            fields=dict(record.fields),
            highlights=highlights,
            stages=self.stages if explain else {},
            bridge=bridge,
            others=tuple(other.to_hit((), explain=explain, bridge=bridge) for other in self.others),
            frames=frames_of(payload),
            segment=payload.get("segment"),
            **place_of(payload),
        )


#: Candidates for one query, the best first.
Ranking = list[SearchCandidate]


def rank(stage: str, candidates: Sequence[SearchCandidate]) -> Ranking:
    """Return the candidates by score, ties by id, and record their scores and ranks in this stage."""
    return record_stage(stage, sorted(candidates, key=lambda candidate: (-candidate.score, candidate.id)))


def record_stage(stage: str, ranking: Ranking) -> Ranking:
    """Record the scores and ranks of ordered candidates in this stage, and return them."""
    for place, candidate in enumerate(ranking, 1):
        candidate.stages[stage] = {"score": candidate.score, "rank": place}
    return ranking


def rescore(stage: str, ranking: Ranking, scores: Mapping[str, float]) -> Ranking:
    """Return the candidates ranked by new scores; those without one are left out."""
    scored = [candidate for candidate in ranking if candidate.id in scores]
    for candidate in scored:
        candidate.score = scores[candidate.id]
    return rank(stage, scored)


def scores_of(ranking: Ranking) -> dict[str, float]:
    """Return the candidates' scores by id."""
    return {candidate.id: candidate.score for candidate in ranking}


def records_of(rankings: Sequence[Ranking]) -> list[list[Record]]:
    """Return the candidates' records."""
    return [[candidate.record for candidate in ranking] for ranking in rankings]


def merge_rankings(rankings: Sequence[Ranking], scores: Mapping[str, float]) -> Ranking:
    """Return each candidate once, ranked by its fused score, with the stages of all rankings."""
    merged: dict[str, SearchCandidate] = {}
    for candidate in (candidate for ranking in rankings for candidate in ranking):
        known = merged.setdefault(candidate.id, SearchCandidate(candidate.record, scores[candidate.id]))
        known.stages.update(candidate.stages)
    return rank("fused", list(merged.values()))
