"""``feature_extractors``: definitions in the spelling of multimodal warehouses, turned into features and segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from nearfield.corpus.document import TEXT
from nearfield.errors import InputError, nearest
from nearfield.repeated_values import find_repeated
from nearfield.text_inputs import describe

KEY = "feature_extractors"
#: Parameters of all extractors, and what they set of their feature.
_FEATURE_PARAMETERS: Mapping[str, str] = {"model": "model", "dimensions": "dimensions"}
_CHUNK_PARAMETERS: Mapping[str, str] = {
    "chunk_strategy": "chunks.by",
    "chunk_size": "chunks.tokens",
    "chunk_overlap": "chunks.overlap",
    "language": "language",
}
_SPLIT_PARAMETERS = ("split_method", "time_split_interval", "max_segment_duration")
_VIDEO_PARAMETERS: Mapping[str, str] = {
    **{name: f"segments.video.{name}" for name in (*_SPLIT_PARAMETERS, "fps", "max_frames")},
    "run_ocr": "ocr",
    "run_transcription": "speech",
    "transcription_language": "language",
}
#: Parameters of other systems for which there is no step here, with the reason; they may be false or empty.
_NO_LANGUAGE_MODEL = "Nearfield describes no files with language models"
_MISSING_STEPS: Mapping[str, str] = {
    "run_video_description": _NO_LANGUAGE_MODEL,
    "description_prompt": _NO_LANGUAGE_MODEL,
    "response_shape": _NO_LANGUAGE_MODEL,
    "scene_detection_threshold": "scenes are found with a fixed threshold: set split_method alone",
    "silence_db_threshold": "silences are found with a fixed threshold: set split_method alone",
}
#: Parameters that change nothing here: thumbnails are rendered when they are requested.
_WITHOUT_EFFECT = ("enable_thumbnails", "run_multimodal_embedding")
#: Extractors of other systems that are not offered, and why or what to use in their place.
_NOT_OFFERED: Mapping[str, str] = {
    "document_graph": "Pages of PDF files are read as pictures by image_extractor, and as text by text_extractor.",
    "face_identity": "Recognition of faces is not offered.",
    "scrolling_text": "Use ocr in the definition, which reads the text of pictures and scanned pages.",
    "web_scraper": "Pages of the web are a source: nearfield index NAME https://...",
    "passthrough": "Fields of documents need no extractor: name them in 'fields'.",
    "universal": "Use multimodal_extractor for pictures and videos, and audio_fingerprint_extractor for sounds.",
    "gemini_multifile": "Each file is a document: use multimodal_extractor.",
    "course_content": "Use multimodal_extractor with split_method scene.",
}


@dataclass(frozen=True)
class FeatureExtractor:
    """What a name of ``feature_extractors`` stands for: a feature, its model, and parts of the definition."""

    feature: str
    model: str
    reads: tuple[str, ...]
    parameters: Mapping[str, str]
    defaults: Mapping[str, Any] = field(default_factory=dict)


#: The extractors by name, without the ending ``_extractor``.
EXTRACTORS: Mapping[str, FeatureExtractor] = {
    "text": FeatureExtractor("text", "intfloat/multilingual-e5-large-instruct", (TEXT,), _CHUNK_PARAMETERS),
    "image": FeatureExtractor("image", "google/siglip-base-patch16-224", ("image", "page"), {"run_ocr": "ocr"}),
    "multimodal": FeatureExtractor(
        "multimodal", "google/siglip2-base-patch16-224", ("image", "video"), _VIDEO_PARAMETERS
    ),
    "audio_fingerprint": FeatureExtractor(
        "sound",
        "laion/clap-htsat-unfused",
        ("audio",),
        {name: f"segments.audio.{name}" for name in _SPLIT_PARAMETERS},
        {"segments.audio.time_split_interval": 5.0},
    ),
}  # fmt: skip
_FIELDS = ("feature_extractor_name", "name", "version", "parameters")
_ENDING = "_extractor"


def expand_extractors(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition with ``features`` in place of ``feature_extractors``; others are returned unchanged.

    An extractor is a name, such as ``image_extractor``, or an object with ``feature_extractor_name`` and optionally
    ``version`` and ``parameters``.

    Raises:
        InputError: an extractor or a parameter is unknown, or two of them contradict each other.
    """
    if KEY not in config:
        return dict(config)
    if "features" in config:
        raise InputError(f"'features' and '{KEY}' define the same: leave one of them out.", param=KEY)
    result = {name: deepcopy(value) for name, value in config.items() if name != KEY}
    specs = config[KEY]
    if isinstance(specs, str | Mapping) or not isinstance(specs, Sequence) or not specs:
        raise InputError(f"{KEY} must be a list of one or more extractors, and is {describe(specs)}.", param=KEY)
    chosen = [_read_spec(spec) for spec in specs]
    repeated = find_repeated(name for name, _ in chosen)
    if repeated is not None:
        raise InputError(f"{KEY}: {repeated}{_ENDING} is there twice. Name each once.", param=KEY)
    result["features"] = {}
    for name, parameters in chosen:
        _add_extractor(result, name, parameters)
    for name, _ in chosen:
        _add_defaults(result, EXTRACTORS[name].defaults)
    return result


