"""Rows of towers in the sequence of a language model, in place of word embeddings.

All rows of a batch are one table, an input of the graph: a text without media reads its row of zeros alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nearfield.errors import ModelRefused
from nearfield.families import Family
from nearfield.ops import Ops, T

#: Graph inputs of a family that reads rows of towers.
MEDIA_INPUTS = ("media", "media.index", "media.mask")
#: What counts of a word embedding, by ``media.mask``.
_KEPT = np.array([[1], [0]], np.float32)


def put_rows(ops: Ops[T], words: T, inputs: Mapping[str, T]) -> T:
    """Return word embeddings [B, L, H] with the rows of towers in their places; unchanged in a model of texts alone."""
    if "media" not in inputs:
        return words
    return ops.add(ops.multiply(words, ops.rows(_KEPT, inputs["media.mask"])), deep_rows(ops, inputs, 0))


def deep_rows(ops: Ops[T], inputs: Mapping[str, T], slot: int) -> T:
    """Return one vector of the row of each token, zeros for words: [B, L, H].

    Slot 0 takes the place of a word; later ones are added to the states of layers (DeepStack; Meng et al. 2024,
    arXiv:2406.04334).
    """
    index = inputs["media.index"]
    if slot:
        index = ops.add(index, ops.constant(np.array([slot], np.int32)))
    return ops.gather(inputs["media"], index)


def check_rows(towers: Mapping[str, Family], size: int) -> int:
    """Return the number of vectors of a row, which all towers share; each must have the size of a word embedding.

    Raises:
        ModelRefused: they differ.
    """
    for name, tower in towers.items():
        if tower.hidden_size != size:
            raise ModelRefused(
                f"The tower of modality {name!r} gives rows of {tower.hidden_size} values, and words have {size}."
            )
    slots = {tower.row_slots for tower in towers.values()}
    if len(slots) != 1:
        raise ModelRefused(f"The towers give rows of several kinds: {sorted(slots)} vectors a row.")
    return slots.pop()
