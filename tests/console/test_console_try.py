"""Try in a browser: a reranker, a model of pictures, two models beside each other, and code that is copied and run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfield.encoder import Encoder
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.models.model_pool import ModelPool
from tests.conftest import PROMPTS
from tests.support import tiny_pictures
from tests.support.console_browser import ATTACK, MARKS, THEMES, check_page, open_page, press, wait_for
from tests.support.console_snippets import NODE_CLIENTS, run_snippet
from tests.support.serving import serving

# The clients use features of pydantic that are deprecated.
pytestmark = [
    *MARKS,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # The code does not close its clients.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
KEY = "nf-" + "k" * 40
TEXTS = ["a cat", "a 'quoted' \"dog\"", ATTACK]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    folder = tiny_pictures.write_clip(tmp_path_factory.mktemp("models") / "clip")
    with Encoder(str(folder), precision="float32", compile_cache=False) as model:
        yield model


@pytest.fixture(scope="module")
def url(fleet: dict[str, LoadedModel], clip: Encoder) -> Iterator[str]:
    # The reranker is loaded by its first request: until then its outputs are not known.
    pool = ModelPool(
        [fleet["tiny"], fleet["m3"], clip], loader=lambda _: fleet["reranker"], on_demand=["tiny-reranker"]
    )
    with serving(pool, api_keys=[KEY]) as base:
        yield base


def compare(page: Any, url: str, model: str, texts: list[str], **controls: str) -> None:
    """Choose a model and other controls by their labels, and compare texts."""
    page.goto("about:blank")
    page.goto(f"{url}/console#/try")
    page.get_by_label("Texts, one on each line").fill("\n".join(texts))
    page.get_by_label("Model", exact=True).select_option(model)
    for label, value in controls.items():
        page.get_by_label(label.replace("_", " "), exact=True).select_option(value)
    press("Compare")(page)
    page.get_by_role("heading", name="The same in code").wait_for(timeout=30_000)


def matrix(page: Any, model: str) -> Any:
    rows = page.get_by_label(model, exact=True).locator(".matrix tbody tr").all()
    return np.array([[float(cell) for cell in row.locator("td").all_inner_texts()] for row in rows])


def copied(page: Any, folder: Path) -> dict[str, Any]:
    """Run the code that is shown for each client, with the key; return what it gives."""
    page.get_by_label("Show the key of this tab").check()
    choice = page.get_by_label("Client", exact=True)
    results = {}
    for client in choice.locator("option").all_inner_texts():
        choice.select_option(client)
        if NODE_CLIENTS or "JavaScript" not in client:
            results[client] = run_snippet(client, page.locator(".code code").inner_text(), folder)
    return results


@pytest.mark.parametrize("scheme", THEMES)
def test_two_models_beside_each_other(
    browser: Any, url: str, fleet: dict[str, Any], tmp_path: Path, scheme: str
) -> None:
    page = open_page(browser, KEY, scheme)
    compare(page, url, "tiny", TEXTS, Prompt="query", Second_model="m3")
    tiny, m3 = fleet["tiny"].encode(TEXTS, prompt_name="query"), fleet["m3"].encode(TEXTS)
    for name, vectors in (("tiny", np.asarray(tiny)), ("m3", np.asarray(m3))):
        np.testing.assert_allclose(matrix(page, name), vectors @ vectors.T, atol=6e-4)
    assert page.get_by_text("Prompt before each text").count() == 1  # m3 has no prompt of this name
    assert page.get_by_text(PROMPTS["query"].strip(), exact=True).count() >= 1
    check_page(page, scheme)
    assert KEY not in page.inner_text("main")
    results = copied(page, tmp_path)
    assert len(results) >= 3
    for client, vectors in results.items():
        np.testing.assert_allclose(np.array(vectors), tiny, atol=1e-5, err_msg=client)
    assert not page.problems
    page.context.close()


def test_every_client_of_a_model_without_a_prompt(
    browser: Any, url: str, fleet: dict[str, Any], tmp_path: Path
) -> None:
    page = open_page(browser, KEY)
    compare(page, url, "tiny", TEXTS)
    for client, vectors in copied(page, tmp_path).items():
        expected = fleet["tiny"].encode(TEXTS, prompt_name="passage" if "Cohere" in client else None)
        np.testing.assert_allclose(np.array(vectors), expected, atol=1e-5, err_msg=client)
    page.context.close()


@pytest.mark.parametrize("scheme", THEMES)
def test_a_reranker_that_is_loaded_first(
    browser: Any, url: str, fleet: dict[str, Any], tmp_path: Path, scheme: str
) -> None:
    page = open_page(browser, KEY, scheme)
    compare(page, url, "tiny-reranker", TEXTS)
    scores = fleet["reranker"].score(TEXTS[0], TEXTS[1:])
    shown = page.locator("table[aria-label], .scroll table").first.locator("tbody tr td:first-child").all_inner_texts()
    assert [float(score) for score in shown] == pytest.approx(sorted(map(float, scores), reverse=True), abs=6e-4)
    check_page(page, scheme)
    expected = sorted(range(len(scores)), key=lambda at: -scores[at])
    results = copied(page, tmp_path)
    assert len(results) == 3
    assert all(order == expected for order in results.values()), results
    page.get_by_label("Texts, one on each line").fill("one text")
    press("Compare")(page)
    wait_for(page, "A reranker needs a query and texts")
    assert not page.problems
    page.context.close()


@pytest.mark.parametrize("scheme", THEMES)
def test_texts_and_pictures(browser: Any, url: str, clip: Encoder, tmp_path: Path, scheme: str) -> None:
    page, files = open_page(browser, KEY, scheme), tiny_pictures.png_files()[:2]
    name = ATTACK.replace("/", "") + ".png"
    for path, file in ((name, files[0]), ("b.png", files[1])):
        (tmp_path / path).write_bytes(file)
    page.goto(f"{url}/console#/try")
    page.get_by_label("Pictures").set_input_files([str(tmp_path / name), str(tmp_path / "b.png")])
    page.get_by_label("Texts, one on each line").fill("a cat")
    page.get_by_label("Model", exact=True).select_option(clip.name)
    page.get_by_label("Second model", exact=True).select_option("tiny")
    press("Compare")(page)
    page.get_by_role("heading", name="The same in code").wait_for()
    vectors = np.stack([np.asarray(clip.encode(one)) for one in ("a cat", *files)])
    np.testing.assert_allclose(matrix(page, clip.name), vectors @ vectors.T, atol=6e-4)
    refusal = page.get_by_label("tiny", exact=True).locator(".failure").inner_text()
    assert "tiny" in refusal
    check_page(page, scheme)
    ((client, found),) = copied(page, tmp_path).items()
    np.testing.assert_allclose(np.array(found), vectors, atol=1e-5, err_msg=client)
    page.context.close()


def test_a_server_without_keys_needs_none_in_the_code(browser: Any, tiny: Encoder, tmp_path: Path) -> None:
    with serving([tiny]) as base:
        page = open_page(browser)
        compare(page, base, "tiny", TEXTS)
        assert page.get_by_label("Show the key of this tab").count() == 0
        code = page.locator(".code code").inner_text()
        np.testing.assert_allclose(np.array(run_snippet("curl", code, tmp_path)), tiny.encode(TEXTS), atol=1e-5)
        assert "Hugging Face, Python" in page.get_by_label("Client", exact=True).inner_text()
        page.context.close()
