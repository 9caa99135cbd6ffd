"""Cache: results by what was read, so that the same input is computed once, also while it is on its way."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from nearfield.engine.engine import Engine, Job, Ticket
from nearfield.inference.disk_cache import DiskCache

#: Bytes that an entry takes beside its numbers.
_OVERHEAD = 400


class _LeftAloneError(Exception):
    """Whoever computed an input did not finish: whoever waits for it computes it."""


@dataclass
class ResultCache:
    """Results of one or several models, the least lately used leaving first. For one event loop alone.

    ``budget`` bytes bound what is kept. A key is the vectors' space, the token ids and all else that the model reads
    of an input; dimensions and precision are applied afterwards, so that requests which differ in these share results.
    """

    budget: int
    #: What tells results apart that share a disk, beside all else: the version that computed them.
    maker: str = ""
    #: Where results are looked for that are not kept in memory, and kept for another process.
    disk: DiskCache | None = None
    #: Inputs that were answered from what was kept or was on its way, and those that were computed.
    hits: int = 0
    misses: int = 0
    #: Bytes that are kept.
    size: int = 0
    _kept: OrderedDict[bytes, tuple[Any, int]] = field(default_factory=OrderedDict)
    _flying: dict[bytes, asyncio.Future[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._kept)

    async def run(self, engine: Engine, ticket: Ticket, space: str) -> Any:
        """Return a ticket's rows, computing what is neither kept nor on its way. Raises what the engine raises.

        ``space`` names the model, adapter and precision that the jobs are for.
        """
        jobs = ticket.jobs
        if not jobs:
            return await engine.run(ticket)  # its rows are there already, looked up without the model
        keys = [_key(f"{self.maker} {space}", job) for job in jobs]
        rows: list[Any] = [None] * len(jobs)
        waits: dict[int, asyncio.Future[Any]] = {}
        mine: dict[bytes, Job] = {}
        for index, (job, key) in enumerate(zip(jobs, keys, strict=True)):
            if key in self._kept:
                self._kept.move_to_end(key)
                rows[index] = self._kept[key][0]
            else:
                if key not in self._flying:
                    self._flying[key] = asyncio.get_running_loop().create_future()
                    mine[key] = job
                waits[index] = self._flying[key]
        self.hits += len(jobs) - len(mine)
        if mine:
            await self._compute(engine, ticket, mine)
        alone = await self._gather(waits, rows)
        if alone:
            part = _part(ticket, [jobs[index] for index in alone])
            for index, row in zip(alone, await engine.run(part), strict=True):
                rows[index] = row
        return _joined(ticket, rows)

    async def _compute(self, engine: Engine, ticket: Ticket, mine: dict[bytes, Job]) -> None:
        """Compute what is new, keep it, and hand it to all who wait for it."""
        results: dict[bytes, Any] = {}
        try:
            results = await self.disk.find(list(mine)) if self.disk is not None else {}
            self.hits += len(results)
            new = {key: job for key, job in mine.items() if key not in results}
            self.misses += len(new)
            if new:
                part = _part(ticket, list(new.values()))
                try:
                    computed = dict(zip(new, await engine.run(part), strict=True))
                finally:
                    ticket.queued_seconds, ticket.total_seconds = part.queued_seconds, part.total_seconds
                results |= computed
                if self.disk is not None:
                    self.disk.keep(computed)
        finally:
            for key in mine:
                waiting = self._flying.pop(key)
                if key in results:
                    waiting.set_result(self._keep(key, results[key]))
                else:
                    waiting.set_exception(_LeftAloneError())
                    waiting.exception()  # perhaps nobody waits, and then it is nobody's error

    async def _gather(self, waits: dict[int, asyncio.Future[Any]], rows: list[Any]) -> list[int]:
        """Wait for what is on its way; return the inputs whose owners did not finish."""
        if waits:
            await asyncio.wait(set(waits.values()))  # unlike gather, being cancelled cancels none of them
        alone = []
        for index, waiting in waits.items():
            if waiting.exception() is None:
                rows[index] = waiting.result()
            else:
                alone.append(index)
        return alone

    def _keep(self, key: bytes, row: Any) -> Any:
        """Keep a row of its own, not a part of its batch's."""
        row = _own(row)
        size = _size(row) + _OVERHEAD
        if size <= self.budget:
            self._kept[key] = (row, size)
            self.size += size
        while self.size > self.budget:
            self.size -= self._kept.popitem(last=False)[1][1]
        return row


def _part(ticket: Ticket, jobs: Sequence[Job]) -> Ticket:
    extras = [job.extra for job in jobs]
    return Ticket.create(
        ticket.runner,
        [job.ids for job in jobs],
        [job.skip for job in jobs],
        extras if any(extra is not None for extra in extras) else None,
        bulk=ticket.bulk,
        deadline=ticket.deadline,
    )


def _joined(ticket: Ticket, rows: list[Any]) -> Any:
    if isinstance(ticket.rows, np.ndarray):
        return np.stack(rows) if rows else ticket.rows
    return rows


def _key(space: str, job: Job) -> bytes:
    told = blake2b(space.encode(), digest_size=16)
    told.update(np.asarray(job.ids, np.int64).tobytes())
    extra = job.extra
    if extra is None:
        told.update(b"%d" % job.skip)
    else:
        kept = None if extra.kept_tokens is None else np.asarray(extra.kept_tokens).tobytes()
        told.update(repr((job.skip, extra.outputs, extra.second, extra.spans, kept, extra.unattended)).encode())
    return told.digest()


def _own(value: Any) -> Any:
    """Copy arrays, and make them unchangeable: all who ask get the same."""
    if isinstance(value, np.ndarray):
        copy = value.copy()
        copy.flags.writeable = False
        return copy
    if isinstance(value, dict):
        return {name: _own(part) for name, part in value.items()}
    return tuple(map(_own, value)) if isinstance(value, (tuple, list)) else value


def _size(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, tuple) else 8
