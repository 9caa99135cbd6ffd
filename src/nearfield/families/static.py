"""Static embeddings: a table and nothing else; a text is the mean of its tokens' rows (model2vec; StaticEmbedding).

Tulkens & van Dongen 2024 (https://github.com/MinishLab/model2vec). One row of zeros follows the vocabulary, for
texts without a token.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.json_file import JsonObject
from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import WeightsError
from nearfield.families import Family
from nearfield.families.bert import size_of
from nearfield.ops import Ops, T


class Static(Family):
    """``static`` is no model_type of transformers: the folder's reader gives it to both layouts."""

    inputs = ("ids",)

    def __init__(self, config: JsonObject) -> None:
        self.hidden_size = size_of(config, "hidden_size")
        self.vocab_size = size_of(config, "vocab_size")
        self.positions = size_of(config, "max_position_embeddings")

    def host_inputs(self, places: Array) -> dict[str, Array]:
        return {}

    def encode(self, ops: Ops[T], weights: Weights, inputs: Mapping[str, T]) -> T:
        blank = np.zeros((1, self.hidden_size), np.float32)
        return ops.rows(np.concatenate([table(weights), blank]), inputs["ids"])


def table(weights: Weights) -> Array:
    """Return the vectors of the vocabulary [V, H]: shared ones by their mapping, each times its token's weight."""
    names = weights.names()
    name = "embedding.weight" if "embedding.weight" in names else "embeddings"
    if name == "embeddings" and weights.stored(name).dtype == "I8":
        # model2vec's int8 rows have no scale: only their directions count, and its models scale to unit length.
        vectors = weights.integers(name).astype(np.float32)
    else:
        vectors = weights.tensor(name, weights.shape(name))
    if "mapping" in names:
        mapping = weights.integers("mapping")
        if mapping.size and not 0 <= mapping.min() <= mapping.max() < len(vectors):
            raise WeightsError(f"The mapping of tokens points outside the table, which has {len(vectors)} rows.")
        vectors = vectors[mapping]
    if "weights" in names:
        vectors = vectors * weights.tensor("weights", (len(vectors),))[:, None]
    return np.ascontiguousarray(vectors, np.float32)
