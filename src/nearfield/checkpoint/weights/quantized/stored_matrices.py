"""How a file stores matrices in int8 and int4: their codes under their name, scales and codes of zero beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nearfield.arrays import Array
from nearfield.checkpoint.weights.lazy_tensor import LazyTensor
from nearfield.checkpoint.weights.quantized.int4_groups import Int4Groups, has_groups, quantize_groups
from nearfield.checkpoint.weights.quantized.int8_rows import Int8Rows, is_quantized, quantize_rows
from nearfield.errors import WeightsError

#: What is added to the name of a matrix for its scales and its codes of zero.
_INT8_SCALES, _INT4_SCALES, _INT4_ZEROS = ".int8_scales", ".int4_scales", ".int4_zeros"
#: Names of tables whose rows are looked up: each row has its scale, in int4 too.
_TABLES = re.compile(r"embed|\bshared\b|\bw[tp]e\b")


def stored_form(name: str, shape: tuple[int, ...], precision: str) -> str:
    """Return how a tensor is stored in a precision (float32, int8 or int4): ``int4``, ``int8`` or ``float``."""
    if precision == "float32" or not is_quantized(shape):
        return "float"
    if precision == "int4" and has_groups(shape) and not _TABLES.search(name):
        return "int4"
    return "int8"


def stored_arrays(name: str, tensor: Array, precision: str) -> dict[str, Array]:
    """Return the arrays that stand for a tensor in a file, by name."""
    form = stored_form(name, tensor.shape, precision)
    if form == "float":
        return {name: tensor}
    if form == "int8":
        rows = quantize_rows(tensor)
        return {name: rows.codes, name + _INT8_SCALES: rows.scales}
    groups = quantize_groups(tensor)
    arrays = {name: groups.codes, name + _INT4_SCALES: groups.scales}
    return arrays if groups.zeros is None else {**arrays, name + _INT4_ZEROS: groups.zeros}


def decoded_tensors(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Return the tensors of a file with those in int8 and int4 as float32, each decoded when it is read.

    Raises:
        WeightsError: codes and scales do not fit together.
    """
    decoded = dict(tensors)
    for name in tensors:
        for suffix, decode in _DECODERS.items():
            if name.endswith(suffix):
                matrix = name.removesuffix(suffix)
                decoded[matrix] = decode(_Parts(matrix, tensors))
                decoded.pop(name)
                decoded.pop(matrix + _INT4_ZEROS, None)
    return decoded


@dataclass(frozen=True)
class _Parts:
    """The tensors that stand for a matrix."""

    name: str
    tensors: Mapping[str, LazyTensor]

    def read(self, suffix: str, dtype: str, rows: int | None = None, columns: int | None = None) -> LazyTensor:
        """Return a part of a number format with two axes, whose sizes are given if they are known."""
        part = self.tensors.get(self.name + suffix)
        if part is None or part.dtype != dtype or len(part.shape) != 2:
            raise self.error(suffix)
        if (rows or part.shape[0], columns or part.shape[1]) != part.shape:
            raise self.error(suffix)
        return part

    def error(self, suffix: str) -> WeightsError:
        """Return the error of a part that does not fit to the others."""
        part = self.tensors.get(self.name + suffix)
        what = "is missing" if part is None else f"cannot be {part.dtype}{list(part.shape)}"
        return WeightsError(
            f"{next(iter(self.tensors.values())).file} is damaged: {self.name}{suffix}, a part of a quantised matrix, "
            f"{what}. Quantise the model again (nearfield quantize)."
        )


def _decoded_rows(parts: _Parts) -> LazyTensor:
    codes = parts.read("", "I8")
    scales = parts.read(_INT8_SCALES, "F32", codes.shape[0], 1)
    return LazyTensor(codes.file, "F32", codes.shape, lambda: Int8Rows(codes.load(), scales.load()).decoded())


def _decoded_groups(parts: _Parts) -> LazyTensor:
    codes = parts.read("", "U8")
    rows, columns = codes.shape[0], 2 * codes.shape[1]
    scales = parts.read(_INT4_SCALES, "F32", rows)
    if not scales.shape[1] or columns % scales.shape[1]:
        raise parts.error(_INT4_SCALES)
    shifted = parts.name + _INT4_ZEROS in parts.tensors
    zeros = parts.read(_INT4_ZEROS, "U8", *scales.shape) if shifted else None

    def load() -> Array:
        return Int4Groups(codes.load(), scales.load(), None if zeros is None else zeros.load()).decoded()

    return LazyTensor(codes.file, "F32", (rows, columns), load)


_DECODERS: Mapping[str, Callable[[_Parts], LazyTensor]] = {
    _INT8_SCALES: _decoded_rows,
    _INT4_SCALES: _decoded_groups,
}
