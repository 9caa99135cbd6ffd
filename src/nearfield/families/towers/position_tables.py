"""Position tables at another size: what each row of a square table counts at each place of a grid.

A table of R x R rows is resized as a picture with as many channels as a row has values. Resizing is linear, so that a
matrix says all: the same for every channel. Both kinds are those of torch's ``interpolate`` without ``align_corners``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from nearfield.arrays import Array

#: The parameter of the cubic kernel (Keys 1981) as torch sets it, and as it sets it with ``antialias``, after Pillow.
_CUBIC, _SMOOTH_CUBIC = -0.75, -0.5


def resized(table: Array, grid: tuple[int, int], *, antialias: bool = False) -> Array:
    """Return the rows [rows x columns, H] of a square table [R x R, H] at another grid, by cubic interpolation."""
    edge = round(len(table) ** 0.5)
    if grid == (edge, edge):
        return table
    square = table.reshape(edge, edge, -1)
    down, across = (_smooth_cubic(edge, size) if antialias else _cubic(edge, size) for size in grid)
    rows = np.einsum("yi,xj,ijh->yxh", down, across, square, optimize=True)
    return np.ascontiguousarray(rows.reshape(grid[0] * grid[1], -1), np.float32)


@lru_cache(maxsize=256)
def triangle_weights(edge: int, grid: tuple[int, int]) -> Array:
    """Return what each row of a square table counts at each place of a grid, float32 [rows x columns, edge x edge].

    Linear interpolation, antialiased: where the grid is smaller than the table, rows are averaged.
    """
    down, across = (_triangle(edge, size) for size in grid)
    weights = down[:, None, :, None] * across[None, :, None, :]
    return np.ascontiguousarray(weights.reshape(grid[0] * grid[1], edge * edge), np.float32)


def block_places(grid: tuple[int, int], merge: int) -> tuple[Array, Array]:
    """Return row and column of each patch of a grid, int64 [patches], in the order of a layout with ``merge``."""
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    shape = (grid[0] // merge, merge, grid[1] // merge, merge)
    down, across = (places.reshape(shape).transpose(0, 2, 1, 3).reshape(-1) for places in (rows, columns))
    return down, across


@lru_cache(maxsize=64)
def linear_taps(edge: int, grid: tuple[int, int], merge: int) -> tuple[Array, Array]:
    """Return the four rows of a square table around each patch of a grid, int32 [patches, 4], and their weights.

    Linear interpolation between the table's corners, which are those of the grid (``align_corners``), without
    antialiasing; patches are in the order of a layout with ``merge``.
    """
    axes = []
    for places, size in zip(block_places(grid, merge), grid, strict=True):
        at = np.asarray(places, np.float32) * np.float32(edge - 1) / np.float32(max(size - 1, 1))
        first = np.floor(at)
        near = (at - first).astype(np.float32)
        pairs = np.stack([first, np.minimum(first + 1, edge - 1)], axis=1).astype(np.int32)
        axes.append((pairs, np.stack([1 - near, near], axis=1)))
    (rows, down), (columns, across) = axes
    taps = (rows[:, :, None] * edge + columns[:, None, :]).reshape(-1, 4)
    weights = (down[:, :, None] * across[:, None, :]).reshape(-1, 4)
    return np.ascontiguousarray(taps, np.int32), np.ascontiguousarray(weights, np.float32)


def _cubic(size: int, target: int) -> Array:
    """Return the weights [target, size] of cubic interpolation along one axis; rows beyond the edge repeat it."""
    at = (np.arange(target) + 0.5) * size / target - 0.5
    first = np.floor(at).astype(int)
    weights = np.zeros((target, size))
    for offset in (-1, 0, 1, 2):
        values = _cubic_kernel(np.abs(at - first - offset), _CUBIC)
        np.add.at(weights, (np.arange(target), np.clip(first + offset, 0, size - 1)), values)
    return weights


def _smooth_cubic(size: int, target: int) -> Array:
    return _antialiased(size, target, 2.0, lambda distance: _cubic_kernel(distance, _SMOOTH_CUBIC))


def _triangle(size: int, target: int) -> Array:
    return _antialiased(size, target, 1.0, lambda distance: np.maximum(0.0, 1 - distance))


def _antialiased(size: int, target: int, reach: float, kernel: Callable[[Array], Array]) -> Array:
    """Return weights [target, size] along one axis: the kernel is widened where the target is smaller."""
    scale = size / target
    width = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    places = np.arange(size)
    starts = np.maximum((centres - reach * width + 0.5).astype(int), 0)[:, None]
    stops = np.minimum((centres + reach * width + 0.5).astype(int), size)[:, None]
    weights = kernel(np.abs(places - centres[:, None] + 0.5) / width) * ((places >= starts) & (places < stops))
    return np.asarray(weights / weights.sum(1, keepdims=True))


def _cubic_kernel(distance: Array, a: float) -> Array:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
