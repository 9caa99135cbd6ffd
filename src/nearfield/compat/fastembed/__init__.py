"""fastembed's classes over `Encoder` and `Reranker`: ``from nearfield.compat.fastembed import TextEmbedding``.

As in fastembed, no prompt is put before a text, and pooling and lengths are fastembed's own (``models.toml``). Vectors
are float32 arrays; methods that embed are generators.
"""

from nearfield.compat.fastembed.cross_encoder import TextCrossEncoder
from nearfield.compat.fastembed.embedding import (
    LateInteractionTextEmbedding,
    SparseEmbedding,
    SparseTextEmbedding,
    TextEmbedding,
)
from nearfield.compat.fastembed.image_embedding import ImageEmbedding, LateInteractionMultimodalEmbedding
from nearfield.compat.fastembed.lazy_model import Device
from nearfield.compat.fastembed.models import ModelSource, PoolingType

__all__ = [
    "Device",
    "ImageEmbedding",
    "LateInteractionMultimodalEmbedding",
    "LateInteractionTextEmbedding",
    "ModelSource",
    "PoolingType",
    "SparseEmbedding",
    "SparseTextEmbedding",
    "TextCrossEncoder",
    "TextEmbedding",
]
