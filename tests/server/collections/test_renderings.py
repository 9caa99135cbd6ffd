"""Thumbnails and clips of documents over HTTP."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from PIL import Image as PillowImage

from nearfield.corpus.collection import Collection
from nearfield.corpus.sources.spec import parse_source
from nearfield.encoder import Encoder
from nearfield.server.collections.document_renderings import rendering_addresses
from tests.support import media_files
from tests.support.serving import serving

pytest.importorskip("transformers")
pytest.importorskip("soundfile")
pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def client(folder: Path, tiny: Encoder) -> Iterator[httpx.Client]:
    files, models = media_files.write_media(folder / "files"), media_files.write_models(folder / "models")
    with zipfile.ZipFile(files / "old.zip", "w") as archive:
        archive.writestr("in/photo.png", media_files.picture(1))
        archive.writestr("tone.wav", media_files.sound())
    (files / os.fsdecode(b"caf\xe9.png")).write_bytes(media_files.picture(1))
    encoders = {path: Encoder(path, compile_cache=False, precision="float32") for path in models.values()}
    config = media_files.media_config(models, "")
    with Collection.create("media", config, home=folder / "home", encoder_of=encoders.__getitem__) as collection:
        report = collection.index([parse_source(str(files))])
        assert not report.failures, report.to_text()
    for encoder in encoders.values():
        encoder.close()
    with (
        serving([tiny], served_collections="all", collections_dir=folder / "home") as url,
        httpx.Client(base_url=f"{url}/collections/media/document", timeout=60) as http,
    ):
        yield http


def get(client: httpx.Client, path: str, folder: Path, name: str, **options: Any) -> httpx.Response:
    headers = options.pop("headers", {})
    return client.get(path, params={"id": f"files:{folder / 'files'}#{name}", **options}, headers=headers)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("photo.png", {}),
        ("beach.jpg", {"format": "webp"}),
        ("scan.pdf", {"page": 2}),
        ("clip.mp4", {"time": 3.5}),
        ("fax.tiff", {"page": 2}),
        ("old.zip!/in/photo.png", {}),
        ("caf\\xe9.png", {}),  # its name is Latin-1
    ],
)
def test_a_thumbnail(client: httpx.Client, folder: Path, name: str, options: dict[str, Any]) -> None:
    reply = get(client, "/thumbnail", folder, name, size=40, **options)
    assert reply.status_code == 200, reply.text
    form = options.get("format", "jpeg")
    assert reply.headers["content-type"] == f"image/{form}"
    with PillowImage.open(io.BytesIO(reply.content)) as picture:
        assert (picture.format, max(picture.size) <= 40) == (form.upper(), True)
    assert reply.headers["cache-control"].startswith("private")
    again = get(
        client, "/thumbnail", folder, name, size=40, **options, headers={"If-None-Match": reply.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    assert get(client, "/thumbnail", folder, name, size=41, **options).headers["etag"] != reply.headers["etag"]


def test_pages_of_a_tiff_and_members_of_an_archive(client: httpx.Client, folder: Path) -> None:
    pages = [get(client, "/thumbnail", folder, "fax.tiff", page=page).content for page in (1, 2)]
    assert pages[0] != pages[1]
    zipped, plain = (get(client, "/thumbnail", folder, name) for name in ("old.zip!/in/photo.png", "photo.png"))
    assert zipped.content == plain.content


def test_clips(client: httpx.Client, folder: Path) -> None:
    sound = get(client, "/clip", folder, "tone.wav", start=1, end=2, format="wav")
    assert (sound.status_code, sound.headers["content-type"], sound.content[:4]) == (200, "audio/wav", b"RIFF")
    zipped = get(client, "/clip", folder, "old.zip!/tone.wav", start=1, end=2, format="wav")
    assert zipped.content == sound.content
    video = get(client, "/clip", folder, "clip.mp4", start=2, end=4)
    assert (video.status_code, video.headers["content-type"]) == (200, "video/mp4")
    assert 0 <= float(video.headers["x-nearfield-clip-start"]) <= 2
    size = len(video.content)
    part = get(client, "/clip", folder, "clip.mp4", start=2, end=4, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, video.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{size}" and video.headers["accept-ranges"] == "bytes"
    beyond = get(client, "/clip", folder, "clip.mp4", start=2, end=4, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")


@pytest.mark.parametrize(
    ("path", "name", "options", "status"),
    [
        ("/thumbnail", "scan.pdf", {"page": 4}, 400),
        ("/thumbnail", "scan.pdf", {"page": 0}, 400),
        ("/thumbnail", "fax.tiff", {"page": 3}, 400),
        ("/thumbnail", "old.zip!/none.png", {}, 404),
        ("/thumbnail", "photo.png", {"size": 5000}, 400),
        ("/thumbnail", "photo.png", {"format": "bmp"}, 400),
        ("/thumbnail", "clip.mp4", {"time": 100}, 400),
        ("/thumbnail", "clip.mp4", {"time": "nan"}, 400),
        ("/clip", "clip.mp4", {"start": 100, "end": 101}, 400),
        ("/thumbnail", "tone.wav", {}, 400),
        ("/thumbnail", "cat.txt", {}, 400),
        ("/thumbnail", "none.png", {}, 404),
        ("/thumbnail", "../models", {}, 404),
        ("/clip", "tone.wav", {"start": 2, "end": 1}, 400),
        ("/clip", "tone.wav", {"start": 0, "end": 5000}, 413),
        ("/clip", "photo.png", {}, 400),
        ("/clip", "clip.mp4", {"format": "ogg"}, 400),  # it has no sound
    ],
)
def test_bad_requests(
    client: httpx.Client, folder: Path, path: str, name: str, options: dict[str, Any], status: int
) -> None:
    reply = get(client, path, folder, name, **options)
    assert reply.status_code == status, reply.text
    said = reply.json()["message"]
    assert said and str(folder / name) not in said.replace(f"files:{folder}", "")


def test_a_file_that_has_changed_is_not_shown(client: httpx.Client, folder: Path) -> None:
    file = folder / "files/fax.tiff"
    before, status = file.read_bytes(), file.stat()
    file.write_bytes(media_files.picture(9))
    assert get(client, "/thumbnail", folder, "fax.tiff").status_code == 404
    file.write_bytes(before)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert get(client, "/thumbnail", folder, "fax.tiff").status_code == 200


def test_addresses_of_hits() -> None:
    video = {"document": "upload:#a b.mp4", "page": None, "start_time": 2.0, "end_time": 4.0}
    addresses = rendering_addresses("films", video)
    thumbnail, clip = (urlsplit(addresses[name] or "") for name in ("thumbnail", "clip"))
    assert (thumbnail.path, clip.path) == ("/collections/films/document/thumbnail", "/collections/films/document/clip")
    assert parse_qs(thumbnail.query) == {"id": ["upload:#a b.mp4"], "time": ["2.0"]}
    assert parse_qs(clip.query) == {"id": ["upload:#a b.mp4"], "start": ["2.0"], "end": ["4.0"]}
    page = {"document": "files:/a#b.pdf", "page": 3, "start_time": None, "end_time": None}
    assert (rendering_addresses("films", page)["thumbnail"] or "").endswith("page=3")
    zipped = rendering_addresses("films", {**page, "document": "files:/a#b.zip!/c.tiff"})["thumbnail"] or ""
    assert parse_qs(urlsplit(zipped).query) == {"id": ["files:/a#b.zip!/c.tiff"], "page": ["3"]}
    for other in ("put:#b.pdf", "files:/a#b.txt"):
        assert rendering_addresses("films", {**page, "document": other}) == {"thumbnail": None, "clip": None}
