"""Measurements of the engine: a report of each batch (`BatchReport`), a snapshot of its queues (`EngineStats`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchReport:
    """One batch that ran: its sizes, the seconds that each of its jobs waited, and the seconds that it ran.

    ``rows`` are inputs with a result; of equal ones, ``tokens`` are those of the one that was computed.
    ``padded_tokens`` includes padding; ``budget`` is the number of tokens at which the model's backend is fastest.
    """

    model: str
    rows: int
    bulk_rows: int
    tokens: int
    padded_tokens: int
    budget: int
    queue_seconds: tuple[float, ...]
    run_seconds: float


@dataclass(frozen=True)
class EngineStats:
    """A snapshot of queues, lanes and speed.

    ``tokens_per_second`` is the recent speed, ``peak_tokens_per_second`` that of the fastest batch so far; each is 0
    until it is known.
    """

    queued_jobs: int
    queued_jobs_bulk: int
    queued_tokens: int
    queued_tokens_bulk: int
    running_batches: int
    tokens_per_second: float
    lanes: int
    lanes_alive: int
    draining: bool
    peak_tokens_per_second: float = 0.0
