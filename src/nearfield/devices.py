"""Devices that a model runs on: sets of CPUs, or devices of torch. They are written ``cpu:0-15`` and ``cuda:1``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nearfield.argument_checks import require_device
from nearfield.errors import InputError
from nearfield.hardware import CpuPlan, allowed_cpus, count_cores, cpu_quota, plan_cpu
from nearfield.repeated_values import find_repeated
from nearfield.text_inputs import describe

#: ``0-3``, ``5``, or several with a plus sign between them. No machine has CPUs of more digits.
_CPU_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


@dataclass(frozen=True)
class ModelDevice:
    """One device: its name, and the CPUs of a set of CPUs."""

    name: str
    cpus: frozenset[int] = frozenset()

    @property
    def kind(self) -> str:
        """The type of device: ``cpu``, ``cuda``, ``mps``."""
        return self.name.partition(":")[0]

    @classmethod
    def parse(cls, text: str) -> ModelDevice:
        """Parse one device.

        Raises:
            InputError: it is none, or has CPUs that this process may not use.
        """
        name = text.strip().lower()
        kind, _, place = name.partition(":")
        if kind != "cpu" or ":" not in name:
            require_device(name, "devices")
            return cls("cuda:0" if name == "cuda" else name)
        cpus = _parse_cpus(name, place)
        _check_allowed(name, cpus)
        return cls(name, cpus)


def parse_devices(value: str | Sequence[str]) -> tuple[ModelDevice, ...]:
    """Return the devices of a list, or of a text with commas.

    Raises:
        InputError: one is unknown, named twice, overlaps another or may not be used; or they are of different types.
    """
    texts = value.split(",") if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise _refusal(f"devices must be a list of texts such as cpu:0-15 or cuda:1, and is {describe(value)}.")
    if not any(text.strip() for text in texts):
        raise _refusal("devices is empty: leave it out to use all CPUs, or name devices such as cpu:0-15 or cuda:1.")
    devices = tuple(map(ModelDevice.parse, texts))
    _check_together(devices)
    return devices


def check_devices(value: Sequence[str] | None) -> None:
    """Raise InputError as ``parse_devices`` does; None is no list."""
    if value is not None:
        parse_devices(value)


def check_backend(devices: Sequence[ModelDevice], backend: str) -> None:
    """Raise InputError if a backend does not run on devices."""
    other = next((device for device in devices if device.kind != "cpu"), None)
    if other is not None and backend in ("openvino", "reference"):
        raise _refusal(f"The backend {backend!r} runs on CPUs alone, not on {other.name}: set backend to 'torch'.")


def plan_devices(
    devices: Sequence[ModelDevice], threads: int | None = None, streams: int | None = None
) -> tuple[CpuPlan, ...]:
    """Return how each device runs batches: ``streams`` at the same time on each of them. No devices: one plan.

    A set of CPUs has a thread for each of its cores. Other devices share the threads of the host.

    Raises:
        InputError: the number of threads is stated, and devices are sets of CPUs.
    """
    if not any(device.cpus for device in devices):
        plan, count = plan_cpu(threads, streams), max(1, len(devices))
        return (CpuPlan(streams or max(1, plan.streams // count), plan.threads),) * count
    if threads is not None:
        raise _refusal("threads and sets of CPUs exclude each other: a set has a thread for each of its cores.")
    return tuple(plan_cpu(None, streams, device.cpus) for device in devices)


def count_copies(names: Iterable[str]) -> int:
    """Return how many copies of a model's weights the memory of the host has, by the names of its devices."""
    return max(1, sum(name.startswith("cpu:") for name in names))


def format_cpus(cpus: Iterable[int]) -> str:
    """Return numbers of CPUs as ranges, such as ``0-3+8``."""
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return "+".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)


def _parse_cpus(name: str, text: str) -> frozenset[int]:
    cpus: set[int] = set()
    for part in text.split("+"):
        match = _CPU_RANGE.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise _refusal(f"{name!r} is no set of CPUs: write cpu:0-15, cpu:3, or cpu:0-7+16-23 for several ranges.")
        cpus.update(range(first, last + 1))
    return frozenset(cpus)


def _check_allowed(name: str, cpus: frozenset[int]) -> None:
    if sys.platform != "linux":
        raise _refusal(f"{name}: sets of CPUs need Linux. Leave devices out to use all CPUs.")
    allowed = allowed_cpus()
    if missing := cpus - allowed:
        raise _refusal(
            f"{name} has CPUs that this machine lacks or this process may not use ({format_cpus(missing)}): it may use "
            f"{format_cpus(allowed)} (by the machine, its affinity and its cgroup)."
        )


def _check_together(devices: Sequence[ModelDevice]) -> None:
    """Raise InputError for devices that cannot be used at the same time."""
    names = [device.name for device in devices]
    if (repeated := find_repeated(names)) is not None:
        raise _refusal(f"devices has {repeated} twice: two replicas on one device would take turns.")
    if len(kinds := dict.fromkeys(device.kind for device in devices)) > 1:
        raise _refusal(f"devices mixes {' and '.join(kinds)}: all replicas of a model are on devices of one type.")
    if len(devices) > 1 and devices[0].kind not in ("cpu", "cuda"):
        raise _refusal(f"There is one device of type {devices[0].kind}: devices has {', '.join(names)}.")
    if len(devices) > 1 and "cpu" in names:
        raise _refusal("'cpu' is all CPUs, and overlaps the others: name a set for each replica, such as cpu:0-15.")
    _check_overlap(devices)
    _check_quota(sum(count_cores(device.cpus) for device in devices if device.cpus))


def _check_overlap(devices: Sequence[ModelDevice]) -> None:
    owners: dict[int, str] = {}
    for device in devices:
        for cpu in sorted(device.cpus):
            if cpu in owners:
                raise _refusal(f"{owners[cpu]} and {device.name} both have CPU {cpu}: each CPU is for one replica.")
            owners[cpu] = device.name


def _check_quota(cores: int) -> None:
    quota = cpu_quota()
    if quota is not None and cores > quota:
        raise _refusal(
            f"devices has {cores} cores, but this process may use the time of {quota} (the CPU quota of its cgroup): "
            "name fewer CPUs, or raise the quota."
        )


def _refusal(message: str) -> InputError:
    return InputError(message, param="devices")
