"""Model files on the Hugging Face Hub, and in the cache of its client."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from nearfield.errors import ModelNotFound, SourceUnavailable
from nearfield.hub.gguf_repositories import choose_file
from nearfield.hub.local import ROOT_FILES, is_adapter, locate_gguf
from nearfield.hub.response_checks import (
    COMMIT,
    UnsafeResponse,
    check_revision,
    check_stored_listings,
    checked_responses,
    find_wrong_file,
    remove_file,
)
from nearfield.hub.sources import LocatedModel, ModelPin, SourceSearch, is_path, why_not_fetched
from nearfield.settings import cache_dir

#: One of them is in every folder of a model: the tokenizer, or what prepares pictures.
_INPUT_FILES = ("tokenizer.json", "vocab.txt", "merges.txt", "preprocessor_config.json", "processor_config.json")
#: Files of a repository that are needed, without the weights: torch files are added only where there are no others.
NEEDED_PATTERNS = (
    *("*.json", "*.txt", "*.model", "tokenizer*", "*/*.json", "*/*.safetensors", "*/*.bin"),
    *("artifact.metadata", "sparse_linear.pt", "colbert_linear.pt"),
)
IGNORED_PATTERNS = (
    "onnx/*",
    "openvino/*",
    "*.onnx",
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.md",
    "coreml/*",
    "gguf/*",
    "*.gguf",
)
#: Characters of an id, as huggingface_hub allows them.
_MAX_ID_LENGTH = 96
#: Seconds to wait for a first answer, so that a blocked Hub does not hold up the next source.
_TIMEOUT_SECONDS = 5.0


def find_in_cache(search: SourceSearch) -> LocatedModel | None:
    """Return the model's snapshot in the Hub's cache, or None with the reason recorded."""
    if is_path(search.model):
        return None
    if len(search.pin.repo) > _MAX_ID_LENGTH:  # it may be too long for a file's name
        search.record("cache", f"ids on the Hub have at most {_MAX_ID_LENGTH} characters")
        return None
    folder = None if search.variant else _cached(search.pin)
    folder = folder or _cached_gguf(search)
    if folder is None or not all((folder / name).exists() for name in search.files):
        search.record("cache", f"{search.pin.repo} is not in the Hub's cache, or only in part, or damaged")
        return None
    if not _is_verified(folder, search.pin):
        wrong = find_wrong_file(folder, search.pin.digests)
        if wrong is not None:
            search.record("cache", f"refused: {wrong} in {folder} is not the file of the catalogue (SHA-256)")
            return None
        _mark(folder, search.pin)
    return _located(folder, search, "cache")


def fetch_from_hub(search: SourceSearch) -> LocatedModel | None:
    """Download the model from the Hub, or return None with the reason recorded.

    Raises:
        SourceUnavailable: the repository is gated.
    """
    if is_path(search.model):
        return None
    if reason := why_not_fetched(search):
        search.record("hub", reason)
        return None
    folder = _snapshot(search)
    return None if folder is None else _located(folder, search, "hub")


def _located(folder: Path, search: SourceSearch, source: str) -> LocatedModel:
    """Return the model of a snapshot; of a repository of GGUF files, that of the one that is meant."""
    file = choose_file(search, _file_names(folder))
    if file is None:
        return LocatedModel(folder, search.pin.repo, search.pin.revision, source)
    return replace(locate_gguf(folder / file, search.model, source), revision=search.pin.revision)


def _cached(pin: ModelPin) -> Path | None:
    """Return the snapshot's folder in the Hub's cache, if it exists and is complete."""
    # Importing the Hub's client takes a quarter of a second.
    if not (_client_cache() / f"models--{pin.repo.replace('/', '--')}").is_dir():
        return None
    from huggingface_hub import try_to_load_from_cache

    try:
        check_revision(pin.revision)
        cached = [try_to_load_from_cache(pin.repo, name, revision=pin.revision) for name in ROOT_FILES]
    except (ValueError, UnsafeResponse):
        return None  # no repository has such an id or revision
    folder = next((Path(file).parent for file in cached if isinstance(file, str)), None)
    # Files in refs name the folder of a branch; one that an unchecked client wrote may name any folder.
    return folder if folder is not None and COMMIT.fullmatch(folder.name) and _complete(folder) else None


def _cached_gguf(search: SourceSearch) -> Path | None:
    """Return the snapshot's folder in the Hub's cache, if it has the GGUF file that is meant."""
    root, revision = _client_cache() / f"models--{search.pin.repo.replace('/', '--')}", search.pin.revision or "main"
    try:
        check_revision(revision)
        commit = revision if COMMIT.fullmatch(revision) else (root / "refs" / revision).read_text(encoding="utf-8")
        folder = root / "snapshots" / commit
        return folder if COMMIT.fullmatch(commit) and choose_file(search, _file_names(folder)) else None
    except (OSError, ValueError, UnsafeResponse, ModelNotFound):
        return None


def _file_names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _client_cache() -> Path:
    """Return the folder of the Hub's cache, by the variables that its client reads."""
    client = sys.modules.get("huggingface_hub.constants")
    if client is not None:
        return Path(client.HF_HUB_CACHE)
    variables = os.environ
    home = variables.get("HF_HOME") or f"{variables.get('XDG_CACHE_HOME', '~/.cache')}/huggingface"
    path = variables.get("HF_HUB_CACHE") or variables.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(path)).expanduser()


