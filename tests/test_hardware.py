"""Hardware: quotas and cores as Linux reports them, read from a prepared tree."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nearfield import hardware
from nearfield.hardware import CpuPlan, MemoryLimit
from tests.support.mapped_file import needs_smaps, resident_bytes

Write = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """An empty x86 machine of eight CPUs to run on; returns what writes a file of it."""
    for name in ("_CGROUP", "_OWN_CGROUP", "_CPUS", "_CPU_INFO", "_MEMORY_INFO"):
        monkeypatch.setattr(hardware, name, tmp_path / name)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")

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


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", 8.0), ("150000 100000", 1.5), ("10000 100000", 0.1), ("9900000 100000", 8.0)]
)
def test_an_allowance_of_cpu_time_is_exact(write: Write, text: str, cores: float) -> None:
    write("_CGROUP/cpu.max", text)
    assert hardware.core_allowance() == cores


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


MACHINE = "MemTotal:       8192 kB\nMemFree:         512 kB\nMemAvailable:   6144 kB\nSwapFree:       1024 kB\n"


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, MemoryLimit(8192 * 1024, 7168 * 1024, "machine")),
        (
            {"_CGROUP/memory.max": "4000000", "_CGROUP/memory.current": "1000000"},
            MemoryLimit(4_000_000, 3_000_000, "cgroup"),
        ),
        (
            {
                "_CGROUP/pod/memory.max": "max\n",
                "_CGROUP/pod/memory.current": "1500000",
                "_CGROUP/memory.max": "2000000\n",
                "_CGROUP/memory.current": "1900000\n",
                "_CGROUP/memory.stat": "anon 1000\nactive_file 200000\ninactive_file 400000\n",
            },
            MemoryLimit(2_000_000, 700_000, "cgroup"),
        ),
        (
            {
                "_CGROUP/memory/box/memory.limit_in_bytes": "3000000\n",
                "_CGROUP/memory/box/memory.usage_in_bytes": "3500000\n",
                "_CGROUP/memory/box/memory.stat": "cache 7\ntotal_inactive_file 300000\ntotal_active_file 300000\n",
            },
            MemoryLimit(3_000_000, 100_000, "cgroup"),
        ),
        (
            {
                "_CGROUP/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "_CGROUP/memory/memory.usage_in_bytes": "5\n",
            },
            MemoryLimit(8192 * 1024, 7168 * 1024, "machine"),
        ),
    ],
    ids=["machine", "v2", "v2 above", "v1", "v1 without a limit"],
)
def test_the_tightest_limit_of_memory_counts(write: Write, files: dict[str, str], limit: MemoryLimit) -> None:
    write("_MEMORY_INFO", MACHINE)
    write("_OWN_CGROUP", "4:memory:/box\n0::/pod\n")
    for path, text in files.items():
        write(path, text)
    assert hardware.memory_limit() == limit


def test_an_address_space_that_is_limited_counts(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10**15, 10**15))
    limit = hardware.memory_limit()
    assert limit is not None and limit.cause == "ulimit -v"
    assert 0 < limit.available < limit.bytes == 10**15


def test_two_threads_of_a_core_count_once(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        first = number // 4 * 4 + number % 2
        write(f"_CPUS/cpu{number}/topology/thread_siblings_list", f"{first},{first + 2}\n")
    write("_CPUS/cpufreq/boost", "1")
    assert hardware.usable_cores() == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 4})
    assert hardware.usable_cores() == 2


def test_cores_of_several_clusters_count_each(write: Write) -> None:
    for number in range(8):
        write(f"_CPUS/cpu{number}/topology/physical_package_id", "0")
        write(f"_CPUS/cpu{number}/topology/core_id", str(number % 4))  # of its cluster
        write(f"_CPUS/cpu{number}/topology/thread_siblings_list", str(number))
    assert hardware.usable_cores() == 8


@pytest.mark.parametrize(
    ("text", "machine", "has"),
    [
        ("flags\t\t: fpu avx2 amx_bf16\n", "x86_64", True),
        ("processor: 0\nflags\t: avx512_bf16\n", "x86_64", True),
        ("flags\t: avx2 avx512f\n", "x86_64", False),
        ("vmx flags\t: amx_bf16\n", "x86_64", False),
        ("Features\t: asimd bf16\n", "aarch64", True),
        ("Features\t: asimd\n", "aarch64", False),
        ("flags\t\t: fpu avx2 avx512_bf16\n", "aarch64", False),  # of the machine that emulates Arm
    ],
)
def test_bf16_is_a_flag_of_the_cpu(
    write: Write, text: str, machine: str, has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    write("_CPU_INFO", text)
    assert hardware.has_bf16() is has
    assert (hardware.auto_precision() == "bf16") is (has and machine == "x86_64")


_ARM_CPU = "processor\t: {}\nCPU implementer\t: {}\nCPU architecture: 8\nCPU part\t: {}\nCPU revision\t: 1\n\n"


@pytest.mark.parametrize(
    ("cpus", "name"),
    [
        ([("0x41", "0xd0c")] * 4, "Arm Neoverse-N1"),
        ([("0x41", "0xd05")] * 4 + [("0x41", "0xd0b")] * 4, "Arm Cortex-A55 + Arm Cortex-A76"),
        ([("0x7f", "0x123")], "Arm CPU 0x7f 0x123"),
    ],
    ids=["server", "two kinds of cores", "unknown"],
)
def test_an_arm_cpu_is_named_by_its_cores(write: Write, cpus: list[tuple[str, str]], name: str) -> None:
    write("_CPU_INFO", "".join(_ARM_CPU.format(number, *cpu) for number, cpu in enumerate(cpus)))
    assert hardware.cpu_name() == name


def test_another_cpu_has_the_name_that_the_system_states(write: Write) -> None:
    write("_CPU_INFO", "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n")
    assert hardware.cpu_name() == "AMD EPYC"


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


@needs_smaps
def test_pages_of_a_mapped_array_are_released_and_mapped_again(tmp_path: Path) -> None:
    place = tmp_path / "weights.bin"
    np.arange(2**20, dtype=np.float32).tofile(place)
    part = np.asarray(np.memmap(place, np.float32, "r"))[1:].reshape(-1, 5)
    assert part.sum() > 0
    assert resident_bytes(place) > 2**21
    hardware.release_pages(part)
    assert resident_bytes(place) == 0
    assert part[0].tolist() == [1, 2, 3, 4, 5]


def test_an_array_that_no_file_has_stays_as_it_is() -> None:
    array = np.ones(3)
    hardware.release_pages(array[1:])
    assert array.tolist() == [1, 1, 1]
