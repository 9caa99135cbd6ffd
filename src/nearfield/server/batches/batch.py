"""A batch in the shape of OpenAI's API, and the state of its processing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from nearfield.server.batches.batch_lines import LineError, digest_of

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
Outcome = Literal["failed", "completed", "expired", "cancelled"]
#: States in which there is work left.
UNFINISHED = ("validating", "in_progress", "finalizing", "cancelling")


class Problems(msgspec.Struct):
    """The errors of a batch, at most a hundred."""

    object: str
    data: list[LineError]


class Counts(msgspec.Struct):
    """Number of requests: all, those answered, and those refused or not done."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class InputDetails(msgspec.Struct):
    """Cached tokens among the input tokens."""

    cached_tokens: int = 0


class OutputDetails(msgspec.Struct):
    """Reasoning tokens among the output tokens."""

    reasoning_tokens: int = 0


class BatchUsage(msgspec.Struct):
    """Input tokens; there are no output tokens."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class BatchObject(msgspec.Struct):
    """One batch, in the shape of OpenAI's API: https://platform.openai.com/docs/api-reference/batch/object"""

    id: str
    object: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: Status
    created_at: int
    expires_at: int | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: Problems | None = None
    request_counts: Counts = msgspec.field(default_factory=Counts)
    metadata: dict[str, str] | None = None
    model: str | None = None
    usage: BatchUsage | None = None


@dataclass
class BatchJob:
    """A batch and the state of its processing."""

    batch: BatchObject
    owner: str
    output_id: str
    error_id: str
    #: Seconds after which the results expire.
    seconds: int | None = None
    #: Digests of the custom_ids of finished lines; None until the partial files were read.
    done: set[bytes] | None = None
    tokens: int = 0
    #: Failed attempts of unfinished lines, and when to try again (``time.monotonic``), by custom_id.
    attempts: dict[str, tuple[int, float]] = field(default_factory=dict)
    #: Lines are written one after another.
    write_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def count(self, custom_id: str, good: bool, tokens: int) -> None:
        """Count a line as done."""
        if self.done is None:
            raise RuntimeError("read the finished lines before counting more")
        self.done.add(digest_of(custom_id))
        counts = self.batch.request_counts
        counts.completed, counts.failed = counts.completed + good, counts.failed + (not good)
        self.tokens += tokens

    def retry_time(self, custom_id: str) -> float:
        """Return when a line may be tried (``time.monotonic``)."""
        return self.attempts[custom_id][1] if custom_id in self.attempts else 0.0

    def is_done(self, custom_id: str) -> bool:
        """Return whether a line is done."""
        return digest_of(custom_id) in (self.done or ())

    def record_progress(self, batch: BatchObject) -> None:
        """Write the counts and token usage into the record."""
        counts = self.batch.request_counts
        batch.request_counts = Counts(batch.request_counts.total, counts.completed, counts.failed)
        batch.usage = BatchUsage(self.tokens, InputDetails(), 0, OutputDetails(), self.tokens)
