"""A worker: one process on one machine, which opens the model once and encodes one shard at a time.

What a worker returns are plain values, so that errors of a shard never look like errors of the cluster. Texts and
vectors do not pass through Ray: rows are read from the inputs, and files are written to the output.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import nearfield
from nearfield.bulk.row_files.vector_rows import encoding_options
from nearfield.bulk.shard_encoder import ShardEncoder, ShardRows, ShardTask
from nearfield.bulk.shard_plan import Shard
from nearfield.bulk.shard_writer import pending_shard, shard_file_names
from nearfield.bulk.storage.shard_folder import open_folder
from nearfield.cluster.model_parcel import FileBytes, ModelParcel
from nearfield.cluster.ray_runtime import import_ray
from nearfield.cluster.run_drafts import journal, open_drafts
from nearfield.encoder import Encoder
from nearfield.errors import ClusterFailed, InputError, NearfieldError
from nearfield.fileio.s3.path import S3Path
from nearfield.hardware import cpu_name
from nearfield.inference.encode_options import EncodeKeywords
from nearfield.inference.loaded_model import LoadKeywords

#: The variables of the command do not reach workers, whatever it could do with them itself.
_ENVIRONMENT = " Workers have the variables that were set on their machine at `ray start`, not those of the command."


@dataclass(frozen=True)
class WorkerOrder:
    """What a worker needs before its first shard; it can be pickled.

    Attributes:
        run: the name of the run, by which its unfinished files are called.
        task: what all shards have in common.
        parcel: the model.
        loading: how to load it; cores and streams included.
        precision: the number format of matrix products of the vectors that the folder holds.
        version: of Nearfield.
    """

    run: str
    task: ShardTask
    parcel: ModelParcel
    loading: LoadKeywords
    precision: str
    version: str


@dataclass(frozen=True)
class WorkerFacts:
    """Where a worker runs: the address and Ray's id of its machine; and whether it needs the files of the model."""

    node: str
    node_id: str
    cpu: str
    pid: int
    needs_files: bool = False


@dataclass(frozen=True)
class ShardOutcome:
    """What became of a shard.

    Attributes:
        state: ``written``, ``exists`` (another process had written it), ``busy`` (another run writes it), ``failed``,
            ``full`` (no room on the disk), or ``cut off`` (its machine cannot use the storage any more).
        message: why it failed.
        rows, tokens: what was written.
        seconds: how long it took.
    """

    state: str
    message: str = ""
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0


class ShardWorker:
    """Encodes shards. Ray creates it as an actor."""

    def __init__(self) -> None:
        self._order: WorkerOrder | None = None

    def prepare(self, order: WorkerOrder, files: FileBytes | None = None) -> WorkerFacts:
        """Load the model, unless its files are missing here and are not among the arguments.

        Raises:
            ClusterFailed: this machine cannot compute the vectors of the folder.
            NearfieldError: the model cannot be loaded.
        """
        if order.version != nearfield.__version__:
            raise ClusterFailed(
                f"{_node()} has Nearfield {nearfield.__version__} and this run {order.version}: install the same."
            )
        model = order.parcel.unpack(files)
        facts = WorkerFacts(_node(), _node_id(), cpu_name(), os.getpid(), needs_files=model is None)
        if model is not None:
            self._use(order, Encoder(model, **order.loading))
        return facts

    def _use(self, order: WorkerOrder, encoder: Encoder) -> None:
        if encoder.precision != order.precision:
            raise ClusterFailed(
                f"{_node()} computes in {encoder.precision}, and the vectors of this run are in {order.precision}: "
                "use --precision float32, or nodes of one kind."
            )
        self._order, self._encoder = order, encoder
        self._drafts = open_drafts(order.task.home, order.run)
        try:
            self._folder = open_folder(order.task.home, order.task.generation)
            self._folder.join()
        except NearfieldError as error:
            hint = _ENVIRONMENT if isinstance(order.task.home, S3Path) else ""
            raise ClusterFailed(f"{_node()}: {error}{hint}") from error
        self._shards = ShardEncoder(encoder, order.task, self._folder)

    def encode(self, shard: Shard) -> ShardOutcome:
        """Encode a shard and move it to its place, unless it is there or another run writes it."""
        started = time.perf_counter()
        try:
            outcome = self._available(shard) or self._encode(shard)
        except OSError as error:
            state = "full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "failed"
            outcome = ShardOutcome(state, f"{type(error).__name__}: {error}")
        except (
            NearfieldError,
            ArithmeticError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
            MemoryError,
        ) as error:
            outcome = self._failure(error)
        seconds = time.perf_counter() - started
        return ShardOutcome(outcome.state, outcome.message, outcome.rows, outcome.tokens, seconds)

    def _failure(self, error: Exception) -> ShardOutcome:
        """Return that a shard failed, or that this machine cannot use the storage any more: no shard is to blame."""
        try:
            self._folder.join()
        except NearfieldError as reason:
            return ShardOutcome("cut off", f"{_node()}: {reason}")
        return ShardOutcome("failed", str(error) or type(error).__name__)

    def _available(self, shard: Shard) -> ShardOutcome | None:
        """Return why there is nothing to do for a shard, or None."""
        with self._folder.try_lock_shard(shard.number) as locked:
            if not locked:
                return ShardOutcome("busy")
            return ShardOutcome("exists") if self._folder.has_shard(shard, self._form) else None

    def _encode(self, shard: Shard) -> ShardOutcome:
        name = f"{shard.number:05d}.{secrets.token_hex(4)}"
        paths = [self._drafts / f"{name}.{path}" for path in shard_file_names(self._form, shard.number)]
        done = tokens = 0
        with (
            journal(self._drafts / f"{name}.journal") as record,
            pending_shard(self._required.task.layout, paths, shard.rows) as pending,
        ):

            def count(rows: int, more: int) -> None:
                nonlocal done, tokens
                done, tokens = done + rows, tokens + more
                record(done, done)

            counts = self._shards.fill(shard, pending, count, on_read=lambda read: record(done, read))
            written = self._folder.place_once(shard, self._form, pending, counts)
        return ShardOutcome("written" if written else "exists", rows=shard.rows, tokens=tokens)

    def examine(self, shard: Shard, start: int, stop: int) -> None:
        """Encode some rows of a shard one by one; if one ends this process, the journal says which."""
        source = self._required.task.source
        rows = source.load(ShardRows(source).rows(shard))
        options = encoding_options(self._encoder, self._required.task.options)
        with journal(self._drafts / f"{shard.number:05d}.{secrets.token_hex(4)}.journal") as record:
            for number, row in enumerate(rows):
                if start <= number < stop:
                    record(number, number + 1)
                    if not row.problem:
                        self._encode_one(row.to_input(), options)

    def _encode_one(self, item: object, options: EncodeKeywords) -> None:
        with suppress(InputError):  # a picture that cannot be read ends no process
            self._encoder.encode([item], show_progress_bar=False, **options)

    @property
    def _required(self) -> WorkerOrder:
        if self._order is None:
            raise ClusterFailed("A worker got a shard before its model.")
        return self._order

    @property
    def _form(self) -> str:
        return self._required.task.layout.form


def _node() -> str:
    """Return the address of this machine in the cluster."""
    ray: Any = import_ray()
    return str(ray.util.get_node_ip_address())


def _node_id() -> str:
    """Return Ray's id of this machine."""
    ray: Any = import_ray()
    return str(ray.get_runtime_context().get_node_id())
