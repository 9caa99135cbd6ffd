"""`ResultCache`: results in memory by model and input; concurrent calls of one owner compute an input once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from nearfield.arrays import ResultRow
from nearfield.engine.engine import Engine
from nearfield.engine.fair_turns import FairTurns
from nearfield.engine.job import Job, Ticket
from nearfield.inference.result_cache.disk_cache import DiskCache

#: Bytes that an entry takes beside its numbers.
_OVERHEAD = 400
#: Number of inputs whose keys are computed, or whose rows are copied, in one step of the event loop: some 3 ms.
_INPUTS_PER_STEP = 1024


#: Calls that share what they compute: their owner, whether they are bulk, and the class of their size.
_SharingClass = tuple[str, bool, int]


class _NotComputedError(Exception):
    """The call that computed an input did not finish: calls that wait for it compute it themselves."""


@dataclass
class ResultCache:
    """Results of one or several models, with least-recently-used eviction. For one event loop.

    A key is a digest of the vectors' space, the input's content and all else that the model reads of an input.
    Dimensions and precision are applied afterwards, so that requests which differ in these share results.

    Calls wait for an input that another call computes only if both have one owner and about one size. An input is ready
    when the whole call is: a short call would wait for a long one, or for that of an owner whose turns are used up.
    """

    #: Maximum number of bytes in memory.
    budget: int
    #: The version of the program: versions that share a disk do not share results.
    version: str = ""
    #: Results that are not in memory, shared with other processes.
    disk: DiskCache | None = None
    #: Inputs whose results were cached or computed by a concurrent call, and inputs that were computed.
    hits: int = 0
    misses: int = 0
    #: Bytes in memory.
    size: int = 0
    _entries: OrderedDict[bytes, tuple[ResultRow, int]] = field(default_factory=OrderedDict)
    _pending: dict[tuple[_SharingClass, bytes], asyncio.Future[ResultRow]] = field(default_factory=dict)
    #: Calls with many inputs take turns with their steps, so that the event loop runs between any two of them.
    _steps: FairTurns = field(default_factory=FairTurns)

    def __len__(self) -> int:
        return len(self._entries)

    async def run(self, engine: Engine, ticket: Ticket, space: str) -> Any:
        """Return a ticket's rows, and compute those that are neither cached nor pending.

        Args:
            engine: the engine that computes.
            ticket: a ticket that is not submitted yet.
            space: the name of the model, adapter and precision of its jobs.

        Raises:
            NearfieldError: whatever the engine raises.
        """
        jobs = ticket.jobs
        if not jobs:
            return await engine.run(ticket)  # its rows are set already: they need no model
        keys = await self._keys(f"{self.version} {space}", ticket)
        rows: list[Any] = [None] * len(jobs)
        waits: dict[int, asyncio.Future[ResultRow]] = {}
        new: dict[bytes, Job] = {}
        sharing = _sharing_class(ticket)
        for index, (job, key) in enumerate(zip(jobs, keys, strict=True)):
            if key in self._entries:
                self._entries.move_to_end(key)
                rows[index] = self._entries[key][0]
            else:
                pending = self._pending.get((sharing, key))
                if pending is None:
                    pending = self._pending[sharing, key] = asyncio.get_running_loop().create_future()
                    new[key] = job
                waits[index] = pending
        self.hits += len(jobs) - len(new)
        if new:
            await self._compute(engine, ticket, new, sharing)
        missing = await self._gather(waits, rows)
        if missing:
            part = _part(ticket, [jobs[index] for index in missing])
            for index, row in zip(missing, await engine.run(part), strict=True):
                rows[index] = row
        return await self._stack(rows, ticket) if isinstance(ticket.rows, np.ndarray) else rows

    async def _keys(self, space: str, ticket: Ticket) -> list[bytes]:
        keys: list[bytes] = []
        async for part in self._parts(ticket):
            keys += [_key(space, job) for job in ticket.jobs[part]]
        return keys

    async def _stack(self, rows: Sequence[Any], ticket: Ticket) -> Any:
        """Copy rows into one array."""
        if len(rows) <= _INPUTS_PER_STEP:
            return np.stack(rows)
        stacked = np.empty((len(rows), *rows[0].shape), rows[0].dtype)
        async for part in self._parts(ticket):
            np.stack(rows[part], out=stacked[part])
        return stacked

    async def _parts(self, ticket: Ticket) -> AsyncIterator[slice]:
        """Yield slices of a ticket's jobs; between two of them other calls and the event loop have their turn."""
        count, owner = len(ticket.jobs), ticket.caller.owner
        if count <= _INPUTS_PER_STEP:
            yield slice(0, count)
            return
        for start in range(0, count, _INPUTS_PER_STEP):
            async with self._steps.slot(owner):
                yield slice(start, start + _INPUTS_PER_STEP)
                await asyncio.sleep(0)

    async def _compute(self, engine: Engine, ticket: Ticket, jobs: dict[bytes, Job], sharing: _SharingClass) -> None:
        """Load or compute results, cache them, and deliver them to all calls that wait for them."""
        results: dict[bytes, ResultRow] = {}
        try:
            results = await self.disk.load(list(jobs)) if self.disk is not None else {}
            self.hits += len(results)
            new = {key: job for key, job in jobs.items() if key not in results}
            self.misses += len(new)
            if new:
                part = _part(ticket, list(new.values()))
                try:
                    computed = dict(zip(new, await engine.run(part), strict=True))
                finally:
                    ticket.queued_seconds, ticket.total_seconds = part.queued_seconds, part.total_seconds
                results |= computed
                if self.disk is not None:
                    self.disk.store(computed)
        finally:
            for key in jobs:
                pending = self._pending.pop((sharing, key))
                if key in results:
                    pending.set_result(self._store(key, results[key]))
                else:
                    pending.set_exception(_NotComputedError())
                    pending.exception()  # marks it as retrieved: asyncio would warn if no call waits

    async def _gather(self, waits: dict[int, asyncio.Future[ResultRow]], rows: list[ResultRow]) -> list[int]:
        """Wait for pending results, and return the inputs that the calls which owned them did not compute."""
        if waits:
            await asyncio.wait(set(waits.values()))  # unlike gather, being cancelled cancels none of them
        missing = []
        for index, pending in waits.items():
            if pending.exception() is None:
                rows[index] = pending.result()
            else:
                missing.append(index)
        return missing

    def _store(self, key: bytes, row: ResultRow) -> ResultRow:
        """Store a copy of a row and return it; a view would keep its whole batch in memory.

        If another call has stored the input's row already, return that one: all later calls get the same bits.
        """
        if key in self._entries:
            return self._entries[key][0]
        row = _read_only_copy(row)
        size = _size(row) + _OVERHEAD
        if size <= self.budget:
            self._entries[key] = (row, size)
            self.size += size
        while self.size > self.budget:
            self.size -= self._entries.popitem(last=False)[1][1]
        return row


