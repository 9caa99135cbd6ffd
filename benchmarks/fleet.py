"""Two models with random weights, the size of all-MiniLM-L6-v2 and its tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Another width than all-MiniLM-L6-v2's 384, so that no vector of one passes for the other's.
SECOND: Mapping[str, int] = {
    "hidden_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
}
RERANKER: Mapping[str, int] = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}


def write(base: Path, home: Path) -> tuple[Path, Path]:
    """Write an encoder and a reranker beside the tokenizer of ``base``; returns their folders."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    from tests.support.tiny_models import perturb

    torch.manual_seed(0)
    second = _copy(base, home / "second")
    pooling = second / "1_Pooling" / "config.json"
    size = SECOND["hidden_size"]
    pooling.write_text(json.dumps({**json.loads(pooling.read_text()), "word_embedding_dimension": size}))
    _save(BertModel(BertConfig(**SECOND), add_pooling_layer=False), second, perturb)
    reranker = _copy(base, home / "reranker")
    for name in ("modules.json", "sentence_bert_config.json"):
        (reranker / name).unlink(missing_ok=True)
    shutil.rmtree(reranker / "1_Pooling", ignore_errors=True)
    model: Any = BertForSequenceClassification(BertConfig(**RERANKER, num_labels=1))
    with torch.no_grad():
        model.classifier.weight.mul_(20)  # else all pairs score nearly the same
    _save(model, reranker, perturb)
    return second, reranker


def _copy(base: Path, target: Path) -> Path:
    shutil.copytree(base, target, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "*.onnx", "README.md"))
    return target


def _save(model: Any, folder: Path, perturb: Any) -> None:
    perturb(model)
    model.save_pretrained(folder)
