"""The OpenVINO backend: builds a graph straight from the weights, with no torch and no export step.

Padded batches, dynamic shapes, bf16 matrix units where the CPU has them. One stream a lane.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

# oneDNN inside OpenVINO keeps the kernels of 1,024 shapes in a cache of its own, which grows for as long as new batch
# shapes come. OpenVINO's cache below does the same work within bounds. It is read when the library loads.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0")

import openvino as ov
from openvino import Type
from openvino import opset13 as op

from nearfield.backends import Array, Backend, Inputs, Options
from nearfield.checkpoint.weights import Linear, Norm
from nearfield.machine import has_bf16
from nearfield.ops import INPUTS, Graph, Ops

#: Kernels kept per stream, by batch shape; OpenVINO's own bound is 5,000, and memory then grows with each new shape.
_KERNEL_CACHE = "50"

_LOG = logging.getLogger(__name__)
_TYPES = {"int32": Type.i32, "float32": Type.f32}
_ACTIVATIONS = {
    "gelu": lambda x: op.gelu(x, "erf"),
    "gelu_tanh": lambda x: op.gelu(x, "tanh"),
    "relu": op.relu,
    "silu": op.swish,
    "tanh": op.tanh,
    "sigmoid": op.sigmoid,
    "identity": lambda x: x,
}


def _ints(*values: int) -> Any:
    return op.constant(np.array(values, np.int64))


class OpenVinoOps(Ops[Any]):
    """Each operation adds a node to the graph."""

    def __init__(self) -> None:
        self._known: tuple[Any, Any] | None = None

    def constant(self, array: Array) -> Any:
        return op.constant(np.ascontiguousarray(array))

    def rows(self, table: Array, ids: Any) -> Any:
        return op.gather(self.constant(table), ids, op.constant(np.int64(0)))

    def linear(self, x: Any, layer: Linear) -> Any:
        y = op.matmul(x, self.constant(layer.weight), False, True)
        return y if layer.bias is None else op.add(y, self.constant(layer.bias))

    def layer_norm(self, x: Any, norm: Norm, eps: float) -> Any:
        y = op.multiply(op.mvn(x, _ints(-1), True, eps, "inside_sqrt"), self.constant(norm.weight))
        return y if norm.bias is None else op.add(y, self.constant(norm.bias))

    def attention(self, q: Any, k: Any, v: Any, *, heads: int, segments: Any, bias: Any = None) -> Any:
        def split(x: Any) -> Any:
            return op.transpose(op.reshape(x, _ints(0, 0, heads, -1), True), _ints(0, 2, 1, 3))

        # Written out, OpenVINO fuses this as well as its attention node, with fewer transposes: 2 to 3% faster.
        scale = self.constant(np.array(self._head_size(q, heads) ** -0.5, np.float32))
        scores = op.add(op.multiply(op.matmul(split(q), split(k), False, True), scale), self._apart(segments))
        scores = scores if bias is None else op.add(scores, bias)
        out = op.matmul(op.softmax(scores, -1), split(v), False, False)
        return op.reshape(op.transpose(out, _ints(0, 2, 1, 3)), _ints(0, 0, -1), True)

    def _apart(self, segments: Any) -> Any:
        """Return what is added to the scores, [B, 1, L, L]: 0 within a segment, else -1e9; one node for all layers."""
        if self._known is None or self._known[0] is not segments:
            together = op.equal(op.unsqueeze(segments, _ints(1, 3)), op.unsqueeze(segments, _ints(1, 2)))
            apart = op.select(together, op.constant(np.float32(0)), op.constant(np.float32(-1e9)))
            self._known = (segments, apart)
        return self._known[1]

    @staticmethod
    def _head_size(q: Any, heads: int) -> float:
        return float(q.get_output_partial_shape(0)[2].get_length()) / heads

    def activation(self, x: Any, name: str) -> Any:
        return _ACTIVATIONS[name](x)

    def add(self, a: Any, b: Any) -> Any:
        return op.add(a, b)

    def multiply(self, a: Any, b: Any) -> Any:
        return op.multiply(a, b)

    def matmul(self, a: Any, b: Any) -> Any:
        return op.matmul(a, b, False, False)

    def max(self, x: Any, axis: int) -> Any:
        return op.reduce_max(x, _ints(axis), False)

    def expand(self, x: Any, axis: int) -> Any:
        return op.unsqueeze(x, _ints(axis))

    def move_last_first(self, x: Any) -> Any:
        rank = x.get_output_partial_shape(0).rank.get_length()
        return op.transpose(x, _ints(rank - 1, *range(rank - 1)))

    def concat(self, parts: list[Any]) -> Any:
        return parts[0] if len(parts) == 1 else op.concat(parts, -1)

    def normalize(self, x: Any) -> Any:
        return op.normalize_l2(x, _ints(-1), 1e-24, "max")


class OpenVinoLane:
    """One infer request."""

    def __init__(self, compiled: Any, names: tuple[str, ...]) -> None:
        self._request = compiled.create_infer_request()
        self._ports = [(name, compiled.input(name)) for name in names]

    def run(self, inputs: Inputs) -> Array:
        # Tensors of their own: lending OpenVINO 2026.4 numpy's memory corrupts the heap under load.
        for name, port in self._ports:
            self._request.set_tensor(port, ov.Tensor(np.ascontiguousarray(inputs[name])))
        self._request.infer()
        return np.array(self._request.get_output_tensor(0).data, np.float32)


class OpenVinoProgram:
    """A compiled model and the names of its inputs."""

    def __init__(self, compiled: Any, names: tuple[str, ...], precision: str) -> None:
        self._compiled = compiled
        self._names = names
        self.precision = precision

    def lane(self) -> OpenVinoLane:
        return OpenVinoLane(self._compiled, self._names)


class OpenVinoBackend(Backend):
    """CPU by OpenVINO. ``auto`` means bf16 where the CPU multiplies it natively, else float32."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.precision = "bf16" if options.precision == "auto" and has_bf16() else "float32"

    def compile(self, graph: Graph[Any]) -> OpenVinoProgram:
        core = ov.Core()
        blob = self._blob(graph)
        if blob is not None and blob.is_file():
            compiled = self._load(core, blob)
            if compiled is not None:
                return OpenVinoProgram(compiled, graph.inputs, self.precision)
        compiled = core.compile_model(_model(graph), "CPU", self._config())
        if blob is not None:
            _save(compiled, blob)
        return OpenVinoProgram(compiled, graph.inputs, self.precision)

    def _config(self) -> dict[str, Any]:
        cpu = self.options.cpu
        return {
            "INFERENCE_PRECISION_HINT": "bf16" if self.precision == "bf16" else "f32",
            "NUM_STREAMS": cpu.streams,
            "INFERENCE_NUM_THREADS": cpu.threads,
            "CPU_RUNTIME_CACHE_CAPACITY": _KERNEL_CACHE,
        }

    def _blob(self, graph: Graph[Any]) -> Path | None:
        """Name the cache file by everything that shapes what is compiled."""
        if self.options.cache is None or not graph.digest:
            return None
        parts = (graph.digest, ov.get_version(), *sorted(map(str, self._config().items())))
        return self.options.cache / (hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32] + ".ov")

    def _load(self, core: Any, blob: Path) -> Any:
        """Return the cached model, or None when the file is damaged or was made elsewhere: it is then made anew."""
        try:
            return core.import_model(ov.Tensor(np.memmap(blob, np.uint8, "r")), "CPU", self._config())
        except RuntimeError:
            blob.unlink(missing_ok=True)
            return None


def _model(graph: Graph[Any]) -> ov.Model:
    parameters = {name: _parameter(name) for name in graph.inputs}
    output = graph.forward(OpenVinoOps(), parameters)
    return ov.Model([output], list(parameters.values()), "nearfield")


def _parameter(name: str) -> Any:
    dtype, rank = INPUTS[name]
    node = op.parameter([-1] * rank, _TYPES[dtype], name=name)
    node.output(0).get_tensor().set_names({name})
    return node


def _save(compiled: Any, blob: Path) -> None:
    """Write beside and rename, so that a reader never sees half a file; a full disk only costs the next start."""
    partial = blob.with_name(f"{blob.name}.{os.getpid()}.partial")
    try:
        blob.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(compiled.export_model().getbuffer())
        partial.replace(blob)
    except OSError as error:
        partial.unlink(missing_ok=True)
        _LOG.warning("The compiled model could not be kept for the next start: %s", error)
