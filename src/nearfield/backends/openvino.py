"""The OpenVINO backend: builds a graph straight from the weights, with no torch and no export step.

Padded batches, dynamic shapes, bf16 matrix units where the CPU has them. One stream a lane.
"""

# ruff: noqa: E402 - what OpenVINO does when it is imported is decided before
from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

# oneDNN inside OpenVINO keeps the kernels of 1,024 shapes in a cache of its own, which grows for as long as new batch
# shapes come. OpenVINO's cache below does the same work within bounds. It is read when the library loads.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0")

# Imported, OpenVINO tells Google Analytics so, unless its package for that cannot be imported: then it has a stub.
_TELEMETRY = "openvino_telemetry"
_hidden = _TELEMETRY not in sys.modules
if _hidden:
    sys.modules[_TELEMETRY] = cast(Any, None)

import openvino as ov
from openvino import Type
from openvino import opset13 as op

if _hidden:
    del sys.modules[_TELEMETRY]

from nearfield.backends import Array, Backend, BackendOptions, Inputs
from nearfield.checkpoint.weights.weights import Norm
from nearfield.errors import ModelRefused
from nearfield.fileio.atomic import write_atomic
from nearfield.hardware import has_bf16
from nearfield.ops import INPUTS, AttentionMask, Graph, Ops

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
    "log1p": lambda x: op.log(op.add(x, op.constant(np.float32(1)))),
    "identity": lambda x: x,
}


def _ints(*values: int) -> Any:
    return op.constant(np.array(values, np.int64))


def _last(x: Any) -> int:
    """Return the size of the last axis, which is always known."""
    shape = x.get_output_partial_shape(0)
    return int(shape[shape.rank.get_length() - 1].get_length())


