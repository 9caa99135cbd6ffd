"""A GGUF file as a model folder: what it says is written as the files of a Hugging Face folder, beside a link to it.

The folder lies in our cache. It has no copy of the weights, and every other part reads it like any model folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearfield.errors import ModelRefused
from nearfield.fileio.atomic import move_folder
from nearfield.hub.gguf.architectures import (
    CLASS_HEAD,
    DENSE_LAYERS,
    OUTPUT_LABELS,
    RANK,
    find_architecture,
    pooling_of,
    vector_size,
)
from nearfield.hub.gguf.facts import FACTS_KEY, META_FILE, GgufFacts
from nearfield.hub.gguf.header import GgufHeader, read_header
from nearfield.hub.gguf.tokenizer_files import tokenizer_files
from nearfield.hub.sources import StatedModel
from nearfield.settings import cache_dir

#: The name of the link to the file, under which its weights are looked for.
WEIGHTS = "model.gguf"
#: Where the folder says which file it is from: in ``config_sentence_transformers.json``.
ORIGIN_KEY = "gguf_file"
#: Raised when folders are written otherwise.
_LAYOUT = 3
_MODULE = "sentence_transformers.models."
#: The end of a file's name that says how its weights are stored: ``-Q8_0``, ``.f16``, ``-IQ4_XS``.
_TYPE_SUFFIX = re.compile(r"[-._]((I?Q\d\w*)|BF16|F16|F32|FP16|FP32)$", re.IGNORECASE)


def unpack_gguf(file: Path) -> Path:
    """Return the model folder of a GGUF file, written if it is not there yet.

    Raises:
        ModelRefused: the file is damaged, or holds what cannot be read as a model of vectors or scores.
    """
    real = file.resolve()
    home = _root() / _key(real)
    if (home / WEIGHTS).is_file():
        return home
    files = folder_files(read_header(real))
    home.parent.mkdir(parents=True, exist_ok=True)
    prune_folders()
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".partial-") as place:
        _write(Path(place) / "model", files, real)
        move_folder(Path(place) / "model", home)
    return home


def prune_folders() -> None:
    """Delete the folders of files that are gone, or have changed."""
    for home in _root().glob("[!.]*"):
        file = (home / WEIGHTS).resolve()
        if not file.is_file() or _key(file) != home.name:
            shutil.rmtree(home, ignore_errors=True)


def weight_type(stem: str) -> str:
    """Return the type of weights at the end of a file's name, such as ``Q8_0``; empty if it has none."""
    match = _TYPE_SUFFIX.search(stem)
    return match[1] if match else ""


def _root() -> Path:
    return cache_dir() / "gguf"


def _key(real: Path) -> str:
    """Return the name of a file's folder: it is another one when the file changes."""
    state = real.stat()
    text = f"{_LAYOUT}\0{real}\0{state.st_size}\0{state.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def folder_files(header: GgufHeader) -> dict[str, Any]:
    """Return the JSON files of the model folder of a GGUF file, by their path in it.

    Raises:
        ModelRefused: it is part of a model, or holds what cannot be read.
    """
    _check_content(header)
    config = find_architecture(header).config(header)
    _check_layers(header, config)
    pooling = pooling_of(header)
    files = {"config.json": {**config, **_classes(header, pooling)}, **tokenizer_files(header)}
    files[META_FILE] = {ORIGIN_KEY: str(header.path), FACTS_KEY: GgufFacts.from_header(header).to_dict()}
    return files if pooling in (None, RANK) else {**files, **_modules(header, pooling, config["hidden_size"])}


def stated_model(file: Path, name: str | None = None) -> StatedModel:
    """Return what a GGUF file calls its model: ids of the Hub first, then its own names, then that of the file.

    The ``name`` by which it was requested, in place of the file's, counts before all.
    """
    header = read_header(file)
    metadata = header.metadata
    urls = [str(metadata.get(key, "")) for key in ("general.repo_url", "general.source.repo_url")]
    ids = [url.partition("huggingface.co/")[2].strip("/") for url in urls]
    names = [str(metadata.get(f"general.{key}", "")).replace(" ", "-") for key in ("name", "basename")]
    plain = (_TYPE_SUFFIX.sub("", name.removesuffix("-GGUF")) for name in (name or "", *ids, *names, file.stem))
    return StatedModel(tuple(dict.fromkeys(filter(None, plain))), vector_size(header))