def _snapshot(search: SourceSearch) -> Path | None:
    """Download the needed files of a repository and return its folder, or None with the reason recorded.

    A mark in our own cache says that a snapshot was downloaded completely. The Hub's cache does not record that: it
    also lists folders that an interrupted download left incomplete.
    """
    # Its client would otherwise report what runs it.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if os.environ.get("HF_ENDPOINT"):
        # What a mirror sends is checked as it arrives; the other protocol of large files bypasses these checks.
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    repo = search.pin.repo
    try:
        check_revision(search.pin.revision)
        check_stored_listings(repo)
        with checked_responses():
            folder = _download(search)
        wrong = find_wrong_file(folder, search.pin.digests)
        if wrong is not None:
            remove_file(folder / wrong)
            raise UnsafeResponse(f"{wrong} has another SHA-256 than the known one, and was deleted")
    except Exception as error:  # noqa: BLE001 - whatever the client raises, another source may have it
        _record_failure(search, error)
        return None
    _mark(folder, search.pin)
    return folder


def _download(search: SourceSearch) -> Path:
    from huggingface_hub import snapshot_download

    needed = [*_patterns(search), *search.files]
    return Path(
        snapshot_download(
            repo_id=search.pin.repo,
            revision=search.pin.revision,
            endpoint=os.environ.get("HF_ENDPOINT"),
            allow_patterns=needed,
            ignore_patterns=[pattern for pattern in IGNORED_PATTERNS if not fnmatch.filter(needed, pattern)],
            etag_timeout=_TIMEOUT_SECONDS,
            token=os.environ.get("HF_TOKEN") or None,
            tqdm_class=None if search.progress else _silent_bar(),
        )
    )


