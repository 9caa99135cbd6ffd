"""Stored calibrations: a machine is measured once, and a file that is not of it, or is damaged, is never used."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nearfield import hardware
from nearfield.backends import Backend
from nearfield.errors import InputError, MachineBusy
from nearfield.evaluation.performance.environment import describe_environment
from nearfield.evaluation.planning.speed import stored_calibration
from nearfield.evaluation.planning.speed.calibration import Calibration, WidthTiming
from nearfield.evaluation.planning.speed.stored_calibration import (
    calibration_for_here,
    calibration_key,
    stored_calibrations,
)

MEASURED = Calibration(
    (WidthTiming(384, 1e-5, 1.2e-11, 6e-11, ((512.0, 0.5), (2048.0, 1.0))), WidthTiming(1024, 0.0, 1e-11, 5e-11)),
    4e-6,
    8.0,
    100 * 2**20,
    "float32",
    20.0,
    0.9,
    0.0,
)


class MeasuredMachine:
    """Counts measurements, and gives each another result."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.busy = False

    def calibrate(self, *, on_stage: Callable[[str], None] | None = None, **options: Any) -> Calibration:
        if self.busy:
            raise MachineBusy("This machine is too busy. Wait.")
        self.calls.append(options)
        if on_stage is not None:
            on_stage("width 384")
        return replace(MEASURED, table=len(self.calls) * 1e-6, measured_at=time.time())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder; returns that of calibrations in it."""
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path))
    return tmp_path / "calibration"


@pytest.fixture
def machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> MeasuredMachine:
    """A machine that is measured at once."""
    machine = MeasuredMachine()
    monkeypatch.setattr(stored_calibration, "calibrate", machine.calibrate)
    return machine


def test_a_machine_is_measured_once(machine: MeasuredMachine, folder: Path) -> None:
    stages: list[str] = []
    first = calibration_for_here({}, on_stage=stages.append)
    second = calibration_for_here({}, on_stage=stages.append)
    assert first == second and machine.calls == [{}] and stages == ["width 384"]
    (file,) = folder.iterdir()
    contents = json.loads(file.read_text(encoding="utf-8"))
    assert contents["key"] == calibration_key({}) and contents["calibration"]["precision"] == "float32"


def test_measuring_again_replaces_the_stored_calibration(machine: MeasuredMachine, folder: Path) -> None:
    calibration_for_here({})
    assert calibration_for_here({}, again=True).table == 2e-6
    assert calibration_for_here({}).table == 2e-6
    assert len([*folder.iterdir()]) == 1


@pytest.mark.parametrize("options", [{"precision": "float32"}, {"threads": 1}, {"streams": 1}, {"backend": "torch"}])
def test_other_options_are_measured_for_themselves(machine: MeasuredMachine, options: dict[str, Any]) -> None:
    plain = calibration_for_here({})
    other = calibration_for_here(options)
    assert machine.calls == [{}, options]
    assert (calibration_for_here({}), calibration_for_here(options)) == (plain, other)


def test_defaults_that_are_written_out_are_the_same_options(machine: MeasuredMachine) -> None:
    calibration_for_here({})
    calibration_for_here({"backend": "openvino", "precision": "auto", "threads": None})
    assert len(machine.calls) == 1


@pytest.mark.parametrize("name", ["core_allowance", "usable_cores"])
def test_other_cores_are_another_machine(machine: MeasuredMachine, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    calibration_for_here({})
    monkeypatch.setattr(hardware, name, lambda: 17)
    calibration_for_here({})
    assert len(machine.calls) == 2 and len(stored_calibrations()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"cpu": "Another CPU"},
        {"matrix units": ["amx_tile"]},
        {"memory": 7 * 2**30},
        {"system": "Plan 9"},
        {"versions": {"nearfield": "9.9"}},
    ],
)
def test_another_machine_or_version_is_measured(
    machine: MeasuredMachine, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    calibration_for_here({})
    monkeypatch.setattr(
        stored_calibration, "describe_environment", lambda packages: describe_environment(packages) | change
    )
    assert stored_calibrations() == []
    calibration_for_here({})
    assert len(machine.calls) == 2


def test_memory_that_differs_by_a_little_is_the_same_machine(
    machine: MeasuredMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (8 * 2**30, 8 * 2**30 - 5 * 2**20):
        monkeypatch.setattr(
            stored_calibration,
            "describe_environment",
            lambda packages, size=size: describe_environment(packages) | {"memory": size},
        )
        calibration_for_here({})
    assert len(machine.calls) == 1


@pytest.mark.parametrize("device", [{"name": "NVIDIA L40"}, {"driver": "590.2"}])
def test_another_gpu_or_driver_is_measured(
    machine: MeasuredMachine, monkeypatch: pytest.MonkeyPatch, device: dict[str, str]
) -> None:
    options = {"backend": "openvino", "device": "cuda"}
    for facts in ({"name": "NVIDIA L4", "driver": "580.1"}, {"name": "NVIDIA L4", "driver": "580.1"} | device):
        monkeypatch.setattr(Backend, "describe_device", lambda _, facts=facts: facts)
        assert calibration_key(options)["device"] == facts
        calibration_for_here(options)
        calibration_for_here(options)
    assert machine.calls == [options] * 2


def test_an_unknown_backend_is_named(machine: MeasuredMachine) -> None:
    with pytest.raises(InputError, match="Did you mean 'openvino'"):
        calibration_for_here({"backend": "openvno"})
    assert machine.calls == []


# -- damaged and foreign files --------------------------------------------------------------------------------------


def _changed(contents: str, **changes: Any) -> str:
    """Return a file's contents with other values of its calibration."""
    file = json.loads(contents)
    file["calibration"] |= changes
    return json.dumps(file)


