"""What a route may read of a request besides its body: models, headers, path, query, limits, files, batches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nearfield.evaluation.reports.report_folder import ReportFolder
from nearfield.media.limits import DEFAULT_MEDIA_LIMITS, DEFAULT_PICTURE_LIMITS, PictureLimits, SoundLimits, VideoLimits
from nearfield.server.auth.keys import ApiKeys
from nearfield.server.batches.batch_runner import BatchRunner
from nearfield.server.collections.collection_service import CollectionService
from nearfield.server.collections.thread_pool import BoundedThreadPool
from nearfield.server.files.file_store import FileStore
from nearfield.server.files.upload import MultipartUpload
from nearfield.server.http.limits import RequestLimits
from nearfield.server.models.figure_points import HistorySource
from nearfield.server.models.model_pool import ModelPool


@dataclass(slots=True)
class RequestContext:
    """One request as its route sees it. The server fills it in while it reads the request; routes do not change it."""

    models: ModelPool
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Parameters of the path, by name.
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    #: The decoded body, without fields that are null.
    body: Mapping[str, Any] = field(default_factory=dict)
    #: Names of all fields of the body, including those that are null.
    fields: frozenset[str] = frozenset()
    #: Whether the body was a form, whose values are all texts.
    is_form: bool = False
    #: Number of lone surrogates in the body, for which U+FFFD was read.
    replaced: int = 0
    request_id: str = ""
    limits: RequestLimits | None = None
    #: What token ids are, where an API leaves that open: ``cl100k``, ``native`` (the model's own) or ``reject``.
    token_ids: str = "cl100k"
    #: Whether the client's key may use the model with this full id.
    allowed: Callable[[str], bool] = lambda _: True
    #: ``http`` or ``https``, as the client sees it.
    scheme: str = "http"
    #: Digest of the client's key in hexadecimals, which owns files and batches. Empty without keys.
    owner: str = ""
    #: The keys of the server; None for a line of a batch.
    keys: ApiKeys | None = None
    files: FileStore | None = None
    batches: BatchRunner | None = None
    #: Access to collections; None for a line of a batch.
    collections: CollectionService | None = None
    #: Runs the work of jobs, such as clustering.
    job_threads: BoundedThreadPool | None = None
    #: Figures of the last hour, and reports on this machine; None for a line of a batch.
    history: HistorySource | None = None
    reports: ReportFolder | None = None
    #: The body of a route with ``upload``, not read yet.
    upload: MultipartUpload | None = None
    #: Runs a function that converts a large body beside the event loop; None if the body is small.
    in_thread: Callable[[Callable[[], Any]], Awaitable[Any]] | None = None

    @property
    def sound_limits(self) -> SoundLimits:
        """Limits of each sound of the request."""
        return (DEFAULT_MEDIA_LIMITS if self.limits is None else self.limits.media).sounds

    @property
    def video_limits(self) -> VideoLimits:
        """Limits of each video of the request."""
        return (DEFAULT_MEDIA_LIMITS if self.limits is None else self.limits.media).videos

    @property
    def picture_limits(self) -> PictureLimits:
        """Limits of each picture of the request."""
        return DEFAULT_PICTURE_LIMITS if self.limits is None else self.limits.pictures
