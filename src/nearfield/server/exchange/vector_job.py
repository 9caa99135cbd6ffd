"""The exchange that computes vectors of texts, and from them a result in a thread: topics, labels, outliers, ..."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nearfield.encoder import Encoder
from nearfield.inference.encode_options import EncodeKeywords
from nearfield.jobs.job_vectors import JobVectors, Purpose, unit_rows
from nearfield.server.exchange.encode import Encode
from nearfield.server.exchange.exchange import Bounds
from nearfield.server.models.description import ModelDescription
from nearfield.server.models.model_pool import ModelPool

#: Characters of a number in a reply.
_CHARACTERS_PER_NUMBER = 12
#: From the vectors of the inputs, None without inputs, to the fields of the reply. It runs in a thread.
JobWork = Callable[[JobVectors | None], dict[str, Any]]


@dataclass(kw_only=True)
class VectorJob(Encode):
    """Compute vectors of texts, then a result from them. Without inputs no model is needed.

    Once it has begun, the work in the thread runs to its end even if the client disconnects or the deadline passes: the
    number of inputs bounds it.
    """

    inputs: Sequence[str]
    purpose: Purpose
    work: JobWork
    in_thread: Callable[[JobWork, JobVectors | None], Awaitable[dict[str, Any]]]
    outcome: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.options_for = self._purpose_options

    def _purpose_options(self, model: ModelDescription) -> EncodeKeywords:
        """Return the model's prompt for the purpose, if it has one."""
        return {"task": self.purpose} if self.purpose in model.tasks else {}

    @property
    def number_count(self) -> int:
        """About as many numbers as have the bytes of the reply: that of the first row for each row of a list."""
        rows = (value for value in self.outcome.values() if isinstance(value, list) and value)
        return sum(len(value) * (1 + len(str(value[0])) // _CHARACTERS_PER_NUMBER) for value in rows)

    async def perform(self, models: ModelPool, bounds: Bounds) -> None:
        if self.inputs:
            await super().perform(models, bounds)
        else:
            await self._work(None)

    async def run(self, model: Encoder, bounds: Bounds) -> None:
        await super().run(model, bounds)
        vectors = self.vectors
        await self._work(JobVectors(unit_rows(vectors.data), model.name, vectors.fingerprint))

    async def _work(self, vectors: JobVectors | None) -> None:
        started = time.perf_counter()
        self.outcome = await self.in_thread(self.work, vectors)
        self.stage_seconds["job"] = time.perf_counter() - started
