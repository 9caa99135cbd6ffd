"""Results that belong together, folded into one: the text and the picture of a page, and the parts of a document."""

from __future__ import annotations

from collections.abc import Iterator

from nearfield.corpus.document import TEXT
from nearfield.corpus.search.candidates import Ranking, SearchCandidate

#: The stage in which the text and the picture of a page become one result.
PLACE_STAGE = "place"
#: Kinds of chunks that are pictures of what may be text too.
_SEEN = ("page", "image")
Place = tuple[str, int | None]


def join_pages(ranking: Ranking) -> Ranking:
    """Return candidates with each page, or picture, joined to the best text that is on it.

    The better of the two is the result, and the other is folded into it. Its score is the probability that one of them
    is relevant, if they were independent: 1 - (1 - a)(1 - b). The stage ``place`` says so, with the stages of both.
    """
    places = {one.id: number for number, one in enumerate(ranking)}
    seen = {_place(one): one for one in reversed(ranking) if _kind(one) in _SEEN}
    removed: set[str] = set()
    for one in [one for one in ranking if _kind(one) == TEXT]:
        place = next((place for place in _places(one) if place in seen), None)
        if place is None:
            continue
        best, rest = sorted((one, seen.pop(place)), key=lambda candidate: places[candidate.id])
        best.score = 1 - (1 - best.score) * (1 - rest.score)
        best.stages = {**rest.stages, **best.stages, PLACE_STAGE: {"score": best.score}}
        best.others = (*best.others, rest)
        removed.add(rest.id)
    ordered = sorted((one for one in ranking if one.id not in removed), key=lambda one: -one.score)
    for number, one in enumerate(ordered, 1):
        if PLACE_STAGE in one.stages:
            one.stages[PLACE_STAGE]["rank"] = number
    return ordered


def group_documents(ranking: Ranking, others: int) -> Ranking:
    """Return the best candidate of each document, with at most ``others`` of those that follow folded into it."""
    groups: dict[str, SearchCandidate] = {}
    for one in ranking:
        best = groups.setdefault(one.record.document, one)
        if best is not one:
            best.others = (*best.others, one)
    for best in groups.values():
        best.others = best.others[:others]
    return list(groups.values())


def _kind(one: SearchCandidate) -> str:
    return str(one.record.payload.get("kind", TEXT))


def _place(one: SearchCandidate) -> Place:
    return one.record.document, one.record.payload.get("page")


def _places(one: SearchCandidate) -> Iterator[Place]:
    """Yield the pages of a text, or its document if it has none."""
    document, first = _place(one)
    if first is None:
        yield document, None
        return
    for page in range(first, one.record.payload.get("last_page", first) + 1):
        yield document, page
