"""Request and response structs of the collections API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from nearfield.server.dialects import JsonValue
from nearfield.server.models.names import MAX_NAME_LENGTH

#: Characters of a query, documents in one list, characters of a document in one response.
MAX_QUERY_LENGTH, MAX_LISTED_DOCUMENTS, MAX_LISTED_CHUNKS, MAX_TEXT_LENGTH = 32_768, 1000, 1000, 1_000_000
#: Passages in the results of a search, and passages for an answer.
MAX_RESULTS, MAX_PASSAGES = 1000, 100
#: Pictures of one question.
MAX_PICTURES = 16
#: Candidates to rerank for one request: each needs a run of the model.
MAX_RERANKED = 200
#: A picture, sound or video: a data URI or base64 in JSON, and in msgpack the bytes of its file, too.
FileContent = Annotated[
    Any,
    msgspec.Meta(
        description="A file as a data URI or as base64; in msgpack also its bytes.",
        extra_json_schema={"type": "string"},
    ),
]
#: Parts of one query.
MAX_PARTS = 16
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]
Query = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_QUERY_LENGTH)]
Model = Annotated[str, msgspec.Meta(max_length=MAX_NAME_LENGTH)]
Depth = Annotated[int, msgspec.Meta(ge=1, le=MAX_RESULTS)]
Reranked = Annotated[int, msgspec.Meta(ge=1, le=MAX_RERANKED)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
Word = Annotated[str, msgspec.Meta(max_length=64)]
#: Kinds of passages.
PassageKind = Literal["text", "image", "page", "audio", "video"]
_NAME_FORM = "a lower-case letter or a digit, then up to 62 lower-case letters, digits, - and _"


class CollectionName(msgspec.Struct):
    """Name of a collection."""

    name: str


class CollectionList(msgspec.Struct):
    """Response body of GET /collections: the served collections.

    ``stored_bytes`` are those of the files that the key has sent, to collections and elsewhere; ``max_stored_bytes`` is
    what it may store, and 0 no limit.
    """

    collections: list[CollectionName]
    stored_bytes: int
    max_stored_bytes: int


class CollectionFeature(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One kind of vector that each passage has, as in the definition of a collection.

    ``reads`` are the kinds of passages that have it; one of them but text as ``kind`` is short for a feature that reads
    it.
    """

    model: Model | None = None
    kind: Literal["dense", "sparse", "multivector", "image", "page", "audio", "video"] = "dense"
    reads: Annotated[list[PassageKind], msgspec.Meta(max_length=5)] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | None = None
    force: bool = False
    dtype: Literal["float32", "float16", "binary"] = "float32"
    of: Word | None = None
    index: Literal["auto", "none"] = "auto"
    quantization: Literal["none", "int8", "binary"] = "none"


