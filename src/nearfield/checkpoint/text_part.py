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
#: Tokens that stand for media, by fields of the whole model, with transformers' defaults: of the models that read
#: something else in their place, in texts too.
_PLACEHOLDERS: Mapping[str, Mapping[str, int]] = {
    "embedding_gemma2": {"image_token_id": 258_880, "audio_token_id": 258_881, "video_token_id": 258_884}
}


def read_text_part(path: Path, config: JsonObject) -> JsonDict:
    """Return the config of the part that reads texts; any other config unchanged. ``path`` is its file, for messages.

    Raises:
        ModelRefused: the model has no such part.
    """
    whole = str(config.get("model_type"))
    kind = TEXT_PARTS.get(whole)
    if kind is None:
        return dict(config)
    part = config.get("text_config")
    if not isinstance(part, dict):
        raise ModelRefused(f"{path}: text_config must be an object, not {part!r}")
    shared = {name: config[name] for name in _SHARED if name in config}
    placeholders = {name: config.get(name, number) for name, number in _PLACEHOLDERS.get(whole, {}).items()}
    return {**shared, **part, **placeholders, "model_type": kind}
