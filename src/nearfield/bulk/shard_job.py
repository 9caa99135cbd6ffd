"""Embedding of a data set into a folder of shards: shards that exist as planned are skipped, the others encoded."""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from nearfield.bulk.preflight import Preflight, ShardRequest
from nearfield.bulk.report import ClusterReport, FolderReport, Forecast
from nearfield.bulk.row_files.vector_rows import encoding_options, stream_rows
from nearfield.bulk.shard_encoder import ShardEncoder, ShardTask
from nearfield.bulk.shard_plan import Shard
from nearfield.bulk.storage.records import SET_ASIDE, JsonObject
from nearfield.errors import InputError, StorageFull
from nearfield.inference.preparation.unread_inputs import UnreadInputs
from nearfield.message_text import count_of
from nearfield.progress import Progress, Shown
from nearfield.units import format_bytes

#: Tokens that are encoded to measure the speed.
_TRIAL_TOKENS = 20_000
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class ShardRunner(Protocol):
    """Encodes shards in other processes."""

    def encode(
        self, shards: Sequence[Shard], task: ShardTask, progress: Progress, on_written: Callable[[Shard], None]
    ) -> ClusterReport:
        """Encode shards into the task's folder; ``on_written`` is called with each that this run wrote."""


class ShardJob:
    """One data set to one folder.

    Args:
        request: what to encode, and where to.
        restart: ignore what an earlier run has written.
        thorough: read existing shards to find damaged ones, not only their sizes.
        shown: show a progress bar, or lines.
        runner: encodes the shards; None encodes them in this process.
        retries: encode shards again of which rows were set aside.
    """

    def __init__(
        self,
        request: ShardRequest,
        *,
        restart: bool = False,
        thorough: bool = False,
        shown: Shown = False,
        runner: ShardRunner | None = None,
        retries: bool = False,
    ) -> None:
        self._request = request
        self._restart = restart
        self._thorough = thorough
        self._shown = shown
        self._preflight = Preflight(request, restart=restart, shown=shown, thorough=thorough)
        self._folder = self._preflight.folder
        self._form = self._preflight.form
        self._runner = runner
        self._retries = retries
        self._cluster: ClusterReport | None = None
        self._rows_left = 0
        self._failure: InputError | None = None
        self._counts = {"written": 0, "skipped": 0, "damaged": 0, "removed": 0}

    @property
    def warning(self) -> str | None:
        """A warning of ids that occur more than once, or None."""
        return self._preflight.plan.warning

    def run(self) -> FolderReport:
        """Encode the shards that are missing, changed or damaged.

        Raises:
            InputError: an input changed during the run, or the folder holds other vectors.
            StorageFull: the disk is full; complete shards stay.
        """
        with self._explain_full_disk():
            if self._restart:
                self._folder.clear()
            self._folder.remove_abandoned_drafts()
            with self._folder.writer():
                return self._run()

    def _run(self) -> FolderReport:
        preflight = self._preflight
        notes = {"model": self._request.encoder.name, "schema": preflight.column_types}
        self._folder.set_schema(preflight.schema, notes)
        preflight.store_plan()
        todo = self._todo()
        self._rows_left = rows = sum(shard.rows for shard in todo)
        self._forget_set_aside(todo)
        if todo:
            self._folder.write_manifest(preflight.plan, self._form)
        unit = f"{self._request.source.unit}s"
        with Progress(rows, label=self._request.home.name, unit=unit, shown=self._shown) as progress:
            self._encode(todo, progress)
        self._remove_surplus()
        manifest = self._folder.write_manifest(preflight.plan, self._form)
        if self._failure is not None:
            raise self._failure
        return self._report(manifest, sum(shard.rows for shard in preflight.shards()) - rows, progress)

    def forecast(self) -> Forecast:
        """Return what ``run`` would do and an estimate of its time. Writes nothing."""
        preflight = self._preflight
        todo = preflight.shards() if self._restart else self._todo()
        rows = sum(shard.rows for shard in todo)
        measure = _measure_media if self._request.source.sets_aside else _measure_speed
        tokens_per_text, speed = measure(self._request, preflight.sample())
        return Forecast(
            output=str(self._request.home),
            model=self._request.encoder.name,
            texts=preflight.plan.rows,
            texts_to_do=rows,
            shards=len(preflight.plan.shards),
            shards_to_do=len(todo),
            removed=0 if self._restart else len(preflight.surplus()),
            damaged=self._counts["damaged"],
            tokens_to_do=round(rows * tokens_per_text),
            bytes_to_do=preflight.estimated_bytes(rows),
            tokens_per_second=round(speed, 1),
            seconds=round(rows * tokens_per_text / speed, 1) if speed else 0.0,
            unit=self._request.source.unit,
        )

    # -- selection ---------------------------------------------------------------------------------------------

    def _todo(self) -> list[Shard]:
        """Return the shards of this share that do not exist as planned."""
        todo = []
        for shard in self._preflight.shards():
            if self._is_tried_again(shard):
                todo.append(shard)
                continue
            if self._exists(shard):
                self._counts["skipped"] += 1
                continue
            # A record without the files that it describes: they were changed after they were written.
            self._counts["damaged"] += self._folder.has_record(shard)
            todo.append(shard)
        return todo

    def _is_tried_again(self, shard: Shard) -> bool:
        return self._retries and self._folder.has_set_aside(shard)

    def _forget_set_aside(self, todo: Sequence[Shard]) -> None:
        """Remove shards that are tried again, so that other processes do not find them."""
        for shard in filter(self._is_tried_again, todo):
            with self._folder.try_lock_shard(shard.number) as locked:
                if locked:
                    self._folder.remove_shard(shard.number)

    def _exists(self, shard: Shard) -> bool:
        return self._folder.has_shard(shard, self._form, thorough=self._thorough)

    def _remove_surplus(self) -> None:
        for number in self._preflight.surplus():
            with self._folder.try_lock_shard(number) as locked:
                if locked:
                    self._folder.remove_shard(number)
                    self._counts["removed"] += 1

    # -- encoding ----------------------------------------------------------------------------------------------

    def _encode(self, todo: list[Shard], progress: Progress) -> None:
        """Write the shards that no other run is writing."""
        if self._runner is not None:
            self._cluster = self._runner.encode(todo, self._preflight.task, progress, self._count_written)
            return
        writer = ShardEncoder(self._request.encoder, self._preflight.task, self._folder)
        left = deque(self._folder.arrange(todo))
        while left:
            shard = left.popleft()
            with self._folder.try_lock_shard(shard.number) as locked:
                # Another run may have written it since the selection.
                if not locked or self._exists(shard):
                    continue
                progress.relabel(f"{self._request.home.name} shard {len(todo) - len(left):,}/{len(todo):,}")
                if self._write(writer, shard, progress):
                    self._count_written(shard)
                else:  # another run encodes the same shards at the same time
                    left = deque(self._folder.arrange(list(left)))

    def _write(self, writer: ShardEncoder, shard: Shard, progress: Progress) -> bool:
        """Write a shard; a picture whose file has changed since the plan does not cost the other shards."""
        try:
            return writer.write(shard, progress.advance)
        except InputError as error:
            if not self._request.source.sets_aside:
                raise
            self._failure = self._failure or error
            return False

    def _count_written(self, shard: Shard) -> None:
        self._rows_left -= shard.rows
        self._counts["written"] += 1

    @contextmanager
    def _explain_full_disk(self) -> Iterator[None]:
        """Turn the system's error for a full disk into a StorageFull that says how to continue."""
        try:
            yield
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            missing = format_bytes(self._preflight.estimated_bytes(self._rows_left))
            written = count_of(self._counts["written"], "shard")
            raise StorageFull(
                f"{self._request.home}: the disk is full ({error.strerror}). This run wrote {written}; they stay. Free "
                f"about {missing} for the rest, and repeat the command: it continues from there."
            ) from error

    def _set_aside(self) -> int:
        """Return the number of shards that could not be encoded."""
        return len(self._cluster.set_aside) if self._cluster is not None else 0

    def _report(self, manifest: JsonObject, resumed_at: int, progress: Progress) -> FolderReport:
        seconds = max(progress.seconds, 1e-9)
        shards = len(self._preflight.plan.shards)
        return FolderReport(
            output=str(self._request.home),
            model=self._request.encoder.name,
            fingerprint=self._preflight.blank.fingerprint,
            vectors=manifest.get("vectors", 0),
            texts=manifest["rows"] - manifest.get(SET_ASIDE, 0),
            set_aside=manifest.get(SET_ASIDE, 0),
            unit=self._request.source.unit,
            tokens=manifest["tokens"],
            truncated_texts=manifest["truncated_texts"],
            truncated_tokens=manifest["truncated_tokens"],
            unknown_tokens=manifest["unknown_tokens"],
            unread_texts=manifest["unread_texts"],
            resumed_at=resumed_at,
            seconds=round(seconds, 3),
            texts_per_second=round(progress.texts / seconds, 1),
            tokens_per_second=round(progress.tokens / seconds, 1),
            state=manifest["state"],
            shards=shards,
            elsewhere=shards - self._counts["written"] - self._counts["skipped"] - self._set_aside(),
            written=self._counts["written"],
            skipped=self._counts["skipped"],
            damaged=self._counts["damaged"],
            removed=self._counts["removed"],
            cpus=tuple(sorted({record["cpu"] for record in manifest["shards"] if "cpu" in record})),
            cluster=self._cluster,
        )


