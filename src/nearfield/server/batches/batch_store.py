"""On-disk state of batches: records in the file store's database, and result files of finished lines."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import orjson

from nearfield.errors import NotThere, ShuttingDown, TooManyBatches
from nearfield.server.batches.batch import UNFINISHED, BatchJob, BatchObject, Counts, Outcome, Problems
from nearfield.server.batches.batch_lines import (
    BatchLine,
    LineChecker,
    LineError,
    append_line,
    decode,
    read_lines,
    read_responses,
    response_line,
)
from nearfield.server.batches.webhooks.webhook_sender import WebhookSender
from nearfield.server.files.file_store import FileRecord, FileStore
from nearfield.server.files.storage_errors import convert_storage_errors
from nearfield.server.http.content_bounds import ContentBounds

#: Lines in work at once, and their bytes: repeated after a kill, and waited for at a shutdown.
_WINDOW_LINES, _WINDOW_BYTES = 256, 256 * 1024
#: Seconds for which a file is checked at a time.
_SLICE_SECONDS = 0.03
#: Maximum number of ended batches of an owner whose records stay; the oldest are removed first.
_MAX_ENDED = 10_000
#: Seconds after which a client with too many batches may try again.
_RETRY_SECONDS = 30.0


class FileCheck:
    """The check of a batch's file, in slices: other owners get a turn in between."""

    def __init__(self, checker: LineChecker, lines: Iterator[tuple[int, bytes, int]]) -> None:
        self._checker = checker
        self._lines = lines
        #: The errors, once the check is done.
        self.problems: list[LineError] = []

    @property
    def total(self) -> int:
        """Number of requests so far."""
        return self._checker.total

    @property
    def model(self) -> str | None:
        """The model of all requests, if they name the same one."""
        return self._checker.model

    def advance(self) -> bool:
        """Check lines for a while; return whether the check is done. Blocks."""
        until = time.monotonic() + _SLICE_SECONDS
        for number, raw, _ in self._lines:
            if not self._checker.check(number, raw):
                break
            if time.monotonic() > until:
                return False
        self.problems = self._checker.finish()
        return True

    def close(self) -> None:
        """Close the file."""
        if isinstance(self._lines, Generator):
            with suppress(ValueError):  # a thread still reads
                self._lines.close()


