"""The tests of model2vec that concern using a model."""

from __future__ import annotations

PACKAGE = "model2vec"
TESTS = ("tests/test_model.py", "tests/test_persistence.py", "tests/test_quantization.py")
MODULES = {"model2vec": "nearfield.compat.model2vec", "model2vec.model": "nearfield.compat.model2vec"}
_INTERNALS = "tests functions inside model2vec"
LEFT_OUT = {
    r"test_quantization|test_maybe_get_cached_model_path": _INTERNALS,
    r"test_local_loading": "patches functions inside model2vec that download",
    r"test_initialization\[|test_set_normalize": "asks what version 0.8 did; model2vec 0.10 itself fails",
    r"test_load_pretrained_vocabulary_quantized": "clusters the vocabulary, which changes a model",
}
EXPECTED_FAILURES: dict[str, str] = {}
