"""Published speeds of embedding models: some that the roofline was fitted on, the others to check it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nearfield import catalog
from nearfield.errors import SettingsError, nearest
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.planning.speed.machines import MachineTable
from nearfield.evaluation.planning.speed.model_shapes import shape_of
from nearfield.evaluation.planning.speed.number_sources import (
    NumberSource,
    check_keys,
    find_source,
    positive_number,
    read_rows,
    read_sources,
    read_table,
)
from nearfield.evaluation.planning.speed.roofline import ERROR_FACTOR, MachineSpeed

INCLUDED = "published_speeds.toml"
#: The source of a measurement: the page of who measured, another page, or neither.
STATUSES = ("author", "third party", "unverified")
USES = ("fit", "check")
_REQUIRED_KEYS = ("model", "machine", "precision", "engine", "tokens", "use", "source")
_RATES = ("texts_per_second", "tokens_per_second")
_KEYS = (*_REQUIRED_KEYS, *_RATES, "tokens_from", "requests", "note", "miss")


@dataclass(frozen=True)
class PublishedSpeed:
    """A published speed of one machine.

    ``tokens`` are those of a text; ``inferred`` says that the source does not state them. ``requests``: each text is
    one HTTP request. ``use`` is one of ``USES``. ``engine`` is the software. ``miss`` is the reason if the estimate is
    wrong by more than its stated factor.
    """

    model: str
    machine: str
    precision: str
    engine: str
    texts_per_second: float
    tokens: float
    inferred: bool
    requests: bool
    use: str
    source: NumberSource
    note: str = ""
    miss: str = ""


def read_published_speeds() -> tuple[PublishedSpeed, ...]:
    """Return the included figures, in the order of the file.

    Raises:
        SettingsError: the file has a wrong entry; the message names it.
    """
    file, content = read_table(None, INCLUDED, "table of speeds", ("sources", "speed"))
    sources = read_sources(file, content, STATUSES)
    return tuple(_speed(file, number, row, sources) for number, row in enumerate(read_rows(file, content, "speed"), 1))


def _speed(file: str, number: int, row: JsonDict, sources: Mapping[str, NumberSource]) -> PublishedSpeed:
    label = f"{file}: speed {number} ({row.get('model', 'without a model')})"
    check_keys(label, row, _KEYS, _REQUIRED_KEYS)
    if row["use"] not in USES:
        raise SettingsError(f"{label}: unknown use {row['use']!r}. {nearest(row['use'], USES)}")
    rates = [key for key in _RATES if key in row]
    if len(rates) != 1:
        raise SettingsError(f"{label} needs one of {' and '.join(_RATES)}.")
    tokens, rate = positive_number(label, "tokens", row["tokens"]), positive_number(label, rates[0], row[rates[0]])
    return PublishedSpeed(
        model=row["model"],
        machine=row["machine"],
        precision=row["precision"],
        engine=row["engine"],
        texts_per_second=rate if rates == ["texts_per_second"] else rate / tokens,
        tokens=tokens,
        inferred=row.get("tokens_from") == "inferred",
        requests=bool(row.get("requests", False)),
        use=row["use"],
        source=find_source(label, row["source"], sources),
        note=row.get("note", ""),
        miss=row.get("miss", ""),
    )


def estimate_ratio(row: PublishedSpeed, table: MachineTable) -> float:
    """Return the roofline's estimate of a row divided by the published speed.

    Raises:
        InputError: the machine or the precision is not in the table.
        SettingsError: the catalogue has no shape of the model.
    """
    entry = catalog.find_by_id(row.model)
    shape = None if entry is None else shape_of(entry)
    if shape is None:
        raise SettingsError(f"{INCLUDED}: the catalogue has no shape of {row.model}.")
    speed = MachineSpeed(table.find(row.machine), row.precision, row.engine)
    if row.requests:
        return speed.requests_per_second(shape, row.tokens) / row.texts_per_second
    return 1.0 / (speed.seconds_per_text(shape, row.tokens) * row.texts_per_second)


def is_within_error(ratio: float) -> bool:
    """Whether an estimate is within the stated factor of the published speed."""
    return 1.0 / ERROR_FACTOR <= ratio <= ERROR_FACTOR
