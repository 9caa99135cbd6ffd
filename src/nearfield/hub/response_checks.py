"""Checks of what a Hub, or a mirror of it, sends: huggingface_hub builds paths in its cache from these values."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from nearfield.errors import SourceUnavailable
from nearfield.fork_safety import ProcessLock
from nearfield.units import format_bytes

#: A commit: SHA-1, or SHA-256 in newer repositories.
COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: What an ETag may be between its quotes: one name of a file, without separators.
_ETAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+=:.-]{0,127}")
#: A branch or tag, as part of a path.
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")
#: Maximum bytes of a part of a file's name (the client appends suffixes), of all of it, and its number of parts.
_MAX_PART_BYTES, _MAX_NAME_BYTES, _MAX_PARTS = 200, 1024, 16
#: Maximum bytes and files of a listing.
_MAX_LISTING_BYTES, _MAX_FILES = 64 * 2**20, 100_000
#: Bytes of the disk that a download leaves free, and bytes between two looks at the disk.
_DISK_RESERVE, _DISK_CHECK_BYTES = 256 * 2**20, 2**20
_CHUNK = 2**20

_lock = ProcessLock()
#: Downloads of this module that run now: the client's other users are not checked.
_active = 0
_installed = False


class UnsafeResponse(SourceUnavailable):
    """A Hub sent a value that would become a path outside the cache, or another content than the known one."""


def check_revision(revision: str | None) -> None:
    """Check that a revision can be part of a path.

    Raises:
        UnsafeResponse: it cannot.
    """
    if revision is not None and (not _REVISION.fullmatch(revision) or len(revision) > _MAX_PART_BYTES):
        raise UnsafeResponse(f"{revision[:100]!r} cannot be a commit, tag or branch.")


def check_commit(commit: object) -> None:
    """Check that a commit id is one.

    Raises:
        UnsafeResponse: it is not.
    """
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        raise UnsafeResponse(f"it sent {_shown(commit)} as the id of a commit")


def check_etag(etag: str) -> None:
    """Check that an ETag can be the name of a file.

    Raises:
        UnsafeResponse: it cannot.
    """
    if not _ETAG.fullmatch(etag.lstrip("W/").strip('"')):
        raise UnsafeResponse(f"it sent {_shown(etag)} as an ETag")


def check_name(name: object) -> None:
    """Check that a file of a repository has a relative name without ``..``, control characters or long parts.

    Raises:
        UnsafeResponse: it has not.
    """
    parts = name.split("/") if isinstance(name, str) else []
    if (
        not isinstance(name, str)
        or not name.isprintable()
        or "\\" in name
        or re.match(r"[A-Za-z]:", name)
        or len(name.encode("utf-8", "replace")) > _MAX_NAME_BYTES
        or len(parts) > _MAX_PARTS
        or any(part in ("", ".", "..") or len(part.encode("utf-8", "replace")) > _MAX_PART_BYTES for part in parts)
    ):
        raise UnsafeResponse(f"it lists a file with the name {_shown(name)}")


def check_listing(document: Any) -> None:
    """Check a repository's description, or a list of its files: commit, names and digests.

    Raises:
        UnsafeResponse: one of them cannot be part of a path.
    """
    if isinstance(document, dict):
        if document.get("sha") is not None:
            check_commit(document["sha"])
        entries, name_key = document.get("siblings") or [], "rfilename"
    else:
        entries, name_key = document, "path"
    if not isinstance(entries, list) or len(entries) > _MAX_FILES:
        raise UnsafeResponse(f"it sent no list of files, or one with more than {_MAX_FILES}")
    for entry in entries:
        if not isinstance(entry, dict):
            raise UnsafeResponse("it sent no list of files")
        check_name(entry.get(name_key))
        _check_digests(entry)


def _check_digests(entry: Mapping[str, Any]) -> None:
    lfs = entry.get("lfs") or {}
    if not isinstance(lfs, dict):
        raise UnsafeResponse("it sent no list of files")
    for digest in (lfs.get("sha256"), lfs.get("oid"), entry.get("lfs_sha256")):
        if digest is not None and not (isinstance(digest, str) and _SHA256.fullmatch(digest)):
            raise UnsafeResponse(f"it sent {_shown(digest)} as a SHA-256")
    for name in ("oid", "blobId", "blob_id", "xetHash", "xet_hash"):
        if entry.get(name) is not None and not _ETAG.fullmatch(str(entry[name])):
            raise UnsafeResponse(f"it sent {_shown(entry[name])} as {name}")


def check_headers(method: str, url: str, headers: Mapping[str, str], endpoint: str) -> None:
    """Check the headers of a response: commit, size, target of a redirect, and ETags of descriptions (HEAD).

    Raises:
        UnsafeResponse: one of them cannot be part of a path, or a redirect leaves HTTPS.
        SourceUnavailable: the disk has no space for the file.
    """
    if "x-repo-commit" in headers:
        check_commit(headers["x-repo-commit"])
    for name in ("etag", "x-linked-etag"):
        if method == "HEAD" and name in headers:
            check_etag(headers[name])
    if "location" in headers:
        _check_redirect(url, headers["location"], endpoint)
    for name in ("content-length", "x-linked-size"):
        size = headers.get(name, "")
        if size.isdigit():
            check_space(int(size))


def _check_redirect(url: str, location: str, endpoint: str) -> None:
    """Refuse a redirect to another scheme than HTTPS, and one of a listing to another place."""
    target, start = urlsplit(urljoin(url, location)), urlsplit(endpoint)
    local = (target.scheme, target.netloc) == (start.scheme, start.netloc)
    if not local and target.scheme != "https":
        raise UnsafeResponse(f"it redirects to {_shown(location)}, which is not HTTPS")
    if _is_listing(url, endpoint) and not _is_listing(target.geturl(), endpoint):
        raise UnsafeResponse(f"it redirects a list of files to {_shown(location)}")


def _is_listing(url: str, endpoint: str) -> bool:
    return url.startswith(endpoint.rstrip("/") + "/api/")


def check_space(size: int) -> None:
    """Check that a download of some bytes leaves space on the disk of the Hub's cache.

    Raises:
        SourceUnavailable: it does not.
    """
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size > max(0, free - _DISK_RESERVE):
        raise SourceUnavailable(
            f"a file has {format_bytes(size)}, and the disk of {constants.HF_HUB_CACHE} has {format_bytes(free)} free"
        )


# -- files on this machine -------------------------------------------------------------------------------------------


def check_stored_listings(repo: str) -> None:
    """Delete lists of a repository's files in the Hub's cache that an earlier client stored without these checks."""
    from huggingface_hub import constants

    for path in Path(constants.HF_HUB_CACHE).glob(f"models--{repo.replace('/', '--')}/trees/*.json"):
        try:
            document = json.loads(path.read_bytes())
            names = document.get("files", {}) if isinstance(document, dict) else {}
            for name, entry in names.items():
                check_name(name)
                _check_digests(entry if isinstance(entry, dict) else {})
        except (UnsafeResponse, ValueError, OSError, AttributeError, RecursionError):
            path.unlink(missing_ok=True)


def find_wrong_file(folder: Path, digests: Mapping[str, str]) -> str | None:
    """Return the name of a file that has another SHA-256 than the known one, or None. Missing files are not wrong.

    A file of the Hub's cache named by a SHA-256 must have that one too.
    """
    known = dict(digests)
    for path in folder.rglob("*"):
        blob = Path(os.path.realpath(path))
        if path.is_symlink() and _SHA256.fullmatch(blob.name):
            known.setdefault(str(path.relative_to(folder)), blob.name)
    for name, digest in known.items():
        if (folder / name).is_file() and _sha256(folder / name) != digest:
            return name
    return None


def remove_file(path: Path) -> None:
    """Delete a file of the Hub's cache, and the content that it links to."""
    content = Path(os.path.realpath(path))
    path.unlink(missing_ok=True)
    if content.parent.name == "blobs":
        content.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


