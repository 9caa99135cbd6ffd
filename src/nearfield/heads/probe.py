"""Pooling by a learned query (SigLIP's attention head; Zhai et al. 2023, arXiv:2303.15343), folded.

The query is the same for every input, so that its product with the key projection is a matrix of one row a head: the
scores of all tokens are one narrow linear layer. What a head's keys add to all its scores alike changes no softmax.
The value projection is linear, and the weights of a softmax sum to 1: it is applied to the pooled states.
"""

from __future__ import annotations

import numpy as np

from nearfield.checkpoint.weights.weights import Weights
from nearfield.errors import ModelRefused
from nearfield.ops import Ops, T
from nearfield.recipe import ProbePooling


def probe_pool(ops: Ops[T], x: T, module: ProbePooling, mask: T, width: int) -> T:
    """Return the pooled vector [B, 1, H] of states ``x`` [B, L, H]; ``mask`` [B, L] is 1 where a token counts."""
    if module.size != width:
        raise ModelRefused(f"{module.weights.name}: {module.layer} takes {module.size} values, but gets {width}.")
    own = Weights.open(module.weights).scope(module.layer)
    y = _attended(ops, x, module, own, mask)
    h = ops.layer_norm(y, own.norm("layernorm", width), module.eps)
    inner = module.intermediate_size
    h = ops.activation(ops.linear(h, own.linear("mlp.fc1", width, inner)), module.activation)
    return ops.add(y, ops.linear(h, own.linear("mlp.fc2", inner, width)))


def _attended(ops: Ops[T], x: T, module: ProbePooling, weights: Weights, mask: T) -> T:
    size, heads = module.size, module.heads
    projections = weights.tensor("attention.in_proj_weight", (3 * size, size)).reshape(3, size, size)
    biases = weights.tensor("attention.in_proj_bias", (3 * size,)).reshape(3, size)
    probe = weights.tensor("probe", (1, 1, size)).reshape(size)
    query = (projections[0] @ probe + biases[0]) * (size // heads) ** -0.5
    keys = np.einsum("hd,hdi->hi", query.reshape(heads, -1), projections[1].reshape(heads, -1, size))
    scores = ops.transpose(ops.affine(x, np.ascontiguousarray(keys, np.float32), None))
    shares = ops.softmax(ops.add(scores, ops.expand(ops.unseen(mask), 1)))
    # Every head's pooled states go through the whole value projection, and each keeps its own part of the result:
    # there are as many rows as heads, which is few.
    values = ops.affine(ops.matmul(shares, x), projections[2], biases[2])
    parts = np.repeat(np.eye(heads, dtype=np.float32), size // heads, axis=1)
    joined = ops.transpose(ops.multiply(values, ops.constant(parts)))
    joined = ops.transpose(ops.affine(joined, np.ones((1, heads), np.float32), None))
    return ops.linear(joined, weights.linear("attention.out_proj", size, size))