class CollectionChunks(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How documents are split into chunks."""

    by: Word = "auto"
    tokens: Annotated[int, msgspec.Meta(ge=8, le=1_000_000)] | None = None
    overlap: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | None = None
    context: bool = True


class CollectionExtractor(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An extractor with parameters, which stands for a feature and the segments that it reads."""

    feature_extractor_name: Word
    version: Word | None = None
    parameters: dict[str, JsonValue] = {}


class CollectionSoundSegments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How sounds are cut: equal parts of seconds, or parts between silences."""

    split_method: Literal["time", "silence"] = "time"
    time_split_interval: Seconds | None = None
    max_segment_duration: Seconds | None = None


class CollectionVideoSegments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How videos are cut, and the frames that the model reads of each second and of each segment."""

    split_method: Literal["time", "scene", "silence"] = "time"
    time_split_interval: Seconds | None = None
    max_segment_duration: Seconds | None = None
    fps: Annotated[float, msgspec.Meta(gt=0, le=120)] | None = None
    max_frames: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None


class CollectionSegments(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How sounds and videos are cut into segments, which are passages."""

    audio: CollectionSoundSegments = CollectionSoundSegments()
    video: CollectionVideoSegments = CollectionVideoSegments()


class CollectionCleaning(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What is stored once or left out: lines that many documents repeat, near-duplicate chunks, and copies of media.

    ``copies`` is the cosine from which on pictures and parts of videos that look the same are stored once [never].
    """

    boilerplate: bool = True
    duplicates: bool = True
    copies: Annotated[float, msgspec.Meta(ge=0.9, le=1)] | None = None


class CollectionRequest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Body of POST /collections; the default model of the first feature is all-MiniLM-L6-v2.

    ``feature_extractors`` stand for ``features``: names, or objects with names and parameters. ``ocr`` reads the text
    of pictures and of scanned pages: true, or "damaged" for pages too with text that looks damaged. ``speech`` reads
    what is said in sounds and videos. Both need an extra of the server.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description=_NAME_FORM)]
    features: Annotated[dict[str, CollectionFeature], msgspec.Meta(max_length=16)] = {}
    feature_extractors: Annotated[list[Word | CollectionExtractor], msgspec.Meta(max_length=16)] | None = None
    chunks: CollectionChunks | None = None
    segments: CollectionSegments | None = None
    clean: CollectionCleaning | None = None
    fields: Annotated[dict[str, Literal["str", "int", "float", "bool"]], msgspec.Meta(max_length=64)] = {}
    language: Word | None = None
    ocr: bool | Literal["damaged"] = False
    speech: bool = False


class CollectionIndexing(msgspec.Struct):
    """How far an index run is: documents, parts of long ones included, of ``total`` (null: not counted yet).

    ``share`` is the share that is done, 0 to 1, or null; ``label`` says what is being done.
    """

    documents: float
    total: int | None
    share: float | None
    tokens: int
    seconds: float
    label: str


class CollectionReply(msgspec.Struct):
    """Contents of a collection: counts, the number of documents in each state, and its tables of vectors.

    A table is ``live`` if searches use it, and ``building`` until all documents are in it. ``indexing`` is the index
    run that a process does now, or null.
    """

    name: str
    documents: int
    chunks: int
    tokens: int
    repeats: int
    states: dict[str, int]
    fields: dict[str, str]
    features: dict[str, JsonValue]
    tables: list[dict[str, JsonValue]]
    language: str
    ocr: bool | str
    speech: bool
    indexing: CollectionIndexing | None


class SearchContent(msgspec.Struct, forbid_unknown_fields=True):
    """A part of a query: a text, or a picture, sound or video as a data URI, base64, or bytes in msgpack."""

    text: Query | None = None
    image: FileContent = None
    audio: FileContent = None
    video: FileContent = None


class SearchRequest(msgspec.Struct):
    """Body of POST /collections/{name}/search; the defaults are those of ``Collection.search`` in Python.

    ``query`` is a text, a part or a list of parts, whose vectors are added. ``like`` is the id of a passage or document
    of the collection, or several, in its place or beside it. ``part_weights`` are those of the parts, then of ``like``.
    ``group_by`` is ``document``, for the best passage of each document with at most ``others`` more. ``kind`` are the
    kinds of passages that are searched, all by default.
    """

    query: Query | SearchContent | Annotated[list[SearchContent], msgspec.Meta(max_length=MAX_PARTS)] | None = None
    k: Depth = 10
    mode: Word | None = None
    where: dict[str, JsonValue] | None = None
    kind: PassageKind | list[PassageKind] | None = None
    rerank: Model | None = None
    rerank_depth: Reranked | None = None
    mmr: Share | None = None
    highlight: bool | Word | None = None
    explain: bool = False
    exact: bool = False
    weights: dict[str, float] | None = None
    fuse: Word | None = None
    depth: Annotated[int, msgspec.Meta(ge=1, le=10 * MAX_RESULTS)] | None = None
    min_score: Share | None = None
    like: Id | Annotated[list[Id], msgspec.Meta(max_length=MAX_PARTS)] | None = None
    part_weights: Annotated[list[float], msgspec.Meta(max_length=2 * MAX_PARTS)] | None = None
    group_by: Word | None = None
    others: Annotated[int, msgspec.Meta(ge=0, le=MAX_RESULTS)] | None = None