def _patterns(search: SourceSearch) -> list[str]:
    """Return the file patterns to download: torch weights only where the repository has no safetensors.

    Of a repository of GGUF files it is the one file that is meant. open_clip's weights are left out where those of
    transformers lie beside them: they are the same. Those of timm, which writes no image processor, are the image tower
    alone.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=os.environ.get("HF_TOKEN") or None)
    info = api.model_info(search.pin.repo, revision=search.pin.revision, timeout=_TIMEOUT_SECONDS)
    files = [sibling.rfilename for sibling in info.siblings or []]
    if gguf := choose_file(search, [name for name in files if "/" not in name]):
        return [gguf]
    safe = [name for name in files if name.endswith(".safetensors") and "/" not in name]
    if not safe:
        return [*NEEDED_PATTERNS, "*.bin", "*.pt"]
    if "open_clip_config.json" in files and "preprocessor_config.json" not in files:
        return [*NEEDED_PATTERNS, *safe]
    return [*NEEDED_PATTERNS, *([name for name in safe if not name.startswith("open_clip_")] or safe)]


def _silent_bar() -> Any:
    from huggingface_hub import utils

    bar: Any = utils.tqdm  # type: ignore[attr-defined]
    return type(
        "Silent", (bar,), {"__init__": lambda self, *args, **kw: bar.__init__(self, *args, **{**kw, "disable": True})}
    )


def _record_failure(search: SourceSearch, error: Exception) -> None:
    """Record why a snapshot could not be downloaded; raise only where no other source could help."""
    from huggingface_hub import errors

    if isinstance(error, ModelNotFound):
        raise error
    if isinstance(error, errors.GatedRepoError):
        raise SourceUnavailable(
            f"{search.pin.repo} is gated: ask for access on its page, then set HF_TOKEN to a token of that account."
        ) from error
    if isinstance(error, SourceUnavailable):
        server = os.environ.get("HF_ENDPOINT") or "the Hub"
        search.record("hub", f"refused, from {server}: {error}")
    elif isinstance(error, errors.RevisionNotFoundError):
        search.record("hub", f"{search.pin.repo} has no revision {search.pin.revision!r}")
    elif isinstance(error, errors.RepositoryNotFoundError):
        search.record("hub", f"no repository {search.pin.repo!r} (a private one needs HF_TOKEN)")
    elif isinstance(error, (errors.HFValidationError, ValueError)):
        search.record("hub", f"{search.pin.repo!r} is no repository id")
    else:
        search.record("hub", f"unreachable ({type(error).__name__}: {str(error).splitlines()[0][:120]})")


def _mark_file(folder: Path) -> Path:
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:32]
    return cache_dir() / "snapshots" / digest


def _mark(folder: Path, pin: ModelPin) -> None:
    mark = _mark_file(folder)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(f"{folder}\n{_verified_line(folder, pin)}", encoding="utf-8")


def _is_verified(folder: Path, pin: ModelPin) -> bool:
    """Return whether the files of a snapshot were compared with their digests, and have not changed since."""
    if not pin.digests:
        return True
    mark = _mark_file(folder)
    return mark.is_file() and _verified_line(folder, pin) in mark.read_text(encoding="utf-8").splitlines()


def _verified_line(folder: Path, pin: ModelPin) -> str:
    """Return a line that changes with the known digests, and with the sizes and times of their files."""
    states = [(name, (folder / name).stat()) for name in pin.digests if (folder / name).is_file()]
    state = [(name, status.st_size, status.st_mtime_ns) for name, status in states]
    return "verified " + hashlib.sha256(repr((sorted(pin.digests.items()), state)).encode()).hexdigest()


def _complete(folder: Path) -> bool:
    """Whether a cached snapshot can be loaded: marked as complete, or downloaded by others with config and weights."""
    if _mark_file(folder).is_file():
        return any((folder / name).exists() for name in ROOT_FILES)
    modules = folder / "modules.json"
    if not modules.exists():
        return _has_weights(folder)
    try:
        listed = msgspec.json.decode(modules.read_bytes(), type=list[_ModuleEntry])
        weights = [_has_weights(place, kind) for place, kind in _weight_folders(folder, listed[:1])]
        return bool(weights) and all(weights) and _has_module_configs(folder, listed[1:])
    except (msgspec.DecodeError, OSError, ValueError, RecursionError):
        return False  # a damaged file, or a name that no path can have


class _ModuleEntry(msgspec.Struct):
    """A module in ``modules.json`` of sentence-transformers."""

    path: str | None = None
    type: str = ""


class _RouterFile(msgspec.Struct):
    """``router_config.json``: the modules of each route, and the type of each module."""

    structure: dict[str, list[str]]
    types: dict[str, str]


def _weight_folders(folder: Path, first: Sequence[_ModuleEntry]) -> list[tuple[Path, str]]:
    """Return folder and kind of the module with the weights; of a Router, those of the first module of each route."""
    module = first[0] if first else _ModuleEntry()
    place = folder / (module.path or "")
    router = place / "router_config.json"
    if not router.exists():
        return [(place, module.type)]
    config = msgspec.json.decode(router.read_bytes(), type=_RouterFile)
    return [(place / name, config.types.get(name, "")) for names in config.structure.values() for name in names[:1]]


def _has_weights(folder: Path, kind: str = "") -> bool:
    """Whether a folder has weights, a tokenizer or image processor, and a config unless it is of static embeddings."""
    weights = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    reads_inputs = any((folder / name).exists() for name in _INPUT_FILES)
    configured = any((folder / name).exists() for name in ("config.json", "open_clip_config.json"))
    if is_adapter(folder):  # its inputs may be prepared as its base model says
        return bool(weights)
    return bool(weights) and reads_inputs and (kind.endswith("StaticEmbedding") or configured)


def _has_module_configs(folder: Path, listed: Sequence[_ModuleEntry]) -> bool:
    """Whether each pooling or dense module has its folder's config."""
    with_files = [module.path for module in listed if module.path and not module.type.endswith("Normalize")]
    return all((folder / path / "config.json").exists() for path in with_files)
