"""The table of machines: each number has a source, names are found as people write them, wrong tables are named."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfield.errors import InputError, SettingsError
from nearfield.evaluation.planning.speed.machines import (
    MACHINE_KINDS,
    PRECISION_BYTES,
    STATUSES,
    Machine,
    read_machines,
)
from nearfield.evaluation.planning.speed.number_sources import NumberSource

MACHINES = read_machines().machines
#: Machines that people name most.
NAMED = {
    "rtx 4090": "RTX 4090",
    "RTX4090": "RTX 4090",
    "NVIDIA GeForce RTX 4090": "RTX 4090",
    "4090": "RTX 4090",
    "rtx-3090": "RTX 3090",
    "a100": "A100 80GB",
    "a100-80": "A100 80GB",
    "A100 (40 GB)": "A100 40GB",
    "h100": "H100",
    "H200": "H200",
    "l4": "L4",
    "Tesla T4": "T4",
    "a10g": "A10G",
    "L40S": "L40S",
    "m2": "M2",
    "Apple M4 Max": "M4 Max",
    "8 vCPU": "8 vCPU AVX-512",
    "8vcpu amx": "8 vCPU AMX",
    "32 vCPU": "32 vCPU AVX-512",
    "i7-13700K": "i7-13700K",
    "raspberry pi 5": "Raspberry Pi 5",
    "vps": "VPS 2 vCPU",
}
SOURCES = '[sources]\n"a page" = ["2026-01-02", "vendor", "https://example.org"]\n'
ROW = (
    '[[machine]]\nname = "x"\nkind = "gpu"\nmemory_gib = 8.0\nbandwidth = 100.0\ncores = 4\n'
    'peak = { float32 = 1.0, float16 = 2.0 }\nsource = "a page"\n'
)


def _table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("written", "name"), NAMED.items())
def test_names_are_found_as_people_write_them(written: str, name: str) -> None:
    assert read_machines().find(written).name == name


@settings(deadline=None)
@given(st.sampled_from(MACHINES), st.sampled_from([str.lower, str.upper, str.title]), st.sampled_from(["", "-", "_"]))
def test_case_and_separators_do_not_matter(machine: Machine, change: object, separator: str) -> None:
    assert callable(change)
    assert read_machines().find(change(machine.name).replace(" ", separator)) == machine


@pytest.mark.parametrize("name", ["RTX 4091", "RTX 4090 D", "L40", "", "?", "A100 80GB PCIe"])
def test_another_machine_is_never_taken_for_a_similar_one(name: str) -> None:
    with pytest.raises(InputError, match="Unknown machine") as refusal:
        read_machines().find(name)
    assert "Raspberry Pi 5" in str(refusal.value)


def test_the_nearest_name_is_named() -> None:
    with pytest.raises(InputError, match="Did you mean 'RTX 4090'"):
        read_machines().find("RTX 4099")


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_each_number_of_the_included_table_has_a_source_and_is_plausible(machine: Machine) -> None:
    amounts = [amount for amount in (machine.watts, machine.rent, machine.price) if amount is not None]
    for source in (machine.source, *(amount.source for amount in amounts)):
        assert datetime.date.fromisoformat(source.date) <= datetime.date(2100, 1, 1)
        assert source.address.startswith("https://") and source.status in STATUSES
    assert machine.kind in MACHINE_KINDS and set(machine.peak) <= set(PRECISION_BYTES)
    assert 2**30 < machine.memory < 2**40 and 1e9 < machine.bandwidth < 1e13 and 0 < machine.cores < 256
    # Fewer bits are never slower.
    rates = [machine.peak[name] for name in ("float32", "tf32", "float16", "int8") if name in machine.peak]
    assert rates == sorted(rates)
    assert all(1e10 < rate < 1e16 for rate in machine.peak.values())


def test_a_table_of_the_users_own(tmp_path: Path) -> None:
    table = read_machines(
        _table(tmp_path, f'currency = "EUR"\n{SOURCES}{ROW}rent = {{ amount = 2, source = "a page" }}')
    )
    machine = table.find("X")
    assert table.currency == "EUR" and machine.memory == 8 * 2**30 and machine.peak["float16"] == 2e12
    assert machine.rent is not None and machine.rent.amount == 2.0 and machine.price is None
    assert machine.source == NumberSource("a page", "2026-01-02", "vendor", "https://example.org")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("machine = [", "cannot be read as a table of machines"),
        (SOURCES, r"no \[\[machine\]\]"),
        (ROW, r"no \[sources\]"),
        (SOURCES + ROW.replace("bandwidth", "bandwith"), "Did you mean 'bandwidth'"),
        (SOURCES + ROW.replace("cores = 4\n", ""), "lacks cores"),
        (SOURCES + ROW.replace("cores = 4", "cores = 0.5"), "cores must be a whole number above 0, not 0.5"),
        (SOURCES + ROW.replace("8.0", "0"), "memory_gib must be a number above 0, not 0"),
        (SOURCES + ROW.replace("8.0", "nan"), "memory_gib must be a number above 0, not nan"),
        (SOURCES + ROW.replace("100.0", "true"), "bandwidth must be a number above 0, not True"),
        (SOURCES + ROW.replace("float32 = 1.0, ", ""), "peak is a table with float32"),
        (SOURCES + ROW.replace("float16", "fp16"), "unknown key 'fp16'"),
        (SOURCES + ROW.replace('"gpu"', '"tpu"'), "unknown kind 'tpu'"),
        (SOURCES + ROW.replace('"a page"', '"a book"'), "has no 'a book'"),
        (SOURCES.replace("vendor", "sure") + ROW, "unknown status 'sure'"),
        (SOURCES.replace("2026-01-02", "yesterday") + ROW, "'yesterday' is not a day"),
        (SOURCES.replace('"vendor", ', "") + ROW, "list of day, status and address"),
        (SOURCES + ROW + "rent = 2.0", "rent is a table such as"),
        (SOURCES + ROW + 'rent = { amount = -1, source = "a page" }', "amount must be a number above 0, not -1"),
        (SOURCES + ROW + "rent = { amount = 1 }", "rent lacks source"),
        (SOURCES + ROW + 'also = "y"', "also must be text"),
        (SOURCES + ROW + ROW, "have the same name or alias, 'x'"),
        ("price = 1\n" + SOURCES + ROW, "unknown key 'price'"),
    ],
)
def test_a_wrong_table_is_refused_with_file_and_entry(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refusal:
        read_machines(_table(tmp_path, text))
    assert "mine.toml" in str(refusal.value)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml"):
        read_machines(tmp_path / "none.toml")
