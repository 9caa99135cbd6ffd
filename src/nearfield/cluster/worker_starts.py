"""Workers that stop before they are ready: how many in a row a run accepts, and what to say."""

from __future__ import annotations

import re

from nearfield.errors import ClusterFailed

#: Times in a row that workers may stop before they are ready, until the run ends.
_MAX_FAILED_STARTS = 10
#: What Ray does not say: a cluster without tokens cannot call a process that requires them, and cancels its workers.
_AUTHENTICATION = " If the cluster was started without token authentication, set RAY_AUTH_MODE=disabled here too."
_MISSING_MODULE = re.compile(r"No module named '[^']+'")


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
