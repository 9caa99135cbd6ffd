"""Show for which machines the index has wheels of all dependencies, for the core and for each extra.

``python -m tools.wheels [EXTRA ...]`` lets uv (``pip install uv``) resolve what CI installs, for all platforms at once,
and reads which wheels the index has of each version. Nothing is installed. The exit status is 1 if the core lacks a
wheel.

A package that has a source distribution alone is built by pip on every machine: what has no wheel for x86-64 Linux
either is no gap.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import parse_wheel_filename

from nearfield.strict_toml import parse_toml

ROOT = Path(__file__).resolve().parents[1]
#: Some dependencies need a late release of the oldest Python.
_OLDEST = "3.11.9"
PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))
#: The C library of Debian 12, which the container has: wheels for it and for older ones can be installed.
_GLIBC = 36
_CORE = "core"


@dataclass(frozen=True, eq=False)
class Machine:
    """A kind of machine: its name here, and what markers and the names of wheels call it."""

    name: str
    markers: Mapping[str, str]
    platforms: tuple[str, ...]


def _linux(architecture: str) -> Machine:
    platforms = [f"manylinux_2_{minor}_{architecture}" for minor in range(_GLIBC, 16, -1)]
    markers = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    return Machine(
        f"Linux {architecture}",
        {**markers, "platform_machine": architecture},
        (*platforms, f"manylinux2014_{architecture}", f"linux_{architecture}"),
    )


_MAC = {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"}
_USUAL = _linux("x86_64")
MACHINES = (_linux("aarch64"), Machine("macOS arm64", _MAC, tuple(mac_platforms((15, 0), "arm64"))))


@dataclass(frozen=True)
class Gap:
    """A version of a package without a wheel for some Pythons on a machine."""

    package: str
    machine: str
    pythons: tuple[str, ...]

    def to_text(self) -> str:
        """Return it in words."""
        return f"{self.package} ({', '.join(self.pythons)})"


def resolve(extra: str | None) -> dict[str, Any]:
    """Return the lock file (PEP 751) of the core or of an extra, with the wheels that the index has.

    Raises:
        SystemExit: uv is not installed, or cannot resolve the dependencies.
    """
    command = [
        "uv",
        "--no-python-downloads",
        "pip",
        "compile",
        "pyproject.toml",
        "-c",
        "constraints.txt",
        "--no-header",
    ]
    command += ["--universal", "--python-version", _OLDEST, "--format", "pylock.toml"]
    command += ["--extra", extra] if extra else []
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        sys.exit("uv was not found: install it (pip install uv).")
    if done.returncode:
        sys.exit(f"uv could not resolve {extra or _CORE}:\n{done.stderr}")
    return parse_toml(done.stdout)


def find_gaps(lock: Mapping[str, Any], machine: Machine) -> list[Gap]:
    """Return what of a lock file has no wheel for a machine, of packages that have one for x86-64 Linux."""
    return [gap for package in lock["packages"] if (gap := _gap(package, machine)).pythons]


def _gap(package: Mapping[str, Any], machine: Machine) -> Gap:
    missing = [
        ".".join(map(str, python))
        for python in PYTHONS
        if _is_needed(package, machine, python) and not _has_wheel(package, machine, python)
    ]
    return Gap(f"{package['name']} {package.get('version', '')}".strip(), machine.name, tuple(missing))


def _is_needed(package: Mapping[str, Any], machine: Machine, python: tuple[int, int]) -> bool:
    marker = package.get("marker")
    version = ".".join(map(str, python))
    facts = {**machine.markers, "python_version": version, "python_full_version": f"{version}.0"}
    facts |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    return marker is None or Marker(marker).evaluate(facts)


def _has_wheel(package: Mapping[str, Any], machine: Machine, python: tuple[int, int]) -> bool:
    """Return whether a wheel fits; True as well if none fits x86-64 either, and pip builds it."""
    tags = [parse_wheel_filename(name)[3] for name in _wheel_names(package)]
    fits = any(tag & _tags(machine, python) for tag in tags)
    return fits or not any(tag & _tags(_USUAL, python) for tag in tags)


def _wheel_names(package: Mapping[str, Any]) -> Iterator[str]:
    for wheel in package.get("wheels", ()):
        yield wheel.get("name") or wheel["url"].rpartition("/")[2].partition("#")[0].replace("%2B", "+")


@functools.cache
def _tags(machine: Machine, python: tuple[int, int]) -> frozenset[Tag]:
    interpreter = f"cp{python[0]}{python[1]}"
    own = cpython_tags(python, platforms=machine.platforms)
    return frozenset((*own, *compatible_tags(python, interpreter, machine.platforms)))


def render_table(rows: Iterable[tuple[str, int, list[list[Gap]]]]) -> str:
    """Return a table of the core and the extras, with the gaps of each machine."""
    head = ["extra", "packages", *(machine.name for machine in MACHINES)]
    lines = [head, ["---"] * len(head)]
    for extra, count, gaps in rows:
        lines.append([extra, str(count), *(", ".join(gap.to_text() for gap in several) or "all" for several in gaps)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _extras() -> list[str]:
    project = parse_toml((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["optional-dependencies"])


def main() -> None:
    """Print the table."""
    known = _extras()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help=f"of {', '.join(known)} [all]")
    extras = parser.parse_args().extras or known
    if unknown := set(extras) - set(known):
        parser.error(f"unknown extras: {', '.join(sorted(unknown))}")
    rows = []
    for extra in (None, *extras):
        lock = resolve(extra)
        rows.append((extra or _CORE, len(lock["packages"]), [find_gaps(lock, machine) for machine in MACHINES]))
    print(render_table(rows))
    sys.exit(any(rows[0][2]))


if __name__ == "__main__":
    main()
