"""Load test of a local model or an endpoint: bulk throughput, and latency under concurrent clients.

Clients are a closed loop: each sends its next text after the reply to the last one.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nearfield import hardware as machine
from nearfield.argument_checks import require_count, require_number
from nearfield.errors import InputError
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.performance import environment
from nearfield.text_inputs import describe
from nearfield.vectors.multivector import MultiVectors
from nearfield.vectors.sparse import SparseVectors

if TYPE_CHECKING:
    from nearfield.encoder import Encoder

#: Seconds between two readings of the memory.
_READING_INTERVAL = 0.02
#: Texts that are encoded before the measurement.
_WARM_UP_TEXTS = 64


class Target(Protocol):
    """What a load test measures."""

    #: The name in results.
    name: str
    #: Facts besides speed: precision, load_seconds, dimensions, bytes_per_vector and others.
    facts: JsonDict

    def bulk(self, texts: Sequence[str]) -> int | None:
        """Encode all texts as fast as possible; return the number of tokens, None if it is unknown."""

    async def ask(self, text: str) -> None:
        """Encode one text, as one of several clients."""

    async def close(self) -> None:
        """Close connections."""


class LocalTarget:
    """A model in this process; ``options`` are keywords of ``Encoder.encode``."""

    def __init__(self, encoder: Encoder, **options: Any) -> None:
        self.name = encoder.name
        self._encoder, self._options = encoder, options
        sample = encoder.encode(["hello world"], show_progress_bar=False, **options)
        self.facts = {
            "where": "in this process",
            "precision": encoder.precision,
            "load_seconds": round(encoder.load_seconds, 3),
            "model_bytes": encoder.bytes,
            **_shape_of(sample),
        }

    def bulk(self, texts: Sequence[str]) -> int | None:
        """Encode a list in bulk."""
        parts = self._encoder.stream(texts, **self._options)
        return sum(int(part.tokens.sum()) for part in parts if part.tokens is not None)

    async def ask(self, text: str) -> None:
        """Encode one text concurrently with others, like a server."""
        await self._encoder.aencode(text, **self._options)

    async def close(self) -> None:
        """Do nothing: the encoder belongs to the caller."""


def _shape_of(sample: Any) -> JsonDict:
    if isinstance(sample, SparseVectors):
        return {"dimensions": sample.size, "bytes_per_vector": None, "values_per_text": "one for each term of the text"}
    if isinstance(sample, MultiVectors):
        return {"dimensions": sample.dim, "bytes_per_vector": sample.dim * 4, "vectors_per_text": "one for each token"}
    return {"dimensions": sample.dim, "bytes_per_vector": sample.data.nbytes // len(sample.data)}


@dataclass
class Peak:
    """The peak memory of this process in bytes; None: unknown."""

    before: int | None = None
    bytes: int | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Read the memory repeatedly until ``stop``."""
        while not self._done.wait(_READING_INTERVAL):
            self.read()

    def stop(self) -> None:
        """End ``watch``."""
        self._done.set()

    def read(self) -> None:
        """Read the memory once."""
        now = machine.memory_resident()
        if now is not None:
            self.bytes = max(now, self.bytes or 0)


@contextmanager
def peak() -> Iterator[Peak]:
    """Record the peak memory of this process during a block."""
    memory = Peak(before=machine.memory_resident())
    memory.read()
    watching = threading.Thread(target=memory.watch, daemon=True)
    watching.start()
    try:
        yield memory
    finally:
        memory.stop()
        watching.join()
        memory.read()


def check_load(seconds: float, clients: Iterable[int]) -> tuple[float, list[int]]:
    """Return the seconds of a measurement and its numbers of clients, as numbers that JSON can hold.

    Raises:
        InputError: one of them is no number, or not above 0.
    """
    require_number("seconds", seconds)
    if not 0 < seconds < math.inf:
        raise InputError(f"seconds must be a number above 0, and is {seconds:g}.", param="seconds")
    if isinstance(clients, (str, bytes)) or not isinstance(clients, Iterable):
        raise InputError(f"clients must be numbers of clients, and is {describe(clients)}.", param="clients")
    counts = list(clients)
    for count in counts:
        require_count("clients", count)
    return float(seconds), [int(count) for count in counts]


