"""Hardware: quotas and cores as Linux reports them, read from a prepared tree."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nearfield import hardware
from nearfield.hardware import CpuPlan

Write = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """An empty machine of eight CPUs to run on; returns what writes a file of it."""
    for name in ("_CGROUP", "_OWN_CGROUP", "_CPUS", "_CPU_INFO"):
        monkeypatch.setattr(hardware, name, tmp_path / name)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def put(path: str, text: str) -> None:
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")

    return put


def test_without_any_limit_affinity_counts() -> None:
    assert hardware.usable_cores() == 8
    assert hardware.cpu_flags() == frozenset()


def test_where_there_is_no_affinity_cpus_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert hardware.usable_cores() == 3


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("9900000 100000", 8),
        ("", 8),
    ],
)
def test_the_quota_of_cgroup_v2(write: Write, text: str, cores: int) -> None:
    write("_CGROUP/cpu.max", text)
    assert hardware.usable_cores() == cores


@pytest.mark.parametrize("limited", ["", "/pod", "/pod/container", "/pod/container/own"])
def test_every_group_above_ours_binds_us(write: Write, limited: str) -> None:
    write("_OWN_CGROUP", "0::/pod/container/own\n")
    for folder in ("", "/pod", "/pod/container", "/pod/container/own"):
        write(f"_CGROUP{folder}/cpu.max", "300000 100000" if folder == limited else "max 100000")
    assert hardware.usable_cores() == 3


def test_other_groups_do_not_bind_us(write: Write) -> None:
    write("_OWN_CGROUP", "0::/../../ours\n")
    write("cpu.max", "100000 100000")
    write("_CGROUP/other/cpu.max", "100000 100000")
    assert hardware.usable_cores() == 8


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("250000", 3), ("100000", 1)])
@pytest.mark.parametrize("place", ["", "/box"])
def test_the_quota_of_cgroup_v1(write: Write, quota: str, cores: int, place: str) -> None:
    write("_OWN_CGROUP", "9:name=systemd:/\n4:memory:/elsewhere\n2:cpu,cpuacct:/box\n0::/\n")
    write(f"_CGROUP/cpu{place}/cpu.cfs_quota_us", quota + "\n")
    write(f"_CGROUP/cpu{place}/cpu.cfs_period_us", "100000\n")
    assert hardware.usable_cores() == cores


def test_two_threads_of_a_core_count_once(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        write(f"_CPUS/cpu{number}/topology/core_id", str(number % 2))
        write(f"_CPUS/cpu{number}/topology/physical_package_id", str(number // 4))
    write("_CPUS/cpufreq/boost", "1")
    assert hardware.usable_cores() == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 4})
    assert hardware.usable_cores() == 2


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("flags\t\t: fpu avx2 amx_bf16\n", True),
        ("processor: 0\nflags\t: avx512_bf16\n", True),
        ("Features\t: asimd bf16\n", True),
        ("flags\t: avx2 avx512f\n", False),
        ("vmx flags\t: amx_bf16\n", False),
    ],
)
def test_bf16_is_a_flag_of_the_cpu(write: Write, text: str, has: bool) -> None:
    write("_CPU_INFO", text)
    assert hardware.has_bf16() is has


@pytest.mark.parametrize(
    ("cores", "plan"),
    [
        (1, CpuPlan(1, 1)),
        (2, CpuPlan(2, 2)),
        (4, CpuPlan(4, 4)),
        (5, CpuPlan(2, 5)),
        (16, CpuPlan(8, 16)),
        (17, CpuPlan(4, 17)),
        (64, CpuPlan(16, 64)),
    ],
)
def test_cores_are_split_into_streams(cores: int, plan: CpuPlan) -> None:
    assert hardware.plan_cpu(cores) == plan


def test_what_is_asked_for_wins() -> None:
    assert hardware.plan_cpu() == CpuPlan(4, 8)
    assert hardware.plan_cpu(streams=3) == CpuPlan(3, 8)
    assert hardware.plan_cpu(6, 2) == CpuPlan(2, 6)


def test_the_machine_at_hand_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 1 <= hardware.usable_cores() <= (os.cpu_count() or 1)
    assert hardware.plan_cpu().streams >= 1