def _read_spec(spec: object) -> tuple[str, Mapping[str, Any]]:
    """Return the name, without its ending, and the parameters of an extractor."""
    if isinstance(spec, str):
        return _require_known(spec), {}
    if not isinstance(spec, Mapping):
        raise InputError(f"{KEY}: an extractor is a name or an object, and not {describe(spec)}.", param=KEY)
    unknown = next((name for name in spec if name not in _FIELDS), None)
    if unknown is not None:
        raise InputError(
            f"{KEY}: there is no {str(unknown)[:50]!r} in an extractor. {nearest(unknown, _FIELDS)} Sources give whole "
            "files, and 'fields' of the definition names the fields of documents.",
            param=KEY,
        )
    name = spec.get("feature_extractor_name", spec.get("name"))
    if not isinstance(name, str):
        raise InputError(f"{KEY}: an extractor has a feature_extractor_name, such as image_extractor.", param=KEY)
    parameters = spec.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise InputError(f"{KEY}: parameters of {name[:50]} must be an object of names and values.", param=KEY)
    return _require_known(name), parameters


def _require_known(name: str) -> str:
    short = name.removesuffix(_ENDING)
    if short in EXTRACTORS:
        return short
    known = [f"{key}{_ENDING}" for key in EXTRACTORS]
    if short in _NOT_OFFERED:
        names = ", ".join(sorted(known))
        raise InputError(f"{KEY}: {name} is not offered. {_NOT_OFFERED[short]} Known: {names}.", param=KEY)
    raise InputError(f"{KEY}: there is no extractor {name[:50]!r}. {nearest(name, known)}", param=KEY)


def _add_extractor(config: dict[str, Any], name: str, parameters: Mapping[str, Any]) -> None:
    extractor = EXTRACTORS[name]
    feature: dict[str, Any] = {"model": extractor.model, "reads": list(extractor.reads)}
    for parameter, value in parameters.items():
        if parameter in _FEATURE_PARAMETERS:
            feature[_FEATURE_PARAMETERS[parameter]] = value
        elif parameter in extractor.parameters:
            _set(config, extractor.parameters[parameter], value, f"{name}{_ENDING}: {parameter}")
        elif not _is_idle(name, parameter, value):
            known = (*_FEATURE_PARAMETERS, *extractor.parameters)
            hint = nearest(parameter, known)
            raise InputError(f"{KEY}: {name}{_ENDING} has no parameter {str(parameter)[:50]!r}. {hint}", param=KEY)
    config["features"][extractor.feature] = feature


def _is_idle(extractor: str, parameter: object, value: object) -> bool:
    """Return whether a parameter of another system asks for nothing; refuse one that asks for a missing step."""
    if parameter in _MISSING_STEPS and value:
        raise InputError(f"{KEY}: {extractor}{_ENDING}: {parameter}: {_MISSING_STEPS[str(parameter)]}.", param=KEY)
    return parameter in _MISSING_STEPS or parameter in _WITHOUT_EFFECT


def _set(config: dict[str, Any], path: str, value: object, label: str) -> None:
    """Set a part of the definition; refuse another value that is already there."""
    *folders, last = path.split(".")
    part = config
    for folder in folders:
        part = part.setdefault(folder, {})
        if not isinstance(part, dict):
            raise InputError(f"{folder} must be an object of names and values.", param=folder)
    if part.setdefault(last, value) != value:
        raise InputError(
            f"{KEY}: {label} is {describe(value)}, and {path} of the definition is {describe(part[last])}: leave one "
            "of them out.",
            param=KEY,
        )


def _add_defaults(config: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    for path, value in defaults.items():
        *folders, last = path.split(".")
        part = config
        for folder in folders:
            part = part.setdefault(folder, {})
        part.setdefault(last, value)