def measure(
    target: Target,
    texts: Sequence[str],
    *,
    seconds: float = 3.0,
    clients: Iterable[int] = (1, 8, 32),
    on_stage: Callable[[str], None] | None = None,
) -> JsonDict:
    """Measure bulk throughput, and the latency at each number of clients; each takes about ``seconds``.

    Returns:
        A dict for JSON: subject (the target), bulk (texts_per_second, tokens_per_second, range over passes,
        tokens_per_text), latency by number of clients (requests_per_second and milliseconds at p50, p95, p99, max),
        memory, machine, settings.

    Raises:
        InputError: there are no texts, or seconds or clients are not above 0.
    """
    seconds, clients = check_load(seconds, clients)
    if not texts:
        raise InputError("There is nothing to measure: there are no texts.", param="texts")
    stage = on_stage or (lambda _: None)
    with peak() as memory:
        stage("warming up")
        target.bulk(list(itertools.islice(itertools.cycle(texts), _WARM_UP_TEXTS)))
        stage("bulk")
        bulk = measure_bulk(target.bulk, texts, seconds)
        latency = asyncio.run(_all_clients(target, texts, seconds, clients, stage))
    return {
        "subject": target.name,
        **target.facts,
        "bulk": bulk,
        "latency": latency,
        "memory": {"before": memory.before, "peak": memory.bytes},
        "machine": environment.describe_environment(),
        "settings": {"seconds": seconds, "texts": len(texts), "clients": list(clients)},
    }


def measure_bulk(encode: Callable[[Sequence[str]], int | None], texts: Sequence[str], seconds: float) -> JsonDict:
    """Encode all texts repeatedly for some seconds; the speed is the median over complete passes."""
    speeds: list[float] = []
    tokens: int | None = None
    until = time.perf_counter() + seconds
    while not speeds or time.perf_counter() < until:
        started = time.perf_counter()
        tokens = encode(texts)
        speeds.append(len(texts) / (time.perf_counter() - started))
    speed = statistics.median(speeds)
    mean = None if tokens is None else tokens / len(texts)
    return {
        "texts_per_second": round(speed, 2),
        "tokens_per_second": None if mean is None else round(speed * mean, 1),
        "tokens_per_text": None if mean is None else round(mean, 2),
        "range": [round(min(speeds), 2), round(max(speeds), 2)],
        "passes": len(speeds),
    }


async def _all_clients(
    target: Target, texts: Sequence[str], seconds: float, clients: Sequence[int], stage: Callable[[str], None]
) -> JsonDict:
    results = {}
    try:
        for count in clients:
            stage(f"{count} client{'s' if count > 1 else ''}")
            await closed_loop(target.ask, texts, min(0.5, seconds / 4), count)
            times, passed = await closed_loop(target.ask, texts, seconds, count)
            results[str(count)] = {"requests_per_second": round(len(times) / passed, 2), **quantiles(times)}
    finally:
        await target.close()
    return results


async def closed_loop(
    ask: Callable[[str], Awaitable[None]], texts: Sequence[str], seconds: float, clients: int
) -> tuple[list[float], float]:
    """Keep ``clients`` requests in flight; return the seconds of each, and the total seconds."""
    times: list[float] = []
    begin = time.perf_counter()

    async def client(number: int) -> None:
        for text in itertools.islice(itertools.cycle(texts), number * 7, None):
            started = time.perf_counter()
            await ask(text)
            ended = time.perf_counter()
            times.append(ended - started)
            if ended - begin >= seconds:
                return

    await asyncio.gather(*(client(number) for number in range(clients)))
    return times, time.perf_counter() - begin


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return the usual quantiles in milliseconds, and the count."""
    if not seconds:
        return {"count": 0}
    values = np.quantile(np.array(seconds) * 1e3, [0.5, 0.95, 0.99, 1.0], method="higher")
    return {"count": len(seconds)} | {
        name: round(float(value), 2) for name, value in zip(("p50", "p95", "p99", "max"), values, strict=True)
    }
