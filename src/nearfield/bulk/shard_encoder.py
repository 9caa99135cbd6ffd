"""Encoding of one shard: its rows are read from where they begin, encoded, and written beside the folder's records."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from nearfield.bulk.input_table import InputRow, InputTable
from nearfield.bulk.report import TOKEN_COUNTS
from nearfield.bulk.row_files.vector_rows import stream_rows
from nearfield.bulk.shard_plan import ContentDigest, Shard
from nearfield.bulk.shard_writer import PendingShard, RowBlock, ShardLayout, pending_shard
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

    source: InputTable
    home: Location
    layout: ShardLayout
    options: EncodeKeywords
    fingerprint: str
    generation: str = ""


class ShardRows:
    """The rows of shards. Each shard is read from its first row; one that follows the last one is read on."""

    def __init__(self, source: InputTable) -> None:
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
        for block in self._blocks(shard, content, unread, on_read):
            pending.add(block)
            tokens, dropped = block.counts[:, 0], block.counts[:, 1]
            totals += len(block.rows.data), tokens.sum(), (dropped > 0).sum(), dropped.sum()
            on_rows(len(block.ids), int(tokens.sum()))
        pending.complete()
        if (content.rows, content.hexdigest()) != (shard.rows, shard.content):
            raise changed_input()
        vectors, *sums = totals.tolist()
        counts = dict(zip(("tokens", *TOKEN_COUNTS), [*sums, unread.unknown, unread.count], strict=True))
        several = {"vectors": vectors} if self._task.layout.blank.lengths is not None else {}
        # Another kind of CPU may compute another last bit.
        return {**several, **counts, "fingerprint": self._task.fingerprint, "cpu": self._cpu}

    def _blocks(
        self, shard: Shard, content: ContentDigest, unread: UnreadInputs, on_read: Callable[[int], None]
    ) -> Iterator[RowBlock]:
        """Encode rows, window by window; their ids and columns wait in a queue for the vectors."""
        waiting: deque[InputRow] = deque()
        task, number = self._task, shard.start
        texts = _texts_of(self._rows.rows(shard), content, waiting, on_read)
        for window in stream_rows(self._encoder, texts, task.options, unread, steady=True):
            block = [waiting.popleft() for _ in range(len(window))]
            has_ids = task.source.id_field is not None
            ids: Sequence[object] = [row.key for row in block] if has_ids else range(number, number + len(block))
            number += len(block)
            columns = {name: [row.columns[name] for row in block] for name in task.source.keep}
            yield RowBlock(ids, columns, window.rows, window.counts)


def _texts_of(
    rows: Iterator[InputRow], content: ContentDigest, waiting: deque[InputRow], on_read: Callable[[int], None]
) -> Iterator[str]:
    """Yield the texts of rows; on the way each row is added to the digest and to the queue, and counted."""
    for row in rows:
        content.add(row)
        waiting.append(row)
        on_read(content.rows)
        yield row.text
