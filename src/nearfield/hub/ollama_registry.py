"""Models from a registry of Ollama's protocol, into a store of the same layout in our cache.

Off unless `VARIABLE` has the address of a registry, such as https://registry.ollama.ai. Of a model the manifest and the
weights are fetched, which is all that is read. A download that breaks off continues where it stopped.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from nearfield.errors import ModelNotFound, SourceUnavailable
from nearfield.fileio.atomic import write_atomic
from nearfield.fileio.disk_space import explain_full_disk
from nearfield.fileio.locks import exclusive_lock
from nearfield.hub.local import locate_gguf
from nearfield.hub.ollama_store import (
    MAX_MANIFEST_BYTES,
    OllamaName,
    blob_path,
    find_model,
    missing_model,
    pulled_root,
    weights_layer,
)
from nearfield.hub.sources import LocatedModel, SourceSearch, why_not_fetched

if TYPE_CHECKING:
    import httpx

VARIABLE = "NEARFIELD_OLLAMA_REGISTRY"
_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_TIMEOUT_SECONDS = 30.0


def find_in_ollama(search: SourceSearch) -> LocatedModel:
    """Return the model of a name that Ollama has, or that the registry has, if one is set.

    Raises:
        ModelNotFound: nothing has one of that name; the message names those that are there.
        SourceUnavailable: the registry cannot be read.
        ModelRefused: the model's files are incomplete, or cannot be read as a model.
    """
    name = OllamaName.parse(search.model)
    model = find_model(name)
    address = os.environ.get(VARIABLE, "").rstrip("/")
    if model is None and address and not why_not_fetched(search):
        pull_model(address, name, pulled_root())
        model = find_model(name)
    if model is None:
        raise missing_model(name)
    return locate_gguf(model.file, str(name), "ollama")


def pull_model(address: str, name: OllamaName, root: Path) -> None:
    """Fetch a model into a store.

    Raises:
        ModelNotFound: the registry does not have it.
        SourceUnavailable: the registry cannot be read, or sends something else than it promised.
        ModelRefused: the model has no weights, or parts that are not read.
    """
    import httpx

    base = f"{address}/v2/{name.namespace}/{name.model}"
    try:
        with httpx.Client(follow_redirects=True, timeout=_TIMEOUT_SECONDS) as client, explain_full_disk(root):
            content = _fetch_manifest(client, f"{base}/manifests/{name.tag}", name)
            layer = weights_layer(f"{base}/manifests/{name.tag}", orjson.loads(content))
            _fetch_blob(client, f"{base}/blobs/{layer['digest']}", blob_path(root, layer["digest"]), layer)
    except (httpx.HTTPError, httpx.InvalidURL, orjson.JSONDecodeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise SourceUnavailable(
            f"{name} cannot be fetched from {address} ({VARIABLE}): {reason}. Try again: it continues where it stopped."
        ) from error
    manifest = root / "manifests" / name.path
    manifest.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(manifest, content, shared=True)


def _fetch_manifest(client: httpx.Client, url: str, name: OllamaName) -> bytes:
    content = b""
    with client.stream("GET", url, headers={"Accept": _MANIFEST_TYPE}) as reply:
        if reply.status_code == 404:
            raise ModelNotFound(f"The registry has no model {str(name)!r} ({url}). Check the name and its tag.")
        reply.raise_for_status()
        for piece in reply.iter_bytes():
            content += piece
            if len(content) > MAX_MANIFEST_BYTES:
                raise SourceUnavailable(f"{url} sends more than {MAX_MANIFEST_BYTES} bytes, and no manifest.")
    return content


def _fetch_blob(client: httpx.Client, url: str, file: Path, layer: dict[str, Any]) -> None:
    """Fetch a part of a model, unless it is there; what was fetched of it before is not fetched again."""
    if file.is_file() and file.stat().st_size == layer["size"]:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")

    def busy() -> Exception:
        return SourceUnavailable(f"Another process fetches {url}. Wait until it is done.")

    with exclusive_lock(partial.with_suffix(".lock"), busy, required=False, remove=True):
        start = partial.stat().st_size if partial.is_file() else 0
        if start < layer["size"]:
            _append(client, url, partial, start, layer["size"])
        if _sha256(partial) != layer["digest"]:
            partial.unlink()
            raise SourceUnavailable(f"{url} is not the file with that SHA-256, and was deleted. Try again.")
        partial.replace(file)


def _append(client: httpx.Client, url: str, partial: Path, start: int, size: int) -> None:
    headers = {"Range": f"bytes={start}-", "Accept-Encoding": "identity"} if start else {"Accept-Encoding": "identity"}
    with client.stream("GET", url, headers=headers) as reply:
        reply.raise_for_status()
        continues = reply.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        written = start if continues else 0
        with partial.open("ab" if continues else "wb") as out:
            for piece in reply.iter_bytes():
                written += len(piece)
                if written > size:
                    raise SourceUnavailable(f"{url} sends more than the {size} bytes of its manifest.")
                out.write(piece)
    if written < size:
        raise SourceUnavailable(f"{url} ended after {written} of {size} bytes. Try again: it continues there.")


def _sha256(file: Path) -> str:
    total = hashlib.sha256()
    with file.open("rb") as source:
        while piece := source.read(2**22):
            total.update(piece)
    return f"sha256:{total.hexdigest()}"
