"""Where the workers of a run have their unfinished files and their journals.

A folder of shards on a disk is seen by all machines: there it is a folder of the run below ``_shards/``. For a folder
on S3, each worker has a folder among the temporary files of its machine; an agent there reads and removes it after the
worker has ended. A journal says which rows a worker is encoding.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from nearfield.bulk.shard_directory import ShardDirectory
from nearfield.bulk.storage.local_drafts import LocalDrafts, abandoned_folders, remove_abandoned, remove_run
from nearfield.fileio.s3.path import Location, S3Path

#: Seconds for which the driver waits for an agent.
_AGENT_SECONDS = 60.0
_POSITIONS = struct.Struct("<qq")


def open_drafts(home: Location, run: str) -> Path:
    """Return the folder for a worker's unfinished files, and remove those of earlier runs from this machine.

    On a disk it is not created: the driver does that, and a worker that outlives its run cannot write any more.
    """
    if isinstance(home, Path):
        return ShardDirectory(home).drafts(run)
    remove_abandoned(spared_run=run)
    return LocalDrafts(run).folder


class RunDrafts(Protocol):
    """The unfinished files of all workers of a run, as the driver sees them."""

    def add_node(self, node_id: str) -> None:
        """Take note of a machine with workers."""

    def read_journal(self, number: int, node_id: str | None) -> tuple[int, int] | None:
        """Return the rows of a shard that a worker was encoding which stopped; None: unknown.

        ``node_id`` is its machine, or None if that is gone.
        """

    def remove(self) -> None:
        """Remove the files."""


class SharedDrafts:
    """A folder that all machines see."""

    def __init__(self, directory: ShardDirectory, run: str) -> None:
        self._directory, self._run = directory, run
        directory.drafts(run).mkdir(parents=True, exist_ok=True)

    def add_node(self, node_id: str) -> None:
        """Do nothing: the folder is the same on all machines."""

    def read_journal(self, number: int, node_id: str | None) -> tuple[int, int] | None:  # noqa: ARG002 - as above
        """Return the rows that a worker was encoding; see ``RunDrafts``."""
        return read_journal(self._directory.drafts(self._run), number)

    def remove(self) -> None:
        """Remove the folder."""
        self._directory.remove_drafts(self._run)


class NodeAgent:
    """Reads and removes what workers of a run have left on a machine; an actor of Ray beside them."""

    def __init__(self, run: str) -> None:
        self._run = run

    def read_journal(self, number: int) -> tuple[int, int] | None:
        """Return which rows of a shard a worker was encoding that has ended; None: unknown."""
        with abandoned_folders(self._run) as folders:
            return next((rows for folder in folders if (rows := read_journal(folder, number)) is not None), None)

    def remove(self) -> None:
        """Remove the folders of the run."""
        remove_run(self._run)


class NodeDrafts:
    """Folders on each machine."""

    def __init__(self, ray: Any, run: str) -> None:
        self._ray, self._run = ray, run
        self._agents: dict[str, Any] = {}

    def add_node(self, node_id: str) -> None:
        """Start an agent on a machine with workers, without a core of it; it is there before it is needed."""
        if node_id in self._agents:
            return
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor = self._ray.remote(num_cpus=0, max_restarts=0)(NodeAgent)
        strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
        self._agents[node_id] = actor.options(scheduling_strategy=strategy).remote(self._run)

    def read_journal(self, number: int, node_id: str | None) -> tuple[int, int] | None:
        """Return the rows that a worker was encoding; see ``RunDrafts``."""
        agent = self._agents.get(node_id or "")
        if agent is not None:
            with suppress(self._ray.exceptions.RayError):  # also GetTimeoutError
                rows: tuple[int, int] | None = self._ray.get(agent.read_journal.remote(number), timeout=_AGENT_SECONDS)
                return rows
        return None

    def remove(self) -> None:
        """Remove the folders of machines that are still there, and end the agents."""
        for call in [agent.remove.remote() for agent in self._agents.values()]:
            with suppress(self._ray.exceptions.RayError):
                self._ray.get(call, timeout=_AGENT_SECONDS)
        for agent in self._agents.values():
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(agent)


def open_run_drafts(ray: Any, home: Location, run: str) -> RunDrafts:
    """Return the drafts of a run to a folder of shards."""
    return NodeDrafts(ray, run) if isinstance(home, S3Path) else SharedDrafts(ShardDirectory(home), run)


@contextmanager
def journal(path: Path) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that notes which rows are being encoded, from the first to before the last.

    The notes are in a mapped file, which survives the process. The file is removed at the end of the block.
    """
    path.write_bytes(_POSITIONS.pack(0, 0))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), _POSITIONS.size) as memory:
        try:
            yield lambda start, stop: _POSITIONS.pack_into(memory, 0, start, stop)
        finally:
            path.unlink(missing_ok=True)


def read_journal(folder: Path, number: int) -> tuple[int, int] | None:
    """Return the rows that the last worker that stopped was encoding of a shard, and remove the note; None: unknown."""
    notes = sorted(folder.glob(f"{number:05d}.*.journal"), key=lambda path: path.stat().st_mtime_ns)
    rows: tuple[int, int] | None = None
    for note in notes:
        data = note.read_bytes()
        if len(data) == _POSITIONS.size:
            start, stop = _POSITIONS.unpack(data)
            rows = (start, stop) if start < stop else rows
        note.unlink(missing_ok=True)
    return rows
