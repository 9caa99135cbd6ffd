"""The tests of ``sentence_transformers.util`` that concern using vectors."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

PACKAGE = "sentence_transformers"
TESTS = (
    "tests/util/test_similarity.py",
    "tests/util/test_retrieval.py",
    "tests/util/test_quantization.py",
    "tests/util/test_tensor.py",
    "tests/util/test_hard_negatives.py",
    "tests/util/test_import.py",
)
_OURS = "nearfield.compat.sentence_transformers.util"
NOTE = "The models with which these tests mine negatives are those of the library."
MODULES = {
    "sentence_transformers.util": _OURS,
    "sentence_transformers.util.quantization": f"{_OURS}.quantization",
}


def _copied(write: Callable[[Path], Path], folder: Path) -> None:
    """Copy what a function writes below a folder of its choice."""
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(write(Path(place)), folder, dirs_exist_ok=True)


def write_static(folder: Path) -> None:
    """Write a table of static embeddings."""
    from tests.parity.static import table

    _copied(table, folder)


def write_reranker(folder: Path) -> None:
    """Write a cross-encoder of two layers."""
    from tests.parity.scores import classifier

    _copied(classifier("bert"), folder)


def write_splade(folder: Path) -> None:
    """Write a SPLADE of two layers."""
    from tests.parity.sparse import masked

    _copied(masked("bert"), folder)


def write_distilroberta(folder: Path) -> None:
    """Write a RoBERTa of two layers with mean pooling."""
    from tests.support.tiny_models import tiny_roberta

    tiny_roberta(folder, normalize=False)


MODELS = {
    "sentence-transformers/static-retrieval-mrl-en-v1": write_static,
    "sentence-transformers/paraphrase-distilroberta-base-v1": write_distilroberta,
    "cross-encoder-testing/reranker-bert-tiny-gooaq-bce": write_reranker,
    "sparse-encoder-testing/splade-bert-tiny-nq": write_splade,
}
_PRIVATE = "Calls private functions, or watches how the library works inside."
_WEIGHTS = "Needs trained weights, which only the Hub has."
_TRAINING = "Is about gradients and compiled graphs, for training."
LEFT_OUT = {
    r"::test_chunk_ranges": _PRIVATE,
    r"::test_maxsim_(pairwise_never_pads|budget_bounds|pairwise_budget_counts|device_bounds)": _PRIVATE,
    r"::test_convert_to_tensor": _PRIVATE,
    r"::test_(empty_document_score_survives|maxsim_takes_no_data)": _TRAINING,
    r"::test_paraphrase_mining$": _WEIGHTS,
    r"::test_(include_positives_with_labeled|n_tuple_scores_format|pairwise_angle_sim_even)": _WEIGHTS,
}
_WORDS = "Compares the words of a warning, which name modules of the library."
_FAISS = "Lets faiss believe that it has a GPU: the search here does not use faiss."
EXPECTED_FAILURES = {
    r"::test_maxsim_(fully_masked|pairwise_empty)_document_scores_sentinel": _WORDS,
    r"::test_maxsim_per_item_mask_lists": "Expects a TypeError for a mask that is a text; InputError is a ValueError.",
    r"::test_(num_negatives_exceeds_range_window_capped|range_min_above_faiss_capped)": _FAISS,
    r"::test_non_faiss_batched_search": "Counts calls of `model.similarity`, which is not called here.",
}
