"""Reports over HTTP: listed and read with the scope manage, and nothing beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from nearfield import settings
from nearfield.encoder import Encoder
from nearfield.errors import SettingsError
from nearfield.evaluation.reports.report_writer import store_report
from nearfield.server.app import create_app
from nearfield.server.auth.api_key import ApiKey
from nearfield.server.auth.key_file import append_key, create_key
from nearfield.server.lifecycle.preflight import check_settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEARFIELD_REPORTS", str(tmp_path / "reports"))
    one = {"subject": {"name": "<b>m</b>"}, "dataset": {"name": "d"}, "main": "f1", "score": 12.5, "interval": [10, 15]}
    store_report("evaluate", {"results": [one]})
    (tmp_path / "reports" / "bad ?#%.json").write_text("{")
    (tmp_path / "secret.json").write_text("{}")
    return tmp_path / "reports"


@pytest.fixture
def client(folder: Path, tmp_path: Path, tiny: Encoder) -> Iterator[TestClient]:
    file = tmp_path / "keys.toml"
    keys = {}
    for name, scopes in (("boss", ("infer", "manage")), ("plain", ("infer",))):
        keys[name], key_hash = create_key()
        append_key(file, ApiKey(name, b"", scopes), key_hash)
    app = create_app(settings.load(api_key_file=file), [tiny])
    yield TestClient(app, headers={"authorization": f"Bearer {keys['boss']}", "x-plain": keys["plain"]})
    app.state.server.close()


def test_reports_are_listed_and_read(client: TestClient) -> None:
    listed = client.get("/reports").json()
    by_name = {report["name"]: report for report in listed["reports"]}
    bad = by_name.pop("bad ?#%.json")
    assert "truncated" in bad["problem"]
    (good,) = by_name.values()
    assert (good["models"], good["score"]["score"], listed["more"]) == (["<b>m</b>"], 12.5, 0)
    report = client.get(f"/reports/{good['name']}").json()
    assert report["scores"][0] == {
        "subject": "<b>m</b>", "dataset": "d", "metric": "f1", "score": 12.5, "low": 10.0, "high": 15.0
    }  # fmt: skip
    refused = client.get("/reports/bad%20%3F%23%25.json")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "name")


def test_what_is_refused(client: TestClient) -> None:
    plain = {"authorization": f"Bearer {client.headers['x-plain']}"}
    for path in ("/reports", "/reports/x.json"):
        assert client.get(path, headers={"authorization": ""}).status_code == 401
        assert client.get(path, headers=plain).status_code == 403
        assert client.post(path).status_code == 405
    for name in ("none.json", "..%2Fsecret.json", "%2Fetc%2Fpasswd", "%00.json", "%FF.json"):
        assert client.get(f"/reports/{name}").status_code == 404, name


def test_another_folder_is_a_setting_that_is_checked_at_the_start(folder: Path, tmp_path: Path, tiny: Encoder) -> None:
    app = create_app(settings.load(reports_dir=tmp_path), [tiny])
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 1)) as client:
        assert [report["name"] for report in client.get("/reports").json()["reports"]] == ["secret.json"]
    app.state.server.close()
    check_settings(settings.load(reports_dir=folder, data_dir=tmp_path / "data"))
    with pytest.raises(SettingsError, match="'reports_dir'"):
        check_settings(settings.load(reports_dir=tmp_path / "none", data_dir=tmp_path / "data"))
