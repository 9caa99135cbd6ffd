"""Stores of models in Ollama's layout: its own on this machine, of which nothing is copied, and one in our cache.

A manifest lists the parts of a model by their SHA-256: the weights, and what belongs to the generation of texts
(template, parameters, system prompt), which changes no vector and is not read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearfield.errors import InputError, ModelNotFound, ModelRefused, nearest
from nearfield.settings import cache_dir

#: What begins the name of a model that is looked for in Ollama's store.
PREFIX = "ollama:"
WEIGHTS_TYPE = "application/vnd.ollama.image.model"
#: Parts without which the weights are not the whole model.
_NEEDED_TYPES = {"application/vnd.ollama.image.adapter": "an adapter"}
_HOST, _NAMESPACE, _TAG = "registry.ollama.ai", "library", "latest"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MAX_MANIFEST_BYTES = 2**22


@dataclass(frozen=True)
class OllamaName:
    """The name of a model: ``[host/][namespace/]model[:tag]``."""

    host: str
    namespace: str
    model: str
    tag: str

    @classmethod
    def parse(cls, name: str) -> OllamaName:
        """Read a name, with or without the prefix.

        Raises:
            InputError: it is none.
        """
        path, _, tag = name.removeprefix(PREFIX).partition(":")
        *before, model = path.split("/")
        parts = (*(_HOST, _NAMESPACE)[: max(0, 2 - len(before))], *before, model, tag or _TAG)
        if len(parts) != 4 or not all(map(_PART.fullmatch, parts)):
            raise InputError(
                f"{name!r} is no name of a model of Ollama: it must be like ollama:nomic-embed-text or "
                "ollama:qwen3-embedding:0.6b.",
                param="model",
            )
        return cls(*parts)

    @property
    def path(self) -> Path:
        """The path of its manifest below ``manifests``."""
        return Path(self.host, self.namespace, self.model, self.tag)

    def __str__(self) -> str:
        """Return the name as Ollama prints it, but for the tag ``latest``."""
        place = "" if self.host == _HOST else f"{self.host}/"
        owner = "" if (self.host, self.namespace) == (_HOST, _NAMESPACE) else f"{self.namespace}/"
        return f"{place}{owner}{self.model}" + ("" if self.tag == _TAG else f":{self.tag}")


@dataclass(frozen=True)
class StoredOllamaModel:
    """A model of a store; ``size`` in bytes, ``digest`` the SHA-256 of its weights."""

    name: OllamaName
    file: Path
    size: int
    digest: str

    @property
    def is_pulled(self) -> bool:
        """Whether it is in our own cache, not in Ollama's store."""
        return self.file.is_relative_to(pulled_root())


def find_model(name: OllamaName) -> StoredOllamaModel | None:
    """Return the model of a name from the first store that has it.

    Raises:
        ModelRefused: its manifest is damaged, or its files are incomplete.
    """
    models = (read_model(root, name) for root in _roots())
    return next((model for model in models if model is not None), None)


def ollama_models() -> list[StoredOllamaModel]:
    """List the models that Ollama has, without those whose files are incomplete or damaged."""
    return [model for root in _roots() for model in _models_in(root)]


def read_model(root: Path, name: OllamaName) -> StoredOllamaModel | None:
    """Return a model of one store, or None if that has no manifest of the name.

    Raises:
        ModelRefused: the manifest is damaged, or the file with the weights is not whole.
    """
    manifest = root / "manifests" / name.path
    if not manifest.is_file():
        return None
    layer = weights_layer(manifest, _read_manifest(manifest))
    file = blob_path(root, layer["digest"])
    if not file.is_file() or file.stat().st_size != layer["size"]:
        raise ModelRefused(f"The weights of {name} ({file}) are missing or not whole. Run: ollama pull {name}")
    return StoredOllamaModel(name, file, layer["size"], layer["digest"].partition(":")[2])


def blob_path(root: Path, digest: str) -> Path:
    """Return where a store has the part with a digest."""
    return root / "blobs" / digest.replace(":", "-")


def weights_layer(origin: Path | str, manifest: Any) -> dict[str, Any]:
    """Return the part of a manifest with the weights; ``origin`` is where the manifest is from.

    Raises:
        ModelRefused: it has none, or needs a part that is not read.
    """
    layers = manifest.get("layers") if isinstance(manifest, dict) else None
    if not isinstance(layers, list) or not all(map(_is_layer, layers)):
        raise ModelRefused(f"{origin} is no manifest of a model of Ollama. Pull the model again.")
    needed = next((_NEEDED_TYPES[layer["mediaType"]] for layer in layers if layer["mediaType"] in _NEEDED_TYPES), None)
    if needed is not None:
        raise ModelRefused(f"{origin} names {needed} beside the weights, which is not read from Ollama's store.")
    layer = next((layer for layer in layers if layer["mediaType"] == WEIGHTS_TYPE), None)
    if layer is None:
        raise ModelRefused(f"{origin} names no weights: the model is computed elsewhere (Ollama's cloud), not here.")
    return dict(layer)


def _is_layer(layer: Any) -> bool:
    return (
        isinstance(layer, dict)
        and isinstance(layer.get("mediaType"), str)
        and type(layer.get("size")) is int
        and _DIGEST.fullmatch(str(layer.get("digest"))) is not None
    )


def _read_manifest(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return json.loads(file.read(MAX_MANIFEST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelRefused(f"{path} cannot be read as a manifest of Ollama: {error}") from error


def _models_in(root: Path) -> Iterator[StoredOllamaModel]:
    for path in sorted((root / "manifests").glob("*/*/*/*")):
        try:
            model = read_model(root, OllamaName(*path.parts[-4:]))
        except ModelRefused:
            continue
        if model is not None:
            yield model


def pulled_root() -> Path:
    """Return the store of our own cache, into which `nearfield.hub.ollama_registry` fetches models."""
    return cache_dir() / "ollama"


def _roots() -> list[Path]:
    """Return the stores: the one that Ollama's own variable names, or where it puts them on this system; and ours."""
    stated = os.environ.get("OLLAMA_MODELS")
    if stated:
        return [Path(stated).expanduser(), pulled_root()]
    # The second is that of the service which Ollama's installer sets up on Linux.
    return [Path.home() / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models"), pulled_root()]


def missing_model(name: OllamaName) -> ModelNotFound:
    """Return the error for a model that no store has; it names those that they have."""
    names = [str(model.name) for model in ollama_models()]
    places = ", ".join(map(str, _roots()[:-1]))
    if not names:
        return ModelNotFound(
            f"Ollama has no models in {places}. Run `ollama pull {name}`, or set OLLAMA_MODELS to its folder of models."
        )
    return ModelNotFound(f"Ollama has no model {str(name)!r} in {places}. {nearest(str(name), names)}")


def remove_pulled(name: OllamaName) -> None:
    """Delete a model from the store of our own cache."""
    model = read_model(pulled_root(), name)
    if model is None:
        return
    (pulled_root() / "manifests" / name.path).unlink()
    if all(other.file != model.file for other in ollama_models()):
        model.file.unlink()
