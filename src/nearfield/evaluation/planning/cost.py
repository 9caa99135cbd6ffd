"""Compare the cost of embedding on own hardware with APIs priced per token, and find the break-even volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from nearfield.errors import InputError, SettingsError, nearest
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.planning.amount_checks import check_efficiency, check_not_negative, check_positive
from nearfield.evaluation.planning.bulk_job import FORMULAS as JOB_FORMULAS
from nearfield.evaluation.planning.bulk_job import BulkJob, WorkerPrice
from nearfield.evaluation.planning.index_size import vector_bytes
from nearfield.evaluation.planning.speed.number_sources import read_bounded_text
from nearfield.repeated_values import find_repeated
from nearfield.strict_toml import parse_toml

#: A month is a twelfth of 365 days.
HOURS_A_MONTH = 730.0
#: The source of a price: the provider's page, a third party's page, or unverified.
STATES = ("provider", "third party", "unverified")
_KEYS = {"name": str, "per_million": (int, float), "date": str, "source": str, "status": str, "note": str}
_REQUIRED_KEYS = ("name", "per_million", "date", "source", "status")
FORMULAS = (
    "own a month = 730 h x (rent an hour, or price / (years x 12 x 730 h)) + 730 h x watts / 1000 x price of a kWh",
    "capacity a month = tokens/s x 3600 s x 730 h x utilisation",
    "machines = the volume / capacity, rounded up; at least one",
    "own per million tokens = machines x own a month / (the volume / 1,000,000)",
    "API a month = the volume / 1,000,000 x its price",
    "break-even volume = own a month / the API's price x 1,000,000 (one machine; reached if within its capacity)",
    "break-even texts = break-even volume / tokens per text",
    "energy a month = machines x 730 h x watts / 1000, in kWh; its price is part of own a month",
)
_STORAGE_FORMULAS = {
    "storage": "encoded texts x dimensions x bits / 8, without an index; a month of it x price of a GB (10^9 bytes)",
    "per million tokens": "total / (encoded texts x tokens per text / 1,000,000); total is price and energy",
    "API": "encoded texts x tokens per text / 1,000,000 x its price",
}


@dataclass(frozen=True)
class Price:
    """The price of an API per million tokens on a ``date``; ``status`` is one of ``STATES``."""

    name: str
    per_million: float
    date: str
    source: str
    status: str
    note: str = ""


@dataclass(frozen=True)
class Hardware:
    """One machine that runs all the time, rented by the hour or bought and depreciated over some years.

    ``price`` and ``rent`` are in the currency of the price table. ``utilisation`` is the share of time with work.
    """

    tokens_per_second: float
    price: float | None = None
    years: float = 3.0
    rent: float | None = None
    watts: float = 0.0
    kwh: float = 0.0
    utilisation: float = 0.5

    def __post_init__(self) -> None:
        """Raise InputError for invalid numbers."""
        if (self.price is None) == (self.rent is None):
            raise InputError("Give the price of the machine or its rent per hour, not both.", param="price")
        for name, value in {"price": self.price, "rent": self.rent, "watts": self.watts, "kwh": self.kwh}.items():
            check_not_negative(name, value or 0.0)
        check_positive("tokens_per_second", self.tokens_per_second)
        check_positive("years", self.years)
        check_efficiency("utilisation", self.utilisation)

    @property
    def hourly(self) -> float:
        """The rent of an hour, or the wear of a bought machine in an hour, without energy."""
        return self.rent if self.rent is not None else (self.price or 0.0) / (self.years * 12 * HOURS_A_MONTH)

    def as_worker(self, spot: float | None = None, billing: str = "minute") -> WorkerPrice:
        """Return what an hour of the machine costs a job, which pays for the hours that it uses."""
        return WorkerPrice(self.hourly, spot, billing, self.rent is not None, self.watts, self.kwh)

    @property
    def month_kwh(self) -> float:
        """The energy of a month in kilowatt-hours."""
        return HOURS_A_MONTH * self.watts / 1000

    @property
    def month(self) -> float:
        """The cost of a month, with or without work: rent or wear, and energy."""
        return HOURS_A_MONTH * self.hourly + self.month_kwh * self.kwh

    @property
    def capacity(self) -> float:
        """The tokens that the machine embeds in a month."""
        return self.tokens_per_second * 3600 * HOURS_A_MONTH * self.utilisation


def read_prices(path: Path | None = None) -> tuple[str, list[Price]]:
    """Read a price table (by default the included one): its currency and its prices.

    Raises:
        SettingsError: the file is no price table; the message names file, entry and key.
    """
    name = str(path) if path else "prices.toml"
    try:
        text = read_bounded_text(path) if path else files(__package__).joinpath(name).read_text("utf-8")
        content = parse_toml(text)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{name} cannot be read as a price table: {error}") from error
    for key in content:
        if key not in ("currency", "price"):
            raise SettingsError(f"{name}: unknown key {key!r}. {nearest(key, ('currency', 'price'))}")
    rows = content.get("price")
    if not isinstance(rows, list) or not rows:
        raise SettingsError(f"{name} has no [[price]].")
    prices = [_price(name, number, row) for number, row in enumerate(rows, 1)]
    repeated = find_repeated(price.name for price in prices)
    if repeated is not None:
        raise SettingsError(f"{name} has two prices of the name {repeated!r}.")
    return str(content.get("currency", "USD")), prices


def _price(file: str, number: int, row: JsonDict) -> Price:
    label = f"{file}: price {number} ({row.get('name', 'without a name')})"
    for key, value in row.items():
        if key not in _KEYS:
            raise SettingsError(f"{label}: unknown key {key!r}. {nearest(key, _KEYS)}")
        if not isinstance(value, _KEYS[key]) or isinstance(value, bool):  # type: ignore[arg-type]
            raise SettingsError(f"{label}: {key} cannot be {value!r}.")
    missing = [key for key in _REQUIRED_KEYS if key not in row]
    if missing:
        raise SettingsError(f"{label} lacks {', '.join(missing)}.")
    if row["status"] not in STATES or not 0 < row["per_million"] < math.inf:
        raise SettingsError(f"{label}: status is one of {', '.join(STATES)}, and per_million above 0.")
    return Price(**row)


def compare_costs(
    volume: float, hardware: Hardware, prices: Sequence[Price], *, tokens_per_text: float | None = None
) -> JsonDict:
    """Compare a month's costs of embedding ``volume`` tokens.

    Returns:
        ``own``: machines, month, per_million, capacity (tokens a month of one machine), kwh and energy (its price, part
        of month); ``apis``: for each price
        month, break_even (tokens a month from which one
        machine is cheaper; None if beyond its capacity), break_even_texts and cheaper (``own`` or ``api``).

    Raises:
        InputError: the volume is not above 0.
    """
    check_positive("volume", volume)
    machines = max(1, math.ceil(volume / hardware.capacity))
    month = machines * hardware.month
    own = {
        "machines": machines,
        "month": month,
        "per_million": month / volume * 1e6,
        "capacity": hardware.capacity,
        "month_of_one": hardware.month,
        "kwh": machines * hardware.month_kwh,
        "energy": machines * hardware.month_kwh * hardware.kwh,
    }
    rows = [_compare_price(price, volume, month, hardware) for price in prices]
    for row in rows:
        known = row["break_even"] is not None and tokens_per_text is not None
        row["break_even_texts"] = row["break_even"] / tokens_per_text if known and tokens_per_text else None
    return {"volume": volume, "tokens_per_text": tokens_per_text, "own": own, "apis": rows}


def _compare_price(price: Price, volume: float, own: float, hardware: Hardware) -> JsonDict:
    month = volume / 1e6 * price.per_million
    break_even = hardware.month / price.per_million * 1e6
    return {
        **vars(price),
        "month": month,
        "break_even": break_even if break_even <= hardware.capacity else None,
        "cheaper": "own" if own < month else "api",
    }


@dataclass(frozen=True)
class VectorStorage:
    """How the vectors of a job are stored: dimensions (None: not known), dtype, and the price of a GB and month.

    Raises:
        InputError: a value is invalid.
    """

    dimensions: int | None = None
    dtype: str = "float32"
    gb_month: float = 0.0

    def __post_init__(self) -> None:
        check_not_negative("gb_month", self.gb_month)
        if self.gb_month and self.dimensions is None:
            raise InputError("The price of storage needs the dimensions of the vectors: --dims.", param="dimensions")
        vector_bytes(8 if self.dimensions is None else self.dimensions, self.dtype)

    def cost(self, texts: float) -> JsonDict | None:
        """Return bytes and month (the price of a month) of the vectors of some texts; None without dimensions."""
        if self.dimensions is None:
            return None
        size = texts * vector_bytes(self.dimensions, self.dtype)
        return {"bytes": size, "dtype": self.dtype, "month": size / 1e9 * self.gb_month}


def job_formulas() -> list[str]:
    """Return the formulas of all figures of ``compare_job``, each as ``name = formula``."""
    return [f"{name} = {formula}" for name, formula in {**JOB_FORMULAS, **_STORAGE_FORMULAS}.items()]


def compare_job(
    job: BulkJob, worker: WorkerPrice, prices: Sequence[Price], storage: VectorStorage | None = None
) -> JsonDict:
    """Compare the cost of one job on rented or bought workers with that of APIs.

    Returns:
        ``job``: its size and time; ``own``: what ``WorkerPrice.cost`` returns, with per_million tokens; ``storage``:
        bytes and month, or None; ``apis``: for each price cost and cheaper (``own`` or ``api``).

    Raises:
        InputError: the tokens of a text are not known.
    """
    tokens = _encoded_tokens(job)
    own = worker.cost(job)
    own["per_million"] = own["total"] / tokens * 1e6
    rows = [{**vars(price), "cost": tokens / 1e6 * price.per_million} for price in prices]
    for row in rows:
        row["cheaper"] = "own" if own["total"] < row["cost"] else "api"
    stored = None if storage is None else storage.cost(job.texts * (1 - job.duplicates))
    return {"job": {**job.to_dict(), "tokens": tokens}, "own": own, "storage": stored, "apis": rows}


def _encoded_tokens(job: BulkJob) -> float:
    if job.rate.tokens_per_text is None:
        raise InputError("APIs are paid by tokens: state the tokens of a text as --tokens.", param="tokens")
    return job.texts * (1 - job.duplicates) * job.rate.tokens_per_text
