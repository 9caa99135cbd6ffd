"""Matrices in int4: the values of a row in groups of 64 or 128, each group with a scale and the code of its zero."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.weights.quantized.finite_values import require_finite
from nearfield.checkpoint.weights.quantized.int8_rows import is_quantized
from nearfield.hardware import usable_cores

#: The largest code, and the code of zero where it is the same in all groups.
_LARGEST, MIDDLE = 15, 8
#: Shares of a group's range that its codes can cover: values beyond are cut off, and the others have smaller steps.
_COVERED = (1.0, 0.9, 0.8)
#: Rows on which forms are compared, and the share by which the square of the error of a smaller form may be larger.
_SAMPLED_ROWS, _TOLERANCE = 128, 1.1
#: Values that are quantised at once: they stay in the caches of the CPU.
_BLOCK = 2**16


@dataclass(frozen=True)
class GroupForm:
    """How a matrix is divided: values of a row in a group, and whether the code of zero is the same in all groups."""

    size: int
    symmetric: bool


#: From the fewest bytes to the most.
FORMS = (GroupForm(128, True), GroupForm(128, False), GroupForm(64, True), GroupForm(64, False))


@dataclass(frozen=True, eq=False)
class Int4Groups:
    """A matrix [rows, columns] in int4.

    ``codes`` are uint8 [rows, columns / 2], two of 0 to 15 in a byte, the lower half first. ``scales`` are float32
    [rows, groups]. ``zeros`` are the codes of zero, uint8 [rows, groups], or None: they are all 8.
    """

    codes: Array
    scales: Array
    zeros: Array | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, groups, and values of a group."""
        rows, groups = self.scales.shape
        return rows, groups, 2 * self.codes.shape[1] // groups

    def decoded(self) -> Array:
        """Return the matrix, float32 [rows, columns]."""
        codes = np.stack([self.codes & 15, self.codes >> 4], axis=-1).reshape(self.shape).astype(np.float32)
        codes -= np.float32(MIDDLE) if self.zeros is None else self.zeros[..., None]
        codes *= self.scales[..., None]
        return codes.reshape(len(codes), -1)


def has_groups(shape: tuple[int, ...]) -> bool:
    """Return whether a matrix [rows, columns] is quantised in groups: its rows are whole groups."""
    return is_quantized(shape) and shape[1] % min(form.size for form in FORMS) == 0


def quantize_groups(matrix: Array) -> Int4Groups:
    """Return a matrix [rows, columns] in int4, in the form with a small error on a sample of its rows.

    The range of each group is cut off where that makes its error smaller. Quantising the decoded matrix gives the
    same codes.

    Raises:
        WeightsError: it has values that are not finite.
    """
    require_finite(matrix)
    form = choose_form(matrix)
    rows = max(1, _BLOCK // matrix.shape[1])
    blocks = [matrix[start : start + rows] for start in range(0, len(matrix), rows)]
    with ThreadPoolExecutor(usable_cores()) as pool:
        parts = list(pool.map(partial(_quantize, form=form), blocks))
    codes, scales, zeros = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Int4Groups(codes, scales, None if form.symmetric else zeros)


def choose_form(matrix: Array) -> GroupForm:
    """Return the smallest form whose error on a sample of the rows is near the least."""
    sample = matrix[:: max(1, len(matrix) // _SAMPLED_ROWS)]
    forms = [form for form in FORMS if matrix.shape[1] % form.size == 0]
    errors = [_error(sample, form) for form in forms]
    return next(
        (form for form, error in zip(forms, errors, strict=True) if error <= _TOLERANCE * min(errors)), forms[0]
    )


def _error(matrix: Array, form: GroupForm) -> float:
    """Return the sum of the squared errors of a form."""
    groups = _groups(matrix, form)
    return float(_errors(groups, *_best_scales(groups, form)).sum())


def _quantize(matrix: Array, form: GroupForm) -> tuple[Array, Array, Array]:
    """Return codes [rows, columns / 2], scales and codes of zero [rows, groups]."""
    groups = _groups(matrix, form)
    scales, zeros = _best_scales(groups, form)
    codes = _codes(groups / scales, zeros).astype(np.uint8).reshape(matrix.shape)
    return codes[:, ::2] | codes[:, 1::2] << 4, scales[..., 0], zeros[..., 0].astype(np.uint8)


def _groups(matrix: Array, form: GroupForm) -> Array:
    return np.asarray(matrix, np.float32).reshape(len(matrix), -1, form.size)


def _best_scales(groups: Array, form: GroupForm) -> tuple[Array, Array]:
    """Return scales and codes of zero [rows, groups, 1] of groups [rows, groups, size]: those of the best share."""
    low, high = groups.min(axis=2, keepdims=True), groups.max(axis=2, keepdims=True)
    scales_of = _symmetric_scales if form.symmetric else _scales
    candidates = [scales_of(low * np.float32(share), high * np.float32(share)) for share in _COVERED]
    best = np.argmin([_errors(groups, *candidate) for candidate in candidates], axis=0)
    scales, zeros = (np.choose(best, arrays) for arrays in zip(*candidates, strict=True))
    return scales, zeros


def _symmetric_scales(low: Array, high: Array) -> tuple[Array, Array]:
    """Return scales of which the value farthest from zero is 8 steps in the direction that has so many."""
    farthest = np.where(-low > high, low, high)
    return _nonzero(farthest / np.float32(-MIDDLE)), np.full_like(farthest, MIDDLE)


def _scales(low: Array, high: Array) -> tuple[Array, Array]:
    """Return scales and codes of zero for ranges from the least to the largest value, and zero."""
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    scales = _nonzero((high - low) / np.float32(_LARGEST))
    return scales, np.clip(np.rint(-low / scales), 0, _LARGEST)


def _nonzero(scales: Array) -> Array:
    return np.where(scales == 0, np.float32(1), scales)


def _codes(steps: Array, zeros: Array) -> Array:
    """Return the codes of values in steps, as floats."""
    codes = np.rint(steps)
    codes += zeros
    return np.clip(codes, 0, _LARGEST, out=codes)


def _errors(groups: Array, scales: Array, zeros: Array) -> Array:
    """Return the sum of the squared errors of each group [rows, groups, 1]."""
    steps = groups / scales
    errors = _codes(steps, zeros)
    errors -= zeros
    errors -= steps
    return np.einsum("rgs,rgs->rg", errors, errors)[..., None] * np.square(scales)
