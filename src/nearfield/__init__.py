"""Nearfield: turn text into vectors on your own machine, exactly and fast."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearfield.corpus.collection import Collection
    from nearfield.encoder import Encoder
    from nearfield.engine import Engine
    from nearfield.evaluate.compare import compare
    from nearfield.evaluate.evaluation import evaluate
    from nearfield.loading import load
    from nearfield.outputs import MultiVectors, Outputs, SparseVectors, maxsim
    from nearfield.reranker import Classifier, Reranker
    from nearfield.vectors import Vectors, calibrate, similarity

__version__ = "0.1.0"
__all__ = [
    "Classifier",
    "Collection",
    "Encoder",
    "Engine",
    "MultiVectors",
    "Outputs",
    "Reranker",
    "SparseVectors",
    "Vectors",
    "__version__",
    "calibrate",
    "compare",
    "evaluate",
    "load",
    "maxsim",
    "similarity",
]

_HOMES = {
    "Classifier": "nearfield.reranker",
    "Collection": "nearfield.corpus.collection",
    "MultiVectors": "nearfield.outputs",
    "Outputs": "nearfield.outputs",
    "Reranker": "nearfield.reranker",
    "SparseVectors": "nearfield.outputs",
    "load": "nearfield.loading",
    "maxsim": "nearfield.outputs",
    "Encoder": "nearfield.encoder",
    "Engine": "nearfield.engine",
    "Vectors": "nearfield.vectors",
    "calibrate": "nearfield.vectors",
    "compare": "nearfield.evaluate.compare",
    "similarity": "nearfield.vectors",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``import nearfield`` alone costs nothing."""
    if name == "evaluate":
        return import_module("nearfield.evaluate")  # a room that can be called
    if name not in _HOMES:
        raise AttributeError(f"module 'nearfield' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
