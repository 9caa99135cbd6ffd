"""Arguments of sentence-transformers' classes as those of Nearfield: of constructors, and those that calls share."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar, cast

import numpy as np

from nearfield import catalog, hub
from nearfield.argument_checks import require_number
from nearfield.compat.arguments import HUB_TOKEN, REMOTE_CODE, USED, Effect, refuse_changed, report_remote_code
from nearfield.compat.model_sources import check_tokens, device_options
from nearfield.errors import InputError, ModelRefused, nearest
from nearfield.inference.uncompiled_model import ReadModelKeywords, UncompiledModel, read_model
from nearfield.text_inputs import one_or_many, refuse_item

_log = logging.getLogger(__name__)

ModelT = TypeVar("ModelT")

#: Arguments that all classes have.
CONSTRUCTOR: Mapping[str, Effect] = {
    "model_name_or_path": USED,
    "modules": Effect(
        "refused", "Save the modules as a model with sentence-transformers, and load its folder. Ignored beside a name."
    ),
    "device": Effect("used", "None and cpu compute with OpenVINO, all others with torch."),
    "prompts": USED,
    "default_prompt_name": USED,
    "cache_folder": Effect("ignored", "Models lie in the Hub's cache (HF_HUB_CACHE) and in NEARFIELD_CACHE."),
    "trust_remote_code": REMOTE_CODE,
    "revision": USED,
    "local_files_only": USED,
    "token": HUB_TOKEN,
    "model_kwargs": Effect(
        "used", "torch_dtype, file_name and device_map; hints for torch are ignored, others refused."
    ),
    "processor_kwargs": Effect(
        "used", "model_max_length, and truncation_side of SentenceTransformer; hints are ignored, others refused."
    ),
    "config_kwargs": Effect(
        "used",
        "num_labels of CrossEncoder, which must be the model's; those of training are ignored, others refused.",
    ),
    "model_card_data": Effect("ignored", "It is stored as an attribute."),
    "backend": Effect("ignored", "The device decides what computes, and the numbers are those of the model."),
}
_MODEL_KWARGS = frozenset(
    (
        *("torch_dtype", "dtype", "device_map", "file_name", "trust_remote_code"),
        # Hints for the loader, which have no effect.
        *("attn_implementation", "low_cpu_mem_usage", "use_safetensors"),
        *("provider", "provider_options", "session_options", "export", "ov_config"),
    )
)
_PROCESSOR_KWARGS = frozenset(
    (
        "model_max_length",
        # Hints for the tokenizer, which have no effect.
        *("use_fast", "clean_up_tokenization_spaces", "legacy", "padding_side", "trust_remote_code"),
    )
)
_CONFIG_KWARGS = frozenset(
    (
        "num_labels",
        # They matter in training only.
        *("classifier_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob", "trust_remote_code"),
    )
)
#: The class for each output of models.
_CLASSES: Mapping[str, str] = {
    "dense": "SentenceTransformer",
    "sparse": "SparseEncoder",
    "multivector": "MultiVectorEncoder",
    "scores": "CrossEncoder",
}
_DTYPES = {"float32": "float32", "float": "float32", "bfloat16": "bfloat16", "float16": "float16", "half": "float16"}


def model_name(name: str | os.PathLike[str] | None, organization: str) -> str:
    """Return the name for `nearfield.load`: a name without an organization, unless it is known here, gets one.

    Raises:
        InputError: there is no name.
    """
    if name is None:
        raise InputError("Give the name or the folder of a model.", param="model_name_or_path")
    text = os.fspath(name)
    path = hub.existing_path(text)
    known = "/" in text or (path is not None and path.is_dir()) or catalog.find(text) is not None
    return text if known else f"{organization}/{text}"


def load_options(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return keywords of `nearfield.load` for the constructor arguments of a class.

    Args:
        values: the arguments by name.
        where: the name of the class, for messages.

    Raises:
        InputError: an argument has a value that is not supported.
    """
    _check_modules(values["modules"], values["model_name_or_path"], where)
    report_remote_code(values["trust_remote_code"])
    check_tokens(token=values["token"])
    model = _known(values["model_kwargs"], _MODEL_KWARGS, "model_kwargs")
    processor = _known(values["processor_kwargs"], _PROCESSOR_KWARGS, "processor_kwargs")
    _known(values["config_kwargs"], _CONFIG_KWARGS, "config_kwargs")
    options = device_options(_device_of_map(model.get("device_map")) or values["device"])
    dtype = model.get("dtype", model.get("torch_dtype"))
    options["precision"] = _precision(dtype, options.get("backend", "openvino"))
    options["revision"] = values["revision"]
    options["max_length"] = values.get("max_length") or processor.get("model_max_length")
    if options["max_length"] is not None:
        require_number("model_max_length", options["max_length"])
    options["file"] = model.get("file_name")
    return {name: value for name, value in options.items() if value is not None}


