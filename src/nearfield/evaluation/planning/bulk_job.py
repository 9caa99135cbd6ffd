"""One job that encodes many texts once, on one worker or many: its time, its price, its energy.

The formulas are in ``FORMULAS``; they are those of a run that is cut into shards, of which a failure loses one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from nearfield.errors import InputError, nearest
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.planning.amount_checks import (
    check_efficiency,
    check_not_negative,
    check_positive,
    check_share,
)
from nearfield.evaluation.planning.encoding_rate import EncodingRate

#: Share of the sum of their rates that several workers reach, unless stated.
EFFICIENCY = 0.9
#: Seconds of a shard, and between a failure and the next shard: a lost node is noticed after 15 s, a model loads in 5.
SHARD_SECONDS, RESTART_SECONDS = 120.0, 20.0
#: Seconds that a provider rounds the time of a worker up to.
BILLING: Mapping[str, float] = MappingProxyType({"second": 1.0, "minute": 60.0, "hour": 3600.0})
FORMULAS: Mapping[str, str] = MappingProxyType(
    {
        "encoded texts": "texts x (1 - share of duplicates)",
        "lost work": "failures a worker-hour x (half a shard + restart) in hours + share of repeats; a shard of "
        f"{SHARD_SECONDS:.0f} s, a restart of {RESTART_SECONDS:.0f} s",
        "time": "encoded texts x (1 + lost work) / (texts/s of a worker x workers x efficiency)",
        "worker-hours": "time x workers",
        "billed hours": "time of a worker, rounded up to the unit of billing, x workers",
        "price": "billed hours x rent an hour; of a bought machine worker-hours x price / (years x 8,760 h)",
        "spot price": "billed hours x spot rent an hour",
        "energy": "worker-hours x watts / 1000, in kWh, x price of a kWh",
    }
)


@dataclass(frozen=True)
class BulkJob:
    """Texts that are encoded once, and the workers that do it.

    Args:
        texts: Number of texts.
        rate: What one worker encodes.
        workers: Machines, or shares of machines, that work at once.
        efficiency: Share of ``workers`` times the rate that is reached; None: 1 for one worker, else ``EFFICIENCY``.
        duplicates: Share of texts that occur twice, and are encoded once.
        failures: Failures in an hour of one worker, such as 0.05 for spot machines.
        repeats: Share of the work that is done again for other reasons.

    Raises:
        InputError: a number is out of its range.
    """

    texts: float
    rate: EncodingRate
    workers: int = 1
    efficiency: float | None = None
    duplicates: float = 0.0
    failures: float = 0.0
    repeats: float = 0.0

    def __post_init__(self) -> None:
        check_positive("texts", self.texts)
        check_positive("workers", self.workers)
        if self.efficiency is not None:
            check_efficiency("efficiency", self.efficiency)
        check_share("duplicates", self.duplicates)
        check_not_negative("failures", self.failures)
        check_not_negative("repeats", self.repeats)

    @property
    def reached(self) -> float:
        """The efficiency that is counted with."""
        return self.efficiency if self.efficiency is not None else 1.0 if self.workers == 1 else EFFICIENCY

    @property
    def lost(self) -> float:
        """Work that is done again, as a share of all work."""
        return self.failures * (SHARD_SECONDS / 2 + RESTART_SECONDS) / 3600 + self.repeats

    @property
    def seconds(self) -> float:
        """The time of the job."""
        work = self.texts * (1 - self.duplicates) * (1 + self.lost)
        return self.rate.seconds(work) / (self.workers * self.reached)

    @property
    def worker_hours(self) -> float:
        """Hours of all workers together."""
        return self.seconds * self.workers / 3600

    def billed_hours(self, billing: str = "minute") -> float:
        """Return the hours of all workers that are paid for.

        Raises:
            InputError: the unit of billing is unknown.
        """
        _check_billing(billing)
        step = BILLING[billing]
        steps = max(1, math.ceil(self.seconds / step * (1 - 1e-9)))  # 60.000000001 s are a minute
        return steps * step * self.workers / 3600

    def with_texts(self, texts: float) -> BulkJob:
        """Return the same job with another number of texts."""
        return replace(self, texts=texts)

    def to_dict(self) -> JsonDict:
        """Return the job as a dict for JSON."""
        names = ("texts", "workers", "duplicates", "failures", "repeats")
        return {
            **{name: getattr(self, name) for name in names},
            **self.rate.to_dict(),
            "efficiency": self.reached,
            "lost": self.lost,
            "seconds": self.seconds,
            "worker_hours": self.worker_hours,
        }


def _check_billing(billing: str) -> None:
    if billing not in BILLING:
        raise InputError(f"Unknown unit of billing {billing!r}. {nearest(billing, BILLING)}", param="billing")


@dataclass(frozen=True)
class WorkerPrice:
    """What an hour of one worker costs: rented, as a spot machine, or as the wear of a bought one; and its energy.

    Raises:
        InputError: a number is negative or not finite, or the unit of billing is unknown.
    """

    hourly: float
    spot: float | None = None
    billing: str = "minute"
    rented: bool = True
    watts: float = 0.0
    kwh: float = 0.0

    def __post_init__(self) -> None:
        for name in ("hourly", "watts", "kwh"):
            check_not_negative(name, getattr(self, name))
        _check_billing(self.billing)
        if self.spot is not None:
            check_not_negative("spot", self.spot)
        if self.spot is not None and not self.rented:
            raise InputError("A spot price is a rent: give the rent of the machine, not its price.", param="spot")

    def cost(self, job: BulkJob) -> JsonDict:
        """Return hours, billed_hours, price, spot, energy_kwh and energy_price of a job; total is with on-demand rent.

        Without ``kwh`` energy has no price.
        """
        billed = job.billed_hours(self.billing) if self.rented else job.worker_hours
        energy = job.worker_hours * self.watts / 1000
        price, extra = billed * self.hourly, energy * self.kwh
        return {
            "hours": job.worker_hours,
            "billed_hours": billed,
            "price": price,
            "spot": None if self.spot is None else billed * self.spot + extra,
            "energy_kwh": energy,
            "energy_price": extra,
            "total": price + extra,
        }
