"""Describe the machine of a measurement: CPU, cores, memory, matrix units and package versions."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from nearfield import hardware
from nearfield.evaluation.json_types import JsonDict
from nearfield.units import format_bytes

PACKAGES = ("nearfield", "openvino", "torch", "tokenizers", "numpy")
#: How the names of flags begin; the second line is Arm's.
_UNITS = ("amx", "avx512_bf16", "avx512_vnni", "asimdhp", "asimddp", "bf16", "i8mm", "sve")


def describe_environment(packages: Sequence[str] = PACKAGES) -> JsonDict:
    """Return CPU, cores, memory in bytes, matrix units, what precision "auto" means, versions and the date."""
    return {
        "cpu": hardware.cpu_name(),
        "cores": hardware.usable_cores(),
        "memory": memory(),
        "matrix units": sorted(flag for flag in hardware.cpu_flags() if flag.startswith(_UNITS)),
        "precision": hardware.auto_precision(),
        "system": platform.system(),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        "versions": {name: _version(name) for name in packages},
    }


def summary_line(facts: JsonDict) -> str:
    """Return a description of the environment in one line."""
    size = f", {format_bytes(facts['memory'])}" if facts["memory"] else ""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items() if number != "not installed")
    cores = f"{facts['cores']} core{'s' if facts['cores'] > 1 else ''}"
    return f"{facts['cpu']}, {cores}{size}, {facts['system']}, Python {facts['python']}, {versions}"


def memory() -> int | None:
    """Return the bytes of memory of this machine; None: unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
