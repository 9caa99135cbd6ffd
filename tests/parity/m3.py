"""bge-m3's three outputs in one pass, against its recipe in plain torch over transformers' XLM-RoBERTa.

FlagEmbedding's rules are written out here from the model's card and paper (Chen et al. 2024, arXiv:2402.03216).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity import Array, Case
from tests.support import tiny_models

REFERENCE = "bge-m3's recipe in plain torch over transformers"


def write(folder: Path) -> Path:
    """Write a folder as BAAI/bge-m3 is: a dense model, and two heads beside it."""
    import torch

    out = tiny_models.tiny_xlm_roberta(folder / "m3", pooling="cls", initializer_range=0.2)
    torch.manual_seed(4)
    torch.save({"weight": torch.randn(1, 32), "bias": torch.randn(1)}, out / "sparse_linear.pt")
    torch.save({"weight": torch.randn(32, 32), "bias": torch.randn(32)}, out / "colbert_linear.pt")
    return out


def expect(kind: str) -> Callable[..., list[Array]]:
    """Return what gives one of the three outputs by the recipe."""

    def run(folder: Path, texts: Sequence[str], padding: str = "right") -> list[Array]:
        import torch
        from transformers import AutoModel, AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model = AutoModel.from_pretrained(folder).eval()
        batch = tokenizer(
            list(texts), padding=True, truncation=True, max_length=tiny_models.SHIFTED, return_tensors="pt"
        )
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state
        heads: dict[str, Any] = {name: torch.load(folder / f"{name}_linear.pt") for name in ("sparse", "colbert")}
        heads["size"] = model.config.vocab_size
        return [_one(kind, hidden[row], batch, heads, row) for row in range(len(texts))]

    return run


def _one(kind: str, hidden: Any, batch: Any, heads: Any, row: int) -> Array:
    import torch

    mask = batch["attention_mask"][row].bool()
    ids = batch["input_ids"][row][mask]
    if kind == "dense":
        return np.asarray(torch.nn.functional.normalize(hidden[0], dim=-1))
    if kind == "multivector":
        rows = torch.nn.functional.linear(hidden[mask][1:], heads["colbert"]["weight"], heads["colbert"]["bias"])
        return np.asarray(torch.nn.functional.normalize(rows, dim=-1))
    weights = torch.relu(torch.nn.functional.linear(hidden[mask], heads["sparse"]["weight"], heads["sparse"]["bias"]))
    spread = np.zeros(heads["size"], np.float32)
    for number, weight in zip(ids.tolist(), weights[:, 0].tolist(), strict=True):
        if number not in (0, 1, 2, 3):
            spread[number] = max(spread[number], weight)
    return spread


CASES = [
    Case(f"bge-m3, {kind}", "xlm-roberta", REFERENCE, write, expect(kind), kind, wanted={"outputs": kind})
    for kind in ("dense", "sparse", "multivector")
]