class SearchForm(msgspec.Struct):
    """Form of a search: parts ``text``, ``image``, ``audio`` and ``video`` (files), and ``like``, in their order.

    The other fields are those of the JSON body, as texts; ``where``, ``weights`` and ``part_weights`` are JSON, and
    ``kind`` may be repeated.
    """

    text: list[str] | None = None
    image: list[bytes] | None = None
    audio: list[bytes] | None = None
    video: list[bytes] | None = None
    like: list[Id] | None = None
    kind: list[PassageKind] | None = None
    k: Depth = 10
    mode: Word | None = None
    where: str | None = None
    part_weights: str | None = None
    group_by: Word | None = None


class CollectionPlace(msgspec.Struct):
    """A place in a document, as in a passage."""

    document: str
    start: int
    end: int
    page: int | None
    last_page: int | None
    page_unit: str
    lines: list[int] | None
    start_time: float | None
    end_time: float | None
    kind: PassageKind


class CollectionFrame(msgspec.Struct):
    """A frame of a video: its number, from 0, or null if that is unknown, and its second."""

    number: int | None
    seconds: float


class CollectionPassage(msgspec.Struct):
    """A passage in the results.

    ``score`` is its relevance from 0 (unrelated) to 1. ``start`` and ``end`` are characters of the text that
    ``GET /collections/{name}/document`` returns. Pages count in units of ``page_unit`` (page, slide or sheet);
    ``lines`` are the first and last line in a text file. ``highlights`` are pairs of positions in the passage's text,
    and so is ``shared``: what was not compared with the query, since it is a separate passage that documents share.
    ``bridge`` says what the search loses while the collection moves to another model; else it is empty. ``start_time``
    and ``end_time`` are the seconds of a recording in which the passage is said. ``kind`` is text, image, page, audio
    or video; all but the first have no text. ``others`` are passages that are folded into this one. ``frames`` are
    those of a video that the vector comes from, ``segment`` is the number of the part of a sound or video, from 1.
    ``thumbnail`` and ``clip`` are the addresses on this server of a picture and of a part of the recording, or null.
    """

    id: str
    document: str
    score: float
    text: str
    title: str
    start: int
    end: int
    page: int | None
    headings: list[str]
    fields: dict[str, str | int | float | bool]
    highlights: list[list[int]]
    also: list[CollectionPlace]
    stages: dict[str, dict[str, float]]
    last_page: int | None
    page_unit: str
    lines: list[int] | None
    shared: list[list[int]]
    bridge: str
    start_time: float | None
    end_time: float | None
    kind: PassageKind
    others: list[CollectionPassage]
    frames: list[CollectionFrame]
    segment: int | None
    thumbnail: str | None
    clip: str | None


class SearchReply(msgspec.Struct):
    """Response body of a search: the passages, best first."""

    collection: str
    results: list[CollectionPassage]


class AskRequest(msgspec.Struct):
    """Body of POST /collections/{name}/ask; the options are those of a search.

    Passages with a score below ``min_score`` (0.5) are no evidence for an answer. Up to ``pictures`` of those that are
    pictures, pages and parts of videos are sent to the chat model as pictures.
    """

    question: Annotated[str, msgspec.Meta(min_length=1, max_length=8000)]
    k: Annotated[int, msgspec.Meta(ge=1, le=MAX_PASSAGES)] = 8
    mode: Word | None = None
    where: dict[str, JsonValue] | None = None
    kind: PassageKind | list[PassageKind] | None = None
    rerank: Model | None = None
    rerank_depth: Reranked | None = None
    mmr: Share | None = None
    min_score: Share | None = None
    pictures: Annotated[int, msgspec.Meta(ge=0, le=MAX_PICTURES)] = 0
    stream: bool = False


