"""jina-embeddings-v2 in both implementations, against the papers' equations in plain torch: it needs its own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import Array, Case
from tests.parity.rotary_bert import PLAIN, rewrite, weights
from tests.support import tiny_models

HEADS, SIZE, INNER = 6, 36, 40


def write(normed: bool) -> Callable[[Path], Path]:
    """Return a writer of a folder like jinaai's: BERT by name, with custom code."""

    def run(folder: Path) -> Path:
        import torch

        out = tiny_models.tiny_bert(
            folder / "jina", hidden_size=SIZE, num_attention_heads=HEADS, intermediate_size=INNER
        )
        own = {"position_embedding_type": "alibi", "feed_forward_type": "geglu", "auto_map": {"AutoModel": "x--y.Z"}}
        tiny_models.edit(out / "config.json", **own)
        torch.manual_seed(7)
        left_out = ("position_embeddings", "intermediate", ".output.dense", ".output.LayerNorm", "pooler")
        tensors = {name: tensor for name, tensor in weights(out).items() if not any(part in name for part in left_out)}
        for layer in range(2):
            tensors.update(_layer(f"encoder.layer.{layer}.", normed))
        rewrite(out, tensors)
        return out

    return run


def _layer(stem: str, normed: bool) -> dict[str, Any]:
    import torch

    fused, down = ("up_gated_layer", "down_layer") if normed else ("gated_layers", "wo")
    norms = ["attention.output.LayerNorm"]
    norms += ["layer_norm_1", "layer_norm_2", "attention.self.layer_norm_q", "attention.self.layer_norm_k"] * normed
    norms += ["mlp.layernorm"] * (not normed)
    made = {f"{stem}{name}.weight": 1 + torch.randn(SIZE) * 0.2 for name in norms}
    made.update({f"{stem}{name}.bias": torch.randn(SIZE) * 0.2 for name in norms})
    shapes = {
        f"mlp.{fused}.weight": (2 * INNER, SIZE),
        f"mlp.{down}.weight": (SIZE, INNER),
        f"mlp.{down}.bias": (SIZE,),
    }
    shapes.update({"attention.output.dense.weight": (SIZE, SIZE), "attention.output.dense.bias": (SIZE,)})
    return {**made, **{stem + name: torch.randn(shape) * 0.3 for name, shape in shapes.items()}}


def expect(folder: Path, texts: Sequence[str], padding: str = "right") -> list[Array]:
    """Compute each text by itself."""
    import torch
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    w, rows = weights(folder), []
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=tiny_models.POSITIONS, return_tensors="pt")["input_ids"][0]
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
        x = _norm(x, w, "embeddings.LayerNorm")
        for layer in range(2):
            x = _one(x, w, f"encoder.layer.{layer}.")
        rows.append(np.asarray(torch.nn.functional.normalize(x.mean(0), dim=-1)))
    return rows


def _one(x: Any, w: Mapping[str, Any], stem: str) -> Any:
    import torch

    a = _linear(_attend(x, w, stem), w, f"{stem}attention.output.dense")
    a = _norm(a + x, w, f"{stem}attention.output.LayerNorm")
    gelu = torch.nn.functional.gelu
    if f"{stem}mlp.wo.weight" in w:
        both = a @ w[f"{stem}mlp.gated_layers.weight"].T
        h = gelu(both[:, :INNER]) * both[:, INNER:]
        return _norm(a + _linear(h, w, f"{stem}mlp.wo"), w, f"{stem}mlp.layernorm")
    x = _norm(x + a, w, f"{stem}layer_norm_1")
    both = x @ w[f"{stem}mlp.up_gated_layer.weight"].T
    h = both[:, :INNER] * gelu(both[:, INNER:])
    return _norm(x + _linear(h, w, f"{stem}mlp.down_layer"), w, f"{stem}layer_norm_2")


def _attend(x: Any, w: Mapping[str, Any], stem: str) -> Any:
    import torch

    q, k, v = (_linear(x, w, f"{stem}attention.self.{name}") for name in ("query", "key", "value"))
    if f"{stem}attention.self.layer_norm_q.weight" in w:
        q, k = (_norm(y, w, f"{stem}attention.self.layer_norm_{side}") for y, side in ((q, "q"), (k, "k")))
    q, k, v = (y.unflatten(-1, (HEADS, SIZE // HEADS)).transpose(0, 1) for y in (q, k, v))
    # Six heads: four slopes of 2^(-8/4), and every other one of eight heads' 2^(-8/8).
    slopes = torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3])
    places = torch.arange(len(x))
    apart = (places[:, None] - places[None]).abs()
    scores = q @ k.transpose(1, 2) / (SIZE // HEADS) ** 0.5 - slopes[:, None, None] * apart
    return (torch.softmax(scores, -1) @ v).transpose(0, 1).flatten(1)


def _linear(x: Any, w: Mapping[str, Any], stem: str) -> Any:
    return x @ w[f"{stem}.weight"].T + w[f"{stem}.bias"]


def _norm(x: Any, w: Mapping[str, Any], stem: str) -> Any:
    import torch

    return torch.nn.functional.layer_norm(x, (SIZE,), w[f"{stem}.weight"], w[f"{stem}.bias"], 1e-12)


CASES = [
    Case("mean", "jina-bert", PLAIN, write(normed=False), expect),
    Case("mean, normed queries and keys", "jina-bert", PLAIN, write(normed=True), expect),
]
