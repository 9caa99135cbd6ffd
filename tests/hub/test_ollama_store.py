"""Ollama's store: its models load by name, are listed, and serve Ollama's own client; what is damaged is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import ollama
import pytest

from nearfield import hub
from nearfield.encoder import Encoder
from nearfield.errors import InputError, ModelNotFound, ModelRefused
from nearfield.hub.ollama_store import OllamaName
from nearfield.testing import write_tiny_model
from tests.support import gguf_files
from tests.support.cli_runner import run
from tests.support.serving import serving

gguf = pytest.importorskip("gguf")
TYPES = "application/vnd.ollama.image."
OPTIONS: dict[str, Any] = {"precision": "float32", "compile_cache": False}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GGUF file of a tiny model."""
    return gguf_files.convert(write_tiny_model(tmp_path_factory.mktemp("ollama") / "tiny"), "bert", "F32")


@pytest.fixture
def store(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with two models of the same weights, with a template and parameters."""
    for name in ("library/tiny/latest", "someone/other/v1"):
        write_model(tmp_path / "models", f"registry.ollama.ai/{name}", weights)
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def write_model(root: Path, name: str, weights: Path, **further: Any) -> Path:
    """Write a manifest, and the parts that it names; return the file with the weights."""
    parts = {"model": weights.read_bytes(), "template": b"{{ .Prompt }}", "params": b'{"num_ctx": 9}'}
    layers = [write_blob(root, kind, content) for kind, content in parts.items()]
    manifest = root / "manifests" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers, **further}))
    return root / "blobs" / str(layers[0]["digest"]).replace(":", "-")


def write_blob(root: Path, kind: str, content: bytes) -> dict[str, Any]:
    """Write a part and return its entry in a manifest."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    (root / "blobs" / digest.replace(":", "-")).write_bytes(content)
    return {"mediaType": TYPES + kind, "digest": digest, "size": len(content)}


@pytest.mark.network
def test_a_model_of_ollama_serves_its_own_client(store: Path, weights: Path) -> None:
    texts = ["the cat sat", "a blue dog"]
    with Encoder("ollama:tiny", **OPTIONS) as model, Encoder(str(weights), **OPTIONS) as file:
        expected = np.asarray(file.encode(texts))
        assert model.name == "tiny"
        with serving([model]) as url, ollama.Client(host=url) as client:
            assert [entry.model for entry in client.list().models] == ["tiny:latest"]
            reply = client.embed(model="tiny", input=texts)
            one = client.embeddings(model="tiny:latest", prompt=texts[0])
            shown, listed = client.show("tiny"), client.list().models[0]
            assert client.pull("tiny").status == "success"
            assert [entry.model for entry in client.ps().models] == ["tiny:latest"]
    assert shown.capabilities == ["embedding"]
    values = sum(int(tensor.n_elements) for tensor in gguf.GGUFReader(weights).tensors)
    assert shown.modelinfo["general.parameter_count"] == values
    for details in (shown.details, listed.details):
        assert details is not None
        assert (details.format, details.family, details.quantization_level) == ("gguf", "bert", "F32")
        assert details.parameter_size == f"{values / 1000:.0f}K"
    assert shown.modelinfo["bert.embedding_length"] == expected.shape[1]
    np.testing.assert_allclose(np.array(one.embedding), expected[0], atol=1e-6)
    np.testing.assert_allclose(np.array(reply.embeddings), expected, atol=1e-6)
    assert sum(path.stat().st_size for path in store.rglob("sha256-*")) < 2 * weights.stat().st_size


def test_models_of_ollama_are_listed_and_not_removed(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = {model.name for model in hub.cached_models() if model.source == "ollama"}
    assert listed == {"ollama:tiny", "ollama:someone/other:v1"}
    assert "ollama:someone/other:v1" in run(capsys, monkeypatch, "models", "list", "--local").out
    with pytest.raises(InputError, match="Run: ollama rm tiny"):
        hub.remove("ollama:tiny")


def test_a_missing_model_names_those_there_are(store: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no model 'tinny'.*Did you mean 'tiny'"):
        hub.locate("ollama:tinny")
    assert hub.locate("someone/other:v1", source="ollama").source == "ollama"
    shutil.rmtree(store)
    with pytest.raises(ModelNotFound, match=r"Ollama has no models in .*ollama pull tiny.*OLLAMA_MODELS"):
        hub.locate("ollama:tiny")


@pytest.mark.parametrize("name", ["../../etc", "a/b/c/d/e", "", "a:..", "a b", ".hidden", "a/:b"])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(InputError, match="is no name of a model of Ollama"):
        OllamaName.parse(f"ollama:{name}")


def test_damaged_stores_are_refused_with_the_reason(store: Path, weights: Path) -> None:
    root, cloud = (
        "registry.ollama.ai/library",
        [{"mediaType": TYPES + "license", "digest": f"sha256:{'0' * 64}", "size": 1}],
    )
    refused = {
        "cloud": ({"layers": cloud}, "names no weights"),
        "tuned": ({"layers": [write_blob(store, "adapter", b"x")]}, "names an adapter beside the weights"),
        "odd": ({"layers": [{"mediaType": 1}]}, "no manifest of a model"),
        "path": ({"layers": [{"mediaType": TYPES + "model", "digest": "sha256:../x", "size": 1}]}, "no manifest"),
    }
    for name, (further, reason) in refused.items():
        write_model(store, f"{root}/{name}/latest", weights, **further)
        with pytest.raises(ModelRefused, match=reason):
            hub.locate(f"ollama:{name}")
    (store / "manifests" / root / "cloud" / "latest").write_text("[" * 100_000)
    with pytest.raises(ModelRefused, match="cannot be read as a manifest"):
        hub.locate("ollama:cloud")
    file = write_model(store, f"{root}/tiny/latest", weights)
    file.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(ModelRefused, match=r"missing or not whole\. Run: ollama pull tiny"):
        hub.locate("ollama:tiny")
