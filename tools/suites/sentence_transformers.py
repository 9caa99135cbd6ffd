"""The tests of sentence-transformers that concern using a model."""

from __future__ import annotations

from pathlib import Path

PACKAGE = "sentence_transformers"
TESTS = (
    "tests/sentence_transformer/test_model.py",
    "tests/sentence_transformer/test_compute_embeddings.py",
    "tests/sentence_transformer/test_multi_process.py",
    "tests/base/test_model.py",
)
MODULES = {"sentence_transformers": "nearfield.compat.sentence_transformers"}


def write_stsb_bert_tiny(folder: Path) -> None:
    """Write a BERT of two layers and 128 dimensions with mean pooling."""
    from tests.support.tiny_models import tiny_bert

    tiny_bert(folder, hidden_size=128, num_attention_heads=2, max_position_embeddings=512, normalize=False)


def write_distilroberta(folder: Path) -> None:
    """Write a RoBERTa of two layers and 768 dimensions with mean pooling."""
    from tests.support.tiny_models import tiny_roberta

    tiny_roberta(folder, hidden_size=768, num_attention_heads=12, normalize=False)


MODELS = {
    "sentence-transformers-testing/stsb-bert-tiny-safetensors": write_stsb_bert_tiny,
    "sentence-transformers/paraphrase-distilroberta-base-v1": write_distilroberta,
}
LEFT_OUT: dict[str, str] = {}
EXPECTED_FAILURES: dict[str, str] = {}