class BatchStore:
    """Stores batches beside files, and webhooks of their ends. All methods wait for the disk: call them in threads."""

    def __init__(self, files: FileStore, bounds: ContentBounds, webhooks: WebhookSender | None = None) -> None:
        self._files = files
        self._bounds = bounds
        self._webhooks = webhooks
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the methods that read files, with ShuttingDown."""
        self._stopping.set()

    # -- records ---------------------------------------------------------------------------------------------------

    def insert(self, job: BatchJob) -> None:
        """Record a new batch.

        Raises:
            TooManyBatches: its owner has as many unfinished ones as it may.
            StorageFull, StorageFailed: it cannot be recorded.
        """
        limit, marks = self._files.limits.owner_batches, ", ".join("?" * len(UNFINISHED))
        with self._files.records(write=True) as database:
            (count,) = database.execute(
                f"SELECT COUNT(*) FROM batches WHERE owner = ? AND status IN ({marks})", (job.owner, *UNFINISHED)
            ).fetchone()
            if limit and count >= limit:
                raise TooManyBatches(
                    f"You have {count} unfinished batches, the maximum (max_key_batches): wait for one of them, or "
                    "cancel one.",
                    retry_after=_RETRY_SECONDS,
                )
            database.execute(
                "DELETE FROM batches WHERE seq IN (SELECT seq FROM batches WHERE owner = ?"
                f" AND status NOT IN ({marks}) ORDER BY seq DESC LIMIT -1 OFFSET ?)",
                (job.owner, *UNFINISHED, _MAX_ENDED),
            )
            database.execute(
                "INSERT INTO batches (id, owner, status, output_id, error_id, output_seconds, record)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    job.batch.id,
                    job.owner,
                    job.batch.status,
                    job.output_id,
                    job.error_id,
                    job.seconds,
                    msgspec.json.encode(job.batch),
                ),
            )

    def find(self, name: str, owner: str) -> BatchObject:
        """Return a batch of an owner.

        Raises:
            NotThere: there is none.
        """
        if not self._files.used:
            raise _missing(name)
        with self._files.records() as database:
            return _row(database, name, owner)

    def change(self, name: str, owner: str, change: Callable[[BatchObject], None]) -> BatchObject:
        """Change a record and return it; if ``change`` raises, the record is unchanged."""
        if not self._files.used:
            raise _missing(name)
        with self._files.records(write=True) as database:
            batch = _row(database, name, owner)
            change(batch)
            _store(database, batch)
        return batch

    def page(self, owner: str, after: str | None, limit: int) -> tuple[list[BatchObject], bool]:
        """Return batches of an owner, newest first, and whether there are more."""
        rows, more = self._files.rows("batches", owner, after, limit, False, "1", [])
        return [_batch(row) for row in rows], more

    def unfinished(self) -> list[BatchJob]:
        """Return the unfinished batches, oldest first; expired files are removed before."""
        self._files.sweep()
        marks = ", ".join("?" * len(UNFINISHED))
        with self._files.records() as database:
            rows = database.execute(
                f"SELECT * FROM batches WHERE status IN ({marks}) ORDER BY seq", UNFINISHED
            ).fetchall()
        return [
            BatchJob(_batch(row), row["owner"], row["output_id"], row["error_id"], row["output_seconds"])
            for row in rows
        ]

    def now(self) -> int:
        """Return the time in whole seconds, as in records."""
        return int(self._files.clock())

    # -- lines -----------------------------------------------------------------------------------------------------

    def check(self, job: BatchJob) -> FileCheck:
        """Return the check of a whole file, which reads it in slices."""
        return FileCheck(LineChecker(job.batch.endpoint, self._bounds), self._lines(job))

    def _lines(self, job: BatchJob, at: int = 0) -> Iterator[tuple[int, bytes, int]]:
        """Yield all lines of a batch's file, as ``read_lines`` does.

        Raises:
            ShuttingDown: ``stop`` was called.
        """
        for line in read_lines(self._input(job), at):
            self._check_stopping()
            yield line

    def _check_stopping(self) -> None:
        if self._stopping.is_set():
            raise ShuttingDown("The server is stopping; the batch continues at its next start.")

    def _input(self, job: BatchJob) -> Path:
        try:
            return self._files.path(self._files.look(job.batch.input_file_id, job.owner).id)
        except NotThere as error:
            raise NotThere(
                f"The file {job.batch.input_file_id} was deleted or has expired before the batch was done.",
                param="input_file_id",
            ) from error

    def check_quota(self, job: BatchJob) -> None:
        """Check that the results of a batch may grow.

        Raises:
            QuotaExceeded: they and the owner's files take as much as they may.
            StorageFull: those of all owners do, or the disk is full.
        """
        marks = ", ".join("?" * len(UNFINISHED))
        with self._files.records() as database:
            rows = database.execute(
                f"SELECT output_id, error_id FROM batches WHERE owner = ? AND status IN ({marks})",
                (job.owner, *UNFINISHED),
            ).fetchall()
        partials = (self._partial(name) for row in rows for name in row)
        with convert_storage_errors():
            size = sum(partial.stat().st_size for partial in partials if partial.exists())
        self._files.check_growth(job.owner, size)

    def window(self, job: BatchJob, at: int) -> tuple[list[BatchLine], int]:
        """Return the next lines that are not done, and where to go on."""
        batch_lines: list[BatchLine] = []
        size = 0
        for _, raw, end in self._lines(job, at):
            at = end
            if not raw.strip():
                continue
            line = decode(raw)
            if job.is_done(line.custom_id):
                continue
            batch_lines.append(line)
            size += len(raw)
            if len(batch_lines) >= _WINDOW_LINES or size >= _WINDOW_BYTES:
                break
        return batch_lines, at

    def expire_rest(self, job: BatchJob) -> None:
        """Write an error for each line that is not done: the batch has expired."""
        text = "This request could not be executed before the completion window expired."
        error = orjson.dumps({"code": "batch_expired", "message": text})
        for _, raw, _ in self._lines(job):
            if not raw.strip():
                continue
            custom_id = decode(raw).custom_id
            if not job.is_done(custom_id):
                append_line(self._partial(job.error_id), response_line(custom_id, b"null", error))
                job.count(custom_id, False, 0)

    def write(self, job: BatchJob, custom_id: str, response: bytes, tokens: int, *, good: bool) -> None:
        """Add the reply to a line to the results."""
        self._files.check_space(len(response))
        append_line(self._partial(job.output_id if good else job.error_id), response_line(custom_id, response, b"null"))
        job.count(custom_id, good, tokens)

    def read_done(self, job: BatchJob) -> None:
        """Read the partial files; an incomplete last line is truncated."""
        job.done, job.tokens, job.batch.request_counts = set(), 0, Counts(job.batch.request_counts.total)
        for name, good in ((job.output_id, True), (job.error_id, False)):
            partial, final = self._partial(name), self._files.path(name)
            with convert_storage_errors():
                if final.exists() and not partial.exists():
                    final.replace(partial)  # killed between this and the record of the end
                if not partial.exists():
                    continue
                size = 0
                for custom_id, tokens, end in read_responses(partial):
                    self._check_stopping()
                    job.count(custom_id, good, tokens if good else 0)
                    size = end
                if size < partial.stat().st_size:
                    os.truncate(partial, size)

    def conclude(self, job: BatchJob, outcome: Outcome, problems: Sequence[LineError]) -> BatchObject:
        """Move the results into place and record the outcome. After a kill in between, both are done again."""
        results = [self._place(job, name, kind) for name, kind in ((job.output_id, "output"), (job.error_id, "error"))]
        with self._files.records(write=True) as database:
            batch = _row(database, job.batch.id, job.owner)
            for file in results:
                if file is not None:
                    self._files.add(database, file, job.owner)
            batch.output_file_id, batch.error_file_id = (file.id if file is not None else None for file in results)
            job.record_progress(batch)
            if problems:
                batch.errors = Problems("list", list(problems))
            batch.status = outcome
            setattr(batch, f"{outcome}_at", self.now())
            _store(database, batch)
            self._add_webhook(database, batch, job.owner)
        return batch

    def _add_webhook(self, database: sqlite3.Connection, batch: BatchObject, owner: str) -> None:
        """Record the webhook of a batch's end with the end itself: a kill loses neither."""
        receiver = self._webhooks.receiver(batch.metadata) if self._webhooks is not None else None
        if self._webhooks is not None and receiver is not None:
            url, host = receiver
            self._webhooks.store.add(
                database, owner=owner, url=url, host=host, kind=f"batch.{batch.status}", about=batch.id
            )

    def _place(self, job: BatchJob, name: str, kind: str) -> FileRecord | None:
        """Give a partial file its final name; an empty one is removed."""
        partial = self._partial(name)
        with convert_storage_errors():
            if not partial.exists() or not (size := partial.stat().st_size):
                partial.unlink(missing_ok=True)
                return None
            with partial.open("rb") as content:
                os.fsync(content.fileno())
        self._files.place(partial, name)
        now = self.now()
        until = None if job.seconds is None else now + job.seconds
        return FileRecord(name, "file", size, now, f"{job.batch.id}_{kind}.jsonl", "batch_output", "processed", until)

    def _partial(self, name: str) -> Path:
        return self._files.path(name + ".partial")


def _row(database: sqlite3.Connection, name: str, owner: str) -> BatchObject:
    row = database.execute("SELECT * FROM batches WHERE id = ? AND owner = ?", (name, owner)).fetchone()
    if row is None:
        raise _missing(name)
    return _batch(row)


def _missing(name: str) -> NotThere:
    return NotThere(f"No batch found with id '{name[:100]}'.", param="batch_id")


def _store(database: sqlite3.Connection, batch: BatchObject) -> None:
    database.execute(
        "UPDATE batches SET status = ?, record = ? WHERE id = ?", (batch.status, msgspec.json.encode(batch), batch.id)
    )


def _batch(row: sqlite3.Row) -> BatchObject:
    return msgspec.json.decode(row["record"], type=BatchObject)
