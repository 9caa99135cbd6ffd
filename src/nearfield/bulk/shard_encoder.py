"""Encoding of one shard: its rows are read from where they begin, encoded, and written beside the folder's records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from nearfield.bulk.input_table import InputRow, RowSource
from nearfield.bulk.report import TOKEN_COUNTS
from nearfield.bulk.row_files.vector_rows import stream_rows
from nearfield.bulk.row_files.waiting_rows import WaitingRows
from nearfield.bulk.shard_plan import ContentDigest, Shard
from nearfield.bulk.shard_writer import PendingShard, RowBlock, ShardLayout, pending_shard
from nearfield.bulk.storage.records import set_aside_fields
from nearfield.bulk.storage.shard_folder import ShardFolder, open_folder
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.fileio.s3.path import Location
from nearfield.hardware import cpu_name
from nearfield.inference.encode_options import EncodeKeywords
from nearfield.inference.preparation.unread_inputs import UnreadInputs


@dataclass(frozen=True)
class ShardTask:
    """What all shards of a run have in common; it can be pickled.

    Attributes:
        source: the data set.
        home: the folder of shards.
        layout: how the files of a shard are written.
        options: how to encode.
        fingerprint: the space of the vectors.
        generation: of a folder on S3, what ``--restart`` changes; all processes of a run write the same.
    """

    source: RowSource
    home: Location
    layout: ShardLayout
    options: EncodeKeywords
    fingerprint: str
    generation: str = ""


class ShardRows:
    """The rows of shards. Each shard is read from its first row; one that follows the last one is read on."""

    def __init__(self, source: RowSource) -> None:
        self._source = source
        self._rows: Iterator[InputRow] = iter(())
        self._next = -1

    def rows(self, shard: Shard) -> Iterator[InputRow]:
        """Yield the rows of a shard.

        Raises:
            InputError: a row cannot be read, although it could when the shards were planned.
        """
        if self._next != shard.start:
            self._rows = self._source.full_rows(shard.location)
        self._next = -1
        try:
            yield from islice(self._rows, shard.rows)
        except InputError as error:
            raise changed_input(str(error)) from error
        self._next = shard.start + shard.rows


def changed_input(reason: str = "") -> InputError:
    """Return the error for an input that is not what it was when the shards were planned."""
    detail = f" ({reason.rstrip('.')})" if reason else ""
    return InputError(f"An input changed while it was read: run the command again{detail}.", param="inputs")


class ShardEncoder:
    """Encodes shards of one task, one after another."""

    def __init__(self, encoder: Encoder, task: ShardTask, folder: ShardFolder | None = None) -> None:
        self._encoder = encoder
        self._task = task
        self._folder = folder or open_folder(task.home, task.generation)
        self._rows = ShardRows(task.source)
        self._cpu = cpu_name()

    def write(self, shard: Shard, on_rows: Callable[[int, int], None]) -> bool:
        """Encode a shard and move it to its place; return False if another run did so first.

        ``on_rows`` is called with rows and tokens after each window.

        Raises:
            InputError: its rows are not those that were planned.
            OSError: the files cannot be written.
        """
        paths = self._folder.temporary_paths(shard.number, self._task.layout.form)
        with pending_shard(self._task.layout, paths, shard.rows) as pending:
            counts = self.fill(shard, pending, on_rows)
            return self._folder.place(shard, self._task.layout.form, pending, counts)

    def fill(
        self,
        shard: Shard,
        pending: PendingShard,
        on_rows: Callable[[int, int], None],
        on_read: Callable[[int], None] = lambda _: None,
    ) -> dict[str, object]:
        """Write the vectors of a shard to its files and flush them; return counts, space and CPU for its record.

        ``on_read`` is called with the number of rows that were read so far, before each of them is encoded. Raises as
        ``write``.
        """
        content, totals, unread = ContentDigest(), np.zeros(4, np.int64), UnreadInputs()
        waiting = WaitingRows(shard.start)
        inputs = waiting.inputs(self._source.load(_watched(self._rows.rows(shard), content, on_read)))
        for block, passed in self._blocks(inputs, waiting, unread):
            if len(block.ids):
                pending.add(block)
            tokens, dropped = block.counts[:, 0], block.counts[:, 1]
            totals += len(block.rows.data), tokens.sum(), (dropped > 0).sum(), dropped.sum()
            on_rows(passed, int(tokens.sum()))
        if left := waiting.finish():
            on_rows(left, 0)
        pending.complete()
        if (content.rows, content.hexdigest()) != (shard.rows, shard.content):
            raise changed_input()
        vectors, *sums = totals.tolist()
        counts = dict(zip(("tokens", *TOKEN_COUNTS), [*sums, unread.unknown, unread.count], strict=True))
        several = {"vectors": vectors} if self._task.layout.blank.lengths is not None else {}
        aside = set_aside_fields(waiting.set_aside)
        # Another kind of CPU may compute another last bit.
        return {**several, **counts, **aside, "fingerprint": self._task.fingerprint, "cpu": self._cpu}

    @property
    def _source(self) -> RowSource:
        return self._task.source

    def _blocks(
        self, inputs: Iterator[Any], waiting: WaitingRows, unread: UnreadInputs
    ) -> Iterator[tuple[RowBlock, int]]:
        """Encode rows, window by window, and yield how many rows were passed too: some may have no vector."""
        source, on_refused = self._source, waiting.refuse if self._source.sets_aside else None
        windows = stream_rows(self._encoder, inputs, self._task.options, unread, steady=True, on_refused=on_refused)
        for window in windows:
            block, passed = waiting.take(len(window))
            has_ids = source.id_field is not None
            ids: Sequence[object] = [row.key if has_ids else number for number, row in block]
            columns = {name: [row.columns[name] for _, row in block] for name in source.keep}
            yield RowBlock(ids, columns, window.rows, window.counts), passed


def _watched(rows: Iterator[InputRow], content: ContentDigest, on_read: Callable[[int], None]) -> Iterator[InputRow]:
    """Yield rows; on the way each row is added to the digest and counted."""
    for row in rows:
        content.add(row)
        on_read(content.rows)
        yield row
