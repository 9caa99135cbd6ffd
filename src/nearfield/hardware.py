"""What this machine offers: cores that may be used, how to split them, and which matrix types the CPU has."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import platform
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_CGROUP = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_CPUS = Path("/sys/devices/system/cpu")
_CPU_INFO = Path("/proc/cpuinfo")
_PROCESSES = Path("/proc")
_NODES = Path("/sys/devices/system/node")
_GPUS = Path("/proc/driver/nvidia/gpus")
_MEMORY_INFO = Path("/proc/meminfo")
_ARM_MACHINES = frozenset({"aarch64", "arm64"})
#: Linux names no model of an Arm CPU, only numbers: who designed it ("CPU implementer") and which core ("CPU part").
_ARM_CORES = {
    ("0x41", "0xd03"): "Arm Cortex-A53",
    ("0x41", "0xd05"): "Arm Cortex-A55",
    ("0x41", "0xd07"): "Arm Cortex-A57",
    ("0x41", "0xd08"): "Arm Cortex-A72",
    ("0x41", "0xd0b"): "Arm Cortex-A76",
    ("0x41", "0xd0c"): "Arm Neoverse-N1",
    ("0x41", "0xd40"): "Arm Neoverse-V1",
    ("0x41", "0xd41"): "Arm Cortex-A78",
    ("0x41", "0xd42"): "Arm Cortex-A78AE",
    ("0x41", "0xd49"): "Arm Neoverse-N2",
    ("0x41", "0xd4f"): "Arm Neoverse-V2",
    ("0x41", "0xd81"): "Arm Cortex-A720",
    ("0x41", "0xd84"): "Arm Neoverse-V3",
    ("0x41", "0xd8e"): "Arm Neoverse-N3",
    ("0x46", "0x001"): "Fujitsu A64FX",
    ("0x48", "0xd01"): "HiSilicon Kunpeng 920",
    ("0x51", "0x001"): "Qualcomm Oryon",
    ("0x6d", "0xd49"): "Microsoft Azure Cobalt 100",
    ("0xc0", "0xac3"): "AmpereOne",
    ("0xc0", "0xac4"): "AmpereOne A",
}


@dataclass(frozen=True)
class CpuPlan:
    """How many batches run at once (``streams``) and how many threads serve all of them together."""

    streams: int
    threads: int


@dataclass(frozen=True)
class MemoryLimit:
    """The bytes of memory that this process may take, how many of them are free, and what limits them."""

    bytes: int
    available: int
    #: ``machine``, ``cgroup`` or ``ulimit -v``.
    cause: str


#: glibc's parameters (malloc.h): the number of heaps, and the bytes from which on memory is got by itself.
_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
#: Left alone, glibc raises that threshold to 32 MiB once such a piece was freed, and its heaps are full of holes.
_BY_ITSELF = 2**22


def usable_cores(cpus: Collection[int] | None = None) -> int:
    """Return the number of cores this process may keep busy: affinity, cgroup quota and physical cores together.

    With ``cpus`` only these count, of those that it may use.
    """
    allowed = allowed_cpus() if cpus is None else set(cpus)
    return max(1, min(count_cores(allowed), cpu_quota() or len(allowed)))


def allowed_cpus() -> set[int]:
    """Return the numbers of the CPUs that this process may use, by its affinity and its cgroup."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def numa_nodes() -> list[set[int]]:
    """Return the CPUs of each NUMA node that this process may use; one node where the system does not say."""
    allowed = allowed_cpus()
    folders = sorted(_NODES.glob("node[0-9]*"), key=lambda folder: int(folder.name[4:]))
    nodes = [{cpu for cpu in allowed if (folder / f"cpu{cpu}").exists()} for folder in folders]
    return [node for node in nodes if node] or [allowed]


def gpu_names() -> list[str]:
    """Return the names of NVIDIA's GPUs as their driver states them."""
    files = sorted(_GPUS.glob("*/information"))
    lines = (line.partition(":") for file in files for line in _lines(file))
    return [value.strip() for name, _, value in lines if name.strip() == "Model"]


