"""Keys over HTTP: created, listed and revoked in the key file, within what the key of the request may do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from nearfield import settings
from nearfield.encoder import Encoder
from nearfield.errors import SettingsError
from nearfield.server.app import create_app
from nearfield.server.auth.api_key import ApiKey
from nearfield.server.auth.key_file import append_key, create_key, read_key_file, remove_key

SCOPES = ("infer", "manage")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def add(file: Path, name: str, scopes: tuple[str, ...] = SCOPES, models: tuple[str, ...] = ("*",)) -> dict[str, str]:
    """Add a key to the file; return the header of its requests."""
    secret, key_hash = create_key()
    append_key(file, ApiKey(name, b"", scopes, models), key_hash)
    return {"authorization": f"Bearer {secret}"}


@pytest.fixture
def boss(file: Path) -> dict[str, str]:
    return add(file, "boss")


@pytest.fixture
def client(file: Path, boss: dict[str, str], tiny: Encoder) -> Iterator[TestClient]:
    app = create_app(settings.load(api_key_file=file), [tiny])
    yield TestClient(app, headers=boss)
    app.state.server.close()


def test_a_key_is_created_used_and_revoked(client: TestClient, file: Path) -> None:
    file.write_text(f"# our keys\n{file.read_text()}")
    before = file.read_text()
    created = client.post("/keys", json={"name": "team", "models": ["tiny"], "tokens_per_minute": 60}).json()
    assert created["key"] not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    header = {"authorization": f"Bearer {created['key']}"}
    assert client.post("/encode", json={"input": "cat"}, headers=header).status_code == 200
    listed = client.get("/keys").json()
    assert [(key["name"], key["scopes"], key["current"]) for key in listed["keys"]] == [
        ("boss", [*SCOPES], True),
        ("team", ["infer"], False),
    ]
    assert listed["editable"]
    assert listed["keys"][1]["used"] > 0
    assert client.post("/keys/revoke", json={"name": "team"}).json() == {"name": "team"}
    assert client.get("/models", headers=header).status_code == 401
    assert file.read_text() == before
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_is_refused(client: TestClient, file: Path) -> None:
    plain, narrow = add(file, "plain", ("infer",)), add(file, "narrow", models=("tiny",))
    client.app.state.server.keys.reload()  # type: ignore[attr-defined]
    before = file.read_bytes()
    refused = [
        (client.get("/keys", headers=plain), 403, "'manage'"),
        (client.post("/keys", json={"name": "x", "models": ["tiny", "*"]}, headers=narrow), 403, "may not use '*'"),
        (client.post("/keys", json={"name": "plain"}), 400, "choose another name"),
        (client.post("/keys", json={"name": "a\x7fb"}), 400, "not valid TOML"),
        (client.post("/keys", json={"name": "x", "scopes": ["all"]}), 400, "scopes"),
        (client.post("/keys/revoke", json={"name": "boss"}), 400, "with another one"),
        (client.post("/keys/revoke", json={"name": "bos"}), 404, "'boss'"),
    ]
    for reply, status, words in refused:
        assert (reply.status_code, words in reply.json()["message"]) == (status, True), reply.text
        assert str(file.parent) not in reply.text
    assert file.read_bytes() == before


def test_keys_of_the_settings_cannot_be_changed(tiny: Encoder) -> None:
    app = create_app(settings.load(api_keys=["nf-" + "k" * 40]), [tiny])
    manager = app.state.server.keys.listed()[0]
    manager.scopes = SCOPES
    client = TestClient(app, headers={"authorization": "Bearer nf-" + "k" * 40})
    assert client.get("/keys").json()["editable"] is False
    assert "--api-key-file" in client.post("/keys", json={"name": "x"}).json()["message"]
    app.state.server.close()


def test_a_table_that_is_not_cut_out_safely_stays(file: Path) -> None:
    file.write_text('keys = [{name = "a", key = "one"}, {name = "b", key = "two"}]\n')
    with pytest.raises(SettingsError, match="remove it with an editor"):
        remove_key(file, "a")
    assert [key.name for key in read_key_file(file)] == ["a", "b"]
