"""Stored calibrations: the measurements of this machine, on disk in the cache folder, one file per configuration.

A file is named by a hash of its key: machine (CPU, cores, memory, GPU and driver), options of ``Encoder``,
versions and the format. The key is also in the file, and a file with another key, such as one copied from another
machine, or a damaged file is ignored and written again. msgspec, which the settings of collections use as well, checks
the types.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from nearfield import backends, hardware
from nearfield.errors import MachineBusy
from nearfield.evaluation.json_types import JsonDict
from nearfield.evaluation.performance.environment import describe_environment
from nearfield.evaluation.planning.speed.calibration import Calibration, calibrate
from nearfield.evaluation.planning.speed.token_costs import WidthTiming
from nearfield.fileio.atomic import write_atomic
from nearfield.settings import cache_dir

#: Version of the files and of the method: older measurements are repeated.
FORMAT = 1
#: Packages that decide the speed of each backend; of a backend that is not listed, all.
_RUNTIMES = {"openvino": ("openvino",), "torch": ("torch",), "transformers": ("torch", "transformers")}
_PACKAGES = ("nearfield", "tokenizers")
_DEFAULTS = {"backend": "openvino", "device": "auto", "precision": "auto", "streams": None, "threads": None}
#: Options that show in the device and the precision of a calibration.
_NAMED = ("backend", "device", "precision")
_LOG = logging.getLogger("nearfield")


class CalibrationFile(msgspec.Struct, frozen=True):
    """The contents of a file: a measurement, and the configuration that it is of."""

    format: int
    key: dict[str, Any]
    calibration: Calibration


@dataclass(frozen=True)
class StoredCalibration:
    """A measurement of this machine, with the options of ``Encoder``, and what computed: ``CPU`` or a GPU's name."""

    options: dict[str, Any]
    device: str
    calibration: Calibration


def calibration_for_here(
    options: Mapping[str, Any], *, again: bool = False, on_stage: Callable[[str], None] | None = None
) -> Calibration:
    """Return the stored calibration of this machine; measure and store it if there is none.

    Args:
        options: those of ``Encoder``: backend, device, precision, threads, streams.
        again: measure even if there is a stored calibration, and replace it.
        on_stage: called with a description of each step of a measurement; not called if the stored one is used.

    Raises:
        MachineBusy: a measurement is necessary, and other work takes more than half of the cores. A stored calibration
            remains.
    """
    key = calibration_key(options)
    path, stored = _path(key), read_calibration(key)
    if stored is not None and not again:
        return stored
    try:
        measured = calibrate(on_stage=on_stage, **options)
    except MachineBusy as error:
        raise MachineBusy(f"{error} {_way_out(stored)}") from None
    _write(path, CalibrationFile(FORMAT, key, measured))
    return measured


def calibration_key(options: Mapping[str, Any]) -> JsonDict:
    """Return what a calibration depends on, as JSON data: machine, device, options and versions.

    Raises:
        InputError: there is no such backend, or the device cannot be used.
        MissingExtra: the backend needs a package that is not installed.
    """
    options = {**_DEFAULTS, **options}
    runtimes = _RUNTIMES.get(options["backend"], tuple(sorted({name for row in _RUNTIMES.values() for name in row})))
    versions = describe_environment((*_PACKAGES, *runtimes))["versions"]
    device = backends.REGISTRY.load(options["backend"]).describe_device(options["device"])
    key = {"machine": _machine(), "device": device, "options": options, "versions": versions}
    normal: JsonDict = json.loads(json.dumps(key, default=str))
    return normal


def read_calibration(key: JsonDict) -> Calibration | None:
    """Return the stored calibration of a key; None: there is none, or its file is damaged or of another machine."""
    file = _read(_path(key))
    return file.calibration if file is not None and file.key == key else None


