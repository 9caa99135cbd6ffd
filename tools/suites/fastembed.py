"""The tests of fastembed that concern using a model of texts; canonical values are fastembed's own of tiny checkpoints.

The tests name real models: each is a tiny checkpoint with the same number of dimensions here.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PACKAGE = "fastembed"
TESTS = (
    "tests/test_text_onnx_embeddings.py",
    "tests/test_text_multitask_embeddings.py",
    "tests/test_sparse_embeddings.py",
    "tests/test_attention_embeddings.py",
    "tests/test_late_interaction_embeddings.py",
    "tests/test_text_cross_encoder.py",
    "tests/test_custom_models.py",
    "tests/test_common.py",
    "tests/test_multi_gpu.py",
    "tests/test_image_onnx_embeddings.py",
    "tests/test_late_interaction_multimodal.py",
    "tests/test_postprocess.py",
)
MODULES = dict.fromkeys(
    (
        "fastembed",
        "fastembed.text.text_embedding",
        "fastembed.sparse.sparse_text_embedding",
        "fastembed.late_interaction.late_interaction_text_embedding",
        "fastembed.rerank.cross_encoder.text_cross_encoder",
    ),
    "nearfield.compat.fastembed",
)
SMALL, MINI = "BAAI/bge-small-en-v1.5", "sentence-transformers/all-MiniLM-L6-v2"
SPLADE = "prithivida/Splade_PP_en_v1"
INFERENCE_FREE = "opensearch-project/opensearch-neural-sparse-encoding-doc-v3-gte"
COLBERT = "answerdotai/answerai-colbert-small-v1"
RERANKER, RERANKER_WEIGHTS = "Xenova/ms-marco-MiniLM-L-6-v2", "cross-encoder/ms-marco-MiniLM-L6-v2"
#: File of fastembed's values in the folder of a checkpoint.
_VALUES = "canonical.json"


def _write_dense(model: str, file: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        from fastembed import TextEmbedding

        from tests.compat.onnx_folders import dense_folder

        dense_folder(folder, file, hidden_size=384)
        rows = TextEmbedding(model, specific_model_path=str(folder)).embed(["hello world"])
        _dump(folder, {"dense": next(iter(rows))[:5].tolist()})

    return write


def _write_sparse(model: str, kind: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        from fastembed import SparseTextEmbedding

        from tests.compat import onnx_folders

        _move(getattr(onnx_folders, kind)(folder / "parts"), folder)
        reference = SparseTextEmbedding(model, specific_model_path=str(folder))
        texts = ["Hello World"]
        rows = {"passage": next(iter(reference.embed(texts))), "query": next(iter(reference.query_embed(texts)))}
        values = {role: {"indices": row.indices.tolist(), "values": row.values.tolist()} for role, row in rows.items()}
        _dump(folder, values)

    return write


def _write_colbert(folder: Path) -> None:
    from fastembed import LateInteractionTextEmbedding

    from tests.compat.onnx_folders import colbert_folder
    from tests.support import tiny_models

    # Words of the tests, which as letters would make queries too long to be filled up.
    tiny_models.WORDS += ["long", "document", "check", "attention", "mask", "paddings"]
    _move(colbert_folder(folder / "parts", dim=96, file="vespa_colbert.onnx"), folder)
    reference = LateInteractionTextEmbedding(COLBERT, specific_model_path=str(folder))
    rows = {"passage": reference.embed(["Hello World"]), "query": reference.query_embed(["Hello World"])}
    _dump(folder, {role: next(iter(row))[:, :5].tolist() for role, row in rows.items()})


def _write_reranker(folder: Path) -> None:
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    from tests.compat.onnx_folders import cross_encoder_folder

    _move(cross_encoder_folder(folder / "parts"), folder)
    reference = TextCrossEncoder(RERANKER, specific_model_path=str(folder))
    documents = ["Paris is the capital of France.", "Berlin is the capital of Germany."]
    _dump(folder, {"scores": list(reference.rerank("What is the capital of France?", documents))})


def _move(source: Path, target: Path) -> None:
    for path in list(source.iterdir()):
        path.rename(target / path.name)


def _dump(folder: Path, values: Mapping[str, Any]) -> None:
    (folder / _VALUES).write_text(json.dumps(values), encoding="utf-8")


MODELS = {
    SMALL: _write_dense(SMALL, "model_optimized.onnx"),
    MINI: _write_dense(MINI, "model.onnx"),
    SPLADE: _write_sparse(SPLADE, "sparse_folder"),
    INFERENCE_FREE: _write_sparse(INFERENCE_FREE, "inference_free_folder"),
    COLBERT: _write_colbert,
    RERANKER_WEIGHTS: _write_reranker,
}
_INTERNALS = "tests classes inside fastembed, or their session of onnxruntime"
_LARGE = "tests models of more than 1 GB alone"
_WORDS = "tests BM25, BM42 or miniCOIL, which are refused"
_PICTURES = "tests pictures"
LEFT_OUT = {
    r"test_session_options": _INTERNALS,
    r"test_quantized_model_reports_onnxruntime_requirement": _INTERNALS,
    r"test_text_custom_model|test_cross_encoder_custom_model|test_mock_add_custom_models": _INTERNALS,
    r"test_last_token_pooling": _INTERNALS,
    r"test_text_multitask_embeddings|test_query_embedding": _LARGE,
    r"bm25|bm42|minicoil": _WORDS,
    r"test_stem_|test_disable_stemmer|test_attention_embeddings": _WORDS,
    r"test_image_|test_late_interaction_multimodal": _PICTURES,
    r"test_multi_gpu": "needs several GPUs",
    r"test_postprocess": "tests MUVERA, a function of arrays that stays fastembed's",
}
EXPECTED_FAILURES = {
    r"test_text_list_supported_models": "asks classes of pictures for their lists too",
}


def prepare(folder: Path) -> None:
    """Put fastembed's values of the checkpoints into the tests, and let each id be the one of a checkpoint."""
    from nearfield import catalog

    find = catalog.find
    catalog.find = lambda name: None if name in MODELS else find(name)
    utils: Any = importlib.import_module("tests.utils")
    tested = {SMALL, SPLADE, INFERENCE_FREE, COLBERT, RERANKER}
    utils.should_test_model = lambda description, *_: description.model in tested
    values = {model: json.loads((folder / model.replace("/", "--") / _VALUES).read_text()) for model in MODELS}
    _set("test_text_onnx_embeddings", "CANONICAL_VECTOR_VALUES", SMALL, values[SMALL]["dense"])
    _set("test_text_cross_encoder", "CANONICAL_SCORE_VALUES", RERANKER, values[RERANKER_WEIGHTS]["scores"])
    for role, name in (("passage", "CANONICAL_COLUMN_VALUES"), ("query", "CANONICAL_QUERY_VALUES")):
        _set("test_late_interaction_embeddings", name, COLBERT, values[COLBERT][role])
        for model in (SPLADE, INFERENCE_FREE):
            _set("test_sparse_embeddings", name, model, values[model][role])


def _set(module: str, name: str, model: str, value: Any) -> None:
    import numpy as np

    table = getattr(importlib.import_module(f"tests.{module}"), name)
    table[model] = value if isinstance(value, dict) else np.array(value)