class CollectionCitation(msgspec.Struct):
    """A passage that an answer cites; ``marks`` are pairs of positions in the answer's text, ``kind`` is as there."""

    number: int
    id: str
    document: str
    title: str
    start: int
    end: int
    page: int | None
    headings: list[str]
    marks: list[list[int]]
    last_page: int | None
    page_unit: str
    lines: list[int] | None
    start_time: float | None
    end_time: float | None
    kind: PassageKind


class AskReply(msgspec.Struct):
    """An answer; ``passages`` are those sent to the chat model, [1] first; ``text`` is empty if there is no answer."""

    collection: str
    text: str
    found: bool
    cited: bool
    citations: list[CollectionCitation]
    invalid: list[int]
    passages: list[CollectionPassage]
    usage: dict[str, int]
    model: str
    cut: bool
    left_out: int


class DocumentLoss(msgspec.Struct):
    """Content that a reader of the file sees and that is missing from its text: where, and what to do."""

    reason: str
    words: int
    pages: list[int]
    advice: str


class DocumentState(msgspec.Struct):
    """State of a document: done, partial, failed or writing; ``error`` is the reason if it failed.

    ``share`` is the part of its visible words that searches can reach, 0 to 1, or null if they were not counted.
    """

    id: str
    source: str
    key: str
    title: str
    state: str
    error: str
    chunks: int
    tokens: int
    fields: dict[str, JsonValue]
    visible_words: int | None
    kept_words: int | None
    share: float | None
    losses: list[DocumentLoss]


class DocumentList(msgspec.Struct):
    """Documents in the order of their ids; ``next`` is the value of ``after`` for the next page, or null."""

    documents: list[DocumentState]
    next: str | None


class DocumentReply(msgspec.Struct):
    """A document, and the part of its text from ``start`` to ``end`` of ``total`` characters."""

    document: DocumentState
    start: int
    end: int
    total: int
    text: str


class CollectionChunk(msgspec.Struct):
    """A chunk of a document: its place, its tokens, and the text in front of it when it is embedded (``context``)."""

    id: str
    document: str
    tokens: int
    context: str
    start: int
    end: int
    page: int | None
    last_page: int | None
    page_unit: str
    lines: list[int] | None
    start_time: float | None
    end_time: float | None
    kind: PassageKind
    thumbnail: str | None
    clip: str | None


class ChunkList(msgspec.Struct):
    """Chunks of a document in their order, from the number ``first`` (the first is 0), of ``total``."""

    chunks: list[CollectionChunk]
    first: int
    total: int


class DocumentsRequest(msgspec.Struct):
    """Body of POST /collections/{name}/documents: each has ``id``, ``text``, optionally ``title``, and fields."""

    documents: list[dict[str, JsonValue]]


class CollectionFileForm(msgspec.Struct):
    """Body of POST /collections/{name}/files: a form with files, and optionally another name for one."""

    file: list[bytes]
    filename: str | None = None


class CollectionFailure(msgspec.Struct):
    """A document that could not be indexed, and the reason."""

    document: str
    reason: str


class DocumentsReply(msgspec.Struct):
    """Numbers of new, changed, failed and partial documents, of chunks and tokens, and the first failures."""

    new: int
    changed: int
    failed: int
    partial: int
    chunks: int
    tokens: int
    failures: list[CollectionFailure]


class UploadReply(DocumentsReply):
    """The same for the files that were sent, the first document, and all of them."""

    document: str
    documents: list[str]


class DeleteRequest(msgspec.Struct):
    """Body of POST /collections/{name}/documents/delete: ids of documents."""

    documents: list[str]


class DeletedReply(msgspec.Struct):
    """Number of deleted documents."""

    deleted: int
