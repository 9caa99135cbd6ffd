"""`EqualJobs`: finds waiting jobs that compute the same, in all tickets; copies of their one result."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from nearfield.arrays import ResultRow
from nearfield.engine.job import Job
from nearfield.features import TextFeatures


def job_key(job: Job) -> Hashable:
    """Return what a job computes: equal for jobs whose results are equal, whatever their tickets."""
    features, request = job.features, job.extra
    content = tuple(features.ids) if isinstance(features, TextFeatures) else features.digest()
    if request is None:
        return job.ticket.runner, content, job.skip
    tokens = None if request.kept_tokens is None else np.asarray(request.kept_tokens).tobytes()
    parts = (request.outputs, request.second, request.spans, tokens, request.unattended, request.adapter)
    return job.ticket.runner, content, job.skip, parts


class EqualJobs:
    """The jobs that wait, by their keys. The scheduler's lock guards it.

    Each job that waits is in it, and no other: it would keep a finished ticket in memory.
    """

    def __init__(self) -> None:
        #: Nearly all jobs have no equal: a dictionary for each would cost more than all else here.
        self._waiting: dict[Hashable, Job | dict[Job, None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, jobs: Iterable[Job]) -> None:
        """Add jobs that begin to wait."""
        waiting = self._waiting
        for job in jobs:
            known = waiting.setdefault(job.key, job)
            if isinstance(known, dict):
                known[job] = None
            elif known is not job:
                waiting[job.key] = {known: None, job: None}

    def remove(self, job: Job) -> None:
        """Remove a job that ended before a batch took it."""
        known = self._waiting[job.key]
        if isinstance(known, dict):
            del known[job]
        if known is job or not known:
            del self._waiting[job.key]

    def lead(self, jobs: Sequence[Job]) -> list[Job]:
        """Remove jobs that a batch takes, with all that equal them; return those to compute, which have ``twins``."""
        leaders = []
        for job in jobs:
            known = self._waiting.pop(job.key, None)
            if known is None:
                continue  # the twin of one before it
            leaders.append(job)
            if isinstance(known, dict):
                job.twins = [twin for twin in known if twin is not job]
        return leaders


def with_twins(outcome: list[tuple[Job, ResultRow | Exception]]) -> list[tuple[Job, ResultRow | Exception]]:
    """Add the results of the jobs that were not computed: copies, since each caller may write into its own."""
    twins = [(twin, _copy_outcome(result)) for job, result in outcome for twin in job.twins]
    return outcome + twins if twins else outcome


def _copy_outcome(result: ResultRow | Exception) -> ResultRow | Exception:
    return copy.copy(result) if isinstance(result, Exception) else _copy(result)


def _copy(result: ResultRow) -> ResultRow:
    if isinstance(result, dict):
        return {name: _copy(part) for name, part in result.items()}
    if isinstance(result, tuple):
        return tuple(map(_copy, result))
    return copy.copy(result)
