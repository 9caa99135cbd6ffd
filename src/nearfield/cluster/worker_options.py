"""How many workers a run has, what each of them gets of its machine, and how many may fail to start."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nearfield.errors import ClusterFailed, InputError

#: Cores of a worker if neither their number nor that of workers is stated: enough for a batch, few enough to fit.
_USUAL_CPUS = 4
#: Times in a row that workers may stop before they are ready, until the run ends.
_MAX_FAILED_STARTS = 10
#: What Ray does not say: a cluster without tokens cannot call a process that requires them, and cancels its workers.
_AUTHENTICATION = " If the cluster was started without token authentication, set RAY_AUTH_MODE=disabled here too."
_MISSING_MODULE = re.compile(r"No module named '[^']+'")
_PART = re.compile(r"(cpus|gpus)=(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class NodeSize:
    """What a machine of the cluster has for workers."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class WorkerSize:
    """What a worker gets: whole cores, which are its threads, and a share of a GPU."""

    cpus: int | None = None
    gpus: float = 0.0

    @classmethod
    def parse(cls, text: str | None) -> WorkerSize:
        """Parse ``cpus=2``, ``gpus=0.5`` or both with a comma between them.

        Raises:
            InputError: it is neither.
        """
        if text is None:
            return cls()
        matches = [_PART.fullmatch(part.strip()) for part in text.split(",")]
        values = {match[1]: float(match[2]) for match in matches if match is not None}
        whole = values.get("cpus", 1.0)
        if None in matches or len(values) < len(matches) or whole < 1 or whole % 1 or values.get("gpus", 1.0) <= 0:
            raise InputError(
                f"--per-worker is cpus=N, gpus=SHARE or both (cpus=2,gpus=0.5), not {text!r}; cores are whole.",
                param="per_worker",
            )
        return cls(int(whole) if "cpus" in values else None, values.get("gpus", 0.0))


@dataclass(frozen=True)
class WorkerPlan:
    """So many workers of one size."""

    count: int
    cpus: int
    gpus: float


def plan_workers(nodes: Sequence[NodeSize], size: WorkerSize, count: int | None) -> WorkerPlan:
    """Return the workers of a run: as many as fit, or ``count``, which may be more than fit now.

    Without a stated number of cores, ``count`` workers share those that there are; otherwise each gets up to four.

    Raises:
        ClusterFailed: no machine is large enough for one worker.
    """
    largest = int(max((node.cpus for node in nodes), default=0))
    cpus = size.cpus or max(1, min(largest, _share(nodes, count) if count else _USUAL_CPUS))
    fitting = sum(_fitting(node, cpus, size.gpus) for node in nodes)
    if not fitting:
        needed = f"{cpus} core{'s' * (cpus > 1)}" + (f" and {size.gpus:g} of a GPU" if size.gpus else "")
        gpus = max((node.gpus for node in nodes), default=0.0)
        raise ClusterFailed(
            f"No node of the cluster has {needed} for a worker: the largest has {largest} cores and {gpus:g} GPUs. "
            "Choose less with --per-worker, or add nodes."
        )
    return WorkerPlan(count or fitting, cpus, size.gpus)


def _share(nodes: Sequence[NodeSize], count: int) -> int:
    """Return the most cores with which so many workers fit, or 1."""
    largest = int(max((node.cpus for node in nodes), default=0))
    return next((cpus for cpus in range(largest, 1, -1) if sum(_fitting(node, cpus, 0) for node in nodes) >= count), 1)


def _fitting(node: NodeSize, cpus: int, gpus: float) -> int:
    fits = int(node.cpus // cpus)
    return min(fits, int((node.gpus + 1e-9) // gpus)) if gpus else fits


class StartFailures:
    """Counts workers that stopped before they were ready."""

    def __init__(self) -> None:
        self._count = 0

    def reset(self) -> None:
        """Begin to count again: a worker is ready."""
        self._count = 0

    def add(self, error: BaseException) -> None:
        """Count a worker.

        Raises:
            ClusterFailed: there were too many, or others would stop for the same reason.
        """
        self._count += 1
        text = " ".join(str(error).split())
        if missing := _MISSING_MODULE.search(text):
            raise ClusterFailed(
                f"Nodes of the cluster lack Nearfield or an extra: {missing[0]}. Install the same on all."
            )
        if self._count >= _MAX_FAILED_STARTS:
            hint = _AUTHENTICATION if "Actor creation cancelled" in text or "references to the actor" in text else ""
            raise ClusterFailed(f"Workers stop before they have loaded the model: {text[:500]}{hint}")
