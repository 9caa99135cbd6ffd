"""`RayWorkers`: an option of ``Collection.index``, with which documents are processed on a Ray cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import nearfield
from nearfield.cluster.embed import ClusterOptions
from nearfield.cluster.indexing.job_pool import JobPool
from nearfield.cluster.indexing.job_queue import DocumentSetAside, WorkJob, WorkReply, WorkUnit, group_items
from nearfield.cluster.indexing.messages import (
    ContentMessage,
    ExtractReply,
    FileReference,
    IndexOrder,
    ModelOrder,
    SplitReply,
    SplitRequest,
    read_to_send,
    with_bytes,
)
from nearfield.cluster.indexing.remote_stages import remote_stages, set_aside_reason
from nearfield.cluster.model_parcel import ModelParcel
from nearfield.cluster.ray_runtime import connected
from nearfield.cluster.worker_options import NodeSize, WorkerPlan, WorkerSize, plan_workers
from nearfield.corpus.config import CollectionConfig
from nearfield.corpus.document import Document, StoredFile
from nearfield.corpus.indexing.context import IndexContext
from nearfield.corpus.indexing.document_task import DocumentTask, ItemContent, split_task
from nearfield.corpus.indexing.report import ClusterCounts
from nearfield.corpus.indexing.stages.media_segments import type_of
from nearfield.corpus.indexing.workers import (
    QUEUE_CAPACITY,
    IndexSession,
    IndexSetup,
    IndexWorkers,
    Stage,
    embed_stages,
)
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.inference.uncompiled_model import ReadModelKeywords, read_model

#: Bytes from which a file is read by its worker, if it sees the same file at the same path.
_MIN_REFERENCED = 2**20
#: Files, or bytes of files, of one job.
_FILES_PER_JOB, _BYTES_PER_JOB = 16, 2**19
#: Documents and chunks that may wait between two stages, for each worker.
_CAPACITY_PER_WORKER = 512


@dataclass(frozen=True)
class RayWorkers(ClusterOptions, IndexWorkers):
    """Where a collection's documents are extracted, split and encoded: workers on a Ray cluster.

    ``collection.index(workers=RayWorkers("auto"))`` writes the manifest and the store in this process alone, so that
    chunks, ids and failures are those of a run without a cluster. Files of more than 1 MiB are read by the workers that
    see them at the same path; all other contents are sent to them.

    Attributes:
        address: ``auto``, ``local``, HOST:PORT or ray://HOST:PORT.
        workers: the number of workers; None: as many as fit.
        per_worker: what each gets, such as ``cpus=2`` or ``cpus=2,gpus=0.5``.
        start_seconds: seconds to wait for the first worker.
    """

    @contextmanager
    def start(self, setup: IndexSetup) -> Iterator[IndexSession]:
        """Connect to the cluster and yield a session; workers start with its first document.

        Raises:
            InputError: an option is wrong.
            MissingExtra: Ray is not installed.
            ClusterFailed: the cluster cannot be used.
        """
        with connected(self.address) as ray:
            nodes = [_size(node["Resources"]) for node in ray.nodes() if node["Alive"]]
            plan = plan_workers(nodes, WorkerSize.parse(self.per_worker), self.workers)
            pool = JobPool(ray, plan, create_order(setup, plan.cpus), start_seconds=self.start_seconds)
            try:
                yield RaySession(ray, pool, plan, setup)
            finally:
                pool.close()


def _size(resources: dict[str, float]) -> NodeSize:
    return NodeSize(resources.get("CPU", 0.0), resources.get("GPU", 0.0))


def create_order(setup: IndexSetup, cpus: int) -> IndexOrder:
    """Return what workers need of a collection; ``cpus`` are the threads of each."""
    encoders = {feature.config.model: feature.encoder for feature in setup.features.values()}
    return IndexOrder(
        nearfield.__version__,
        _definition(setup.config),
        {name: _order_model(encoder, cpus) for name, encoder in encoders.items()},
        setup.chunk_stage.identity(),
        {name: feature.space() for name, feature in setup.features.items()},
    )


def _definition(config: CollectionConfig) -> dict[str, Any]:
    """Return what workers need of a definition: they embed no queries, and see neither store nor sources."""
    definition = config.to_dict()
    features = {
        name: {key: value for key, value in feature.items() if key not in ("query_map", "bridge")}
        for name, feature in definition.get("features", {}).items()
    }
    return {**definition, "features": features, "store": "", "sources": []}


def _order_model(encoder: Encoder, cpus: int) -> ModelOrder:
    """Return how a worker loads a model: as here, with its cores as threads and as many streams."""
    arguments = encoder.load_arguments()
    names = ReadModelKeywords.__optional_keys__
    reading = cast(ReadModelKeywords, {name: value for name, value in arguments.items() if name in names})
    loading = {name: value for name, value in arguments.items() if name not in {*names, "model"}}
    loading |= {"threads": cpus, "precision": "float32" if encoder.precision == "float32" else loading["precision"]}
    lanes = getattr(getattr(encoder, "engine", None), "lanes", None)  # an attached encoder has no engine
    loading |= {"devices": None} if lanes is None else {"devices": None, "streams": lanes}  # they are of this machine
    return ModelOrder(ModelParcel.pack(read_model(arguments["model"], **reading)), loading, encoder.precision)


class RaySession(IndexSession):
    """The workers of one index run on a cluster."""

    def __init__(self, ray: Any, pool: JobPool, plan: WorkerPlan, setup: IndexSetup) -> None:
        self._ray, self._pool, self._setup = ray, pool, setup
        self.capacity = max(QUEUE_CAPACITY, plan.count * _CAPACITY_PER_WORKER)
        self._window = 2 * plan.count * _FILES_PER_JOB
        #: Ray's references to the boilerplate of sources.
        self._boilerplate: dict[str, Any] = {}

    def cancel(self) -> None:
        """End the waits for workers."""
        self._pool.cancel()

    def status(self) -> str:
        """Return the speed of each machine."""
        return self._pool.status()

    def counts(self) -> ClusterCounts:
        """Return what each machine did."""
        return self._pool.counts()

    # -- the boilerplate sample --------------------------------------------------------------------------------

    def extract(self, contents: Iterable[ItemContent]) -> Iterator[ItemContent]:
        """Yield contents with their documents; some are in memory at a time."""
        pending: deque[tuple[ItemContent, WorkUnit]] = deque()
        for group in group_items(iter(contents), _weight, 1.0):
            units = [WorkUnit(self._message(content)) for content in group]
            self._pool.submit(WorkJob("extract", units))
            pending.extend(zip(group, units, strict=True))
            while len(pending) > self._window:
                yield from self._extracted(*pending.popleft())
        while pending:
            yield from self._extracted(*pending.popleft())

    def _extracted(self, content: ItemContent, unit: WorkUnit) -> Iterator[ItemContent]:
        try:
            reply: ExtractReply = unit.future.result().value
            if reply.lacks_content:
                reply = self._wait(WorkJob("extract", [WorkUnit(_whole(content))])).value
        except (DocumentSetAside, InputError):  # the run itself records it
            return
        if reply.extracted is not None:
            yield replace(content, extracted=reply.extracted)

    def _message(self, content: ItemContent) -> ContentMessage:
        has_media = bool(self._setup.config.reading.kinds_of(type_of(content)))
        return _message(content, has_media=has_media)

    def _wait(self, job: WorkJob) -> WorkReply:
        self._pool.submit(job)
        return job.units[0].future.result()

    # -- chunks ------------------------------------------------------------------------------------------------

    def split_stages(self) -> list[Stage]:
        """Return a stage that queues documents, and one that receives their parts in the same order."""
        return [self._submit_documents, self._receive_parts]

    def _submit_documents(self, tasks: Iterator[DocumentTask]) -> Iterator[DocumentTask]:
        for group in group_items(tasks, _task_weight, 1.0):
            contents = [(task, task.content) for task in group if task.content is not None]
            units = [WorkUnit(_split_request(task, self._message(content))) for task, content in contents]
            if units:
                self._pool.submit(WorkJob("split", units, (self._lines_of(task for task, _ in contents),)))
            for (task, _), unit in zip(contents, units, strict=True):
                task.pending = unit
            yield from group

    def _lines_of(self, tasks: Iterable[DocumentTask]) -> dict[str, list[Any]]:
        """Return references to the boilerplate of the documents' sources, in lists, so that Ray does not read them."""
        sources = {task.document.source for task in tasks}
        for source in sources - self._boilerplate.keys():
            self._boilerplate[source] = self._ray.put(self._setup.chunk_stage.boilerplate_rows(source))
        return {source: [self._boilerplate[source]] for source in sources}

    def _receive_parts(self, tasks: Iterator[DocumentTask]) -> Iterator[DocumentTask]:
        for task in tasks:
            unit, task.pending = task.pending, None
            if unit is None:
                yield from split_task(task)
                continue
            try:
                yield from self._parts(task, unit)
            except (DocumentSetAside, InputError) as error:
                task.content = None
                yield task.fail(set_aside_reason(task, error) if isinstance(error, DocumentSetAside) else error)

    def _parts(self, task: DocumentTask, unit: WorkUnit) -> Iterator[DocumentTask]:
        """Yield the parts of a document; those of a very long one are requested as they are needed."""
        count, reply = 0, unit.future.result()
        while True:
            page: SplitReply = reply.value
            if page.lacks_content:
                reply = self._split_again(task, count, None)
                continue
            yield from page.parts
            if page.is_complete:
                return
            count += len(page.parts)
            reply = self._split_again(task, count, reply.worker)

    def _split_again(self, task: DocumentTask, skip: int, worker: int | None) -> WorkReply:
        """Request parts of a worker that has the others, or of any with the whole content."""
        assert task.content is not None
        message = _whole(task.content) if worker is None else None
        unit = WorkUnit(_split_request(task, message, skip))
        return self._wait(WorkJob("split", [unit], (self._lines_of([task]),), preferred=worker, is_urgent=True))

    # -- vectors -----------------------------------------------------------------------------------------------

    def embed_stages(self, context: IndexContext) -> list[Stage]:
        """Return two stages for each forward pass: one that queues documents, and one that receives their vectors."""
        stages = remote_stages(self._pool, embed_stages(context))
        return [part for stage in stages for part in (stage.submit, stage.receive)]