class OpenVinoOps(Ops[Any]):
    """Each operation adds a node to the graph."""

    def __init__(self) -> None:
        self._derived: dict[tuple[str, int], tuple[Any, Any]] = {}
        #: Adapters' factors: parameters of the graph, and what each is always fed with.
        self.held: list[tuple[Any, ov.Tensor]] = []

    def constant(self, array: Array) -> Any:
        return op.constant(np.ascontiguousarray(array))

    def rows(self, table: Array, ids: Any) -> Any:
        return op.gather(self.constant(table), ids, op.constant(np.int64(0)))

    def affine(self, x: Any, weight: Array, bias: Array | None) -> Any:
        y = op.matmul(x, self.constant(weight), False, True)
        return y if bias is None else op.add(y, self.constant(bias))

    def factor(self, x: Any, weight: Array) -> Any:
        # Constants would exist three times: as given, and packed for few and for many rows.
        held = op.parameter(list(weight.shape), Type.f32, name=f"held.{len(self.held)}")
        self.held.append((held, ov.Tensor(np.ascontiguousarray(weight))))
        return op.matmul(x, held, False, True)

    def layer_norm(self, x: Any, norm: Norm, eps: float) -> Any:
        y = op.multiply(op.mvn(x, _ints(-1), True, eps, "inside_sqrt"), self.constant(norm.weight))
        return y if norm.bias is None else op.add(y, self.constant(norm.bias))

    def rms_norm(self, x: Any, norm: Norm, eps: float) -> Any:
        mean = op.reduce_mean(op.power(x, op.constant(np.float32(2))), _ints(-1), True)
        root = op.sqrt(op.add(mean, op.constant(np.float32(eps))))
        y = op.multiply(op.divide(x, root), self.constant(norm.weight))
        return y if norm.bias is None else op.add(y, self.constant(norm.bias))

    def split(self, x: Any, heads: int) -> Any:
        size = x.get_output_partial_shape(0)[2].get_length() // heads
        return op.transpose(op.reshape(x, _ints(0, 0, heads, size), True), _ints(0, 2, 1, 3))

    def rope(self, x: Any, cos: Any, sin: Any) -> Any:
        size = _last(cos)
        rotated = x if size == _last(x) else self._between(x, 0, size)
        half = size // 2
        turned = op.concat([op.negative(self._between(rotated, half, size)), self._between(rotated, 0, half)], -1)
        y = op.add(op.multiply(rotated, self._once(cos)), op.multiply(turned, self._once(sin)))
        return y if size == _last(x) else op.concat([y, self._between(x, size, _last(x))], -1)

    def _between(self, x: Any, start: int, stop: int) -> Any:
        return op.slice(x, _ints(start), _ints(stop), _ints(1), _ints(-1))

    def _once(self, angles: Any) -> Any:
        """Add the axis of heads to cosines or sines, in one node for all layers."""
        return self._derive(("heads", angles), lambda: op.unsqueeze(angles, _ints(1)))

    def relative(self, x: Any, table: Array, index: Any) -> Any:
        rows = self.constant(np.ascontiguousarray(table.transpose(1, 0, 2))[None])
        scores = op.matmul(x, rows, False, True)
        shape = op.concat([op.gather(op.shape_of(scores), _ints(0, 1), _ints(0)), op.shape_of(index)], 0)
        return op.gather_elements(scores, op.broadcast(index, shape), 3)

    def attention(
        self, q: Any, k: Any, v: Any, seen: AttentionMask[Any], *, bias: Any = None, scale: float | None = None
    ) -> Any:
        heads, size = (q.get_output_partial_shape(0)[axis].get_length() for axis in (1, 3))
        k, v = self._repeated(k, heads), self._repeated(v, heads)
        # Written out, OpenVINO fuses this as well as its attention node, with fewer transposes: 2 to 3% faster.
        factor = self.constant(np.array(size**-0.5 if scale is None else scale, np.float32))
        hidden = self._derive(("hidden", seen), lambda: self._hidden(seen))
        scores = op.add(op.multiply(op.matmul(q, k, False, True), factor), hidden)
        scores = scores if bias is None else op.add(scores, bias)
        out = op.matmul(op.softmax(scores, -1), v, False, False)
        return op.reshape(op.transpose(out, _ints(0, 2, 1, 3)), _ints(0, 0, heads * size), True)

    def _repeated(self, x: Any, heads: int) -> Any:
        """Repeat each key or value head for the query heads that share it."""
        own = x.get_output_partial_shape(0)[1].get_length()
        if own == heads:
            return x
        size = _last(x)
        copies = op.tile(op.unsqueeze(x, _ints(2)), _ints(1, 1, heads // own, 1, 1))
        return op.reshape(copies, op.concat([_ints(0, heads), _ints(-1, size)], 0), True)

    def _hidden(self, seen: AttentionMask[Any]) -> Any:
        """Return what is added to the scores, [B, 1, L, L]: 0 where a token is seen, else -1e9."""
        keys = seen.segments if seen.keys is None else seen.keys
        visible = op.equal(op.unsqueeze(seen.segments, _ints(1, 3)), op.unsqueeze(keys, _ints(1, 2)))
        if seen.places is not None:
            ahead = op.subtract(op.unsqueeze(seen.places, _ints(1, 2)), op.unsqueeze(seen.places, _ints(1, 3)))
            if seen.before is not None:
                visible = op.logical_and(visible, op.greater_equal(ahead, op.constant(np.int32(-seen.before))))
            if seen.after is not None:
                visible = op.logical_and(visible, op.less_equal(ahead, op.constant(np.int32(seen.after))))
        return op.select(visible, op.constant(np.float32(0)), op.constant(np.float32(-1e9)))

    def _derive(self, key: tuple[str, Any], make: Callable[[], Any]) -> Any:
        """Make a node once and hand it to all layers that ask for it."""
        name = (key[0], id(key[1]))
        if name not in self._derived:
            self._derived[name] = (key[1], make())  # the key is kept alive, or its id would name another
        return self._derived[name][1]

    def softmax(self, x: Any) -> Any:
        return op.softmax(x, -1)

    def top(self, x: Any, count: int) -> Any:
        least = op.reduce_min(op.topk(x, op.constant(np.int64(count)), -1, "max", "value").output(0), _ints(-1), True)
        return op.select(op.greater_equal(x, least), x, op.constant(np.float32(0)))

    def transpose(self, x: Any) -> Any:
        rank = x.get_output_partial_shape(0).rank.get_length()
        return op.transpose(x, _ints(*range(rank - 2), rank - 1, rank - 2))

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

    def __init__(self, compiled: Any, names: tuple[str, ...], held: Sequence[ov.Tensor] = ()) -> None:
        self._request = compiled.create_infer_request()
        self._ports = [(name, compiled.input(name)) for name in names]
        for number, tensor in enumerate(held, len(names)):
            self._request.set_tensor(compiled.inputs[number], tensor)

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> dict[str, Array]:
        # Tensors of their own: lending OpenVINO 2026.4 numpy's memory corrupts the heap under load.
        for name, port in self._ports:
            self._request.set_tensor(port, ov.Tensor(np.ascontiguousarray(inputs[name])))
        self._request.infer()
        return {name: np.array(self._request.get_tensor(name).data, np.float32) for name in outputs}


class OpenVinoProgram:
    """A compiled model and the names of its inputs."""

    def __init__(self, compiled: Any, names: tuple[str, ...], precision: str, held: Sequence[ov.Tensor] = ()) -> None:
        self._compiled = compiled
        self._held = held
        self._names = names
        self.precision = precision

    def lane(self) -> OpenVinoLane:
        return OpenVinoLane(self._compiled, self._names, self._held)


class OpenVinoBackend(Backend):
    """CPU by OpenVINO. ``auto`` means bf16 where the CPU multiplies it natively, else float32."""

    def __init__(self, options: BackendOptions) -> None:
        super().__init__(options)
        self.precision = "bf16" if options.precision == "auto" and has_bf16() else "float32"

    def compile(self, graph: Graph[Any]) -> OpenVinoProgram:
        core = ov.Core()
        blob = self._blob(graph)
        if blob is not None and blob.is_file():
            compiled = self._load(core, blob)
            if compiled is not None:
                return OpenVinoProgram(compiled, graph.inputs, self.precision)
        model, held = _model(graph)
        compiled = core.compile_model(model, "CPU", self._config())
        if blob is not None:
            _save(compiled, blob)
        return OpenVinoProgram(compiled, graph.inputs, self.precision, held)

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
        if self.options.cache is None or not graph.digest or "adapters" in graph.inputs:
            return None  # adapters' factors are fed, not compiled: a file would lack them
        parts = (graph.digest, ov.get_version(), *sorted(map(str, self._config().items())))
        return self.options.cache / (hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32] + ".ov")

    def _load(self, core: Any, blob: Path) -> Any:
        """Return the cached model, or None when the file is damaged or was made elsewhere: it is then made anew."""
        try:
            return core.import_model(ov.Tensor(np.memmap(blob, np.uint8, "r")), "CPU", self._config())
        except RuntimeError:
            blob.unlink(missing_ok=True)
            return None


def _model(graph: Graph[Any]) -> tuple[ov.Model, list[ov.Tensor]]:
    """Build the graph; with it come the tensors that it is fed with at its last inputs, adapters' factors."""
    parameters = {name: _parameter(name, graph.sizes.get(name, -1)) for name in graph.inputs}
    hidden = {} if graph.body is None else {"hidden": _body(graph.body, parameters)}
    run = OpenVinoOps()
    outputs = graph.forward(run, {**parameters, **hidden})
    results = []
    for name in graph.outputs:
        result = op.result(outputs[name])
        result.output(0).get_tensor().set_names({name})
        results.append(result)
    held = [parameter for parameter, _ in run.held]
    return ov.Model(results, [*parameters.values(), *held], "nearfield"), [tensor for _, tensor in run.held]


def _body(path: Path, parameters: dict[str, Any]) -> Any:
    """Read an exported encoder (ONNX or OpenVINO), feed it from our inputs, and return its hidden states.

    Raises:
        ModelRefused: it asks for inputs that are not known, or does not give one state a token.
    """
    if path.is_dir():
        raise ModelRefused(f"{path} has an architecture without a family here: load it with backend='transformers'.")
    try:
        model = ov.Core().read_model(path)
    except RuntimeError as error:
        raise ModelRefused(f"{path} cannot be read by OpenVINO: {str(error).splitlines()[-1]}") from error
    ids, segments = parameters["ids"], parameters["segments"]
    feeds = {
        "input_ids": ids,
        "attention_mask": op.greater(segments, op.constant(np.int32(0))),
        "token_type_ids": op.multiply(ids, op.constant(np.int32(0))),
        "position_ids": parameters["places"],
    }
    for wanted in model.get_parameters():
        name = next(
            (name for name in feeds if name in wanted.output(0).get_names() or name == wanted.get_friendly_name()), None
        )
        if name is None:
            raise ModelRefused(
                f"{path} asks for the input {wanted.get_friendly_name()!r}; known are {', '.join(feeds)}."
            )
        wanted.output(0).replace(op.convert(feeds[name], wanted.get_element_type()).output(0))
    states = next((output for output in model.outputs if "last_hidden_state" in output.get_names()), model.outputs[0])
    if states.get_partial_shape().rank.get_length() != 3:
        raise ModelRefused(
            f"{path} gives {states.get_partial_shape()}, where one state a token was expected [B, L, H]."
        )
    return states.get_node().input(0).get_source_output()


def _parameter(name: str, size: int) -> Any:
    dtype, rank = INPUTS[name]
    node = op.parameter([-1] * (rank - 1) + [size], _TYPES[dtype], name=name)
    node.output(0).get_tensor().set_names({name})
    return node


def _save(compiled: Any, blob: Path) -> None:
    """Write beside and rename, so that a reader never sees half a file; a full disk only costs the next start."""
    try:
        blob.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(blob, compiled.export_model().getbuffer(), shared=True)
    except OSError as error:
        _LOG.warning("The compiled model could not be kept for the next start: %s", error)