def core_allowance() -> float:
    """Return the CPU seconds that this process may use per second.

    As ``usable_cores``, but a cgroup's quota counts exactly: with 1.5 cores, two threads each get three quarters of
    one.
    """
    return min(float(usable_cores()), _exact_quota() or math.inf)


def plan_cpu(threads: int | None = None, streams: int | None = None, cpus: Collection[int] | None = None) -> CpuPlan:
    """Split the cores into streams: all that this process may use, or those of some CPUs.

    One thread a stream has no barriers and the best throughput, and where cores are few it costs a single
    query little; with many cores a stream gets two or four threads, so that one long input is not slow.
    """
    cores = threads or usable_cores(cpus)
    width = 1 if cores <= 4 else 2 if cores <= 16 else 4
    return CpuPlan(streams=streams or max(1, cores // width), threads=cores)


def return_memory() -> None:
    """Return freed memory to the system, where the C library would retain it: much after loading a model."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)


def release_pages(array: object) -> None:
    """Release the memory of the file that a read-only array is mapped from; what is read later is mapped again."""
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    if array is not None and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)


def bound_heaps() -> None:
    """Let the C library keep no more heaps than cores, where it may have eight for each, and nothing large in them.

    Otherwise the threads of other libraries each get a heap, leave it half empty, and memory grows with the traffic.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            system = ctypes.CDLL(None)
            system.mallopt(_ARENA_MAX, max(2, usable_cores()))
            system.mallopt(_MMAP_THRESHOLD, _BY_ITSELF)


def memory_used(process: int | None = None) -> int | None:
    """Return the bytes of memory that a process has for itself, files mapped into it left out; None off Linux.

    ``process`` is its number, by default this one's.
    """
    return _status("RssAnon:", process)


def memory_resident() -> int | None:
    """Return the bytes of memory that this process takes, files mapped into it included; None off Linux."""
    return _status("VmRSS:")


def memory_limit() -> MemoryLimit | None:
    """Return the limit that leaves this process the least memory: of the machine, a cgroup or ``ulimit -v``.

    Files that the system has cached for a cgroup count as available: they make way. None off Linux.
    """
    return min(_memory_limits(), key=lambda limit: limit.available, default=None)


def _memory_limits() -> Iterator[MemoryLimit]:
    total, available = _kibibytes(_MEMORY_INFO, "MemTotal:"), _kibibytes(_MEMORY_INFO, "MemAvailable:")
    if total is not None and available is not None:
        yield MemoryLimit(total, available + (_kibibytes(_MEMORY_INFO, "SwapFree:") or 0), "machine")
    for groups in (_groups(_CGROUP, ""), _groups(_CGROUP / "memory", "memory")):
        yield from (limit for group in groups if (limit := _group_memory(group)) and limit.bytes < (total or math.inf))
    used = _status("VmSize:")
    if sys.platform != "win32" and used is not None:
        import resource

        address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
        if address_space != resource.RLIM_INFINITY:
            yield MemoryLimit(address_space, max(0, address_space - used), "ulimit -v")


def _group_memory(group: Path) -> MemoryLimit | None:
    """Return the limit of a cgroup, by the files of v2 or of v1."""
    for maximum, current, prefix in (
        ("memory.max", "memory.current", ""),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    ):
        limit, used = (_words(group / name)[:1] for name in (maximum, current))
        if limit and used and limit != ["max"]:
            facts = dict(line.split(None, 1) for line in _lines(group / "memory.stat") if " " in line)
            cached = sum(int(facts.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
            available = int(limit[0]) - int(used[0]) + cached
            return MemoryLimit(int(limit[0]), max(0, available), "cgroup")
    return None


def _status(name: str, process: int | None = None) -> int | None:
    return _kibibytes(_PROCESSES / ("self" if process is None else str(process)) / "status", name)


def _kibibytes(file: Path, name: str) -> int | None:
    """Return the bytes that a line of a file in ``/proc`` states in kB."""
    line = next((line for line in _lines(file) if line.startswith(name)), None)
    return int(line.split()[1]) * 1024 if line else None


def cpu_name() -> str:
    """Return the name of the CPU's model as the system states it; of an Arm CPU, the names of its kinds of cores."""
    names = _cpu_info("model name") or _arm_cores()
    return names[0] if names else platform.processor() or platform.machine()


def _arm_cores() -> list[str]:
    """Return the names of the kinds of cores of an Arm CPU, joined to one; none elsewhere."""
    pairs = zip(_cpu_info("CPU implementer"), _cpu_info("CPU part"), strict=False)
    kinds = dict.fromkeys(_ARM_CORES.get(pair, f"Arm CPU {' '.join(pair)}") for pair in pairs)
    return [" + ".join(kinds)] if kinds else []


def cpu_flags() -> frozenset[str]:
    """Return the CPU's feature flags as Linux names them (empty elsewhere).

    A program for Arm that an x86 machine emulates sees that machine's flags in the file: they are not its own.
    """
    lines = _cpu_info("Features" if is_arm() else "flags")
    return frozenset(lines[0].split()) if lines else frozenset()


def _cpu_info(name: str) -> list[str]:
    """Return the values of a name in ``/proc/cpuinfo``, one for each CPU."""
    pairs = (line.partition(":") for line in _lines(_CPU_INFO))
    return [value.strip() for key, _, value in pairs if key.strip() == name]


def is_arm() -> bool:
    """Return whether this process runs on (or as for) a 64-bit Arm CPU."""
    return platform.machine() in _ARM_MACHINES


def has_bf16() -> bool:
    """Return whether the CPU multiplies bfloat16 matrices natively (AMX, AVX512-BF16, or Arm's bf16)."""
    return bool(cpu_flags() & {"amx_bf16", "avx512_bf16", "bf16"})


def auto_precision() -> Literal["bf16", "float32"]:
    """Return the number format that precision ``auto`` means on the CPU.

    It is bf16 where the CPU multiplies it natively, and not on Arm: OpenVINO computes in float32 there whatever it is
    asked for.
    """
    return "bf16" if has_bf16() and not is_arm() else "float32"


def has_int8() -> bool:
    """Return whether the CPU multiplies int8 matrices natively (AVX-512 VNNI, AVX-VNNI or AMX)."""
    return bool(cpu_flags() & {"avx512_vnni", "avx_vnni", "amx_int8"})


def cpu_quota() -> int | None:
    """Return the cgroup's CPU quota in whole cores, rounded up; None if there is none."""
    quota = _exact_quota()
    return max(1, math.ceil(quota)) if quota else None


def _exact_quota() -> float | None:
    """Return the cgroup's CPU quota in cores: v2's ``cpu.max``, or v1's two files."""
    return _quota_v2() or _quota_v1()


def _quota_v2() -> float | None:
    return _tightest(_CGROUP, "", ("cpu.max",))


def _quota_v1() -> float | None:
    return _tightest(_CGROUP / "cpu", "cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us"))


def _tightest(root: Path, controller: str, names: tuple[str, ...]) -> float | None:
    """Return the smallest quota, in cores, from our own group up to the root: each of them binds us."""
    limits = []
    for folder in _groups(root, controller):
        words = [word for name in names for word in _words(folder / name)]
        if len(words) == 2 and words[0] not in ("max", "-1"):
            limits.append(int(words[0]) / int(words[1]))
    return min(limits, default=None)


def _groups(root: Path, controller: str) -> list[Path]:
    """Return the folders of our own group and of those above it."""
    own = root / _own_cgroup(controller)
    return [folder for folder in (own, *own.parents) if folder == root or root in folder.parents]


def _own_cgroup(controller: str) -> str:
    """Return our group under a v1 controller's root, or v2's for ``""``."""
    for line in _lines(_OWN_CGROUP):
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(",") and ".." not in path:  # "..": outside of what we may see
            return path.lstrip("/")
    return ""


def count_cores(cpus: Collection[int]) -> int:
    """Return the number of cores of some CPUs, by the lists of CPUs that share one, where the system states them.

    Not by ``core_id``: on Arm, cores of different clusters may have the same.
    """
    folders = [folder for folder in _CPUS.glob("cpu[0-9]*") if int(folder.name[3:]) in cpus]
    cores = {tuple(_words(folder / "topology" / "thread_siblings_list")) for folder in folders}
    return len(cores - {()}) or len(cpus)


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
