"""Where documents are extracted, split and encoded: in this process, or by workers elsewhere.

The manifest and the store are written by this process alone, in the order in which sources list their documents,
whatever the workers are. What an index run promises does therefore not depend on them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.extractors.ocr import require_ocr
from nearfield.corpus.extractors.options import ExtractionOptions
from nearfield.corpus.extractors.reader import DocumentReader
from nearfield.corpus.extractors.speech import require_speech
from nearfield.corpus.extractors.speech.speech_model import locate_speech_model
from nearfield.corpus.features import Feature, group_passes
from nearfield.corpus.indexing.context import IndexContext
from nearfield.corpus.indexing.document_task import DocumentTask, ItemContent, split_task
from nearfield.corpus.indexing.report import ClusterCounts
from nearfield.corpus.indexing.stages.chunk_stage import ChunkStage
from nearfield.corpus.indexing.stages.embed_stage import EmbedStage
from nearfield.corpus.indexing.stages.extract_stage import ExtractStage
from nearfield.corpus.indexing.stages.media_stage import MediaEmbedStage

#: Documents and chunks that may wait between two stages.
QUEUE_CAPACITY = 2048
#: The language of a definition that states none: the one that is spoken is then recognised.
_UNSTATED = "en"

Stage = Callable[[Iterator[DocumentTask]], Iterator[DocumentTask]]


@dataclass(frozen=True)
class IndexSetup:
    """What workers need of a collection before its first document.

    Attributes:
        config: its definition.
        features: its features with their models, by name.
        chunk_stage: splits its documents.
        extraction: options of extractors.
    """

    config: CollectionConfig
    features: Mapping[str, Feature]
    chunk_stage: ChunkStage
    extraction: ExtractionOptions


def extraction_options(
    config: CollectionConfig, ocr_cache: Path, speech_cache: Path, *, progress: bool = False
) -> ExtractionOptions:
    """Return the options of extractors for a definition; ``progress`` shows the download of a speech model.

    Raises:
        MissingExtra: OCR or speech recognition is on, and its library is not installed.
        NearfieldError: the speech model is not here and cannot be downloaded.
    """
    if config.ocr:
        require_ocr()
    options = ExtractionOptions(config.ocr, str(ocr_cache) if config.ocr else "", config.media_kinds)
    if not config.speech:
        return options
    require_speech()
    folder = locate_speech_model(config.speech, progress=progress)
    language = "" if config.language == _UNSTATED else config.language
    return replace(options, speech=str(folder), speech_cache=str(speech_cache), language=language)


class IndexSession(ABC):
    """The workers of one index run."""

    #: Documents and chunks that may wait between two stages.
    capacity: int = QUEUE_CAPACITY

    @abstractmethod
    def extract(self, contents: Iterable[ItemContent]) -> Iterator[ItemContent]:
        """Yield contents with their documents, in order; those that cannot be read are left out."""

    @abstractmethod
    def split_stages(self) -> list[Stage]:
        """Return the stages that turn tasks with a content into parts with chunks; others are only divided."""

    @abstractmethod
    def embed_stages(self, context: IndexContext) -> list[Stage]:
        """Return the stages that compute missing vectors."""

    def cancel(self) -> None:  # noqa: B027 - stages in this process wait for nothing else than their queues
        """End the waits of all stages, because the run has stopped. The session is not used any more."""

    def status(self) -> str:
        """Return what the progress bar shows of the workers."""
        return ""

    def counts(self) -> ClusterCounts | None:
        """Return what each machine did, for the report; None if there is only this one."""
        return None


class IndexWorkers(ABC):
    """Where an index run extracts, splits and encodes documents: an option of ``Collection.index``."""

    @abstractmethod
    def check(self) -> None:
        """Check what can be checked before a run.

        Raises:
            InputError: an option is wrong.
            MissingExtra: a library is not installed.
        """

    @abstractmethod
    def start(self, setup: IndexSetup) -> AbstractContextManager[IndexSession]:
        """Return a context manager of the workers of one run."""


def embed_stages(context: IndexContext) -> list[EmbedStage]:
    """Return the stage of each forward pass in this process."""
    passes = group_passes([item.feature for item in context.tables.values()])
    return [
        (MediaEmbedStage if group[0].reads_media else EmbedStage)(context, encode_pass, group)
        for encode_pass, group in passes
    ]


class LocalSession(IndexSession):
    """Extracts, splits and encodes in this process."""

    def __init__(self, setup: IndexSetup, reader: DocumentReader) -> None:
        self._extraction = ExtractStage(setup.config, setup.chunk_stage, reader, setup.features)

    def extract(self, contents: Iterable[ItemContent]) -> Iterator[ItemContent]:
        """Yield contents with their documents, one at a time: together they may not fit into memory."""
        for content in contents:
            extracted = self._extraction.extract(content)
            if extracted is not None:
                yield extracted

    def split_stages(self) -> list[Stage]:
        """Return the one stage that splits."""
        return [self._split]

    def _split(self, tasks: Iterator[DocumentTask]) -> Iterator[DocumentTask]:
        for task in tasks:
            yield from split_task(task) if task.content is None else self._extraction.parts(task)

    def embed_stages(self, context: IndexContext) -> list[Stage]:
        """Return a stage for each forward pass."""
        return [stage.run for stage in embed_stages(context)]


class LocalWorkers(IndexWorkers):
    """Extracts, splits and encodes in this process."""

    def check(self) -> None:
        """Accept: there are no options."""

    @contextmanager
    def start(self, setup: IndexSetup) -> Iterator[IndexSession]:
        """Yield a session with a reader of documents, which is closed at the end."""
        with DocumentReader(options=setup.extraction) as reader:
            yield LocalSession(setup, reader)