# -- the client ------------------------------------------------------------------------------------------------------


@contextmanager
def checked_responses() -> Iterator[None]:
    """Check all responses that huggingface_hub gets during the block."""
    global _active
    with _lock:
        _install()
        _active += 1
    try:
        yield
    finally:
        with _lock:
            _active -= 1


def _install() -> None:
    """Add the checks to the clients that huggingface_hub creates; a configured factory stays in use."""
    global _installed
    if _installed:
        return
    import huggingface_hub
    from huggingface_hub.utils import _http

    library: Any = huggingface_hub
    if hasattr(library, "set_client_factory"):
        library.set_client_factory(_with_hook(_http._GLOBAL_CLIENT_FACTORY, _add_httpx_hook))
    else:  # before 1.0 it used requests
        create = getattr(_http, "_GLOBAL_BACKEND_FACTORY")  # noqa: B009 - later versions do not have it
        library.configure_http_backend(_with_hook(create, _add_requests_hook))
    _installed = True


def _with_hook(create: Callable[[], Any], add: Callable[[Any], None]) -> Callable[[], Any]:
    def create_checked() -> Any:
        client = create()
        add(client)
        return client

    return create_checked


def _add_httpx_hook(client: Any) -> None:
    hooks = client.event_hooks
    hooks["response"] = [*hooks.get("response", []), _check_httpx_response]
    client.event_hooks = hooks


def _check_httpx_response(response: Any) -> None:
    if not _active:
        return
    url, endpoint = str(response.request.url), _endpoint()
    check_headers(response.request.method, url, response.headers, endpoint)
    if response.request.method == "HEAD":
        return
    if _is_listing(url, endpoint):
        response._content = _read_listing(response.iter_bytes(2**16))
        _check_body(response.status_code, response._content)
    else:
        response.stream = _checked_stream(response.stream)


def _checked_stream(stream: Any) -> Any:
    """Return a stream that looks at the disk's free space from time to time: a body need not have an end."""
    import httpx

    class CheckedStream(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            unchecked = 0
            for chunk in stream:
                unchecked += len(chunk)
                if unchecked >= _DISK_CHECK_BYTES:
                    check_space(unchecked)
                    unchecked = 0
                yield chunk

        def close(self) -> None:
            stream.close()

    return CheckedStream()


def _add_requests_hook(session: Any) -> None:
    session.hooks["response"] = [*session.hooks.get("response", []), _check_requests_response]


def _check_requests_response(response: Any, *_: Any, **__: Any) -> None:
    if not _active:
        return
    endpoint = _endpoint()
    check_headers(response.request.method, response.url, response.headers, endpoint)
    if response.request.method != "HEAD" and _is_listing(response.url, endpoint):
        response._content = _read_listing(response.iter_content(2**16))
        _check_body(response.status_code, response._content)


def _read_listing(chunks: Iterator[bytes]) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > _MAX_LISTING_BYTES:
            raise UnsafeResponse(f"its list of files has more than {_MAX_LISTING_BYTES} bytes")
    return bytes(body)


def _check_body(status: int, body: bytes) -> None:
    if status != 200:
        return
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnsafeResponse("its list of files is not valid JSON") from error
    if isinstance(document, (dict, list)):
        check_listing(document)


def _endpoint() -> str:
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def _shown(value: object) -> str:
    return ascii(value)[:100]
