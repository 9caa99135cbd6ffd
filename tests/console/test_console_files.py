"""The console's files: each is served under a strict policy, and none has code or links inside markup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from nearfield import settings
from nearfield.console.app import HEADERS, STATIC
from nearfield.encoder import Encoder
from nearfield.jobs.map import text_map
from nearfield.server.app import create_app

KEY = "nf-" + "k" * 40
#: The console's own files, and the drawing of maps, which is that of ``nearfield map``.
FOLDERS = (STATIC, Path(text_map.__file__).with_name("static"))
PATHS = {
    path.relative_to(folder).as_posix(): path
    for folder in FOLDERS
    for path in sorted(folder.rglob("*"))
    if path.is_file()
}
FILES = list(PATHS)
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
SCRIPTS = [name for name in FILES if name.endswith(".js")]
#: What would read a text as markup or code, and addresses of other hosts.
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|createContextualFragment|DOMParser|document\.write|\beval\(|new Function"
    r"|srcdoc|javascript:|https?://(?!www\.w3\.org/2000/svg)"
)


@pytest.fixture(scope="module")
def client(tiny: Encoder) -> Iterator[TestClient]:
    app = create_app(settings.load(api_keys=[KEY]), [tiny])
    with TestClient(app, follow_redirects=False) as client:
        yield client
    app.state.server.close()


def test_files_are_served_under_the_policy_without_a_key(client: TestClient) -> None:
    for name in FILES:
        reply = client.get(f"/console/{name}")
        assert reply.content == PATHS[name].read_bytes()
        assert reply.headers["content-type"].split(";")[0].replace("application/", "text/") == TYPES[Path(name).suffix]
        again = client.get(f"/console/{name}", headers={"if-none-match": reply.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        for answer in (reply, again):
            assert {field: answer.headers[field] for field in HEADERS} == dict(HEADERS)
    policy = HEADERS["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert not re.search(r"unsafe|https?:|data:|\*", policy)


def test_the_page_and_what_is_not_there(client: TestClient) -> None:
    assert client.get("/console").content == (STATIC / "index.html").read_bytes()
    assert client.get("/console").headers["content-security-policy"] == HEADERS["content-security-policy"]
    moved = client.get("/console/")
    assert (moved.status_code, moved.headers["location"]) == (307, "../console")
    for path in ("/console/app.py", "/console/pages", "/console/../app.py", "/console/%2e%2e/app.py", "/console/x"):
        assert client.get(path).json()["error"]["code"] == "not_found"
    assert client.post("/console/app.js").status_code == 405
    page = client.get("/metrics", headers={"authorization": f"Bearer {KEY}"}).text
    assert 'route="/console"' in page


def test_the_api_still_needs_the_key(client: TestClient) -> None:
    assert client.get("/models").status_code == 401
    (model,) = client.get("/models", headers={"authorization": f"Bearer {KEY}"}).json()["models"]
    assert model["modalities"] == ["text"]
    assert model["pooling"] == ["mean"]
    assert model["prompts"].get("query") is not None
    assert model["default_prompt"] == ""


def test_nothing_is_inline_and_no_text_becomes_markup() -> None:
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    for name in FILES:
        if name.endswith((".js", ".html", ".css")):
            assert not FORBIDDEN.findall(PATHS[name].read_text()), name


def test_each_script_is_used_and_imports_what_there_is() -> None:
    imports = {
        name: {
            (STATIC / name).parent.joinpath(target).resolve().relative_to(STATIC).as_posix(): set(
                re.findall(r"\w+", names)
            )
            for names, target in re.findall(r'^import (.+?) from "(.+?)";$', PATHS[name].read_text(), re.M | re.S)
        }
        for name in SCRIPTS
    }
    used = {target for targets in imports.values() for target in targets} | {"app.js"}
    assert used == set(SCRIPTS)
    for targets in imports.values():
        for target, names in targets.items():
            exported = re.findall(
                r"^export (?:async )?(?:function\*?|const|class) (\w+)", PATHS[target].read_text(), re.M
            )
            assert names & {"as"} or names <= set(exported), target
