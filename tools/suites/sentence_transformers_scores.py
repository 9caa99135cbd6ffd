"""The tests of sentence-transformers for cross-encoders, sparse encoders and late interaction."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from tools.suites.sentence_transformers import NOTE, PACKAGE, prepare

__all__ = ["LEFT_OUT", "MODELS", "MODULES", "NOTE", "PACKAGE", "TESTS", "prepare"]

MODULES = {
    "sentence_transformers": "nearfield.compat.sentence_transformers",
    "sentence_transformers.util": "nearfield.compat.sentence_transformers.util",
}
TESTS = (
    "tests/cross_encoder/test_model.py",
    "tests/cross_encoder/test_multi_process.py",
    "tests/sparse_encoder/test_model.py",
    "tests/sparse_encoder/test_multi_process.py",
    "tests/multi_vector_encoder/test_model.py",
    "tests/multi_vector_encoder/test_multi_process.py",
)


def _copied(write: Callable[[Path], Path], folder: Path) -> None:
    """Copy what a function writes below a folder of its choice."""
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(write(Path(place)), folder, dirs_exist_ok=True)


def write_reranker(folder: Path, labels: int = 1, family: str = "bert") -> None:
    """Write a cross-encoder of two layers."""
    from tests.parity.scores import classifier

    _copied(classifier(family, labels), folder)


def write_reranker_with_tanh(folder: Path, *, old: bool) -> None:
    """Write a cross-encoder whose config.json names its activation, in the way of version 3 or of version 4."""
    from tests.parity.scores import classifier

    _copied(classifier("bert", new=False), folder)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    name = "torch.nn.modules.activation.Tanh"
    config |= (
        {"sbert_ce_default_activation_function": name} if old else {"sentence_transformers": {"activation_fn": name}}
    )
    file.write_text(json.dumps(config))


def write_long_reranker(folder: Path) -> None:
    """Write a cross-encoder of the XLM-RoBERTa family that reads 512 tokens."""
    from tests.parity.scores import classifier

    _copied(classifier("xlm-roberta", max_position_embeddings=514), folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": 512}))


def write_splade(folder: Path) -> None:
    """Write a SPLADE of two layers."""
    from tests.parity.sparse import masked

    _copied(masked("bert"), folder)


def write_inference_free_splade(folder: Path) -> None:
    """Write a SPLADE whose queries need no model."""
    from tests.parity.sparse import inference_free

    _copied(inference_free, folder)


def write_late_interaction(folder: Path) -> None:
    """Write the model that the tests of late interaction create from a BERT: a projection to 128 dimensions."""
    from sentence_transformers import MultiVectorEncoder

    from tests.support.tiny_models import tiny_bert

    with tempfile.TemporaryDirectory() as place:
        base = tiny_bert(Path(place) / "base", max_position_embeddings=512)
        MultiVectorEncoder(str(base), device="cpu").save(str(folder), create_model_card=False)


MODELS = {
    "cross-encoder-testing/reranker-bert-tiny-gooaq-bce": write_reranker,
    "cross-encoder-testing/reranker-bert-tiny-gooaq-bce-STv54": write_reranker,
    "cross-encoder-testing/reranker-bert-tiny-gooaq-bce-tanh-v3": lambda folder: write_reranker_with_tanh(
        folder, old=True
    ),
    "cross-encoder-testing/reranker-bert-tiny-gooaq-bce-tanh-v4": lambda folder: write_reranker_with_tanh(
        folder, old=False
    ),
    "cross-encoder/nli-MiniLM2-L6-H768": lambda folder: write_reranker(folder, 3, "roberta"),
    "BAAI/bge-reranker-base": write_long_reranker,
    "sparse-encoder-testing/splade-bert-tiny-nq": write_splade,
    "sparse-encoder-testing/inference-free-splade-bert-tiny-nq": write_inference_free_splade,
    "sentence-transformers-testing/stsb-bert-tiny-safetensors": write_late_interaction,
}

_MODULES = "It is about torch modules, of which the models here have none."
_FRESH = "It creates a model with a new head, which would have to be trained."
_PUBLISH = "It is about publishing a model or about its configuration for training."
_TEMPLATE = "It is about chat templates that a caller passes, and what modules make of them."
_WEIGHTS = "Its figures are those of trained weights."
_LIBRARY = "It is about functions and modules of the library that are not replaced."
_CONVERSION = "It turns a model of one kind into one of another kind, with a new head."
_CROSS, _SPARSE, _LATE = (
    rf"{kind}/test_model\.py::test_" for kind in ("cross_encoder", "sparse_encoder", "multi_vector_encoder")
)
LEFT_OUT = {
    rf"{_CROSS}classifier_dropout": _PUBLISH,
    rf"{_CROSS}(load_with_revision|num_labels_fresh|load_activation_fn_from_kwargs)": _FRESH,
    rf"{_CROSS}rank\[": _WEIGHTS,
    rf"{_CROSS}predict_(low_precision|batch_size_1|routes)": _MODULES,
    rf"{_CROSS}(num_labels_from|num_labels_ignores|config_and_model|default_activation_fn_w)": _MODULES,
    rf"{_CROSS}push_to_hub": _PUBLISH,
    rf"{_CROSS}(init_args_decorator|predict_rank_args_decorator)": _LIBRARY,
    rf"{_CROSS}(replacing_a_rej|preprocess_raises|predict_raises|predict_applies|message_input|probe_uses)": _TEMPLATE,
    r"test_(conversion_|convert_|default_to_csr|detect_mlm|csr_|max_active_dims_set_init)": _CONVERSION,
    rf"{_SPARSE}(inference_free_splade$|splade_pooling|get_model_kwargs|encode_routes|parse_model_config)": _MODULES,
    rf"{_SPARSE}sparsity$": _WEIGHTS,
    rf"{_LATE}(chat_template|task_not_forw|task_kwarg)": _TEMPLATE,
    rf"{_LATE}(xtr|colbert|ir_eval|hierarchical|media|multimodal|pad_exp)": _LIBRARY,
    rf"{_LATE}(loads_|default_colbert|bare_checkpoint|encode_query_pads|query_expansion|resolve_retr|peft)": _MODULES,
    rf"{_LATE}(gradient|prefix_added|encode_routes|mask_|multi_vector_mask|stanford|parse_model|user_constr)": _MODULES,
    rf"{_LATE}(encode_document_skip|io_nameless|pinned|pylate|save_and|native|max_length_ov|prompt_length)": _MODULES,
    rf"{_LATE}(skiplist_words|encode_output_value_none|encode_pooling)": _MODULES,
    r"multi_vector_encoder/test_multi_process\.py::test_multi_process_output_value_none": _MODULES,
}
_WORDS = "It compares the words of a message of the log, or expects a warning."
_PAIRS = "Pairs of texts as one input are refused."
EXPECTED_FAILURES = {
    rf"{_CROSS}logger_warning": _WORDS,
    rf"{_CROSS}default_activation_fn$": _WORDS,
    rf"{_SPARSE}prompts$": _WORDS,
    rf"{_SPARSE}encode_numpy_2d_string_array": _PAIRS,
    rf"{_CROSS}load_activation_fn_from_config_custom": "A folder whose activation is code of a publisher is refused.",
}
