"""Models in GGUF files, the format of llama.cpp and Ollama, as model folders."""

from nearfield.hub.gguf.facts import GgufFacts
from nearfield.hub.gguf.folder import (
    ORIGIN_KEY,
    missing_pooling,
    prune_folders,
    stated_model,
    unpack_gguf,
    weight_type,
)
from nearfield.hub.gguf.header import is_gguf

__all__ = [
    "ORIGIN_KEY",
    "GgufFacts",
    "is_gguf",
    "missing_pooling",
    "prune_folders",
    "stated_model",
    "unpack_gguf",
    "weight_type",
]