_WIDTH = {"hidden": 384, "fixed": 1e-6, "weight": 1e-11, "meeting": 1e-11}
DAMAGE: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "cut": lambda contents: contents[: len(contents) // 2],
    "another type": lambda _: "[]",
    "deep": lambda _: "[" * 100_000,
    "no text": lambda _: "\x00\x01",
    "another format": lambda contents: contents.replace('"format":1', '"format":99'),
    "another key": lambda contents: contents.replace('"threads":', '"thread":'),
    "another machine": lambda contents: contents.replace('"cpu":"', '"cpu":"Another '),
    "no widths": lambda contents: _changed(contents, widths=[]),
    "a speed of nothing": lambda contents: _changed(contents, table=0.0),
    "a number that is none": lambda contents: _changed(contents, table=None),
    "a negative cost": lambda contents: _changed(contents, widths=[_WIDTH | {"fixed": -1.0}]),
    "attention without cost": lambda contents: _changed(contents, widths=[_WIDTH | {"meeting": 0.0}]),
    "no growth": lambda contents: _changed(contents, widths=[_WIDTH | {"growth": []}]),
    "growth out of order": lambda contents: _changed(contents, widths=[_WIDTH | {"growth": [[2048, 1], [512, 0.5]]}]),
    "widths out of order": lambda contents: _changed(contents, widths=[_WIDTH, _WIDTH]),
    "no time": lambda contents: _changed(contents, measured_at=None),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_or_foreign_file_is_measured_and_written_again(
    machine: MeasuredMachine, folder: Path, damage: Callable[[str], str]
) -> None:
    calibration_for_here({})
    (file,) = folder.iterdir()
    contents = file.read_text(encoding="utf-8")
    damaged = damage(contents)
    assert damaged != contents
    file.write_text(damaged, encoding="utf-8")
    assert stored_calibrations() == []
    assert calibration_for_here({}).table == 2e-6
    assert calibration_for_here({}).table == 2e-6 and [*folder.iterdir()] == [file]


def test_a_folder_in_place_of_the_file_costs_the_storage_only(
    machine: MeasuredMachine, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calibration_for_here({})
    (file,) = folder.iterdir()
    file.unlink()
    file.mkdir()
    with caplog.at_level(logging.WARNING, "nearfield"):
        assert calibration_for_here({}).table == 2e-6
    assert "NEARFIELD_CACHE" in caplog.text and [*folder.iterdir()] == [file]


def test_a_cache_that_is_no_folder_costs_the_storage_only(
    machine: MeasuredMachine, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write_text("a file", encoding="utf-8")
    assert calibration_for_here({}).table == 1e-6 and stored_calibrations() == []
    assert "cannot be stored" in caplog.text


# -- busy machines --------------------------------------------------------------------------------------------------


def test_on_a_busy_machine_the_stored_calibration_serves(machine: MeasuredMachine) -> None:
    machine.busy = True
    with pytest.raises(MachineBusy, match=r'Wait. Or describe a machine that is not measured \(--on "8 vCPU"\).'):
        calibration_for_here({})
    machine.busy = False
    stored = calibration_for_here({})
    machine.busy = True
    assert calibration_for_here({}) == stored
    with pytest.raises(MachineBusy, match=r"the stored calibration, measured just now \(without --measure-again\)"):
        calibration_for_here({}, again=True)
    assert calibration_for_here({}) == stored


def test_stored_calibrations_are_listed_by_age(machine: MeasuredMachine, folder: Path) -> None:
    assert stored_calibrations() == []
    for options in ({}, {"precision": "float32"}, {"backend": "torch"}):
        calibration_for_here(options)
    listed = stored_calibrations()
    assert [row.options["backend"] for row in listed] == ["torch", "openvino", "openvino"]
    assert [row.options["precision"] for row in listed] == ["auto", "float32", "auto"]
    assert listed[0].calibration.age == "just now"


def test_the_device_of_a_stored_calibration_is_named(machine: MeasuredMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    calibration_for_here({"threads": 1})
    assert [row.device for row in stored_calibrations()] == ["CPU, threads 1"]
    options = {"backend": "torch", "device": "cuda"}
    monkeypatch.setattr("nearfield.backends.torch.TorchBackend.describe_device", lambda _: {"name": "NVIDIA L4"})
    calibration_for_here(options)
    assert stored_calibrations()[0].device == "NVIDIA L4"
