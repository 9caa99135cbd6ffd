"""Names of devices: sets of CPUs and GPUs, and every reason why some cannot be used together."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nearfield import hardware, settings
from nearfield.devices import check_backend, count_copies, format_cpus, parse_devices, plan_devices
from nearfield.errors import InputError, SettingsError
from nearfield.hardware import CpuPlan


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Linux machine of 16 CPUs, of which this process may use all but the last two; returns the root of its files."""
    for name in ("_CGROUP", "_OWN_CGROUP", "_CPUS", "_NODES", "_GPUS"):
        monkeypatch.setattr(hardware, name, tmp_path / name)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(14)), raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    return tmp_path


def _names(value: str | list[str]) -> list[str]:
    return [device.name for device in parse_devices(value)]


def test_sets_of_cpus_are_ranges_with_plus_signs_between_them() -> None:
    first, second = parse_devices(" CPU:0-3+8-9, cpu:5 ")
    assert (first.name, first.kind, sorted(first.cpus)) == ("cpu:0-3+8-9", "cpu", [0, 1, 2, 3, 8, 9])
    assert (second.name, second.cpus) == ("cpu:5", frozenset({5}))
    assert format_cpus(first.cpus) == "0-3+8-9"


def test_gpus_and_single_devices_have_the_names_of_torch() -> None:
    assert _names(["cuda:0", "cuda:1"]) == ["cuda:0", "cuda:1"]
    assert _names("cuda") == ["cuda:0"]
    assert _names("cpu") == ["cpu"]
    assert _names("mps") == ["mps"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "devices is empty"),
        (" , ", "devices is empty"),
        ([], "devices is empty"),
        (7, "must be a list of texts such as cpu:0-15"),
        ([0, 1], "must be a list of texts such as cpu:0-15"),
        ("gpu:0", "Unknown device 'gpu:0'. A GPU of NVIDIA or AMD is 'cuda'"),
        ("cuda:0,", "Unknown device ''"),
        ("cuda:one", "Unknown device 'cuda:one'"),
        ("cpu:", "'cpu:' is no set of CPUs: write cpu:0-15"),
        ("cpu:3-1", "'cpu:3-1' is no set of CPUs"),
        ("cpu:0-999999999999", "is no set of CPUs"),
        ("cpu:0-3;4", "is no set of CPUs"),
        ("cpu:0-15", r"may not use \(14-15\): it may use 0-13 \(by the machine, its affinity and its cgroup\)"),
        ("cpu:0-3,cpu:3-5", "cpu:0-3 and cpu:3-5 both have CPU 3: each CPU is for one replica"),
        ("cpu:0,cpu:0", "devices has cpu:0 twice"),
        ("cuda,cuda:0", "devices has cuda:0 twice"),
        ("cpu:0,cuda:0", "devices mixes cpu and cuda"),
        ("mps,mps:1", "There is one device of type mps"),
        ("cpu,cpu:1", "'cpu' is all CPUs, and overlaps the others"),
    ],
)
def test_devices_that_cannot_be_used_are_refused_with_the_reason(value: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as refused:
        parse_devices(value)
    assert refused.value.param == "devices"


def test_sets_need_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InputError, match="cpu:0: sets of CPUs need Linux"):
        parse_devices("cpu:0")
    assert _names("mps") == ["mps"]


def test_sets_larger_than_the_quota_of_the_cgroup_are_refused(machine: Path) -> None:
    (machine / "_CGROUP").mkdir()
    (machine / "_CGROUP" / "cpu.max").write_text("350000 100000")
    assert len(parse_devices("cpu:0-1,cpu:2-3")) == 2
    with pytest.raises(InputError, match="devices has 5 cores, but this process may use the time of 4"):
        parse_devices("cpu:0-1,cpu:2-4")
    assert len(parse_devices("cuda:0,cuda:1")) == 2


def test_each_set_is_planned_by_its_own_cores(machine: Path) -> None:
    for cpu in range(14):
        folder = machine / "_CPUS" / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 7},{cpu % 7 + 7}")
    assert plan_devices(parse_devices("cpu:0-5,cpu:6+13")) == (CpuPlan(3, 6), CpuPlan(1, 1))
    assert plan_devices(parse_devices("cpu:0-5,cpu:6"), streams=2) == (CpuPlan(2, 6), CpuPlan(2, 1))
    assert plan_devices(()) == (CpuPlan(3, 7),)
    with pytest.raises(InputError, match="threads and sets of CPUs exclude each other"):
        plan_devices(parse_devices("cpu:0-5"), threads=4)


def test_gpus_share_the_lanes_of_the_host() -> None:
    assert plan_devices(parse_devices("cuda:0,cuda:1"), threads=4) == (CpuPlan(2, 4),) * 2
    assert plan_devices(parse_devices("cuda:0,cuda:1,cuda:2"), threads=1) == (CpuPlan(1, 1),) * 3
    assert plan_devices(parse_devices("cuda:0,cuda:1"), streams=3) == (CpuPlan(3, 14),) * 2


def test_only_backends_of_torch_run_on_gpus() -> None:
    check_backend(parse_devices("cuda:0"), "torch")
    check_backend(parse_devices("cpu:0"), "openvino")
    with pytest.raises(InputError, match="'openvino' runs on CPUs alone, not on cuda:1: set backend to 'torch'"):
        check_backend(parse_devices("cuda:1"), "openvino")


def test_the_host_has_a_copy_of_the_weights_for_each_set() -> None:
    assert [count_copies(names) for names in (("cpu:0", "cpu:1"), ("cuda:0", "cuda:1"), ("cpu",), ())] == [2, 1, 1, 1]


def test_the_setting_is_a_flag_a_variable_and_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings.load().devices is None
    (tmp_path / "nearfield.toml").write_text('devices = ["cpu:0-3", "cpu:4-7"]')
    assert settings.load().devices == ("cpu:0-3", "cpu:4-7")
    monkeypatch.setenv("NEARFIELD_DEVICES", "cuda:0,cuda:1")
    assert settings.load().devices == ("cuda:0", "cuda:1")
    assert settings.load(devices="cpu:1").devices == ("cpu:1",)
    for value, reason in (("cpu:0-99", "may not use"), ("", "devices is empty")):
        with pytest.raises(SettingsError, match=rf"Setting 'devices' \(flag --devices\) cannot be .*{reason}"):
            settings.load(devices=value)


def test_nodes_and_gpus_are_read_from_the_system(machine: Path) -> None:
    assert hardware.numa_nodes() == [set(range(14))]
    for node, cpus in enumerate((range(8), range(8, 16))):
        for cpu in cpus:
            (machine / "_NODES" / f"node{node}" / f"cpu{cpu}").mkdir(parents=True)
    assert hardware.numa_nodes() == [set(range(8)), set(range(8, 14))]
    assert hardware.gpu_names() == []
    for place in ("0000:01:00.0", "0000:02:00.0"):
        (machine / "_GPUS" / place).mkdir(parents=True)
        (machine / "_GPUS" / place / "information").write_text("Model: \t\t NVIDIA L4\nIRQ:   \t\t 5\n")
    assert hardware.gpu_names() == ["NVIDIA L4", "NVIDIA L4"]
