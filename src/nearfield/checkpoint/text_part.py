"""Models of several kinds of input whose texts one part reads alone: its config, as if it were a model of texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nearfield.checkpoint.json_file import JsonDict, JsonObject
from nearfield.errors import ModelRefused

#: ``model_type`` of config.json, and that of the part which reads texts.
TEXT_PARTS: Mapping[str, str] = {"embedding_gemma2": "embedding_gemma2_text", "qwen3_vl": "qwen3_vl_text"}
#: Number formats in which an architecture overflows: Gemma's later states exceed 65,504.
OVERFLOWING: Mapping[str, tuple[str, ...]] = {"embedding_gemma2_text": ("float16",)}
#: Fields of the whole model that its part for texts needs.
_SHARED = ("architectures", "tie_word_embeddings")


def read_text_part(path: Path, config: JsonObject) -> JsonDict:
    """Return the config of the part that reads texts; any other config unchanged. ``path`` is its file, for messages.

    Raises:
        ModelRefused: the model has no such part.
    """
    kind = TEXT_PARTS.get(str(config.get("model_type")))
    if kind is None:
        return dict(config)
    part = config.get("text_config")
    if not isinstance(part, dict):
        raise ModelRefused(f"{path}: text_config must be an object, not {part!r}")
    shared = {name: config[name] for name in _SHARED if name in config}
    return {**shared, **part, "model_type": kind}
