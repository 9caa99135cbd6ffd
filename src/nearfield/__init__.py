"""Nearfield: turn text into vectors on your own machine, exactly and fast."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearfield.auto import load
    from nearfield.bulk.media_files.duplicates.duplicate_search import find_duplicate_files
    from nearfield.bulk.row_files.multivector_files import read_multivectors
    from nearfield.corpus.collection import Collection
    from nearfield.encoder import Encoder
    from nearfield.engine.engine import Engine
    from nearfield.evaluation.comparison.compare import compare
    from nearfield.evaluation.evaluate import evaluate
    from nearfield.jobs.classification.classify import classify, next_to_label
    from nearfield.jobs.classification.training import train_classifier
    from nearfield.jobs.duplicates.find_duplicates import find_duplicate_texts
    from nearfield.jobs.map.text_map import draw_map
    from nearfield.jobs.outliers import find_drift, find_outliers
    from nearfield.jobs.recommendation import Recommender, Taste, recommend
    from nearfield.jobs.sources.job_items import read_job_items
    from nearfield.jobs.topics.find_topics import find_topics
    from nearfield.jobs.topics.topic_names import name_topics
    from nearfield.jobs.topics.topics import load_topics
    from nearfield.media.audio import Audio
    from nearfield.media.image import Image
    from nearfield.media.video.video import Video
    from nearfield.reranker import Classifier, Reranker
    from nearfield.training.fine_tuning.train import train
    from nearfield.training.light.quantize import quantize
    from nearfield.vectors.dense import Vectors
    from nearfield.vectors.multivector import MultiVectors, maxsim
    from nearfield.vectors.outputs import Outputs
    from nearfield.vectors.quantization import calibrate
    from nearfield.vectors.similarity import similarity
    from nearfield.vectors.sparse import SparseVectors

__version__ = "0.1.0"
__all__ = [
    "Audio",
    "Classifier",
    "Collection",
    "Encoder",
    "Engine",
    "Image",
    "MultiVectors",
    "Outputs",
    "Recommender",
    "Reranker",
    "SparseVectors",
    "Taste",
    "Vectors",
    "Video",
    "__version__",
    "calibrate",
    "classify",
    "compare",
    "draw_map",
    "evaluate",
    "find_drift",
    "find_duplicate_files",
    "find_duplicate_texts",
    "find_outliers",
    "find_topics",
    "load",
    "load_topics",
    "maxsim",
    "name_topics",
    "next_to_label",
    "quantize",
    "read_job_items",
    "read_multivectors",
    "recommend",
    "similarity",
    "train",
    "train_classifier",
]

_MODULES = {
    "Classifier": "nearfield.reranker",
    "Collection": "nearfield.corpus.collection",
    "Audio": "nearfield.media.audio",
    "Image": "nearfield.media.image",
    "Video": "nearfield.media.video.video",
    "MultiVectors": "nearfield.vectors.multivector",
    "Outputs": "nearfield.vectors.outputs",
    "Reranker": "nearfield.reranker",
    "SparseVectors": "nearfield.vectors.sparse",
    "load": "nearfield.auto",
    "maxsim": "nearfield.vectors.multivector",
    "find_duplicate_files": "nearfield.bulk.media_files.duplicates.duplicate_search",
    "read_multivectors": "nearfield.bulk.row_files.multivector_files",
    "Encoder": "nearfield.encoder",
    "Engine": "nearfield.engine",
    "evaluate": "nearfield.evaluation.evaluate",
    "Vectors": "nearfield.vectors.dense",
    "calibrate": "nearfield.vectors.quantization",
    "compare": "nearfield.evaluation.comparison.compare",
    "similarity": "nearfield.vectors.similarity",
    "quantize": "nearfield.training.light.quantize",
    "train": "nearfield.training.fine_tuning.train",
    "classify": "nearfield.jobs.classification.classify",
    "next_to_label": "nearfield.jobs.classification.classify",
    "draw_map": "nearfield.jobs.map.text_map",
    "find_duplicate_texts": "nearfield.jobs.duplicates.find_duplicates",
    "find_drift": "nearfield.jobs.outliers",
    "find_outliers": "nearfield.jobs.outliers",
    "recommend": "nearfield.jobs.recommendation",
    "Recommender": "nearfield.jobs.recommendation",
    "Taste": "nearfield.jobs.recommendation",
    "read_job_items": "nearfield.jobs.sources.job_items",
    "find_topics": "nearfield.jobs.topics.find_topics",
    "name_topics": "nearfield.jobs.topics.topic_names",
    "load_topics": "nearfield.jobs.topics.topics",
    "train_classifier": "nearfield.jobs.classification.training",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that ``import nearfield`` alone is fast."""
    if name not in _MODULES:
        raise AttributeError(f"module 'nearfield' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
