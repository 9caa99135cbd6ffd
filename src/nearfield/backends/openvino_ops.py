"""The operations of the OpenVINO backend: each adds a node to a graph. Imports OpenVINO without its telemetry."""

# ruff: noqa: E402 - what OpenVINO does when it is imported is decided before
from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, cast

import numpy as np

# oneDNN inside OpenVINO caches the kernels of 1,024 shapes, and grows for as long as new batch shapes come. OpenVINO's
# kernel cache (see ``openvino``) does the same work within bounds. The variable is read when the library loads.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0")

# Importing OpenVINO sends an event to Google Analytics, unless its telemetry package cannot be imported.
_TELEMETRY = "openvino_telemetry"
_hidden = _TELEMETRY not in sys.modules
if _hidden:
    sys.modules[_TELEMETRY] = cast(Any, None)

import openvino as ov
from openvino import Type
from openvino import opset13 as op

if _hidden:
    del sys.modules[_TELEMETRY]

from nearfield.arrays import Array
from nearfield.backends.weight_file import WeightFile
from nearfield.checkpoint.weights.quantized.int4_groups import MIDDLE, Int4Groups, has_groups, quantize_groups
from nearfield.checkpoint.weights.quantized.int8_rows import is_quantized, quantize_rows
from nearfield.checkpoint.weights.weights import Norm
from nearfield.hardware import is_arm
from nearfield.ops import AttentionMask, Ops

__all__ = ["Node", "OpenVinoOps", "op", "ov"]

#: A node of the graph, or an output of one.
Node: TypeAlias = ov.Node | ov.Output
#: Changes no number that is not denormal. OpenVINO removes additions of zero.
_NOTHING = np.float32(np.finfo(np.float32).tiny)
_ACTIVATIONS = {
    "gelu": lambda x: op.gelu(x, "erf"),
    "gelu_tanh": lambda x: op.gelu(x, "tanh"),
    "quick_gelu": lambda x: op.swish(x, op.constant(np.float32(1.702))),
    "relu": op.relu,
    "silu": op.swish,
    "tanh": op.tanh,
    "sigmoid": op.sigmoid,
    "log1p": lambda x: op.log(op.add(x, op.constant(np.float32(1)))),
    "identity": lambda x: x,
}


def _type_name(x: Node) -> str:
    node = x.get_node() if isinstance(x, ov.Output) else x
    return str(node.get_type_name())


def _ints(*values: int) -> Node:
    return op.constant(np.array(values, np.int64))


def _grouped(matrix: Int4Groups, file: WeightFile) -> Node:
    """Return a matrix [rows, columns] as nodes from which OpenVINO's matrix product reads four bits a value."""
    rows, groups, size = matrix.shape
    each_group = (rows, groups, 1)
    if matrix.zeros is None:
        codes = op.convert(_stored(matrix.codes ^ (MIDDLE * 17), matrix.shape, Type.i4, file), Type.f32)
    else:
        zeros = op.convert(_stored(matrix.zeros, each_group, Type.u8, file), Type.f32)
        codes = op.subtract(op.convert(_stored(matrix.codes, matrix.shape, Type.u4, file), Type.f32), zeros)
    values = op.multiply(codes, _stored(matrix.scales, each_group, Type.f32, file))
    return op.reshape(values, _ints(rows, groups * size), False)


def _stored(values: Array, shape: tuple[int, ...], kind: Type, file: WeightFile) -> Node:
    """Return values as a constant, which reads the file if that has them."""
    # A constant that shares memory reads it after numpy has freed it, too: garbage, or the end of the process.
    mapped = file.store(values)
    tensor = ov.Tensor(np.ascontiguousarray(values) if mapped is None else mapped, ov.Shape(shape), kind)
    return ov.op.Constant(tensor, shared_memory=mapped is not None)


def _last(x: Node) -> int:
    """Return the size of the last axis, which is always known."""
    shape = x.get_output_partial_shape(0)
    return int(shape[shape.rank.get_length() - 1].get_length())