def _measure_media(request: ShardRequest, sample: Sequence[Any]) -> tuple[float, float]:
    """Return the mean number of tokens of a picture, sound or video, and those encoded per second."""

    def tokens_of(inputs: Sequence[Any]) -> list[int]:
        unread = UnreadInputs()
        windows = stream_rows(request.encoder, inputs, request.options, unread, on_refused=lambda _, __: None)
        return [int(tokens) for window in windows for tokens in window.counts[:, 0]]

    tokens_of(sample[:1])  # warm-up
    started = time.perf_counter()
    sizes = tokens_of(sample)
    return (float(np.mean(sizes)), sum(sizes) / (time.perf_counter() - started)) if sizes else (0.0, 0.0)


def _measure_speed(request: ShardRequest, sample: list[str]) -> tuple[float, float]:
    """Return the mean number of tokens of a text, and the tokens encoded per second."""
    if not sample:
        return 0.0, 0.0
    options = encoding_options(request.encoder, request.options)
    sizes = [len(tokens.ids) for tokens in request.encoder.tokenize(sample, **options)]
    count = max(1, int(np.searchsorted(np.cumsum(sizes), _TRIAL_TOKENS)))
    request.encoder.encode(sample[:count], show_progress_bar=False, **options)  # warm-up
    started = time.perf_counter()
    request.encoder.encode(sample[:count], show_progress_bar=False, **options)
    return float(np.mean(sizes)), sum(sizes[:count]) / (time.perf_counter() - started)