def read_kind(name: str, options: Mapping[str, Any], output: str) -> UncompiledModel:
    """Read a model that gives an output: ``dense``, ``sparse``, ``multivector`` or ``scores``.

    Raises:
        ModelRefused: it gives others; the message names the class for them.
    """
    source = {key: value for key, value in options.items() if key in ReadModelKeywords.__annotations__}
    model = read_model(name, **cast("ReadModelKeywords", source))
    outputs = model.recipe.outputs
    present = outputs[:1] if outputs[0] == "scores" else outputs
    if output not in present and not (output == "scores" and output in outputs):
        classes = " or ".join(_CLASSES[key] for key in present)
        raise ModelRefused(f"{model.recipe.name} is no model for {_CLASSES[output]}: load it with {classes}.")
    return model


def load_within_positions(load: Callable[[], ModelT], options: dict[str, Any]) -> ModelT:
    """Return a loaded model; a ``max_length`` beyond its positions is taken out of the options, as texts cannot use it.

    Raises:
        InputError: another option has a value that is not supported.
    """
    try:
        return load()
    except InputError as error:
        if error.param != "max_length" or options["max_length"] < 1:
            raise
        _log.warning("%s Its own length is used.", error)
        del options["max_length"]
        return load()


def input_list(inputs: Any) -> Any:
    """Return inputs as `Encoder.encode` takes them: one text, a list or a column.

    Raises:
        InputError: it is neither a text nor several, or an input is a number or a pair of texts.
    """
    several = one_or_many(inputs.tolist() if isinstance(inputs, np.ndarray) else inputs, "inputs")
    if isinstance(several, str):
        return several
    listed = list(several) if isinstance(several, (Iterator, range, np.ndarray)) else several
    for index, item in enumerate(listed if isinstance(listed, (list, tuple)) else islice(listed, 1)):
        if isinstance(item, (int, float, np.number, np.ndarray)):
            refuse_item(item, index, "inputs")
        if isinstance(item, (list, tuple)) and item and isinstance(item[0], str):
            raise InputError(
                f"Input {index} is a pair of texts, which an encoder does not read as one input. Join them to one "
                "text; CrossEncoder scores pairs.",
                param="inputs",
            )
    return listed


#: Keywords that ``encode`` of all classes has, for the hint about a misspelt one.
_ENCODE_KEYWORDS = (
    *("batch_size", "convert_to_tensor", "device", "normalize_embeddings", "processing_kwargs", "prompt"),
    *("prompt_name", "show_progress_bar", "truncate_dim"),
)


def call_length(keywords: Mapping[str, Any], default: int | None, where: str) -> int | None:
    """Return the number of tokens that a call reads of each input: from ``processing_kwargs``, else the default.

    Args:
        keywords: the further keywords of the call; there may be ``processing_kwargs`` and ``task``.
        default: the length if they name none.
        where: the name of the method, for messages.

    Raises:
        InputError: there is another keyword, or a setting of the tokenizer that has no counterpart.
    """
    for name in keywords:
        if name not in ("processing_kwargs", "task"):
            hint = f" {nearest(name, _ENCODE_KEYWORDS)}" if where.endswith(".encode") else ""
            raise InputError(f"{where}() has no keyword {name!r} that this model uses.{hint}", param=name)
    length = default
    for name, value in (keywords.get("processing_kwargs") or {}).get("text", {}).items():
        if name == "max_length":
            length = value
        elif name not in ("truncation", "padding"):
            raise InputError(f"processing_kwargs['text'][{name!r}] is not supported.", param="processing_kwargs")
    return length


def _check_modules(modules: Any, name: Any, where: str) -> None:
    """Raise InputError for modules without the name of a model; beside a name they have no effect there either."""
    if name is None:
        refuse_changed({"modules": modules}, CONSTRUCTOR, where)
    elif modules is not None:
        _log.warning("The modules argument is ignored, because a model is named too: %s", name)


def _known(kwargs: Mapping[str, Any] | None, names: Collection[str], where: str) -> Mapping[str, Any]:
    for name in kwargs or {}:
        if name not in names:
            raise InputError(f"{where}[{name!r}] is not supported. {nearest(name, names)}", param=where)
    return kwargs or {}


def _device_of_map(device_map: Any) -> Any:
    """Return the one device of a map, or None if it leaves the choice."""
    devices = set(device_map.values()) if isinstance(device_map, Mapping) else {device_map}
    if len(devices) != 1:
        raise InputError(f"device_map={device_map!r}: a model runs on one device. Name that.", param="model_kwargs")
    device = devices.pop()
    return None if device in (None, "auto", "balanced", "sequential") else device


def _precision(dtype: Any, backend: str) -> str:
    """Return the number format; without one it is float32. OpenVINO chooses the short format itself."""
    name = str(dtype or "float32").removeprefix("torch.")
    if name == "auto":
        return name
    if name not in _DTYPES:
        raise InputError(f"Unknown dtype {dtype!r}. {nearest(name, _DTYPES)}", param="model_kwargs")
    short = _DTYPES[name] != "float32"
    return "auto" if short and backend != "torch" else _DTYPES[name]
