"""The tests of sentence-transformers that concern using a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tools.suites.sentence_transformers_util import write_reranker, write_splade

PACKAGE = "sentence_transformers"
TESTS = (
    "tests/sentence_transformer/test_model.py",
    "tests/sentence_transformer/test_compute_embeddings.py",
    "tests/sentence_transformer/test_multi_process.py",
    "tests/base/test_model.py",
)
NOTE = "Of errors the class is compared, not the words."
MODULES = {"sentence_transformers": "nearfield.compat.sentence_transformers"}

_MODULES = "Reads or changes torch modules of a model, or builds one from modules."
_PRIVATE = "Calls private methods, or simulates kinds of input that a model does not have."
_UPLOAD = "Uploads a model to the Hub."
_TRAINING = "Concerns training, or adapters that are being trained (PEFT)."
_CARD = "Concerns model cards."
_HUB = "Needs files that only the Hub has."
_WEIGHTS = "Compares numbers of the real weights, which the tiny checkpoint does not have."
_CONVERSION = "Converts a checkpoint of one class into a model of another."
LEFT_OUT = {
    # -- tests/sentence_transformer/test_model.py, test_compute_embeddings.py
    r"::test_load_with_(pytorch_bin|model_kwargs)": _MODULES,
    r"::test_prompt_length_calculation": _MODULES,
    r"::test_load_local_without_normalize_directory": _MODULES,
    r"::test_safetensors\[": _MODULES,
    r"::test_get_model_kwargs": _MODULES,
    r"::test_(router_)?transformers_model_property": _MODULES,
    r"::test_default_pooling_mode": _MODULES,
    r"::test_encode_routes_through_module_call": _MODULES,
    r"::test_clip": "Pictures are not supported.",
    r"::test_load_with_(safetensors|revision)$": _HUB,
    r"::test_load_adapter_with_revision": _HUB,
    r"::test_(push|save)_to_hub": _UPLOAD,
    r"::test_multiple_adapters|::test_load_checkpoint_with_peft_and_lora": _TRAINING,
    r"::test_model_card_": _CARD,
    r"::test_conversion_ignores_source_": _CONVERSION,
    r"::test_parse_model_config": _PRIVATE,
    r"::test_(encode_(single|tuple)_sentences|similarity_score\[)": _WEIGHTS,
    # -- tests/base/test_model.py
    r"::test_preprocess_modality_error_messages": _PRIVATE,
    r"::test_supports_parametrized": _PRIVATE,
    r"::test_load_module_class_from_ref": _PRIVATE,
    r"::test_get_model_type": _PRIVATE,
    r"::test_can_flatten_inputs": _PRIVATE,
    r"::test_private_load_with_module_classes": _PRIVATE,
    r"::test_config_(is_settable|returns_none|setter|delegates)": _MODULES,
    r"::test_(use_auth_token|empty_modules|cache_folder_from_env|dtype_no_parameters)": _MODULES,
    r"::test_save_with_safe_serialization_fallback": _MODULES,
    r"::test_third_party_module": _MODULES,
    r"::test_device_map_": _MODULES,
    r"::test_device_argument_warns": "It fails with the original too, which is of a later version than the tests.",
    r"::test_gradient_checkpointing_enable": _TRAINING,
    r"::test_load_logs_converting_model_type": _CONVERSION,
}
_WORDS = "A message of the log has other words, or is not there."
_PAIRS = "Pairs of texts as one input are refused."
EXPECTED_FAILURES = {
    r"::test_prompts$": _WORDS,
    r"::test_(save_load_roundtrip|load_logs_no_modules_json|tokenize_deprecation_warning)": _WORDS,
    r"::test_modules_and_path_combo_warns": _WORDS,
    r"Test(CrossEncoder|SparseEncoder)Preprocess::": "CrossEncoder and SparseEncoder have no method preprocess.",
    r"::test_encode_numpy_2d_string_array": _PAIRS,
    r"::test_model_path_pointing_to_a_file": "The error is ModelNotFound, not NotADirectoryError.",
    r"::test_unmet_requirements_raise": "The versions of packages that a folder requires do not matter here.",
}


def prepare(_: Path) -> None:
    """Compare the class of errors only: their messages have other words."""
    import pytest

    raises: Any = pytest.raises

    def raises_any_message(*args: Any, **options: Any) -> Any:
        return raises(*args, **{**options, "match": None})

    pytest.raises = raises_any_message


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
    "cross-encoder-testing/reranker-bert-tiny-gooaq-bce": write_reranker,
    "sparse-encoder-testing/splade-bert-tiny-nq": write_splade,
}
