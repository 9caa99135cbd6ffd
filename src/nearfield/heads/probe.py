"""Pooling by a learned query (SigLIP's attention head; Zhai et al. 2023, arXiv:2303.15343), folded.

The query is the same for every input, so that its product with the key projection is a matrix of one row a head: the
scores of all tokens are one narrow linear layer. What a head's keys add to all its scores alike changes no softmax.
The value projection is linear, and the weights of a softmax sum to 1: it is applied to the pooled states.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nearfield.arrays import Array
from nearfield.checkpoint.weights.weights import Linear, Weights
from nearfield.errors import ModelRefused
from nearfield.ops import Ops, T
from nearfield.recipe import ProbePooling, SelectorPooling


def probe_pool(ops: Ops[T], x: T, module: ProbePooling, mask: T, width: int) -> T:
    """Return the pooled vector [B, 1, H] of states ``x`` [B, L, H]; ``mask`` [B, L] is 1 where a token counts."""
    _check_width(module, width)
    own = Weights.open(module.weights).scope(module.layer)
    joined = Linear(
        own.tensor("attention.in_proj_weight", (3 * width, width)), own.tensor("attention.in_proj_bias", (3 * width,))
    )
    attention = _ProbeAttention(
        query=joined.part(0, width),
        key_value=joined.part(width, 3 * width),
        out=own.linear("attention.out_proj", width, width),
        probe=own.tensor("probe", (1, 1, width)),
        heads=module.heads,
    )
    y = _attended(ops, x, attention, mask)
    h = ops.layer_norm(y, own.norm("layernorm", width), module.eps)
    inner = module.intermediate_size
    h = ops.activation(ops.linear(h, own.linear("mlp.fc1", width, inner)), module.activation)
    return ops.add(y, ops.linear(h, own.linear("mlp.fc2", inner, width)))


def select_pool(ops: Ops[T], x: T, module: SelectorPooling, mask: T, first: T, width: int) -> T:
    """Return the vector [B, 1, H] of states ``x`` [B, L, H]; ``first`` [B, 1, L] is 1 at the class token.

    Nussbaum et al. 2024, arXiv:2406.18587: the pooled vector goes through a norm and a gated feed-forward, and is added
    to the class token's state.
    """
    _check_width(module, width)
    own = Weights.open(module.weights).scope(module.layer)
    inner = module.intermediate_size
    attention = _ProbeAttention(
        query=own.linear("attn.Wq", width, width),
        key_value=own.linear("attn.Wkv", width, 2 * width),
        out=own.linear("attn.out_proj", width, width),
        probe=own.tensor("attn.latent", (1, 1, width)),
        heads=module.heads,
    )
    h = ops.layer_norm(_attended(ops, x, attention, mask), own.norm("norm1", width), module.eps)
    gate, up = (own.linear(name, width, inner) for name in ("mlp.fc12", "mlp.fc11"))
    h = ops.multiply(ops.activation(ops.linear(h, gate), module.activation), ops.linear(h, up))
    return ops.add(ops.matmul(first, x), ops.linear(h, own.linear("mlp.fc2", inner, width)))


def _check_width(module: ProbePooling, width: int) -> None:
    if module.size != width:
        raise ModelRefused(f"{module.weights.name}: {module.layer} takes {module.size} values, but gets {width}.")


@dataclass(frozen=True)
class _ProbeAttention:
    """The layers of attention with a learned query ``probe`` [1, 1, H]; ``key_value`` has the keys' outputs first."""

    query: Linear
    key_value: Linear
    out: Linear
    probe: Array
    heads: int


def _attended(ops: Ops[T], x: T, layers: _ProbeAttention, mask: T) -> T:
    heads, size = layers.heads, layers.probe.size
    key, value = layers.key_value.parts(2)
    query = layers.query.weight @ layers.probe.reshape(size)
    query = (query + (0 if layers.query.bias is None else layers.query.bias)) * (size // heads) ** -0.5
    keys = np.einsum("hd,hdi->hi", query.reshape(heads, -1), key.weight.reshape(heads, -1, size))
    scores = ops.transpose(ops.affine(x, np.ascontiguousarray(keys, np.float32), None))
    shares = ops.softmax(ops.add(scores, ops.expand(ops.unseen(mask), 1)))
    # Every head's pooled states go through the whole value projection, and each keeps its own part of the result:
    # there are as many rows as heads, which is few.
    values = ops.linear(ops.matmul(shares, x), value)
    parts = np.repeat(np.eye(heads, dtype=np.float32), size // heads, axis=1)
    joined = ops.transpose(ops.multiply(values, ops.constant(parts)))
    joined = ops.transpose(ops.affine(joined, np.ones((1, heads), np.float32), None))
    return ops.linear(joined, layers.out)
