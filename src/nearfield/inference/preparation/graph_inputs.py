"""Inputs of a compiled graph: arrays of a batch's features, segments, positions, pooling weights and adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nearfield.arrays import Array
from nearfield.engine.job import Batch
from nearfield.families import Family
from nearfield.heads import HeadInput
from nearfield.heads.pooled import token_weights
from nearfield.packing import PackedRows


def graph_inputs(
    names: Sequence[str], family: Family, batch: Batch, packed: PackedRows, items: Sequence[HeadInput]
) -> dict[str, Array]:
    """Return all arrays that a graph reads: features, segments, positions, inputs of the family and of the heads.

    Args:
        names: inputs of the heads, and ``adapters`` if any are loaded.
        family: the model's architecture.
        batch: the batch.
        packed: the places of its tokens or patches in rows.
        items: the input of the heads for each job of the batch.
    """
    arrays = {"segments": packed.segments, "places": packed.places}
    arrays.update(family.host_inputs(packed.places))
    arrays.update(_feature_arrays(family, packed, items))
    sizes = np.array([item.length for item in items])
    # An input that is all prompt is pooled whole: there is nothing else to pool.
    skips = np.array([job.skip if job.skip < item.length else 0 for job, item in zip(batch.jobs, items, strict=True)])
    for name in names:
        if name.startswith("pool."):
            arrays[name] = _pooling_weights(name.removeprefix("pool."), packed, sizes, skips, items)
        else:
            arrays[name] = _TOKEN_INPUTS[name](packed, items)
    return arrays


def _feature_arrays(family: Family, packed: PackedRows, items: Sequence[HeadInput]) -> dict[str, Array]:
    """Return the arrays of all inputs, placed in the batch's rows."""
    parts = [family.feature_arrays(item.features) for item in items]
    return {name: packed.place_rows([part[name] for part in parts]) for name in parts[0]}


def _pooling_weights(mode: str, packed: PackedRows, sizes: Array, skips: Array, items: Sequence[HeadInput]) -> Array:
    if any(item.request.spans for item in items):
        return _span_weights(mode, packed, items)
    values = token_weights(mode, packed.place, sizes[packed.owner], skips[packed.owner])
    weights = packed.weights(values)
    return weights[:, 0] if mode == "max" else weights


def _span_weights(mode: str, packed: PackedRows, items: Sequence[HeadInput]) -> Array:
    """Return weights [rows, slots, width] that pool each span separately; an input without spans is one span."""
    inputs = [item.request.spans or ((0, item.length),) for item in items]
    weights = np.zeros((packed.layout.rows, max(map(len, inputs)), packed.layout.width), np.float32)
    for row, spans in enumerate(inputs):
        for slot, (start, stop) in enumerate(spans):
            places = np.arange(stop - start)
            weights[row, slot, start:stop] = token_weights(
                mode, places, np.full(len(places), len(places)), np.zeros(len(places), int)
            )
    return weights


def _token_types(packed: PackedRows, items: Sequence[HeadInput]) -> Array:
    """Return 1 for the tokens of a pair's second text, 0 for others."""
    seconds = np.array([item.request.second or item.length for item in items])
    return packed.spread((packed.place >= seconds[packed.owner]).astype(np.int32))


def _attended_segments(packed: PackedRows, items: Sequence[HeadInput]) -> Array:
    """Return the segments, with 0 for tokens that are not attended to."""
    ends = np.array([item.length - item.request.unattended for item in items])
    attended = packed.place < ends[packed.owner]
    return packed.spread((packed.layout.slot[packed.owner] + 1) * attended)


def _adapter_numbers(packed: PackedRows, items: Sequence[HeadInput]) -> Array:
    """Return the number of each token's adapter."""
    return packed.spread(np.array([item.request.adapter for item in items])[packed.owner])


_TOKEN_INPUTS: Mapping[str, Callable[[PackedRows, Sequence[HeadInput]], Array]] = {
    "types": _token_types,
    "keys": _attended_segments,
    "adapters": _adapter_numbers,
}
