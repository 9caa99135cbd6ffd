"""The tool that says for which machines the index has wheels, by a lock file as uv writes them."""

from __future__ import annotations

import pytest

from nearfield.strict_toml import parse_toml
from tools.wheels import MACHINES, PYTHONS, Machine, find_gaps, render_table

LINUX, MAC = MACHINES
EVERY = tuple(".".join(map(str, python)) for python in PYTHONS)
_CPYTHON = "cp{0}-cp{0}"


def _package(name: str, *tags: str, marker: str = "") -> str:
    wheels = ", ".join(f'{{ url = "https://index.example/a1/{name}-1.0-{tag}.whl" }}' for tag in tags)
    condition = f'marker = "{marker}"\n' if marker else ""
    return f'[[packages]]\nname = "{name}"\nversion = "1.0"\n{condition}wheels = [{wheels}]\n'


def _each(platform: str) -> list[str]:
    return [f"{_CPYTHON.format(f'{major}{minor}')}-{platform}" for major, minor in PYTHONS]


def _missing(package: str, machine: Machine) -> tuple[str, ...]:
    gaps = find_gaps(parse_toml(package), machine)
    return gaps[0].pythons if gaps else ()


X86, ARM, APPLE = "manylinux_2_17_x86_64.manylinux2014_x86_64", "manylinux_2_28_aarch64", "macosx_11_0_arm64"


@pytest.mark.parametrize(
    ("package", "linux", "mac"),
    [
        (_package("pure", "py3-none-any"), (), ()),
        (_package("stable", f"cp39-abi3-{X86}", f"cp39-abi3-{ARM}", f"cp39-abi3-{APPLE}"), (), ()),
        (_package("native", *_each(X86), *_each(ARM)), (), EVERY),
        (_package("late", *_each(X86), *_each(ARM)[2:], *_each(APPLE)), ("3.11", "3.12"), ()),
        (_package("intel", f"py3-none-{X86}"), EVERY, EVERY),
        (_package("intel", f"py3-none-{X86}", marker="platform_machine == 'x86_64'"), (), ()),
        (_package("old", f"py3-none-{X86}", marker="python_full_version < '3.12'"), ("3.11",), ("3.11",)),
        (_package("new", f"py3-none-{X86}", "py3-none-manylinux_2_39_aarch64", f"py3-none-{APPLE}"), EVERY, ()),
        (_package("source"), (), ()),
    ],
)
def test_a_wheel_that_only_x86_has_is_a_gap(package: str, linux: tuple[str, ...], mac: tuple[str, ...]) -> None:
    assert (_missing(package, LINUX), _missing(package, MAC)) == (linux, mac)


def test_the_table_names_what_is_missing() -> None:
    lock = parse_toml(_package("pure", "py3-none-any") + _package("late", *_each(X86), *_each(ARM)[2:]))
    table = render_table([("core", 2, [find_gaps(lock, LINUX), find_gaps({"packages": []}, MAC)])])
    assert table.splitlines()[-1] == "| core | 2 | late 1.0 (3.11, 3.12) | all |"
