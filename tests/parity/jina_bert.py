"""jina-embeddings-v2 in both implementations, against the papers' equations in plain torch: it needs its own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import Array, Case
from tests.parity.rotary_bert import PLAIN, rewrite, weights
from tests.support import tiny_models

#: Slopes of the heads: those of eight are 2^(-8/8) and its powers, six have four of 2^(-8/4), and every other of eight.
SLOPES = {6: [2.0**-power for power in (2, 4, 6, 8, 1, 3)], 8: [2.0**-power for power in range(1, 9)]}


@dataclass(frozen=True)
class JinaSizes:
    """Heads, size of a token's state, and size between the two products of a feed-forward."""

    heads: int = 6
    size: int = 36
    inner: int = 40

    def spread(self) -> float:
        """Return the standard deviation of random weights with which states stay of the same size."""
        return 1.8 / self.size**0.5


TINY = JinaSizes()
#: Rows of whole blocks of 256 values.
WIDE = JinaSizes(8, 256, 256)


def write(normed: bool, sizes: JinaSizes = TINY) -> Callable[[Path], Path]:
    """Return a writer of a folder like jinaai's: BERT by name, with custom code."""

    def run(folder: Path) -> Path:
        import torch

        out = tiny_models.tiny_bert(
            folder / "jina",
            hidden_size=sizes.size,
            num_attention_heads=sizes.heads,
            intermediate_size=sizes.inner,
            initializer_range=0.5 if sizes is TINY else 0.08,
        )
        own = {"position_embedding_type": "alibi", "feed_forward_type": "geglu", "auto_map": {"AutoModel": "x--y.Z"}}
        tiny_models.edit(out / "config.json", **own)
        torch.manual_seed(7)
        left_out = ("position_embeddings", "intermediate", ".output.dense", ".output.LayerNorm", "pooler")
        tensors = {name: tensor for name, tensor in weights(out).items() if not any(part in name for part in left_out)}
        for layer in range(2):
            tensors.update(_layer(f"encoder.layer.{layer}.", normed, sizes))
        rewrite(out, tensors)
        return out

    return run


def _layer(stem: str, normed: bool, sizes: JinaSizes) -> dict[str, Any]:
    import torch

    size, inner = sizes.size, sizes.inner
    fused, down = ("up_gated_layer", "down_layer") if normed else ("gated_layers", "wo")
    norms = ["attention.output.LayerNorm"]
    norms += ["layer_norm_1", "layer_norm_2", "attention.self.layer_norm_q", "attention.self.layer_norm_k"] * normed
    norms += ["mlp.layernorm"] * (not normed)
    made = {f"{stem}{name}.weight": 1 + torch.randn(size) * 0.2 for name in norms}
    made.update({f"{stem}{name}.bias": torch.randn(size) * 0.2 for name in norms})
    shapes = {
        f"mlp.{fused}.weight": (2 * inner, size),
        f"mlp.{down}.weight": (size, inner),
        f"mlp.{down}.bias": (size,),
    }
    shapes.update({"attention.output.dense.weight": (size, size), "attention.output.dense.bias": (size,)})
    return {**made, **{stem + name: torch.randn(shape) * sizes.spread() for name, shape in shapes.items()}}


def expect(folder: Path, texts: Sequence[str], padding: str = "right") -> list[Array]:
    """Compute each text by itself."""
    import torch
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    w, rows, heads = weights(folder), [], tiny_models.read(folder / "config.json")["num_attention_heads"]
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=tiny_models.POSITIONS, return_tensors="pt")["input_ids"][0]
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
        x = _norm(x, w, "embeddings.LayerNorm")
        for layer in range(2):
            x = _one(x, w, f"encoder.layer.{layer}.", heads)
        rows.append(np.asarray(torch.nn.functional.normalize(x.mean(0), dim=-1)))
    return rows


def _one(x: Any, w: Mapping[str, Any], stem: str, heads: int) -> Any:
    import torch

    a = _linear(_attend(x, w, stem, heads), w, f"{stem}attention.output.dense")
    a = _norm(a + x, w, f"{stem}attention.output.LayerNorm")
    gelu = torch.nn.functional.gelu
    if f"{stem}mlp.wo.weight" in w:
        gate, up = (a @ w[f"{stem}mlp.gated_layers.weight"].T).chunk(2, -1)
        h = gelu(gate) * up
        return _norm(a + _linear(h, w, f"{stem}mlp.wo"), w, f"{stem}mlp.layernorm")
    x = _norm(x + a, w, f"{stem}layer_norm_1")
    up, gate = (x @ w[f"{stem}mlp.up_gated_layer.weight"].T).chunk(2, -1)
    h = up * gelu(gate)
    return _norm(x + _linear(h, w, f"{stem}mlp.down_layer"), w, f"{stem}layer_norm_2")


def _attend(x: Any, w: Mapping[str, Any], stem: str, heads: int) -> Any:
    import torch

    q, k, v = (_linear(x, w, f"{stem}attention.self.{name}") for name in ("query", "key", "value"))
    if f"{stem}attention.self.layer_norm_q.weight" in w:
        q, k = (_norm(y, w, f"{stem}attention.self.layer_norm_{side}") for y, side in ((q, "q"), (k, "k")))
    q, k, v = (y.unflatten(-1, (heads, -1)).transpose(0, 1) for y in (q, k, v))
    slopes = torch.tensor(SLOPES[heads])
    places = torch.arange(len(x))
    apart = (places[:, None] - places[None]).abs()
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 - slopes[:, None, None] * apart
    return (torch.softmax(scores, -1) @ v).transpose(0, 1).flatten(1)


def _linear(x: Any, w: Mapping[str, Any], stem: str) -> Any:
    return x @ w[f"{stem}.weight"].T + w[f"{stem}.bias"]


def _norm(x: Any, w: Mapping[str, Any], stem: str) -> Any:
    import torch

    return torch.nn.functional.layer_norm(x, x.shape[-1:], w[f"{stem}.weight"], w[f"{stem}.bias"], 1e-12)


CASES = [
    Case("mean", "jina-bert", PLAIN, write(normed=False), expect),
    Case("mean, normed queries and keys", "jina-bert", PLAIN, write(normed=True), expect),
]