def missing_pooling(file: Path) -> ModelRefused:
    """Return the refusal of a model of which neither its file nor the catalogue says how it makes one vector."""
    header = read_header(file)
    names = ", ".join(map(repr, stated_model(file).names))
    unknown = f"the catalogue does not know it under the names {names}"
    if pooling_of(header) == RANK:
        return ModelRefused(
            f"{file} holds a language model that scores pairs, it does not say how the model is asked, and {unknown}: "
            "pass answer=RerankPrompt(...)."
        )
    chat = "tokenizer.chat_template" in header.metadata and find_architecture(header).decoder
    kind = "holds a language model that chats" if chat else "does not say how a text's tokens become one vector"
    return ModelRefused(
        f"{file} {kind} ({header.architecture}.pooling_type is missing), and {unknown}. Take a file of an embedding "
        "model; if it is one, convert it again with a current llama.cpp, or load it from its safetensors files."
    )


def _check_content(header: GgufHeader) -> None:
    kind = header.metadata.get("general.type", "model")
    if kind != "model":
        raise ModelRefused(f"{header.path} holds no model but the type {kind!r} of GGUF. Take the file of the model.")
    parts = header.metadata.get("split.count", 1)
    if parts not in (0, 1):
        raise ModelRefused(
            f"{header.path} is one of {parts} parts of a model. Join them with llama.cpp: llama-gguf-split --merge."
        )


def _check_layers(header: GgufHeader, config: Mapping[str, Any]) -> None:
    name = "num_hidden_layers" if "num_hidden_layers" in config else "n_layer"
    there = {entry.split(".")[1] for entry in header.tensors if entry.startswith("blk.")}
    if len(there) != config[name]:
        raise ModelRefused(
            f"{header.path} has tensors of {len(there)} layers, and says {config[name]} (block_count). Download it "
            "again."
        )


def _classes(header: GgufHeader, pooling: str | None) -> dict[str, Any]:
    """Return the fields of ``config.json`` of a model that gives scores."""
    if pooling != RANK or find_architecture(header).decoder:
        return {}
    shapes = {name: entry.shape for name, entry in header.tensors.items()}
    output = shapes.get(f"{CLASS_HEAD}.weight")
    if output is None or "cls.weight" not in shapes:
        raise ModelRefused(
            f"{header.path} is called a reranker, and lacks a layer of its head (cls, cls.output): llama.cpp's "
            "converter leaves out the pooler of some models. Load the model from its safetensors files."
        )
    count = output[0] if len(output) == 2 else 1
    labels = header.setting(OUTPUT_LABELS, []) or [f"LABEL_{number}" for number in range(count)]
    names = {str(number): label for number, label in enumerate(labels)}
    return {"architectures": ["BertForSequenceClassification"], "id2label": names}


def _modules(header: GgufHeader, pooling: str, width: int) -> dict[str, Any]:
    """Return the files of the modules: pooling, dense layers, and unit length, which llama.cpp gives all vectors."""
    files: dict[str, Any] = {
        "1_Pooling/config.json": {"word_embedding_dimension": width, f"pooling_mode_{_FLAGS[pooling]}": True}
    }
    stages = [("", "Transformer"), ("1_Pooling", "Pooling")]
    for layer in DENSE_LAYERS:
        entry = header.tensors.get(f"{layer}.weight")
        if entry is not None:
            files[f"{layer}/config.json"] = {
                "in_features": entry.shape[1],
                "out_features": entry.shape[0],
                "bias": f"{layer}.bias" in header.tensors,
                "activation_function": "torch.nn.modules.linear.Identity",
            }
            stages.append((layer, "Dense"))
    stages.append(("Normalize", "Normalize"))
    listed = [
        {"idx": at, "name": str(at), "path": path, "type": _MODULE + kind} for at, (path, kind) in enumerate(stages)
    ]
    return {**files, "modules.json": listed}


_FLAGS = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}


def _write(folder: Path, files: Mapping[str, Any], weights: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        if name.partition("/")[0] in DENSE_LAYERS:
            _link(weights, path.with_name(WEIGHTS))
    _link(weights, folder / WEIGHTS)


def _link(file: Path, place: Path) -> None:
    """Link to the weights. Windows lets only some users link by name; a second name of the file serves as well."""
    try:
        place.symlink_to(file)
    except OSError:
        os.link(file, place)
