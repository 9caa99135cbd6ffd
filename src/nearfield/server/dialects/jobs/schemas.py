"""Request and response structs of the jobs."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from nearfield.server.dialects.schemas import Name

#: Results that a request may ask for, labels, and templates.
MAX_COUNT, MAX_LABELS, MAX_TEMPLATES = 10_000, 1_000, 32
#: Characters of an id that a request gives.
MAX_ID_LENGTH = 1_000
Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Labels = (
    Annotated[list[str], msgspec.Meta(max_length=MAX_LABELS)]
    | Annotated[dict[str, str], msgspec.Meta(max_length=MAX_LABELS)]
)
#: The id of an item; without ids, its number from 0 on.
ItemId = str | int
#: An id that a request gives: replies repeat it.
GivenId = (
    Annotated[str, msgspec.Meta(max_length=MAX_ID_LENGTH)] | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
)


class JobOptions(msgspec.Struct, kw_only=True):
    """What all jobs have: the model, by default the first loaded one; of a collection, its own."""

    model: Name | None = None


class LabelOptions(JobOptions, kw_only=True):
    """Labels: names, or a mapping from names to descriptions; ``templates`` are sentences with ``{}`` for the label."""

    labels: Labels
    templates: Annotated[list[str], msgspec.Meta(max_length=MAX_TEMPLATES)] | None = None


class LabelRequest(LabelOptions, kw_only=True):
    """Body of POST /jobs/classify: texts, and labels of which each text gets the nearest."""

    input: list[str]


class TopicOptions(JobOptions, kw_only=True):
    """How topics are looked for: see ``find_topics``. Without ``count``, the number is chosen by the silhouette."""

    count: Annotated[int, msgspec.Meta(ge=2, le=1_000)] | None = None
    method: Literal["k-means", "density"] = "k-means"
    min_size: Annotated[int, msgspec.Meta(ge=2)] = 5
    seed: Seed = 1


class TopicRequest(TopicOptions, kw_only=True):
    """Body of POST /jobs/topics: texts, of which topics are looked for."""

    input: list[str]


class RecommendOptions(JobOptions, kw_only=True):
    """What is liked, unliked and seen, by ids of items; see ``recommend``."""

    like: list[ItemId]
    unlike: list[ItemId] = []
    seen: list[ItemId] = []
    count: Count = 10
    diversity: Share = 0.3


class RecommendRequest(RecommendOptions, kw_only=True):
    """Body of POST /jobs/recommend: items as texts, and their ids, by default their numbers from 0 on."""

    input: list[str]
    ids: list[GivenId] | None = None


class OutlierOptions(JobOptions, kw_only=True):
    """How many outliers to list; without ``count``, those that are far from all others."""

    count: Count | None = None
    seed: Seed = 1


class OutlierRequest(OutlierOptions, kw_only=True):
    """Body of POST /jobs/outliers: texts, among which those unlike all others are looked for."""

    input: list[str]


class CollectionDriftRequest(JobOptions, kw_only=True):
    """Body of POST /jobs/drift/{collection}: new texts, which are compared with the documents of the collection."""

    input: list[str]
    count: Count = 10
    seed: Seed = 1


class DriftRequest(CollectionDriftRequest, kw_only=True):
    """Body of POST /jobs/drift: texts as they were (``reference``), and new ones (``input``)."""

    reference: list[str]


class DuplicateRequest(JobOptions, kw_only=True):
    """Body of POST /jobs/duplicates: texts, among which copies are looked for.

    With ``by_meaning``, texts are also compared by their vectors, from a cosine of ``threshold`` on.
    """

    input: list[str]
    ids: list[GivenId] | None = None
    keep: Literal["longest", "first"] = "longest"
    similarity: Annotated[float, msgspec.Meta(ge=0.8, le=1)] = 0.8
    by_meaning: bool = False
    threshold: Share = 0.97


# -- replies -----------------------------------------------------------------------------------------------------------


class JobUsage(msgspec.Struct):
    """Numbers of tokens read and cut off; 0 where vectors existed."""

    tokens: int
    dropped: int


class JobReply(msgspec.Struct, kw_only=True):
    """What all replies have: the model; null where none was needed."""

    model: str | None
    usage: JobUsage


class LabelResult(msgspec.Struct):
    """The nearest label, its cosine, whether the second is nearly as near, and the cosines of all labels."""

    id: ItemId
    label: str
    score: float
    unsure: bool
    scores: dict[str, float]


class LabelReply(JobReply, kw_only=True):
    """Response body of POST /jobs/classify."""

    results: list[LabelResult]


class TopicResult(msgspec.Struct, omit_defaults=True):
    """A topic: how many texts it has, its words, and the ids of the texts nearest to its centre."""

    number: int
    size: int
    words: list[str]
    examples: list[ItemId]


class TopicAssignment(msgspec.Struct):
    """The topic of a text; -1 if it is unlike all topics."""

    id: ItemId
    topic: int


class TopicReply(JobReply, kw_only=True):
    """Response body of POST /jobs/topics.

    ``stability`` is how alike topics of other seeds and other parts of the texts are; ``tried`` has the silhouette of
    each number of topics that was tried; ``merges`` is the hierarchy: two nodes and their distance, nodes from the
    number of topics on being earlier merges.
    """

    topics: list[TopicResult]
    assignments: list[TopicAssignment]
    stability: float
    silhouette: float
    tried: dict[str, float]
    merges: list[tuple[int, int, float]]


class RecommendResult(msgspec.Struct):
    """An item, its score, and the liked item that it is nearest to."""

    id: ItemId
    score: float
    because_of: ItemId


class RecommendReply(JobReply, kw_only=True):
    """Response body of POST /jobs/recommend: the best items first."""

    results: list[RecommendResult]


class OutlierResult(msgspec.Struct):
    """A text, its mean cosine distance to the nearest others, and whether it is far from all."""

    id: ItemId
    score: float
    far: bool


class OutlierReply(JobReply, kw_only=True):
    """Response body of POST /jobs/outliers: the most unlike first."""

    results: list[OutlierResult]


class DriftReply(JobReply, kw_only=True):
    """Response body of POST /jobs/drift: see ``find_drift``. ``newest`` are numbers of new texts."""

    drifted: bool
    separability: float
    p: float
    new_share: float
    interval: tuple[float, float]
    newest: list[int]
    reference: int
    stream: int


class DuplicateLink(msgspec.Struct):
    """A copy, the text to keep in its place, by which measure it is a copy, and how similar both are."""

    id: ItemId
    copy_of: ItemId
    measure: Literal["exact", "near", "meaning"]
    similarity: float


class DuplicateReply(JobReply, kw_only=True):
    """Response body of POST /jobs/duplicates: the numbers of texts, and the copies. Nothing is changed."""

    texts: int
    unique: int
    groups: int
    copies: dict[str, int]
    links: list[DuplicateLink]
