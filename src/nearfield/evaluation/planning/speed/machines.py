"""Machines that are not here: memory, bandwidth, peak by precision, power and prices, each with its source.

The included table is ``machines.toml``. Peaks and bandwidths are those of data sheets; what a model reaches of them is
the subject of ``roofline.py``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from nearfield.errors import InputError, SettingsError, nearest
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.planning.speed.number_sources import (
    NumberSource,
    check_keys,
    find_source,
    positive_number,
    read_rows,
    read_sources,
    read_table,
)

INCLUDED = "machines.toml"
#: gpu: a card with separate memory, beside a host; apple: CPU and GPU share the memory; cpu: no GPU.
MACHINE_KINDS = ("gpu", "apple", "cpu")
#: The source of a number: the page of the maker or provider, another page, a measurement, or none of these.
STATUSES = ("vendor", "third party", "measured", "unverified")
#: Bytes of a value, by precision. In tf32 only the products are shortened.
PRECISION_BYTES: Mapping[str, int] = {"float32": 4, "tf32": 4, "float16": 2, "bfloat16": 2, "int8": 1}
_REQUIRED_KEYS = ("name", "kind", "memory_gib", "bandwidth", "cores", "peak", "source")
_AMOUNTS = ("watts", "rent", "price")
_KEYS = (*_REQUIRED_KEYS, *_AMOUNTS, "also", "note")
_AMOUNT_KEYS = ("amount", "source", "note")
_TERA, _GIGA, _GIB = 1e12, 1e9, 2**30
#: Words that say nothing in the name of a machine.
_FILLERS = re.compile(r"nvidia|geforce|rtx|tesla|amd|apple|intel|gib|gb")


@dataclass(frozen=True)
class DatedAmount:
    """An amount with its source: watts, or money in the currency of the table."""

    amount: float
    source: NumberSource
    note: str = ""


@dataclass(frozen=True)
class Machine:
    """A machine of the table.

    ``memory`` is in bytes, ``bandwidth`` in bytes/s, ``peak`` in operations/s of dense matrix products by precision (a
    multiplication and an addition are two). ``cores`` are those of the processor that tokenises. ``source`` is that of
    these numbers. ``watts`` is the power at full load, ``rent`` the price of an hour, ``price`` that of a purchase.
    """

    name: str
    kind: str
    memory: int
    bandwidth: float
    cores: int
    peak: Mapping[str, float]
    source: NumberSource
    also: tuple[str, ...] = ()
    note: str = ""
    watts: DatedAmount | None = None
    rent: DatedAmount | None = None
    price: DatedAmount | None = None


@dataclass(frozen=True)
class MachineTable:
    """Machines by name, and the currency of their prices."""

    currency: str
    machines: tuple[Machine, ...]

    def find(self, name: str) -> Machine:
        """Return the machine of a name; case, spaces, hyphens and the maker's name do not matter.

        Raises:
            InputError: no machine has that name; the message has the nearest one, and all.
        """
        machines = self._by_name().get(_simplify(name))
        if not machines:
            hint = nearest(name, [machine.name for machine in self.machines])
            raise InputError(f"Unknown machine {name!r}. {hint}", param="machine")
        return machines[0]

    def _by_name(self) -> dict[str, list[Machine]]:
        names: dict[str, list[Machine]] = defaultdict(list)
        for machine in self.machines:
            for name in {_simplify(name) for name in (machine.name, *machine.also)}:
                names[name].append(machine)
        return names


def _simplify(name: str) -> str:
    lowered = re.sub(r"[^a-z0-9]", "", name.lower())
    return _FILLERS.sub("", lowered) or lowered


def read_machines(path: Path | None = None) -> MachineTable:
    """Read a table of machines, by default the included one.

    Raises:
        SettingsError: the file is no such table; the message names file, entry and key.
    """
    return _included() if path is None else _read(path)


@lru_cache(maxsize=1)
def _included() -> MachineTable:
    return _read(None)


def _read(path: Path | None) -> MachineTable:
    file, content = read_table(path, INCLUDED, "table of machines", ("currency", "sources", "machine"))
    sources = read_sources(file, content, STATUSES)
    machines = tuple(
        _machine(file, number, row, sources) for number, row in enumerate(read_rows(file, content, "machine"), 1)
    )
    table = MachineTable(str(content.get("currency", "USD")), machines)
    repeated = next(((name, group) for name, group in table._by_name().items() if len(group) > 1), None)
    if repeated is not None:
        both = " and ".join(machine.name for machine in repeated[1])
        raise SettingsError(f"{file}: {both} have the same name or alias, {repeated[0]!r}.")
    return table


def _machine(file: str, number: int, row: JsonDict, sources: Mapping[str, NumberSource]) -> Machine:
    label = f"{file}: machine {number} ({row.get('name', 'without a name')})"
    check_keys(label, row, _KEYS, _REQUIRED_KEYS)
    _check_texts(label, row)
    amounts = {key: _amount(f"{label}: {key}", row[key], sources) for key in _AMOUNTS if key in row}
    return Machine(
        name=row["name"],
        kind=row["kind"],
        memory=round(positive_number(label, "memory_gib", row["memory_gib"]) * _GIB),
        bandwidth=positive_number(label, "bandwidth", row["bandwidth"]) * _GIGA,
        cores=_cores(label, row["cores"]),
        peak=_peak(label, row["peak"]),
        source=find_source(label, row["source"], sources),
        also=tuple(row.get("also", ())),
        note=row.get("note", ""),
        **amounts,
    )


def _check_texts(label: str, row: JsonDict) -> None:
    wrong = next((key for key in ("name", "kind", "note") if not isinstance(row.get(key, ""), str)), None)
    also = row.get("also", [])
    if wrong or not row["name"] or not isinstance(also, list) or not all(isinstance(name, str) for name in also):
        raise SettingsError(f"{label}: {wrong or 'also'} must be text, not {row.get(wrong or 'also')!r}.")
    if row["kind"] not in MACHINE_KINDS:
        raise SettingsError(f"{label}: unknown kind {row['kind']!r}. {nearest(row['kind'], MACHINE_KINDS)}")


def _cores(label: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SettingsError(f"{label}: cores must be a whole number above 0, not {value!r}.")
    return value


def _peak(label: str, value: object) -> Mapping[str, float]:
    if not isinstance(value, dict) or "float32" not in value:
        raise SettingsError(f"{label}: peak is a table with float32, such as {{ float32 = 82.6, float16 = 165.2 }}.")
    check_keys(f"{label}: peak", value, tuple(PRECISION_BYTES))
    return {name: positive_number(f"{label}: peak", name, rate) * _TERA for name, rate in value.items()}


def _amount(label: str, value: object, sources: Mapping[str, NumberSource]) -> DatedAmount:
    if not isinstance(value, dict):
        raise SettingsError(f'{label} is a table such as {{ amount = 0.40, source = "a source" }}, not {value!r}.')
    check_keys(label, value, _AMOUNT_KEYS, _AMOUNT_KEYS[:2])
    amount = positive_number(label, "amount", value["amount"])
    return DatedAmount(amount, find_source(label, value["source"], sources), str(value.get("note", "")))