def _sharing_class(ticket: Ticket) -> _SharingClass:
    """Return the class of a call. The tokens of the calls of one class differ by less than 4 times."""
    return ticket.caller.owner, ticket.bulk, ticket.tokens.bit_length() // 2


def _part(ticket: Ticket, jobs: Sequence[Job]) -> Ticket:
    """Return a ticket with some of another one's jobs."""
    extras = [job.extra for job in jobs]
    return Ticket.create(
        ticket.runner,
        [job.features for job in jobs],
        [job.skip for job in jobs],
        extras if any(extra is not None for extra in extras) else None,
        bulk=ticket.bulk,
        deadline=ticket.deadline,
        on_unstarted=ticket.on_unstarted,
        caller=ticket.caller,
    )


def _key(space: str, job: Job) -> bytes:
    """Return the key of a job. Files on disk hold such keys, so what is hashed cannot change."""
    digest = blake2b(space.encode(), digest_size=16)
    digest.update(job.features.digest())
    extra = job.extra
    if extra is None:
        digest.update(b"%d" % job.skip)
    else:
        tokens = None if extra.kept_tokens is None else np.asarray(extra.kept_tokens).tobytes()
        digest.update(repr((job.skip, extra.outputs, extra.second, extra.spans, tokens, extra.unattended)).encode())
    return digest.digest()


def _read_only_copy(value: ResultRow) -> ResultRow:
    """Copy arrays and make them read-only: all calls get the same ones."""
    if isinstance(value, np.ndarray):
        copy = value.copy()
        copy.flags.writeable = False
        return copy
    if isinstance(value, dict):
        return {name: _read_only_copy(part) for name, part in value.items()}
    return tuple(map(_read_only_copy, value)) if isinstance(value, (tuple, list)) else value


def _size(value: ResultRow) -> int:
    """Return the bytes of all arrays in a row."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, tuple) else 8
