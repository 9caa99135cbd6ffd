"""The torch backend: it executes graphs step by step, on CUDA without padding, on CPU and MPS in rows.

On CUDA all inputs of a batch lie in one row, and attention runs over their bounds (``torch.nn.attention.varlen``, that
is flash attention). Where that cannot serve (float32, keys, an older torch or GPU), inputs of like length are stacked
for scaled_dot_product_attention; ordinary rows, and those with a bias, get a mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from nearfield.arrays import Array
from nearfield.backends import Backend, BackendOptions, Executor, Inputs
from nearfield.backends.recorded_graph import Argument, RecordedGraph, Value
from nearfield.backends.torch_ops import TorchOps, to_tensor
from nearfield.checkpoint.weights.weights import Norm
from nearfield.errors import InputError, ModelRefused
from nearfield.fork_safety import ProcessLock
from nearfield.hardware import has_bf16
from nearfield.ops import Graph

#: What each computing type is called; norms, softmax and pooling are in float32 whichever it is.
_NAMES = {torch.bfloat16: "bf16", torch.float16: "float16", torch.float32: "float32"}
_DRIVER = Path("/proc/driver/nvidia/version")


class TorchRecordedGraph(RecordedGraph):
    """A recorded graph whose weights are on the device: in the computing type, but norms and constants in float32.

    Rounding those saves nothing; and a mask's 1e9 is infinite in float16, where 0 times infinity is not a number.
    """

    def __init__(self, graph: Graph, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        super().__init__(graph, lambda array: to_tensor(array, device, dtype))

    def record(self, name: str, arguments: tuple[Argument, ...], options: Mapping[str, Argument]) -> Value:
        exact = (isinstance(item, Norm) or name == "constant" for item in arguments)
        prepared = (self._exact(item) if whole else item for item, whole in zip(arguments, exact, strict=True))
        return super().record(name, tuple(prepared), options)

    def _exact(self, item: Argument) -> Argument:
        if isinstance(item, Norm):
            return replace(item, weight=self._exact(item.weight), bias=self._exact(item.bias))
        return None if item is None else to_tensor(item, self._device, torch.float32)


class TorchLane:
    """Runs the recorded graph; all lanes share the weights."""

    def __init__(self, recorded: RecordedGraph, device: torch.device, dtype: torch.dtype) -> None:
        self._graph, self._device, self._dtype = recorded, device, dtype

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> dict[str, Array]:
        with torch.inference_mode():
            # Angles and pooling weights stay in float32: positions and means are not to be rounded.
            values = {name: to_tensor(inputs[name], self._device, torch.float32) for name in self._graph.inputs}
            results = self._graph.run(TorchOps(self._device, self._dtype), values)
            return {name: results[name].float().cpu().numpy() for name in outputs}


class TorchProgram:
    """A recorded graph and where it runs."""

    def __init__(self, recorded: RecordedGraph, device: torch.device, dtype: torch.dtype) -> None:
        self._graph, self._device, self._dtype = recorded, device, dtype
        self.precision = _NAMES[dtype]

    def create_executor(self) -> Executor:
        return TorchLane(self._graph, self._device, self._dtype)


class TorchBackend(Backend):
    """torch on the first device that exists: CUDA, then MPS, then the CPU."""

    code_modules = (TorchOps.__module__,)
    _threads = ProcessLock()

    def __init__(self, options: BackendOptions) -> None:
        super().__init__(options)
        self.device = _device(options.device)
        self.dtype = _dtype(options.precision, self.device)
        self.packed = self.device.type == "cuda"
        self.batch_tokens = 16_384 if self.device.type == "cuda" else 1024
        if self.device.type == "cpu":
            with self._threads:
                torch.set_num_threads(max(1, options.cpu.threads // options.cpu.streams))

    @classmethod
    def describe_device(cls, name: str) -> dict[str, object]:
        device = _device(name)
        if device.type != "cuda":
            return {"name": device.type}
        facts = torch.cuda.get_device_properties(device)
        runtime = str(torch.version.cuda or torch.version.hip)
        return {"name": facts.name, "GiB": round(facts.total_memory / 2**30), "driver": _driver(), "runtime": runtime}

    def enter_fork(self) -> bool:
        if self.device.type != "cpu":
            return False
        # The threads of OpenMP are gone, and a parallel region would wait for them.
        torch.set_num_threads(1)
        return True

    def compile(self, graph: Graph) -> TorchProgram:
        if graph.external_encoder is not None:
            raise ModelRefused(
                f"{graph.external_encoder.name} is a graph of another runtime: load it with backend='openvino'."
            )
        with torch.inference_mode():
            recorded = TorchRecordedGraph(graph, self.device, self.dtype)
        return TorchProgram(recorded, self.device, self.dtype)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"The device {name!r} cannot be used: {str(error).splitlines()[0]}", param="device") from error
    return device


def _driver() -> str:
    """Return the line in which NVIDIA's driver states its version; empty where there is none."""
    lines = _DRIVER.read_text(encoding="utf-8", errors="replace").splitlines() if _DRIVER.is_file() else []
    return lines[0] if lines else ""


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        return torch.bfloat16 if _has_fast_bf16(device) else torch.float32
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[precision]


def _has_fast_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16: GPUs before Ampere (T4, V100) convert each value to float32 and back."""
    if device.type == "cuda":
        return tuple(torch.cuda.get_device_capability(device)) >= (8, 0)
    return device.type == "cpu" and has_bf16()
