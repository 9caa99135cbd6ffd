"""The code that the console shows: each client gives the vectors or the ranking of the model, with key and prompt."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.console.app import STATIC
from nearfield.encoder import Encoder
from nearfield.inference.loaded_model import LoadedModel
from nearfield.reranker import Reranker
from tests.support import tiny_pictures
from tests.support.console_snippets import NODE_CLIENTS, run_snippet
from tests.support.serving import serving

pytestmark = [
    pytest.mark.network,
    pytest.mark.slow,
    pytest.mark.skipif(not NODE_CLIENTS, reason="NODE_CLIENTS does not name a folder with npm's openai"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
    # The clients use features of pydantic that are deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # The code does not close its clients.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
KEY = "nf-'\"$(echo)`id`" + "k" * 30
#: Texts with all that a shell, Python or JavaScript might read as something else.
TEXTS = ["the cat sat on the mat", "a 'quoted' \"dog\" \\n $HOME `id` é 🙂 </script>", "@hello"]


@pytest.fixture(scope="module")
def url(fleet: dict[str, LoadedModel]) -> Iterator[str]:
    models = [model for kind, model in fleet.items() if kind != "classifier"]
    with serving(models, api_keys=[KEY]) as base:
        yield base


def snippets(outputs: list[str], facts: dict[str, Any], *, is_only: bool = False) -> dict[str, str]:
    """Return the code by client, as the module of the page writes it."""
    facts = {"key": KEY, "prompt": "", "pictures": [], "texts": TEXTS, **facts}
    script = f"""
import {{ clientsOf }} from {json.dumps((STATIC / "try/snippets.js").as_uri())};
const facts = {json.dumps(facts)};
const clients = Object.entries(clientsOf({json.dumps(outputs)}, facts, {json.dumps(is_only)}));
console.log(JSON.stringify(Object.fromEntries(clients.map(([name, write]) => [name, write(facts)]))));
"""
    command = ["node", "--input-type=module", "--no-warnings", "-e", script]
    codes: dict[str, str] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return codes


@pytest.mark.parametrize("prompt", ["", "query"])
def test_vectors_of_each_client(url: str, tiny: Encoder, tmp_path: Path, prompt: str) -> None:
    codes = snippets(["dense"], {"server": f"{url}/", "model": "tiny", "prompt": prompt}, is_only=True)
    assert len(codes) >= (3 if prompt else 7)
    for client, code in codes.items():
        name = prompt or ("passage" if "Cohere" in client else None)  # Cohere's clients always name a role
        expected = tiny.encode(TEXTS, prompt_name=name)
        np.testing.assert_allclose(np.array(run_snippet(client, code, tmp_path)), expected, atol=1e-5, err_msg=client)


def test_rankings_of_each_client(url: str, fleet: dict[str, Any], tmp_path: Path) -> None:
    reranker: Reranker = fleet["reranker"]
    scores = reranker.score(TEXTS[0], TEXTS[1:])
    codes = snippets(["scores"], {"server": f"{url}/", "model": reranker.name})
    assert len(codes) == 3
    for client, code in codes.items():
        assert run_snippet(client, code, tmp_path) == sorted(range(2), key=lambda at: -scores[at]), client
    assert snippets(["scores"], {"server": f"{url}/", "model": "x", "texts": ["one"]}) == {}


def test_pictures_are_sent_from_their_files(tmp_path: Path) -> None:
    folder, file = tiny_pictures.write_clip(tmp_path / "clip"), tiny_pictures.png_files()[0]
    name = "a \"b\" 'c'; $d,.png"
    (tmp_path / name).write_bytes(file)
    with (
        Encoder(str(folder), precision="float32", compile_cache=False) as clip,
        serving([clip], api_keys=[KEY]) as base,
    ):
        facts = {"server": f"{base}/", "model": clip.name, "texts": ["@dog"], "pictures": [name]}
        ((client, code),) = snippets(["dense"], facts).items()
        vectors = np.array(run_snippet(client, code, tmp_path))
        np.testing.assert_allclose(vectors, np.stack([clip.encode("@dog"), clip.encode(file)]), atol=1e-5)


def test_other_outputs_are_sent_with_curl_alone(url: str, tmp_path: Path) -> None:
    codes = snippets(["sparse"], {"server": f"{url}/", "model": "m3"})
    assert list(codes) == ["curl"]
    assert len(run_snippet("curl", codes["curl"], tmp_path)) == len(TEXTS)