def _message(content: ItemContent, *, has_media: bool) -> ContentMessage:
    """Return a content for a worker: without the bytes if the worker can read them.

    It has none either if it is extracted already, unless it ``has_media``, whose segments are listed.
    """
    if content.extracted is not None and not has_media:
        return ContentMessage(replace(content, data=b""))
    if content.path is None or isinstance(content.data, Document) or len(content.data) < _MIN_REFERENCED:
        return ContentMessage(content)
    return ContentMessage(replace(content, data=b""), FileReference.from_bytes(content.path, content.data))


def _whole(content: ItemContent) -> ContentMessage:
    """Return a content with all of its bytes, for a worker that does not see its file.

    Raises:
        InputError: it is too large to be sent, or cannot be read.
    """
    data = content.data
    if isinstance(data, StoredFile):
        data = read_to_send(data.path, content.name)
    elif isinstance(data, Document) and data.media is not None:
        data = replace(data, media=with_bytes(data.media))
    return ContentMessage(replace(content, data=data))


def _split_request(task: DocumentTask, message: ContentMessage | None, skip: int = 0) -> SplitRequest:
    return SplitRequest(replace(task, content=None, pending=None), message, skip)


def _weight(content: ItemContent) -> float:
    """Return the share of a job that a content is."""
    size = len(content.data.text) if isinstance(content.data, Document) else len(content.data)
    return max(1 / _FILES_PER_JOB, size / _BYTES_PER_JOB)


def _task_weight(task: DocumentTask) -> float:
    # Tasks with chunks are not sent, and do not wait for others.
    return 1.0 if task.content is None else _weight(task.content)
