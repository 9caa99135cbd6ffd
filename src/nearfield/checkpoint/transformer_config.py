"""The settings of the transformer module: which tokens it reads, and what it changes in the model's config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nearfield.checkpoint import json_file
from nearfield.checkpoint.json_file import JsonDict, JsonObject
from nearfield.checkpoint.text_part import read_text_part
from nearfield.errors import ModelRefused, nearest

#: Older versions named the file after the architecture; the first that exists counts.
FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
#: What the transformer of each task puts out; only the first is a token's state.
TASKS = ("feature-extraction", "fill-mask", "sequence-classification", "text-generation")
#: Arguments that say how files are fetched and run, not what is computed.
HARMLESS_CONFIG = frozenset({"trust_remote_code", "revision", "code_revision", "cache_dir", "token"})
#: Arguments of the tokenizer that overrule its own settings.
TOKENIZER_SETTINGS = frozenset(
    {
        "truncation_side",
        "do_lower_case",
        "strip_accents",
        "tokenize_chinese_chars",
        "add_prefix_space",
        "split_special_tokens",
    }
)
#: Padding and decoding change no vector.
HARMLESS_TOKENIZER = HARMLESS_CONFIG | {"use_fast", "padding_side", "clean_up_tokenization_spaces"}
KNOWN_TOKENIZER = HARMLESS_TOKENIZER | TOKENIZER_SETTINGS | {"model_max_length"}
HARMLESS_MODEL = HARMLESS_CONFIG | {
    "add_pooling_layer",
    "torch_dtype",
    "dtype",
    "attn_implementation",
    "use_safetensors",
    "low_cpu_mem_usage",
    "device_map",
    "unpad_inputs",
    "use_memory_efficient_attention",
}


@dataclass(frozen=True)
class Transformer:
    """The transformer module: its folder, the model's config, and the settings of the module itself."""

    folder: Path
    config: JsonDict
    max_length: int | None
    do_lower_case: bool
    task: str = TASKS[0]
    query_length: int | None = None
    document_length: int | None = None
    query_expansion: JsonObject | None = None
    tokenizer_settings: JsonObject = field(default_factory=dict)
    modalities: object = None


def read_transformer(folder: Path, *, tower: JsonDict | None = None) -> Transformer:
    """Read ``config.json`` and ``sentence_bert_config.json``; a setting that would be ignored is refused instead.

    ``tower`` is the config of a two-tower model, in place of config.json. What reads which modality is not checked
    here then (see `nearfield.checkpoint.towers`).
    """
    if tower is None and not (folder / "config.json").is_file():
        raise ModelRefused(f"{folder} has no config.json, and so is no Hugging Face model folder")
    home = folder / "config.json"
    config = read_text_part(home, json_file.read_object(home)) if tower is None else tower
    path = next((folder / name for name in FILES if (folder / name).is_file()), folder / FILES[0])
    settings = json_file.read_optional(path)
    _check(path, settings, tower is not None)
    changes = _arguments(path, settings, "config", None)
    own = {key: value for key, value in changes.items() if key not in HARMLESS_CONFIG}
    tokenizer = _arguments(path, settings, "tokenizer", KNOWN_TOKENIZER)
    _arguments(path, settings, "model", HARMLESS_MODEL)
    lengths = {name: settings.get(name) for name in ("query_length", "document_length", "query_expansion")}
    return Transformer(
        folder,
        {**config, **own},
        _max_length(path, settings, tokenizer),
        bool(settings.get("do_lower_case", False)),
        str(settings.get("transformer_task") or TASKS[0]),
        **lengths,
        tokenizer_settings={key: value for key, value in tokenizer.items() if key in TOKENIZER_SETTINGS},
        modalities=settings.get("modality_config"),
    )


def _max_length(path: Path, settings: JsonObject, tokenizer: JsonObject) -> int | None:
    """Return the maximum number of tokens: the tokenizer's argument counts before the module's, as in the reference."""
    key = "model_max_length" if tokenizer.get("model_max_length") else "max_seq_length"
    length = tokenizer.get(key) or settings.get(key)
    if length is not None and (type(length) is not int or length < 1):
        raise ModelRefused(f"{path}: {key} is {length!r}, not a positive number")
    return length


def _arguments(path: Path, settings: JsonObject, what: str, known: frozenset[str] | None) -> JsonDict:
    """The arguments that the reference passes to the config, tokenizer or model; an unknown one is refused."""
    older, newer = ARGUMENTS[what]
    arguments = settings.get(newer) or settings.get(older) or {}
    if not isinstance(arguments, dict):
        raise ModelRefused(f"{path}: {newer} must be an object, not {arguments!r}")
    for name in arguments:
        if known is not None and name not in known:
            raise ModelRefused(f"{path} passes {name}={arguments[name]!r} to its {what}, which is not supported")
    return arguments


ARGUMENTS = {
    "config": ("config_args", "config_kwargs"),
    "tokenizer": ("tokenizer_args", "processor_kwargs"),
    "model": ("model_args", "model_kwargs"),
}
#: Settings that change the outcome, each with the only value that asks for nothing missing here, besides null.
PLAIN: Mapping[str, Sequence[object]] = {
    "transformer_task": TASKS,
    "module_output_name": ("token_embeddings", "scores", "causal_logits"),
    "processing_kwargs": ({},),
    "tokenizer_name_or_path": (),
}
#: Read by the kinds of model that have them.
READ = frozenset({"query_length", "document_length", "query_expansion", "modality_config"})
OTHERS = frozenset(name for pair in ARGUMENTS.values() for name in pair) | {
    "max_seq_length",
    "do_lower_case",
    "unpad_inputs",
}


def _check(path: Path, settings: JsonObject, tower: bool) -> None:
    if tower:
        # The towers check what they read; their vectors are pooled already, or those of tokens.
        checked = ("module_output_name", "modality_config")
        settings = {
            key: value
            for key, value in settings.items()
            if key not in checked and (key, value) != ("transformer_task", "retrieval")
        }
    for name, value in settings.items():
        if name not in PLAIN and name not in OTHERS | READ:
            known = nearest(name, PLAIN.keys() | OTHERS | READ)
            raise ModelRefused(f"{path} has the setting {name!r}, which is not understood. {known}")
        if value is not None and name in PLAIN and value not in PLAIN[name]:
            raise ModelRefused(f"{path} sets {name} to {value!r}, which is not supported")
    _check_modality(path, settings.get("modality_config"))


def _check_modality(path: Path, modality: object) -> None:
    """The text must go through ``forward``, whatever it gives; other inputs than text are not read here."""
    if modality is None:
        return
    text = modality.get("text") if isinstance(modality, dict) else None
    if not isinstance(text, dict) or text.get("method") != "forward":
        raise ModelRefused(f"{path} sets modality_config to {modality!r}, which is not supported")
