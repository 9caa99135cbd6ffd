"""A worker of an index run: one process on one machine, which extracts, splits and encodes documents.

It opens the models once. It writes neither to the store nor to the manifest: what it returns is written by the process
that indexes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import nearfield
from nearfield.cluster.indexing.messages import (
    ContentMessage,
    EmbedReply,
    ExtractReply,
    IndexOrder,
    MediaReply,
    ModelOrder,
    SplitReply,
    SplitRequest,
)
from nearfield.cluster.model_parcel import FileBytes
from nearfield.cluster.ray_runtime import import_ray
from nearfield.cluster.shard_worker import WorkerFacts
from nearfield.corpus.config import CollectionConfig, parse_config
from nearfield.corpus.document import Document, StoredFile
from nearfield.corpus.extractors.options import ExtractionOptions
from nearfield.corpus.extractors.reader import DocumentReader
from nearfield.corpus.features import build_features, group_passes, measuring_feature, token_counter
from nearfield.corpus.indexing.document_task import DocumentTask, ItemContent
from nearfield.corpus.indexing.stages.chunk_encoder import INPUT_ERRORS, ChunkEncoder, encode_dense
from nearfield.corpus.indexing.stages.document_splitter import BoilerplateRow, DocumentSplitter
from nearfield.corpus.indexing.stages.extract_stage import ExtractStage
from nearfield.corpus.indexing.stages.media_encoder import MediaEncoder, MediaInput
from nearfield.corpus.indexing.workers import extraction_options
from nearfield.encoder import Encoder
from nearfield.errors import ClusterFailed
from nearfield.hardware import cpu_name
from nearfield.inference.uncompiled_model import UncompiledModel
from nearfield.settings import cache_dir

#: Chunks of a very long document that are returned together.
_PAGE_CHUNKS = 2048
#: Very long documents of which a worker remembers where it stopped.
_MAX_OPEN = 4


class IndexWorker:
    """Processes documents of one collection. Ray creates it as an actor."""

    def __init__(self) -> None:
        self._boilerplate: dict[str, Sequence[BoilerplateRow]] = {}
        #: Documents of which more parts follow, by id: how many parts were returned, and the others.
        self._open: dict[str, tuple[int, Iterator[DocumentTask]]] = {}
        self._encoders: dict[tuple[str, ...], ChunkEncoder] = {}

    def prepare(self, order: IndexOrder, files: Mapping[str, FileBytes] | None = None) -> WorkerFacts:
        """Load the models, unless their files are missing here and are not among the arguments.

        Raises:
            ClusterFailed: this machine would compute other chunks or vectors.
            NearfieldError: a model cannot be loaded, or a library is missing.
        """
        ray: Any = import_ray()
        node, node_id = str(ray.util.get_node_ip_address()), str(ray.get_runtime_context().get_node_id())
        if order.version != nearfield.__version__:
            raise ClusterFailed(
                f"{node} has Nearfield {nearfield.__version__} and this run {order.version}: install the same."
            )
        models = {name: model.parcel.unpack((files or {}).get(name)) for name, model in order.models.items()}
        facts = WorkerFacts(node, node_id, cpu_name(), os.getpid(), needs_files=None in models.values())
        if not facts.needs_files:
            self._use(order, cast(dict[str, UncompiledModel], models), node)
        return facts

    def _use(self, order: IndexOrder, models: Mapping[str, UncompiledModel], node: str) -> None:
        encoders = {name: _open_encoder(order.models[name], model, node) for name, model in models.items()}
        config = parse_config(dict(order.definition))
        self._features = build_features(config, encoders.__getitem__)
        first = measuring_feature(self._features)
        splitter = DocumentSplitter(config, token_counter(first), partial(encode_dense, first), self._boilerplate_of)
        self._check(order, splitter, node)
        self._late = splitter.late
        self._reader = DocumentReader(options=_extraction(config))
        self._extraction = ExtractStage(config, splitter, self._reader, self._features)

    def _check(self, order: IndexOrder, splitter: DocumentSplitter, node: str) -> None:
        spaces = {name: feature.space() for name, feature in self._features.items()}
        differing = [name for name, space in spaces.items() if space != order.spaces[name]]
        if differing or splitter.identity() != order.identity:
            what = f"vectors of {', '.join(differing)}" if differing else "chunks"
            raise ClusterFailed(f"{node} computes other {what} than this machine: install the same versions on all.")

    def close(self) -> None:
        """End the processes of extractors, and remove their temporary files."""
        self._open.clear()
        self._reader.close()

    def _boilerplate_of(self, source: str) -> Sequence[BoilerplateRow]:
        return self._boilerplate.get(source, ())

    # -- documents ---------------------------------------------------------------------------------------------

    def extract(self, messages: Sequence[ContentMessage]) -> list[ExtractReply]:
        """Extract documents, for the boilerplate sample."""
        return [self._extract(message) for message in messages]

    def _extract(self, message: ContentMessage) -> ExtractReply:
        content = _content(message)
        if content is None:
            return ExtractReply(lacks_content=True)
        extracted = self._extraction.extract(content)
        return ExtractReply(None if extracted is None else extracted.extracted)

    def split(self, requests: Sequence[SplitRequest], boilerplate: Mapping[str, list[Any]]) -> list[SplitReply]:
        """Extract documents and split them into chunks.

        Args:
            requests: the documents, without chunks.
            boilerplate: Ray's references to the boilerplate of their sources, each in a list.

        Raises:
            OSError: the disk of this machine is full.
        """
        ray: Any = import_ray()
        for source, (reference,) in boilerplate.items():
            if source not in self._boilerplate:
                self._boilerplate[source] = ray.get(reference)
        return [self._split(request) for request in requests]

    def _split(self, request: SplitRequest) -> SplitReply:
        key = request.task.document.id
        returned, parts = self._open.pop(key, (-1, iter(())))
        if returned != request.skip:
            content = _content(request.message)
            if content is None:
                return SplitReply(lacks_content=True)
            parts = self._extraction.parts(replace(request.task, content=content))
            _skip(parts, request.skip)
        reply = _page(parts)
        if not reply.is_complete:
            self._open[key] = request.skip + len(reply.parts), parts
            while len(self._open) > _MAX_OPEN:
                del self._open[next(iter(self._open))]
        return reply

    # -- vectors -----------------------------------------------------------------------------------------------

    def embed(self, documents: Sequence[Sequence[str]], names: tuple[str, ...]) -> list[EmbedReply]:
        """Encode the texts of documents for features that share a forward pass."""
        encoder = self._encoder(names)
        if not encoder.late:
            try:
                return _divide([row for rows in encoder.stream(_all(documents)) for row in rows], documents)
            except INPUT_ERRORS:  # one of the documents has an input that fails: encode each separately
                pass
        return [_encode(encoder, texts) for texts in documents]

    def embed_media(self, parts: Sequence[Sequence[MediaInput]], names: tuple[str, ...]) -> list[MediaReply]:
        """Decode and encode segments of files, those of each file that this machine sees."""
        encoder = cast(MediaEncoder, self._encoder(names))
        seen = [_is_seen(inputs) for inputs in parts]
        rows = iter(
            encoder.results([item for inputs, here in zip(parts, seen, strict=True) if here for item in inputs])
        )
        return [
            MediaReply([next(rows) for _ in inputs]) if here else MediaReply(lacks_content=True)
            for inputs, here in zip(parts, seen, strict=True)
        ]

    def _encoder(self, names: tuple[str, ...]) -> ChunkEncoder:
        if names not in self._encoders:
            self._encoders[names] = self._open_encoder(names)
        return self._encoders[names]

    def _open_encoder(self, names: tuple[str, ...]) -> ChunkEncoder:
        ((encode_pass, group),) = group_passes([self._features[name] for name in names])
        if group[0].reads_media:
            return MediaEncoder(encode_pass, group)
        return ChunkEncoder(encode_pass, group, late=self._late)


def _open_encoder(order: ModelOrder, model: UncompiledModel, node: str) -> Encoder:
    encoder = Encoder(model, **order.loading)
    if encoder.precision != order.precision:
        raise ClusterFailed(
            f"{node} computes in {encoder.precision}, and the vectors of this run are in {order.precision}: use nodes "
            "of one kind."
        )
    return encoder


def _extraction(config: CollectionConfig) -> ExtractionOptions:
    """Return the options of extractors, with caches and the speech model of this machine."""
    folder = cache_dir() / "cluster"
    if config.ocr or config.speech:
        folder.mkdir(parents=True, exist_ok=True)
    return extraction_options(config, folder / "ocr-pages.db", folder / "speech-blocks.db")


def _content(message: ContentMessage | None) -> ItemContent | None:
    if message is None or message.file is None:
        return None if message is None or not _is_here(message.content) else message.content
    data = message.file.read()
    return None if data is None else replace(message.content, data=data)


def _is_here(content: ItemContent) -> bool:
    """Return whether this machine sees the file that a content stands for, if it stands for one."""
    if isinstance(content.data, Document):
        return content.data.media is None or content.data.media.is_there()
    return not isinstance(content.data, StoredFile) or content.data.is_there()


def _is_seen(inputs: Sequence[MediaInput]) -> bool:
    """Return whether this machine sees the file of segments as it was listed, or has its bytes."""
    media = inputs[0].media
    return media is None or media.is_there()


def _skip(parts: Iterator[DocumentTask], count: int) -> None:
    for _ in range(count):
        next(parts, None)


def _page(parts: Iterator[DocumentTask]) -> SplitReply:
    """Return the next parts of a document, up to a number of chunks."""
    page: list[DocumentTask] = []
    for part in parts:
        page.append(part)
        if part.is_last or sum(len(one.chunks) for one in page) >= _PAGE_CHUNKS:
            return SplitReply(tuple(page), is_complete=part.is_last)
    return SplitReply(tuple(page), is_complete=True)


def _all(documents: Sequence[Sequence[str]]) -> Iterator[str]:
    return (text for texts in documents for text in texts)


def _divide(rows: Sequence[Any], documents: Sequence[Sequence[str]]) -> list[EmbedReply]:
    """Return the rows of each document."""
    iterator = iter(rows)
    return [EmbedReply([next(iterator) for _ in texts]) for texts in documents]


def _encode(encoder: ChunkEncoder, texts: Sequence[str]) -> EmbedReply:
    try:
        return EmbedReply(encoder.document(texts))
    except INPUT_ERRORS as error:
        return EmbedReply([], str(error) or type(error).__name__)
