"""Backends: each runs graphs on one runtime, for which it implements ``Ops``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from nearfield.arrays import Array
from nearfield.backends.packed_program import PackedProgram
from nearfield.hardware import CpuPlan, plan_cpu
from nearfield.ops import Graph
from nearfield.registry import Registry

if TYPE_CHECKING:
    from nearfield.devices import ModelDevice

Inputs = Mapping[str, Array]

REGISTRY = Registry(
    "backend",
    # ``reference`` is registered by an entry point, as plugins are, so that this way stays tested.
    {
        "openvino": "nearfield.backends.openvino:OpenVinoBackend",
        "torch": "nearfield.backends.torch:TorchBackend",
        "transformers": "nearfield.backends.transformers:TransformersBackend",
    },
    group="nearfield.backends",
    extras={"torch": "torch", "transformers": "torch"},
)


@dataclass(frozen=True)
class BackendOptions:
    """How a graph is to run: number format, cores, the folder of compiled graphs (None: do not cache), and the device.

    float16, bfloat16 and devices other than the CPU are torch's alone, int8, int8-dynamic and int4 those of OpenVINO.
    """

    precision: Literal["auto", "float32", "float16", "bfloat16", "int8", "int8-dynamic", "int4"] = "auto"
    cpu: CpuPlan = field(default_factory=plan_cpu)
    cache: Path | None = None
    device: str = "auto"
    #: Whether an input's result may not depend on what else runs.
    reproducible: bool = False


class Executor(Protocol):
    """Runs a program. One thread at a time uses an executor; several executors run at the same time."""

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> dict[str, Array]:
        """Run one batch and return the requested outputs, as float32 arrays that the caller owns."""
        ...


class Program(Protocol):
    """A compiled graph.

    ``precision`` says what the matrix units really use: ``bf16`` or ``float32``; of quantised weights, their form.
    """

    precision: str

    def create_executor(self) -> Executor:
        """Create an executor; each lane has its own."""
        ...


class Backend(ABC):
    """A runtime that turns graphs into programs."""

    #: Tokens in one batch at which this runtime is fastest.
    batch_tokens: int = 1024
    #: Whether all inputs of a batch are to lie in one row, end to end: attention then knows their bounds.
    packed: bool = False
    #: Modules, beside the backend's, whose code shapes a compiled graph: cached graphs of other code are not used.
    code_modules: tuple[str, ...] = ()

    def __init__(self, options: BackendOptions) -> None:
        self.options = options

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules whose code shapes a compiled graph."""
        return type(self).__module__, *self.code_modules

    @classmethod
    def describe_device(cls, name: str) -> dict[str, object]:  # noqa: ARG003 - for runtimes with devices
        """Return what the speed of a device depends on, beside the CPU: its name, memory and driver, as JSON data."""
        return {}

    def enter_fork(self) -> bool:
        """Prepare the runtime in a process that was forked after it was used; return whether it works there."""
        return True

    def pack(self, graph: Graph) -> PackedProgram:
        """Compile a graph for other processes; its program is in a file, and no more in the memory of this one."""
        return PackedProgram.from_program(self.compile(graph), self.options.cache)

    @abstractmethod
    def compile(self, graph: Graph) -> Program:
        """Compile a graph; on a second start with the same ``graph.digest`` this may come from a cache."""


def create_backend(
    kind: type[Backend], options: BackendOptions, devices: Sequence[ModelDevice], plans: Sequence[CpuPlan]
) -> Backend:
    """Return a backend for devices, each with its plan; without devices, for the one of the options."""
    if len(devices) > 1 or any(device.cpus for device in devices):
        from nearfield.backends.replicas import ReplicatedBackend  # which imports multiprocessing

        return ReplicatedBackend(kind, options, devices, plans)
    return kind(replace(options, cpu=plans[0], device=devices[0].name if devices else options.device))