class OpenVinoOps(Ops[Node]):
    """Each operation adds a node to the graph.

    OpenVINO 2026.4 merges the matrix products of a feed-forward that is gated by GELU into one operation where the CPU
    has AMX. With one thread a stream, the process then dies of a division by zero (SIGFPE) while the model is compiled.
    ``separate_gates`` prevents the merge. With ``weights`` int8, matrices and tables of embeddings are constants of
    int8 with a scale for each row, from which OpenVINO computes without a copy in float. With int4, matrices whose rows
    are whole groups are constants of four bits (on Arm floats of the same values), and all others as with int8.
    """

    def __init__(
        self,
        *,
        separate_gates: bool = False,
        weights: Literal["float", "int8", "int4"] = "float",
        file: WeightFile | None = None,
    ) -> None:
        self._separate_gates = separate_gates
        self._weights = weights
        self._derived: dict[tuple[str, int], tuple[Node, Node]] = {}
        #: Where large matrices of codes are.
        self._file = WeightFile() if file is None else file
        #: Adapters' factors: parameters of the graph, and the tensor that each is always fed with.
        self.factors: list[tuple[Node, ov.Tensor]] = []

    def constant(self, array: Array) -> Node:
        return op.constant(np.ascontiguousarray(array))

    def _matrix(self, matrix: Array) -> Node:
        """Return a matrix of weights [rows, columns], in int4 where it has groups."""
        if self._weights == "int4" and has_groups(matrix.shape):
            groups = quantize_groups(matrix)
            # On Arm OpenVINO 2026.4 computes wrong vectors from some constants of four bits.
            return self.constant(groups.decoded()) if is_arm() else _grouped(groups, self._file)
        return self._table(matrix)

    def _table(self, table: Array) -> Node:
        """Return a matrix or table [rows, columns] as a constant, or as int8 that is multiplied by its scales."""
        if self._weights == "float" or not is_quantized(table.shape):
            return self.constant(table)
        rows = quantize_rows(table)
        codes = _stored(rows.codes, rows.codes.shape, Type.i8, self._file)
        return op.multiply(op.convert(codes, Type.f32), op.constant(rows.scales))

    def rows(self, table: Array, ids: Node) -> Node:
        return op.gather(self._table(table), ids, op.constant(np.int64(0)))

    def gather(self, table: Node, ids: Node) -> Node:
        return op.gather(table, ids, op.constant(np.int64(0)))

    def affine(self, x: Node, weight: Array, bias: Array | None) -> Node:
        y = op.matmul(x, self._matrix(weight), False, True)
        return y if bias is None else op.add(y, self.constant(bias))

    def factor(self, x: Node, weight: Array) -> Node:
        # Constants would exist three times: as loaded, and packed for few and for many rows.
        factor = op.parameter(list(weight.shape), Type.f32, name=f"factor.{len(self.factors)}")
        self.factors.append((factor, ov.Tensor(np.ascontiguousarray(weight))))
        return op.matmul(x, factor, False, True)

    def layer_norm(self, x: Node, norm: Norm, eps: float) -> Node:
        y = op.multiply(op.mvn(x, _ints(-1), True, eps, "inside_sqrt"), self.constant(norm.weight))
        return y if norm.bias is None else op.add(y, self.constant(norm.bias))

    def rms_norm(self, x: Node, norm: Norm, eps: float) -> Node:
        mean = op.reduce_mean(op.power(x, op.constant(np.float32(2))), _ints(-1), True)
        root = op.sqrt(op.add(mean, op.constant(np.float32(eps))))
        y = op.multiply(op.divide(x, root), self.constant(norm.weight))
        return y if norm.bias is None else op.add(y, self.constant(norm.bias))

    def split(self, x: Node, heads: int) -> Node:
        size = x.get_output_partial_shape(0)[2].get_length() // heads
        return op.transpose(op.reshape(x, _ints(0, 0, heads, size), True), _ints(0, 2, 1, 3))

    def rope(self, x: Node, cos: Node, sin: Node) -> Node:
        size = _last(cos)
        rotated = x if size == _last(x) else self._between(x, 0, size)
        half = size // 2
        turned = op.concat([op.negative(self._between(rotated, half, size)), self._between(rotated, 0, half)], -1)
        y = op.add(op.multiply(rotated, self._once(cos)), op.multiply(turned, self._once(sin)))
        return y if size == _last(x) else op.concat([y, self._between(x, size, _last(x))], -1)

    def _between(self, x: Node, start: int, stop: int) -> Node:
        return op.slice(x, _ints(start), _ints(stop), _ints(1), _ints(-1))

    def _once(self, angles: Node) -> Node:
        """Add the axis of heads to cosines or sines, in one node for all layers."""
        return self._derive(("heads", angles), lambda: op.unsqueeze(angles, _ints(1)))

    def relative(self, x: Node, table: Array, index: Node) -> Node:
        rows = self.constant(np.ascontiguousarray(table.transpose(1, 0, 2))[None])
        scores = op.matmul(x, rows, False, True)
        shape = op.concat([op.gather(op.shape_of(scores), _ints(0, 1), _ints(0)), op.shape_of(index)], 0)
        return op.gather_elements(scores, op.broadcast(index, shape), 3)

    def attention(
        self,
        q: Node,
        k: Node,
        v: Node,
        mask: AttentionMask[Node] | None,
        *,
        bias: Node = None,
        scale: float | None = None,
        cap: float | None = None,
    ) -> Node:
        heads, size = (q.get_output_partial_shape(0)[axis].get_length() for axis in (1, 3))
        k, v = self._repeated(k, heads), self._repeated(v, heads)
        # Written out, OpenVINO fuses this as well as its attention node, with fewer transposes: 2 to 3% faster.
        factor = self.constant(np.array(size**-0.5 if scale is None else scale, np.float32))
        scores = op.multiply(op.matmul(q, k, False, True), factor)
        if cap is not None:
            limit = self.constant(np.array(cap, np.float32))
            scores = scores if bias is None else op.add(scores, bias)
            scores, bias = op.multiply(op.tanh(op.divide(scores, limit)), limit), None
        if mask is not None:
            scores = op.add(scores, self._derive(("hidden", mask), lambda: self._hidden(mask)))
        scores = scores if bias is None else op.add(scores, bias)
        out = op.matmul(op.softmax(scores, -1), v, False, False)
        return op.reshape(op.transpose(out, _ints(0, 2, 1, 3)), _ints(0, 0, heads * size), True)

    def _repeated(self, x: Node, heads: int) -> Node:
        """Repeat each key or value head for the query heads that share it."""
        own = x.get_output_partial_shape(0)[1].get_length()
        if own == heads:
            return x
        size = _last(x)
        copies = op.tile(op.unsqueeze(x, _ints(2)), _ints(1, 1, heads // own, 1, 1))
        return op.reshape(copies, op.concat([_ints(0, heads), _ints(-1, size)], 0), True)

    def _hidden(self, mask: AttentionMask[Node]) -> Node:
        """Return what is added to the scores, [B, 1, L, L]: 0 where a token is mask, else -1e9."""
        keys = mask.segments if mask.keys is None else mask.keys
        visible = op.equal(op.unsqueeze(mask.segments, _ints(1, 3)), op.unsqueeze(keys, _ints(1, 2)))
        if mask.places is not None:
            ahead = op.subtract(op.unsqueeze(mask.places, _ints(1, 2)), op.unsqueeze(mask.places, _ints(1, 3)))
            if mask.before is not None:
                visible = op.logical_and(visible, op.greater_equal(ahead, op.constant(np.int32(-mask.before))))
            if mask.after is not None:
                visible = op.logical_and(visible, op.less_equal(ahead, op.constant(np.int32(mask.after))))
        return op.select(visible, op.constant(np.float32(0)), op.constant(np.float32(-1e9)))

    def _derive(self, key: tuple[str, Node], make: Callable[[], Node]) -> Node:
        """Create a node once for all layers."""
        name = (key[0], id(key[1]))
        if name not in self._derived:
            self._derived[name] = (key[1], make())  # a reference to the key, or its id could be reused
        return self._derived[name][1]

    def softmax(self, x: Node) -> Node:
        return op.softmax(x, -1)

    def top(self, x: Node, count: int) -> Node:
        least = op.reduce_min(op.topk(x, op.constant(np.int64(count)), -1, "max", "value").output(0), _ints(-1), True)
        return op.select(op.greater_equal(x, least), x, op.constant(np.float32(0)))

    def transpose(self, x: Node) -> Node:
        rank = x.get_output_partial_shape(0).rank.get_length()
        return op.transpose(x, _ints(*range(rank - 2), rank - 1, rank - 2))

    def activation(self, x: Node, name: str) -> Node:
        if self._separate_gates and _type_name(x) == "MatMul":
            x = op.add(x, op.constant(_NOTHING))
        return _ACTIVATIONS[name](x)

    def clip(self, x: Node, low: float, high: float) -> Node:
        largest = float(np.finfo(np.float32).max)
        return op.clamp(x, max(low, -largest), min(high, largest))

    def add(self, a: Node, b: Node) -> Node:
        return op.add(a, b)

    def multiply(self, a: Node, b: Node) -> Node:
        return op.multiply(a, b)

    def matmul(self, a: Node, b: Node) -> Node:
        return op.matmul(a, b, False, False)

    def max(self, x: Node, axis: int) -> Node:
        return op.reduce_max(x, _ints(axis), False)

    def expand(self, x: Node, axis: int) -> Node:
        return op.unsqueeze(x, _ints(axis))

    def move_last_first(self, x: Node) -> Node:
        rank = x.get_output_partial_shape(0).rank.get_length()
        return op.transpose(x, _ints(rank - 1, *range(rank - 1)))

    def concat(self, parts: list[Node]) -> Node:
        return parts[0] if len(parts) == 1 else op.concat(parts, -1)

    def take(self, x: Node, order: Array) -> Node:
        return op.gather(x, self.constant(order), op.constant(np.int64(1)))

    def nonzero(self, x: Node) -> Node:
        return op.reshape(op.non_zero(op.reshape(x, _ints(-1), False), "i32"), _ints(-1), False)

    def add_rows(self, x: Node, ids: Node, rows: Node) -> Node:
        flat = self.reshape(x, _last(x))
        changed = op.scatter_update(flat, ids, op.add(self.gather(flat, ids), rows), op.constant(np.int64(0)))
        return op.reshape(changed, op.shape_of(x), False)

    def reshape(self, x: Node, *sizes: int) -> Node:
        return op.reshape(x, _ints(-1, *sizes), False)

    def normalize(self, x: Node) -> Node:
        return op.normalize_l2(x, _ints(-1), 1e-24, "max")
