"""Files and chunks by machine, for the progress bar and the report of an index run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from nearfield.cluster.shard_worker import WorkerFacts
from nearfield.corpus.indexing.report import NodeCounts

#: Machines that the progress bar names; of more it shows the slowest and the fastest.
_MAX_SHOWN = 3


class IndexTally:
    """What each machine did. ``clock`` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[str, NodeCounts] = {}
        self._started: dict[str, float] = {}

    def add_worker(self, facts: WorkerFacts) -> None:
        """Count a worker that is ready."""
        counts = self._counts.get(facts.node, NodeCounts(facts.node, facts.cpu))
        self._started.setdefault(facts.node, self._clock())
        self._counts[facts.node] = replace(counts, workers=counts.workers + 1)

    def add(self, facts: WorkerFacts, *, files: int, chunks: int) -> None:
        """Count what a machine returned."""
        counts = self._counts[facts.node]
        self._counts[facts.node] = replace(counts, files=counts.files + files, chunks=counts.chunks + chunks)

    def nodes(self) -> tuple[NodeCounts, ...]:
        """Return what each machine did, by name."""
        now = self._clock()
        counts = sorted(self._counts.copy().items())
        return tuple(replace(count, seconds=round(now - self._started[node], 3)) for node, count in counts)

    def to_text(self) -> str:
        """Return the speed of each machine, or of the slowest and the fastest."""
        nodes = sorted(self.nodes(), key=lambda node: node.chunks / max(node.seconds, 1e-9))
        shown = nodes if len(nodes) <= _MAX_SHOWN else [nodes[0], nodes[-1]]
        more = f"  ({len(nodes)} nodes)" if len(nodes) > len(shown) else ""
        return "  ".join(node.to_text() for node in shown) + more
