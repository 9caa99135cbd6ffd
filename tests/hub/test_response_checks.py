"""A Hub or mirror that means harm: what it sends becomes no path outside the cache, and no other content is used."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nearfield import hub
from nearfield.errors import ModelNotFound, SourceUnavailable
from nearfield.hub import ModelPackage, ModelPin, response_checks
from nearfield.hub.response_checks import UnsafeResponse, check_listing, check_name, check_revision, find_wrong_file
from nearfield.testing import write_tiny_model
from tests.support.hub_server import COMMIT, FakeHub, fake_hub

#: Runs ``locate`` for several hostile answers, in a separate process: huggingface_hub reads its settings at import.
SCRIPT = """
import json, sys
from nearfield import hub
from nearfield.errors import NearfieldError
for line in sys.stdin:
    repo, revision, digests = json.loads(line)
    package = hub.ModelPackage("none", "1", "none", digests) if digests else None
    pin = hub.ModelPin(repo, revision, package)
    try:
        located = hub.locate(repo, pin=pin, source="hub")
        print(json.dumps({"folder": str(located.folder)}), flush=True)
    except NearfieldError as error:
        print(json.dumps({"error": str(error)}), flush=True)
"""
Change = Callable[[Any], Any]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    with fake_hub(FakeHub({"some/model": write_tiny_model(tmp_path_factory.mktemp("hub") / "repo")})) as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def locate(served: FakeHub, home: Path) -> Iterator[Callable[..., dict[str, str]]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "NEARFIELD_"))}
    homes = {"HF_HOME": str(home / "hf"), "NEARFIELD_CACHE": str(home / "cache"), "HF_ENDPOINT": served.url}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**clean, **homes},
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(revision: str = COMMIT, digests: dict[str, str] | None = None, **changes: Any) -> dict[str, str]:
            repo = f"some/model{len(served.repos)}"  # a new one: lists of files are cached
            served.repos[repo] = served.repos["some/model"]
            plain = {"headers": {}, "change": lambda document: document, "contents": {}, "listing_redirect": None}
            for name, value in {**plain, **changes}.items():
                setattr(served, name, value)
            stdin.write(json.dumps([repo, revision, digests]) + "\n")
            stdin.flush()
            result: dict[str, str] = json.loads(stdout.readline())
            return result

        yield ask
        stdin.close()


def _escaped(home: Path) -> set[Path]:
    """Return the files outside the places where models are stored."""
    models = (home / "hf" / "hub").glob("models--some--model*")
    inside = (*models, home / "hf" / "hub" / ".locks", home / "cache")
    files = {path for path in home.rglob("*") if path.is_file() or path.is_symlink()}
    return {path for path in files if not any(path.is_relative_to(folder) for folder in inside)} - {
        home / "hf" / "hub" / "CACHEDIR.TAG"
    }


def _add_file(**entry: Any) -> Change:
    """Add a file to the list of files and to the description."""

    def change(document: Any) -> Any:
        if isinstance(document, list):
            plain = {"type": "file", "path": "evil.json", "size": 4, "oid": "0" * 40}
            return [*document, {**plain, **entry}]
        name = entry.get("path", "evil.json")
        return {**document, "siblings": [*document["siblings"], {"rfilename": name}]}

    return change


def _set_sha(document: Any) -> Any:
    return document if isinstance(document, list) else {**document, "sha": "../../../../escaped"}


@pytest.mark.network
@pytest.mark.process
@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        ({"headers": {"ETag": '"../../../../escaped"'}}, "ETag"),
        ({"headers": {"X-Linked-Etag": '"../../../../escaped"'}}, "ETag"),
        ({"headers": {"ETag": '"/tmp/escaped"'}}, "ETag"),
        ({"headers": {"X-Repo-Commit": "../../../../escaped"}}, "commit"),
        ({"headers": {"X-Linked-Size": str(2**60)}}, "free"),
        ({"headers": {"Location": "http://127.0.0.2:1/secret"}}, "redirects"),
        ({"headers": {"Location": "file:///etc/passwd"}}, "redirects"),
        ({"change": _set_sha}, "commit"),
        ({"change": _add_file(path="../../../../../escaped.json")}, "name"),
        ({"change": _add_file(path="/tmp/escaped.json")}, "name"),
        ({"change": _add_file(path="a\\..\\escaped.json")}, "name"),
        ({"change": _add_file(path="nul\0.json")}, "name"),
        ({"change": _add_file(path="x" * 300 + ".json")}, "name"),
        ({"change": _add_file(lfs={"oid": "../../../../escaped", "size": 4, "pointerSize": 4})}, "SHA-256"),
        ({"change": _add_file(oid="../../../../escaped")}, "oid"),
        ({"change": _add_file(xetHash="../../../../escaped")}, "xetHash"),
        ({"listing_redirect": "https://127.0.0.2:1/list.json"}, "redirects a list"),
    ],
)
def test_nothing_is_written_outside_the_cache(
    locate: Callable[..., dict[str, str]], home: Path, attack: dict[str, Any], reason: str
) -> None:
    told = locate(**attack)
    assert "refused" in told["error"]
    assert reason in told["error"]
    assert _escaped(home) == set()


@pytest.mark.network
@pytest.mark.process
def test_a_commit_of_a_missing_file_is_checked_too(locate: Callable[..., dict[str, str]], home: Path) -> None:
    """The client records that a file is missing under the commit that the server names."""
    told = locate(change=_add_file(path="missing.json"), headers={"X-Repo-Commit": "../../../../escaped"})
    assert "refused" in told["error"]
    assert _escaped(home) == set()


@pytest.mark.network
@pytest.mark.process
def test_a_revision_that_is_a_path_is_refused(locate: Callable[..., dict[str, str]], home: Path) -> None:
    assert "cannot be a commit" in locate(revision="../../../../escaped")["error"]
    assert _escaped(home) == set()


@pytest.mark.network
@pytest.mark.process
def test_other_content_than_the_known_one_is_deleted(
    locate: Callable[..., dict[str, str]], served: FakeHub, home: Path
) -> None:
    right = hashlib.sha256((served.repos["some/model"] / "config.json").read_bytes()).hexdigest()
    wrong = (served.repos["some/model"] / "config.json").read_bytes() + b" "
    told = locate(digests={"config.json": right}, contents={"config.json": wrong})
    assert "config.json has another SHA-256" in told["error"]
    snapshots = list((home / "hf" / "hub").glob(f"models--some--model*/snapshots/{COMMIT}"))
    assert snapshots
    configs = [snapshot / "config.json" for snapshot in snapshots]
    assert wrong not in [config.read_bytes() for config in configs if config.is_file()]
    told = locate(digests={"config.json": right})
    assert hashlib.sha256((Path(told["folder"]) / "config.json").read_bytes()).hexdigest() == right


def test_a_cached_file_is_compared_with_its_known_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "own"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    model = write_tiny_model(tmp_path / "hub" / "models--some--model" / "snapshots" / COMMIT)
    config = (model / "config.json").read_bytes()
    package = ModelPackage("none", "1", "none", {"config.json": hashlib.sha256(config).hexdigest()})
    pin = ModelPin("some/model", COMMIT, package)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: str(model / "config.json"))
    assert hub.locate("some/model", pin=pin, source="cache").folder == model
    (model / "config.json").write_bytes(config + b" ")
    with pytest.raises(SourceUnavailable, match=r"refused: config\.json"):
        hub.locate("some/model", pin=pin, source="cache")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: str(tmp_path / "x" / "config.json"))
    with pytest.raises(ModelNotFound):  # a ref that names another folder than a commit's
        hub.locate("some/model", pin=pin, source="cache")


def test_names_and_revisions() -> None:
    for good in ("config.json", "1_Pooling/config.json", "a..b.json", "täglich.json", ".gitattributes"):
        check_name(good)
    for bad in ("", "..", "a/../b", "/a", "a//b", "a\\b", "C:x", "a\nb", "a/" * 20 + "b", 3, None):
        with pytest.raises(UnsafeResponse):
            check_name(bad)
    revisions: tuple[str | None, ...] = (None, "main", "refs/pr/1", "v1.0", COMMIT)
    for revision in revisions:
        check_revision(revision)
    for bad in ("..", "a/../b", "/a", "a//b", "", "a\\b", "a b", "x" * 300):
        with pytest.raises(UnsafeResponse):
            check_revision(bad)
    documents: tuple[Any, ...] = (
        {"sha": "x"},
        {"siblings": 3},
        {"siblings": [1]},
        [{"path": 1}],
        [{"path": "a", "lfs": 1}],
    )
    for document in documents:
        with pytest.raises(UnsafeResponse):
            check_listing(document)


def test_a_body_without_end_stops_before_the_disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", "/")
    monkeypatch.setattr(response_checks, "_DISK_RESERVE", 2**60)
    taken: list[int] = []

    class Endless:
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield bytes(2**16)

        def close(self) -> None:
            """Nothing to close."""

    with pytest.raises(SourceUnavailable, match="free"):
        taken.extend(len(chunk) for chunk in response_checks._checked_stream(Endless()))
    assert sum(taken) < 2**20


def test_a_blob_named_by_its_digest_must_have_it(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / COMMIT
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    digest = hashlib.sha256(b"right").hexdigest()
    (blobs / digest).write_bytes(b"right")
    (snapshot / "model.safetensors").symlink_to(blobs / digest)
    assert find_wrong_file(snapshot, {}) is None
    (blobs / digest).write_bytes(b"wrong")
    assert find_wrong_file(snapshot, {}) == "model.safetensors"
