"""Files that clients send to collections: forms, and resumable uploads that survive lost connections and processes."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from nearfield.corpus.collection import Collection
from nearfield.corpus.sources.uploads import UploadSource
from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.server.auth.key_file import create_key
from nearfield.server.collections.upload_store import CollectionUploads, UploadLimits
from tests.support.paths import ROOT
from tests.support.serving import serving

pytestmark = pytest.mark.network

CATS = b"The cat sat on the mat. A cat sleeps a lot.\n\nHello world."
KEYS = {"one": '["infer", "manage"]', "two": '["infer", "manage"]', "reader": '["infer"]'}
TUS = {"Tus-Resumable": "1.0.0"}
STREAM = {**TUS, "Content-Type": "application/offset+octet-stream"}


@pytest.fixture
def home(tmp_path: Path, tiny: Encoder) -> Path:
    config = {"features": {"dense": {"model": "tiny"}}}
    Collection.create("pets", config, home=tmp_path, encoder_of=lambda _: tiny).close()
    return tmp_path


@pytest.fixture
def client(home: Path, tiny: Encoder) -> Iterator[httpx.Client]:
    settings = {"max_upload_bytes": 100_000, "max_key_uploads": 2}
    with (
        serving([tiny], served_collections="all", collections_dir=home, **settings) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        yield http


def test_a_server_without_the_models_refuses_files_before_they_arrive(home: Path, tiny: Encoder) -> None:
    Collection.create("other", {"features": {"dense": {"model": "else"}}}, home=home, encoder_of=lambda _: tiny).close()
    headers = {**TUS, "Upload-Length": str(2**20), "Upload-Metadata": metadata("cats.txt")}
    with serving([tiny], served_collections="all", collections_dir=home) as url:
        reply = httpx.post(f"{url}/collections/other/uploads", headers=headers)
    assert reply.status_code == 404 and "'else'" in reply.json()["message"]


def metadata(filename: str) -> str:
    return f"filename {base64.b64encode(filename.encode()).decode()}"


def create(client: httpx.Client, filename: str = "cats.txt", length: int = len(CATS)) -> httpx.Response:
    headers = {**TUS, "Upload-Length": str(length), "Upload-Metadata": metadata(filename)}
    return client.post("/collections/pets/uploads", headers=headers)


def proceed(client: httpx.Client, address: str, offset: int, data: bytes) -> httpx.Response:
    return client.patch(address, headers={**STREAM, "Upload-Offset": str(offset)}, content=data)


def offset_of(client: httpx.Client, address: str) -> int:
    reply = client.head(address, headers=TUS)
    assert reply.status_code == 200, reply.headers
    assert reply.headers["cache-control"] == "no-store"
    return int(reply.headers["upload-offset"])


def documents(client: httpx.Client) -> list[str]:
    return [document["id"] for document in client.get("/collections/pets/documents").json()["documents"]]


def leftovers(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "pets" / "uploads-unfinished").glob("*"))


# -- forms -------------------------------------------------------------------------------------------------------------


def test_a_form_becomes_a_document(client: httpx.Client, home: Path) -> None:
    reply = client.post("/collections/pets/files", files={"file": ("../a/cats.txt", CATS)})
    assert reply.status_code == 200, reply.text
    assert (reply.json()["document"], reply.json()["new"], reply.json()["failures"]) == ("upload:#cats.txt", 1, [])
    assert (home / "pets/uploads/cats.txt").read_bytes() == CATS
    assert leftovers(home) == []
    hits = client.post("/collections/pets/search", json={"query": "cat mat"}).json()["results"]
    assert hits[0]["document"] == "upload:#cats.txt"
    assert str(home) not in json.dumps(hits)
    changed = client.post("/collections/pets/files", files={"file": ("cats.txt", b"A blue dog.")})
    assert changed.json()["changed"] == 1


def test_uploads_are_a_source_of_later_runs(client: httpx.Client, home: Path, tiny: Encoder) -> None:
    client.post("/collections/pets/files", files={"file": ("cats.txt", CATS)})
    client.post("/collections/pets/documents", json={"documents": [{"id": "dogs", "text": "A dog."}]})
    with Collection.open("pets", home=home, encoder_of=lambda _: tiny) as pets:
        report = pets.index()
        assert (report.new, report.removed, report.failures) == (0, 0, [])
    assert client.post("/collections/pets/documents/delete", json={"documents": ["upload:#cats.txt"]}).json() == {
        "deleted": 1
    }
    assert not (home / "pets/uploads/cats.txt").exists()
    assert documents(client) == ["put:#dogs"]


@pytest.mark.parametrize(
    ("name", "message"), [("film.xyz", "no extractor"), (".hidden.txt", "no dot"), ("a.min.js", "generated")]
)
def test_files_that_are_not_read_are_refused(client: httpx.Client, home: Path, name: str, message: str) -> None:
    for reply in (client.post("/collections/pets/files", files={"file": (name, CATS)}), create(client, name)):
        assert reply.status_code == 400, reply.text
        assert message in reply.json()["message"]
    assert leftovers(home) == []
    assert not list((home / "pets").glob("uploads/*"))


def test_a_form_beyond_the_limit_is_refused(client: httpx.Client, home: Path) -> None:
    reply = client.post("/collections/pets/files", files={"file": ("big.txt", b"x" * 200_000)})
    assert reply.status_code == 413, reply.text
    assert leftovers(home) == []


def test_a_form_of_several_files(client: httpx.Client, home: Path) -> None:
    files = [("file", (f"{name}.txt", f"{name} sat on the mat.".encode())) for name in ("cat", "dog")]
    reply = client.post("/collections/pets/files", files=files)
    assert reply.status_code == 200, reply.text
    assert (reply.json()["documents"], reply.json()["new"]) == (["upload:#cat.txt", "upload:#dog.txt"], 2)
    for wrong, message in (
        ([files[0], ("file", ("film.xyz", CATS))], "no extractor"),
        ([("file", ("a.txt", CATS)), ("file", ("a.txt", CATS))], "two files called 'a.txt'"),
        ([("file", ("a.txt", b"x" * 60_000)), ("file", ("b.txt", b"x" * 60_000))], "larger"),
    ):
        refused = client.post("/collections/pets/files", files=wrong)
        assert refused.status_code in (400, 413) and message in refused.json()["message"], refused.text
    renamed = client.post("/collections/pets/files", files=files, data={"filename": "c.txt"})
    assert renamed.status_code == 400 and "renames one file" in renamed.text
    assert documents(client) == ["upload:#cat.txt", "upload:#dog.txt"]
    assert leftovers(home) == []


# -- resumable uploads -------------------------------------------------------------------------------------------------


def test_an_upload_in_parts_becomes_a_document(client: httpx.Client, home: Path) -> None:
    created = create(client)
    assert created.status_code == 201, created.text
    address = created.headers["location"]
    other = client.head(address, headers={"Tus-Resumable": "0.2.2"})
    assert (other.status_code, other.headers["tus-version"]) == (412, "1.0.0")
    assert offset_of(client, address) == 0
    first = proceed(client, address, 0, CATS[:20])
    assert (first.status_code, first.headers["upload-offset"]) == (204, "20")
    assert "upload-expires" in first.headers
    assert offset_of(client, address) == 20
    assert documents(client) == []
    assert proceed(client, address, 5, CATS[5:]).status_code == 409
    last = proceed(client, address, 20, CATS[20:])
    assert (last.status_code, last.headers["upload-offset"]) == (204, str(len(CATS))), last.text
    assert last.headers["upload-document"] == "upload:#cats.txt"
    assert (home / "pets/uploads/cats.txt").read_bytes() == CATS
    assert documents(client) == ["upload:#cats.txt"]
    assert client.head(address).status_code == 404
    assert leftovers(home) == []


def test_a_lost_connection_costs_nothing_that_arrived(client: httpx.Client) -> None:
    address = create(client).headers["location"]
    url = urlsplit(str(client.base_url))
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    connection.putrequest("PATCH", address)
    for name, value in {**STREAM, "Upload-Offset": "0", "Content-Length": str(len(CATS))}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(CATS[:30])
    until = time.monotonic() + 60
    while (reached := offset_of(client, address)) < 30:
        assert time.monotonic() < until
    connection.close()
    while (reply := proceed(client, address, reached, CATS[reached:])).status_code == 409:
        assert time.monotonic() < until  # the lost request still has its lock
    assert reply.status_code == 204, reply.text
    assert documents(client) == ["upload:#cats.txt"]


def test_parts_with_another_checksum_are_not_stored(client: httpx.Client) -> None:
    assert "sha1" in client.options("/collections/pets/uploads").headers["tus-checksum-algorithm"].split(",")
    address = create(client).headers["location"]

    def send(offset: int, data: bytes, checksum: str) -> int:
        headers = {**STREAM, "Upload-Offset": str(offset), "Upload-Checksum": checksum}
        return client.patch(address, headers=headers, content=data).status_code

    def sha1(data: bytes) -> str:
        return f"sha1 {base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()}"

    assert send(0, CATS[:20], sha1(CATS[:20])) == 204
    assert send(20, b"x" * 10, sha1(CATS[20:30])) == 460
    assert offset_of(client, address) == 20
    for wrong in ("crc32 AAAA", "sha1", "sha1 %%%"):
        assert send(20, CATS[20:], wrong) in (400, 460)
    assert offset_of(client, address) == 20
    assert send(20, CATS[20:], sha1(CATS[20:])) == 204
    assert documents(client) == ["upload:#cats.txt"]


def test_a_client_of_the_protocol(client: httpx.Client, home: Path) -> None:
    tus = pytest.importorskip("tusclient.client", reason="needs the package tuspy")
    uploader = tus.TusClient(f"{client.base_url}/collections/pets/uploads").uploader(
        file_stream=io.BytesIO(CATS), chunk_size=20, metadata={"filename": "cats.txt"}, upload_checksum=True
    )
    uploader.upload_chunk()
    assert uploader.offset == 20
    uploader.upload()
    assert (home / "pets/uploads/cats.txt").read_bytes() == CATS
    assert documents(client) == ["upload:#cats.txt"]


def test_bad_requests_are_refused(client: httpx.Client) -> None:
    assert client.options("/collections/pets/uploads").headers["tus-version"] == "1.0.0"
    assert create(client, length=200_000).status_code == 413
    headers: dict[str, Any] = {"Upload-Length": "x", "Upload-Metadata": metadata("a.txt")}
    assert client.post("/collections/pets/uploads", headers=headers).status_code == 400
    headers = {"Upload-Length": "5", "Upload-Metadata": "filename %%%"}
    assert client.post("/collections/pets/uploads", headers=headers).status_code == 400
    assert client.post("/collections/none/uploads", headers=headers).status_code in (400, 404)
    address = create(client, length=10).headers["location"]
    assert client.patch(address, headers={"Upload-Offset": "0"}, content=b"x").status_code == 415
    assert proceed(client, address, 0, b"x" * 11).status_code == 413
    for wrong in ("0" * 32, "..%2f..", "x"):
        assert client.head(f"/collections/pets/uploads/{wrong}").status_code == 404
    assert create(client).status_code == 201
    refused = create(client)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "quota_exceeded")
    assert client.delete(address).status_code == 204
    assert client.head(address).status_code == 404
    assert create(client).status_code == 201


def test_uploads_belong_to_a_key_that_may_manage(home: Path, tiny: Encoder, tmp_path: Path) -> None:
    file, keys = tmp_path / "keys.toml", {name: create_key() for name in KEYS}
    lines = [f'[[keys]]\nname = "{name}"\nhash = "{keys[name][1]}"\nscopes = {scopes}' for name, scopes in KEYS.items()]
    file.write_text("\n".join(lines), encoding="utf-8")
    file.chmod(0o600)
    settings = {"api_key_file": file, "max_key_stored_bytes": 100, "data_dir": tmp_path / "data"}
    with serving([tiny], served_collections="all", collections_dir=home, **settings) as url:
        clients = {
            name: httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)
            for name, (key, _) in keys.items()
        }
        assert create(clients["reader"]).status_code == 403
        address = create(clients["one"]).headers["location"]
        assert clients["one"].head(address).status_code == 200
        assert clients["two"].head(address).status_code == 404
        assert proceed(clients["two"], address, 0, CATS).status_code == 404
        assert httpx.head(url + address).status_code == 401
        form = {"file": ("cats.txt", CATS)}
        assert clients["two"].post("/collections/pets/files", files=form).status_code == 200
        stored = {name: clients[name].get("/collections").json() for name in ("one", "two", "reader")}
        assert [stored[name]["stored_bytes"] for name in stored] == [len(CATS), len(CATS), 0]
        assert {reply["max_stored_bytes"] for reply in stored.values()} == {100}
        _check_key_limit(clients["one"], clients["two"], form)
        for client in clients.values():
            client.close()


def _check_key_limit(one: httpx.Client, two: httpx.Client, form: dict[str, Any]) -> None:
    """Two keys have stored a file each, of more than half of what they may."""
    batch = {"file": ("lines.jsonl", b"{}" * 30)}
    for reply in (
        create(one, "dogs.txt"),
        two.post("/collections/pets/files", files={"file": ("dogs.txt", CATS)}),
        two.post("/v1/files", files=batch, data={"purpose": "batch"}),
    ):
        assert reply.status_code == 403 and "max_key_stored_bytes" in reply.text, reply.text
    assert one.post("/collections/pets/documents/delete", json={"documents": ["upload:#cats.txt"]}).json() == {
        "deleted": 1
    }
    assert two.get("/collections").json()["stored_bytes"] == 0
    assert two.post("/v1/files", files=batch, data={"purpose": "batch"}).status_code == 200
    assert two.post("/collections/pets/files", files=form).status_code == 403
    assert two.get("/collections").json()["stored_bytes"] == 60


# -- the store ---------------------------------------------------------------------------------------------------------


def uploads_in(folder: Path, **limits: Any) -> CollectionUploads:
    return CollectionUploads(UploadSource(folder), UploadLimits(**limits))


def test_a_killed_process_leaves_an_upload_that_continues(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from tests.server.collections.test_uploads import CATS, uploads_in
uploads = uploads_in(Path({str(tmp_path)!r}))
state = uploads.create("me", "cats.txt", len(CATS))
print(state.id, flush=True)
with uploads.locked(state.id, "me", 0) as locked:
    uploads.open(locked).write(CATS[:7])
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    state_id = done.stdout.strip()
    again = uploads_in(tmp_path)
    with again.locked(state_id, "me", 7) as locked:
        writer = again.open(locked)
        writer.write(CATS[7:])
        writer.close()
        assert again.place(locked) == "cats.txt"
    # Killed after the file got its name: nothing is lost, and the client may repeat its last request.
    assert again.find(state_id, "me").is_complete
    with again.locked(state_id, "me", len(CATS)) as locked:
        assert again.place(locked) == "cats.txt"
    assert (tmp_path / "uploads/cats.txt").read_bytes() == CATS


def test_unfinished_uploads_expire(tmp_path: Path) -> None:
    uploads = uploads_in(tmp_path, seconds=100.0)
    state = uploads.create("me", "cats.txt", 10)
    folder = tmp_path / "uploads-unfinished"
    (folder / f"{'a' * 32}.part").write_bytes(b"left by a killed process")
    uploads.clock = lambda: state.expires - 50
    uploads.sweep()
    assert uploads.find(state.id, "me").offset == 0
    uploads.clock = lambda: state.expires + 200
    with pytest.raises(InputError, match="expired"):
        uploads.find(state.id, "me")
    uploads.sweep()
    assert list(folder.iterdir()) == []


def test_an_upload_has_one_writer(tmp_path: Path) -> None:
    uploads = uploads_in(tmp_path)
    state = uploads.create("me", "cats.txt", 10)
    with uploads.locked(state.id, "me"), pytest.raises(InputError, match="Another request"):
        uploads.locked(state.id, "me").__enter__()


def test_limits_of_a_collection(tmp_path: Path) -> None:
    uploads = uploads_in(tmp_path, total_bytes=100, files=1)
    uploads.create("me", "cats.txt", 60)
    with pytest.raises(Exception, match="max_stored_bytes"):
        uploads.create("you", "dogs.txt", 60)
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads/a.txt").write_bytes(b"a")
    with pytest.raises(Exception, match="max_key_files"):
        uploads.create("you", "dogs.txt", 1)
