"""A data set to a folder of shards: what is there as it should be is left alone, and the rest is encoded."""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np

from nearfield.bulk.input_table import InputRow
from nearfield.bulk.preflight import EmbedRequest, Preflight
from nearfield.bulk.report import FolderReport, Forecast
from nearfield.bulk.shard_plan import Content, Shard
from nearfield.bulk.shard_writer import PendingShard, RowBlock, draft
from nearfield.errors import InputError, StorageFull
from nearfield.progress import Progress
from nearfield.vectors.dense import Vectors

#: Tokens that are encoded to see how fast it goes.
_TRIAL = 20_000
_FULL = (errno.ENOSPC, errno.EDQUOT)


class ShardJob:
    """One data set to one folder. ``thorough`` reads the shards that are there, where else their sizes count."""

    def __init__(
        self, order: EmbedRequest, *, restart: bool = False, thorough: bool = False, shown: bool = False
    ) -> None:
        self._order = order
        self._restart = restart
        self._thorough = thorough
        self._shown = shown
        self._survey = Preflight(order, restart=restart, shown=shown)
        self._folder = self._survey.folder
        self._form = self._survey.form
        self._left = 0
        self._counts = {"written": 0, "skipped": 0, "damaged": 0, "removed": 0}

    def run(self) -> FolderReport:
        """Encode what is not there as it should be.

        Raises:
            InputError: an input changed on the way, or the folder holds other vectors.
            StorageFull: the disk is full; the shards that are whole stay.
        """
        with self._room():
            if self._restart:
                self._folder.clear()
            with self._folder.joined():
                return self._run()

    def _run(self) -> FolderReport:
        self._folder.settle(self._survey.terms, model=self._order.encoder.name, schema=self._survey.schema)
        todo = self._to_do()
        self._left = rows = sum(part.rows for part in todo)
        if todo:
            self._folder.sum_up(self._survey.plan, self._form)
        with Progress(rows, label=self._order.home.name, shown=self._shown) as progress:
            self._encode(todo, progress)
        self._remove()
        told = self._folder.sum_up(self._survey.plan, self._form)
        return self._report(told, sum(part.rows for part in self._survey.ours()) - rows, progress)

    def forecast(self) -> Forecast:
        """Tell what ``run`` would do, and about how long it would take. Writes nothing."""
        survey = self._survey
        todo = survey.ours() if self._restart else self._to_do()
        rows = sum(part.rows for part in todo)
        tokens, speed = _measure_speed(self._order, survey.plan.sample)
        return Forecast(
            output=str(self._order.home),
            model=self._order.encoder.name,
            texts=survey.plan.rows,
            texts_to_do=rows,
            shards=len(survey.plan.parts),
            shards_to_do=len(todo),
            removed=0 if self._restart else len(survey.beyond()),
            damaged=self._counts["damaged"],
            tokens_to_do=round(rows * tokens),
            bytes_to_do=survey.bytes_of(rows),
            tokens_per_second=round(speed, 1),
            seconds=round(rows * tokens / speed, 1) if speed else 0.0,
        )

    # -- what there is to do -----------------------------------------------------------------------------------

    def _to_do(self) -> list[Shard]:
        """Return those of our shards that are not there as they should be."""
        todo = []
        for part in self._survey.ours():
            if self._has(part):
                self._counts["skipped"] += 1
                continue
            # Its record promises a shard which its files are not: a disk or a hand has changed them.
            self._counts["damaged"] += self._folder.promised(part)
            todo.append(part)
        return todo

    def _has(self, part: Shard) -> bool:
        return self._folder.has(part, self._form, thorough=self._thorough)

    def _remove(self) -> None:
        for number in self._survey.beyond():
            with self._folder.claimed(number) as ours:
                if ours:
                    self._folder.drop(number)
                    self._counts["removed"] += 1

    # -- the work ----------------------------------------------------------------------------------------------

    def _encode(self, todo: list[Shard], progress: Progress) -> None:
        """Read the inputs again, past what is there, and write the shards that another run is not at."""
        rows, at = self._order.source.wide(), 0
        for turn, part in enumerate(todo, 1):
            with self._folder.claimed(part.number) as ours:
                # Another run may have made it since we looked.
                if not ours or self._has(part):
                    continue
                progress.relabel(f"{self._order.home.name} shard {turn:,}/{len(todo):,}")
                self._write(part, islice(rows, part.start - at, part.start - at + part.rows), progress)
                at = part.start + part.rows
                self._left -= part.rows
                self._counts["written"] += 1

    def _write(self, part: Shard, rows: Iterator[InputRow], progress: Progress) -> None:
        content = Content()
        totals = np.zeros(3, np.int64)
        with draft(self._survey.layout, self._folder.drafts(part.number, self._form), part.rows) as made:
            for block in self._blocks(part, rows, content):
                made.add(block)
                tokens, dropped = block.counts[:, 0], block.counts[:, 1]
                totals += tokens.sum(), (dropped > 0).sum(), dropped.sum()
                progress.advance(len(block.ids), int(tokens.sum()))
            made.settle()
            if (content.rows, content.hexdigest()) != (part.rows, part.content):
                raise InputError("An input changed while it was read: run the command again.", param="inputs")
            self._place(part, made, totals)

    def _place(self, part: Shard, made: PendingShard, totals: np.ndarray[Any, np.dtype[Any]]) -> None:
        counts = dict(zip(("tokens", "truncated_texts", "truncated_tokens"), totals.tolist(), strict=True))
        told = {**counts, "fingerprint": self._survey.blank.fingerprint}
        self._folder.place(part, self._form, made.settled, told)

    def _blocks(self, part: Shard, rows: Iterator[InputRow], content: Content) -> Iterator[RowBlock]:
        """Encode rows, window by window; what else they have waits here for its vectors."""
        waiting: deque[InputRow] = deque()
        names, number = self._order.source.keep, part.start
        named = self._order.source.id_field is not None
        for vectors in self._order.encoder.stream(_texts_of(rows, content, waiting), steady=True, **self._order.wanted):
            block = [waiting.popleft() for _ in range(len(vectors))]
            ids = [row.key for row in block] if named else range(number, number + len(block))
            number += len(block)
            kept = {name: [row.kept[name] for row in block] for name in names}
            yield RowBlock(ids, kept, vectors.data, _counts(vectors))

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Say what a full disk means."""
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise
            left = self._survey.bytes_of(self._left) / 1e6
            raise StorageFull(
                f"{self._order.home}: the disk is full ({error.strerror}). {self._counts['written']:,} shards of this "
                f"run are whole and stay. Make room, about {left:,.0f} MB for the rest, and give the same command "
                "again: it goes on from there."
            ) from error

    def _report(self, told: dict[str, Any], begun: int, progress: Progress) -> FolderReport:
        seconds = max(progress.seconds, 1e-9)
        ours = self._counts["written"] + self._counts["skipped"]
        return FolderReport(
            output=str(self._order.home),
            model=self._order.encoder.name,
            fingerprint=self._survey.blank.fingerprint,
            texts=told["rows"],
            tokens=told["tokens"],
            truncated_texts=told["truncated_texts"],
            truncated_tokens=told["truncated_tokens"],
            resumed_at=begun,
            seconds=round(seconds, 3),
            texts_per_second=round(progress.texts / seconds, 1),
            tokens_per_second=round(progress.tokens / seconds, 1),
            state=told["state"],
            shards=len(self._survey.plan.parts),
            elsewhere=len(self._survey.plan.parts) - ours,
            **self._counts,
        )


def _texts_of(rows: Iterator[InputRow], content: Content, waiting: deque[InputRow]) -> Iterator[str]:
    """Yield the texts of rows; each row is counted in and put aside on the way."""
    for row in rows:
        content.add(row)
        waiting.append(row)
        yield row.text


def _counts(vectors: Vectors) -> np.ndarray[Any, np.dtype[Any]]:
    """Return (tokens, dropped) [n, 2]."""
    if vectors.tokens is None or vectors.dropped is None:
        return np.zeros((len(vectors), 2), np.int64)
    return np.stack([vectors.tokens, vectors.dropped], 1).astype(np.int64)


def _measure_speed(order: EmbedRequest, sample: list[str]) -> tuple[float, float]:
    """Return the tokens of a text, on average, and the tokens that are encoded in a second."""
    if not sample:
        return 0.0, 0.0
    sizes = [len(tokens.ids) for tokens in order.encoder.tokenize(sample, **order.wanted)]
    few = max(1, int(np.searchsorted(np.cumsum(sizes), _TRIAL)))
    order.encoder.encode(sample[:few], show_progress_bar=False, **order.wanted)  # the first batches warm it up
    started = time.perf_counter()
    order.encoder.encode(sample[:few], show_progress_bar=False, **order.wanted)
    return float(np.mean(sizes)), sum(sizes[:few]) / (time.perf_counter() - started)
