"""Models in the caches of this machine: list and delete them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from nearfield.errors import InputError
from nearfield.hub.gguf import prune_folders
from nearfield.hub.ollama_store import PREFIX, OllamaName, StoredOllamaModel, ollama_models, remove_pulled
from nearfield.settings import cache_dir


@dataclass(frozen=True)
class CachedModel:
    """A model whose files are on this machine; ``size`` in bytes."""

    name: str
    folder: Path
    revision: str
    size: int
    source: str


def cached_models() -> list[CachedModel]:
    """List the models in the Hub's cache, in our own and in Ollama's store, by name."""
    return sorted(
        [*_in_hub_cache(), *_in_own_cache(), *_in_ollama_store()], key=lambda model: (model.name, model.revision)
    )


def remove(model: str) -> list[CachedModel]:
    """Delete a model's files from the caches and return what was deleted (nothing when it was not there).

    Raises:
        InputError: it is Ollama's.
    """
    gone = [cached for cached in cached_models() if cached.name == model]
    if any(cached.source == "ollama" for cached in gone):
        raise InputError(f"{model} is in Ollama's store. Run: ollama rm {model.removeprefix(PREFIX)}", param="model")
    hub_revisions = [cached.revision for cached in gone if cached.source == "cache"]
    if hub_revisions:
        from huggingface_hub import scan_cache_dir

        scan_cache_dir().delete_revisions(*hub_revisions).execute()
    for cached in gone:
        if cached.source == "index":
            shutil.rmtree(cached.folder)
        if cached.source == "registry":
            remove_pulled(OllamaName.parse(cached.name))
    prune_folders()
    return gone


def _in_hub_cache() -> list[CachedModel]:
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return []
    return [
        CachedModel(repo.repo_id, Path(rev.snapshot_path), rev.commit_hash, rev.size_on_disk, "cache")
        for repo in repos
        if repo.repo_type == "model"
        for rev in repo.revisions
    ]


def _in_ollama_store() -> list[CachedModel]:
    return [
        CachedModel(f"{PREFIX}{model.name}", model.file, model.digest[:12], model.size, _store_of(model))
        for model in ollama_models()
    ]


def _store_of(model: StoredOllamaModel) -> str:
    return "registry" if model.is_pulled else "ollama"


def _in_own_cache() -> list[CachedModel]:
    root = cache_dir() / "models"
    folders = [folder for folder in root.glob("*/*") if folder.is_dir() and not folder.name.startswith(".")]
    return [
        CachedModel(folder.parent.name.replace("--", "/"), folder, folder.name, _size(folder), "index")
        for folder in folders
    ]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
