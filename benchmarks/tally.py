"""Counts of replies, errors and faults of a traffic run."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from nearfield.evaluation.performance.load_test import quantiles

#: Faults that are printed in full.
_SHOWN = 20


@dataclass
class Tally:
    """Counts by kind of request; a request that was refused and sent again is one, and was sent once."""

    sent: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    #: Replies that asked to come again later, by kind and status.
    refused: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    #: Replies of whatever kind that were read.
    replies: int = 0
    #: Clients that left before they had their answer, and of these, those whose request was sent whole.
    left: int = 0
    left_whole: int = 0
    #: Seconds of single requests, by what ran beside them.
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    slowest: float = 0.0
    faults: list[str] = field(default_factory=list)

    def fault(self, kind: str, where: Counter[str], text: str) -> None:
        """Count a fault, and keep the first few to be read."""
        where[kind] += 1
        if len(self.faults) < _SHOWN:
            self.faults.append(f"{kind}: {text}")

    def told(self) -> dict[str, Any]:
        """Return all as JSON has it."""
        counts = {name: dict(getattr(self, name)) for name in ("sent", "answered", "refused", "lost", "wrong", "late")}
        return {
            **counts,
            "replies": self.replies,
            "left": self.left,
            "left_whole": self.left_whole,
            "slowest_seconds": round(self.slowest, 2),
            "singles_ms": {name: quantiles(times) for name, times in self.seconds.items()},
            "faults": self.faults,
        }