def stored_calibrations() -> list[StoredCalibration]:
    """Return all usable calibrations of this CPU and these versions, the latest first.

    Those of a GPU are included whatever the GPU is, because importing torch takes seconds.
    """
    usable = [file for file in _read_all() if _fits(file.key)]
    ordered = sorted(usable, key=lambda file: file.calibration.age_seconds or 0.0)
    return [StoredCalibration(file.key["options"], _device_name(file.key), file.calibration) for file in ordered]


def _device_name(key: JsonDict) -> str:
    """Return the name of the device, and options such as threads that were chosen."""
    name = key["device"].get("name", "cpu")
    chosen = [f"{name} {value}" for name, value in key["options"].items() if name not in _NAMED and value is not None]
    return ", ".join(["CPU" if name == "cpu" else str(name), *chosen])


def _fits(key: JsonDict) -> bool:
    """Return whether a key is of this machine and of the versions that are installed."""
    options = key.get("options")
    if not (isinstance(options, dict) and {*_DEFAULTS} <= {*options} and isinstance(key.get("device"), dict)):
        return False
    here = calibration_key({**options, "backend": "openvino"})
    if options["backend"] == "openvino":
        return key == here
    versions = describe_environment(tuple(key.get("versions", ())))["versions"]
    return key.get("machine") == here["machine"] and key.get("versions") == versions


def _machine() -> JsonDict:
    """Describe the CPU, the cores that this process may use, and the memory in GiB: kernels differ by some MiB."""
    facts = describe_environment(())
    memory = facts["memory"]
    return {
        "system": f"{facts['system']} {platform.machine()}",
        "cpu": facts["cpu"],
        "matrix units": facts["matrix units"],
        "cores": hardware.core_allowance(),
        "threads": hardware.usable_cores(),
        "memory": None if memory is None else round(memory / 2**30),
    }


def _folder() -> Path:
    return cache_dir() / "calibration"


def _path(key: JsonDict) -> Path:
    text = json.dumps([FORMAT, key], sort_keys=True)
    return _folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _read_all() -> Iterator[CalibrationFile]:
    try:
        paths = sorted(_folder().glob("*.json"))
    except OSError:
        return
    yield from (file for path in paths if (file := _read(path)) is not None)


def _read(path: Path) -> CalibrationFile | None:
    """Return a file's contents; None: it is not there, cannot be read, or holds no calibration of this format."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=CalibrationFile)
    except (OSError, ValueError, RecursionError):
        return None
    return file if file.format == FORMAT and _is_plausible(file.calibration) else None


def _is_plausible(calibration: Calibration) -> bool:
    """Return whether each number is one that a measurement can have."""
    positive = (calibration.table, calibration.bytes_per_parameter, calibration.base_bytes)
    return (
        _ascend(width.hidden for width in calibration.widths)
        and all(map(_is_plausible_width, calibration.widths))
        and all(0 < value < math.inf for value in positive)
        and calibration.measured_at is not None
    )


def _is_plausible_width(width: WidthTiming) -> bool:
    positive = (width.weight, width.meeting, *(factor for _, factor in width.growth))
    return (
        _ascend(tokens for tokens, _ in width.growth)
        and 0 <= width.fixed < math.inf
        and all(0 < value < math.inf for value in positive)
    )


def _ascend(values: Iterable[float]) -> bool:
    """Return whether there are values, all of them positive and in order."""
    row = [*values]
    return bool(row) and row[0] > 0 and row == sorted(set(row))


def _write(path: Path, file: CalibrationFile) -> None:
    """Write a file in one step; a folder that cannot be written costs a measurement at the next call only."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, msgspec.json.encode(file), shared=True)
    except OSError as error:
        _LOG.warning(
            "The calibration of this machine cannot be stored in %s (%s): it will be measured again. Set "
            "NEARFIELD_CACHE to a folder that can be written.",
            path.parent,
            error.strerror or error,
        )


def _way_out(stored: Calibration | None) -> str:
    """Return what to do on a busy machine."""
    elsewhere = 'describe a machine that is not measured (--on "8 vCPU")'
    if stored is None:
        return f"Or {elsewhere}."
    return f"Or use the stored calibration, measured {stored.age} (without --measure-again), or {elsewhere}."
