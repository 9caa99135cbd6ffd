"""Request and response structs of maps and of searches for duplicates."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from nearfield.server.dialects.collections.schemas import Share, Word

SurveyedKind = Literal["passages", "documents"]
#: What the response says while the work goes on.
SurveyState = Literal["running", "done"]


class MapRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /collections/{name}/map: what the points are, and the dense feature [the first] that places them."""

    of: SurveyedKind = "passages"
    feature: Word = ""


class MapRegion(msgspec.Struct):
    """A topic: its words, its place, the number of its points, and some of them that are typical."""

    name: str
    x: float
    y: float
    size: int
    examples: list[int]


class MapField(msgspec.Struct):
    """A field to colour by: its values, the most frequent first, and the number of each point's value among them.

    A number beyond the values stands for all values that are not listed.
    """

    values: list[str]
    rows: list[int]


class CollectionMap(msgspec.Struct):
    """Points in columns: places from 0 to 1, starts of texts, titles, and where each is.

    ``document`` is the number of its document among ``documents``, which are ids; ``number`` that of the passage in it,
    from 0.
    """

    of: SurveyedKind
    feature: str
    x: list[float]
    y: list[float]
    texts: list[str]
    titles: list[str]
    documents: list[str]
    document: list[int]
    number: list[int]
    regions: list[MapRegion]
    fields: dict[str, MapField]


class MapReply(msgspec.Struct, omit_defaults=True):
    """The map of a collection once ``state`` is done. While it is running, send the request again after a second.

    ``step`` says what is being done, and ``share`` how much of it is done, from 0 to 1.
    """

    collection: str
    state: SurveyState
    step: str
    share: float
    map: CollectionMap | None = None


class DuplicatesRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /collections/{name}/duplicates.

    Texts are equal but for case, punctuation and space; or near, if they share at least ``similarity`` of their
    5-grams; or with ``meaning`` equal in meaning, if the cosine of their vectors (of a dense feature, by default the
    first) is at least ``threshold``.
    """

    of: SurveyedKind = "documents"
    feature: Word = ""
    meaning: bool = False
    similarity: Annotated[float, msgspec.Meta(ge=0.8, le=1)] = 0.8
    threshold: Share = 0.97


class DuplicateItem(msgspec.Struct):
    """A passage or document: its id, where it is, and the start of its text."""

    id: str
    document: str
    title: str
    number: int
    kind: str
    text: str


class DuplicateCopy(DuplicateItem):
    """A copy, how it was found, and how near it is to the one to keep, from 0 to 1.

    ``aside`` says that the collection has found it while indexing, and stores it once.
    """

    measure: Literal["exact", "near", "meaning"]
    similarity: float
    aside: bool


class RepeatedItem(msgspec.Struct):
    """An item to keep, the longest, and its copies: ``count`` of them, of which at most 100 are listed."""

    keep: DuplicateItem
    copies: list[DuplicateCopy]
    count: int


class CollectionDuplicates(msgspec.Struct):
    """Numbers of items, of those that are no copy, of groups, and of copies by measure; up to 1,000 groups are listed.

    Nothing is changed.
    """

    of: SurveyedKind
    feature: str
    texts: int
    unique: int
    groups: int
    copies: dict[str, int]
    listed: list[RepeatedItem]


class DuplicatesReply(msgspec.Struct, omit_defaults=True):
    """The duplicates of a collection once ``state`` is done; else as for a map."""

    collection: str
    state: SurveyState
    step: str
    share: float
    duplicates: CollectionDuplicates | None = None
