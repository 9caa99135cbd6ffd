"""What is needed of speed, latency, memory and storage: what misses it is no choice, what exceeds it does not count."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from nearfield.argument_checks import require_mapping, require_number
from nearfield.errors import InputError, nearest
from nearfield.evaluation.json_types import JsonDict, JsonMapping
from nearfield.units import format_bytes


@dataclass(frozen=True)
class NeedLimit:
    """A limit on a measure of ``compare.figures``.

    Args:
        measure: the name of the measure.
        at_least: whether the limit is the smallest value that suffices; else it is the largest.
        timed: whether the measure is known only if speed is measured.
        form: the format of a value in a sentence.
    """

    measure: str
    at_least: bool
    timed: bool
    form: str

    def is_met(self, value: float, limit: float) -> bool:
        """Return whether a value satisfies the limit."""
        return value >= limit if self.at_least else value <= limit


#: By the name of a need. Memory in bytes.
LIMITS: Mapping[str, NeedLimit] = MappingProxyType(
    {
        "texts_per_second": NeedLimit("speed", True, True, "{:,.4g} texts per second"),
        "p95_ms": NeedLimit("p95", False, True, "{:,.4g} ms per query at p95"),
        "memory": NeedLimit("memory", False, True, "{:,.0f} bytes of memory"),
        "bytes_per_document": NeedLimit("storage", False, False, "{:,.4g} bytes of vectors per document"),
    }
)


def check_need(need: Mapping[str, float] | None, *, speed: bool) -> dict[str, float]:
    """Return a need whose names and values are valid; ``speed``: whether speed is measured.

    Raises:
        InputError: a name is unknown, a value is not a number above 0, or it needs a measurement that is switched off.
    """
    require_mapping("need", need)
    for name, value in (need or {}).items():
        if name not in LIMITS:
            raise InputError(f"There is no need {name!r}. {nearest(str(name), LIMITS)}", param="need")
        require_number(name, value)
        if not 0 < value < math.inf:
            raise InputError(f"{name} must be above 0, and is {value:g}.", param="need")
        if LIMITS[name].timed and not speed:
            raise InputError(
                f"{name} needs the measurement of speed: leave out speed=False (--no-speed).", param="need"
            )
    return {name: float(value) for name, value in (need or {}).items()}


def shortfalls(need: Mapping[str, float], measures: JsonMapping) -> list[JsonDict]:
    """Return the needs that a variant misses, or of which its measure is unknown: ``need``, ``limit``, ``value``."""
    rows: list[JsonDict] = [
        {"need": name, "limit": limit, "value": measures.get(LIMITS[name].measure)} for name, limit in need.items()
    ]
    return [row for row in rows if row["value"] is None or not LIMITS[row["need"]].is_met(row["value"], row["limit"])]


def limits_by_measure(need: Mapping[str, float]) -> dict[str, float]:
    """Return the limits by the name of the measure, such as ``speed``."""
    return {LIMITS[name].measure: limit for name, limit in need.items()}


def describe_limit(name: str, value: float) -> str:
    """Return a value with the unit of a need: ``120 texts per second``."""
    if name == "memory":
        return f"{format_bytes(value)} of memory"
    return LIMITS[name].form.format(value)
