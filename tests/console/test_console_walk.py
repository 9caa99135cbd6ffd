"""The console in a browser: every page in both themes and at the size of a phone, hostile texts, and what goes wrong.

``tests/support/console_browser.py`` says what it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nearfield.corpus.collection import Collection
from nearfield.encoder import Encoder
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.auth.api_key import ApiKey
from nearfield.server.auth.key_file import append_key, create_key, remove_key
from nearfield.server.models.model_pool import ModelPool
from nearfield.testing import tiny_encoder
from tests.support.chat_server import Say, chatting
from tests.support.console_browser import ATTACK, MARKS, THEMES, Act, check_page, fill, open_page, press, wait_for
from tests.support.serving import serving

pytestmark = MARKS

DOCUMENT = {"id": ATTACK, "text": f"The cat sat on the mat. {ATTACK} A dog ran.", "title": ATTACK, "note": ATTACK}


def send_file(page: Any) -> None:
    name = f"{page.viewport_size['width']} {ATTACK}.txt"
    page.get_by_label("Files").set_input_files({"name": name, "mimeType": "text/plain", "buffer": name.encode()})


def search_map(page: Any) -> None:
    """Search on the map, and open a point with the keyboard."""
    page.get_by_label("Search in the texts").fill("onerror", timeout=240_000)
    page.locator("canvas.map").focus()
    for key in ("+", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    page.get_by_role("link", name="Open the document").wait_for()
    page.get_by_text("Texts with").click()


#: Pages by address: what to do there, and a text that then appears.
PAGES: dict[str, tuple[Act | None, str]] = {
    "models": (None, "Gives one vector of 32 numbers"),
    "try": (fill("Texts, one on each line", f"a cat\n{ATTACK}\n{'dog ' * 200}", "Compare"), "cut off"),
    "collections": (None, "pets"),
    "collections/pets": (None, "Next page"),
    f"collections/pets/document?id=put:%23{ATTACK}": (None, "The cat sat"),
    f"collections/pets/document?id=none {ATTACK}": (None, "no document"),
    "collections/pets/search": (fill("Query", f"cat {ATTACK}", "Search"), "Why it is here"),
    "collections/pets/ask": (fill("Question", ATTACK, "Ask"), "chatty-1; read"),
    "collections/pets/upload": (send_file, "1 new"),
    "collections/pets/duplicates": (press("Find duplicates"), "is repeated by"),
    "collections/pets/state": (None, "Documents by state"),
    "map": (None, "Which collection?"),
    "map/pets": (lambda page: search_map(page), "have it"),
    "map/pets?of=documents": (None, "with examples"),
    f"collections/{ATTACK}": (None, "is not served here"),
    "keys": (None, ATTACK),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.toml"


def add_key(file: Path, name: str) -> str:
    secret, key_hash = create_key()
    append_key(file, ApiKey(name, b"", ("infer", "manage")), key_hash)
    return secret


@pytest.fixture(scope="module")
def key(file: Path) -> str:
    add_key(file, ATTACK)
    return add_key(file, "boss")


@pytest.fixture(scope="module")
def pool(tiny: Encoder, tmp_path_factory: pytest.TempPathFactory) -> ModelPool:
    def load(name: str) -> LoadedModel:
        encoder = tiny_encoder(tmp_path_factory.mktemp("models") / "other")
        object.__setattr__(encoder.recipe, "name", name)
        return encoder

    return ModelPool([tiny], loader=load, on_demand=["other"])


@pytest.fixture(scope="module")
def url(
    pool: ModelPool, tiny: Encoder, file: Path, key: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    assert key
    home = tmp_path_factory.mktemp("collections")
    config = {"features": {"dense": {"model": "tiny"}}, "fields": {"note": "str"}}
    with Collection.create("pets", config, home=home, encoder_of=lambda _: tiny) as pets:
        pets.put(
            [
                DOCUMENT,
                {**DOCUMENT, "id": f"again {ATTACK}"},
                *({"id": f"dog {number}", "text": f"Dog {number} ran."} for number in range(60)),
            ]
        )
    with chatting() as chat:
        chat.script = [Say([ATTACK, " [1]", "."])]
        chats = {"chat_url": chat.url, "chat_model": "chatty"}
        with serving(pool, served_collections="all", collections_dir=home, api_key_file=file, **chats) as base:
            yield base


@pytest.mark.parametrize("scheme", THEMES)
def test_every_page(browser: Any, url: str, key: str, scheme: str) -> None:
    page = open_page(browser, key, scheme)
    for address, (act, text) in PAGES.items():
        page.goto("about:blank")
        page.goto(f"{url}/console#/{address}")
        if act is not None:
            act(page)
        wait_for(page, text, 240_000)  # a map takes some seconds
        check_page(page, scheme)
    allowed = [problem for problem in page.problems if "status of 404" in problem]  # two addresses are of nothing
    assert page.problems == allowed
    assert len(allowed) == 2
    page.goto(f"{url}/console#/models")
    page.reload()
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    print(f"first contentful paint: {paint:.0f} ms")  # noqa: T201 - a figure to look at, not to assert
    page.context.close()


def test_a_key_is_asked_for_and_an_expired_one_again(browser: Any, url: str, file: Path) -> None:
    page = open_page(browser)
    page.goto(f"{url}/console")
    page.get_by_label("Key", exact=True).fill("wrong")
    press("Use this key")(page)
    page.get_by_text("Incorrect API key.").wait_for()
    short = add_key(file, "short-lived")
    page.wait_for_timeout(1200)  # the server reads the file again
    page.get_by_label("Key", exact=True).fill(short)
    page.keyboard.press("Enter")
    page.get_by_text("Gives one vector").wait_for()
    remove_key(file, "short-lived")
    page.get_by_text("Incorrect API key.").wait_for(timeout=10_000)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Try again").wait_for()
    page.context.close()


def test_two_tabs_load_and_unload_a_model(browser: Any, url: str, key: str) -> None:
    one, two = open_page(browser, key), open_page(browser, key)
    for page in (one, two):
        page.goto(f"{url}/console#/models")
    press("Load other")(one)
    press("Unload other")(two)  # it waits until the tab has seen that the model is loaded
    one.get_by_role("button", name="Load other", exact=True).wait_for(timeout=20_000)
    two.get_by_role("button", name="Load other", exact=True).wait_for(timeout=20_000)
    for page in (one, two):
        page.context.close()


def test_a_long_text_and_the_keyboard_alone(browser: Any, url: str, key: str) -> None:
    page = open_page(browser, key)
    page.goto(f"{url}/console#/try")
    page.get_by_label("Model", exact=True).wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_label("Texts, one on each line").fill("cat " * 250_000)
    press("Compare")(page)
    wait_for(page, "tokens read", 30_000)
    assert not page.problems
    page.context.close()


def test_a_collection_is_created_filled_emptied_and_dropped(browser: Any, url: str, key: str) -> None:
    page = open_page(browser, key)
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"{url}/console#/collections")
    page.get_by_text("New collection").click()
    page.get_by_label("Model", exact=True).fill("no-such-model")
    fill("Name", "walked", "Create the collection")(page)
    page.get_by_text("no-such-model").last.wait_for()
    page.get_by_label("Fields", exact=True).fill("year:int, team")
    fill("Model", "tiny", "Create the collection")(page)
    send_file(page)
    wait_for(page, "1 new")
    page.get_by_role("link", name="State").click()
    wait_for(page, "year (int), team (str)")
    page.get_by_role("link", name="Documents", exact=True).click()
    page.get_by_role("link", name="onerror").click()
    press("Remove the document")(page)
    wait_for(page, "No documents")
    page.get_by_role("link", name="State").click()
    assert page.get_by_role("button", name="Drop the collection").is_disabled()
    fill("Type walked to drop it", "walked", "Drop the collection")(page)
    page.get_by_role("heading", name="pets").wait_for()
    assert not page.get_by_role("link", name="walked").count()
    assert page.evaluate("window.attacked") is None
    page.context.close()


def test_a_large_file_continues_after_a_broken_connection_and_a_reload(
    browser: Any, url: str, key: str, tmp_path: Path
) -> None:
    page = open_page(browser, key)
    path = tmp_path / "large.txt"
    path.write_bytes(b"The cat sat." + b"\n" * (20 * 2**20))
    sent: list[str] = []

    def part(route: Any) -> None:
        if route.request.method == "PATCH":
            sent.append(route.request.headers["upload-offset"])
            if len(sent) == 2 or (len(sent) > 3 and not reloaded):
                route.abort()
                return
        route.continue_()

    reloaded = False
    page.route("**/uploads/*", part)
    page.goto(f"{url}/console#/collections/pets/upload")
    page.get_by_label("Files").set_input_files(str(path))
    page.locator(".uploads", has_text="79 % sent").wait_for(timeout=120_000)
    page.reload()
    wait_for(page, "Not sent completely")
    reloaded = True
    page.get_by_label("Files").set_input_files(str(path))
    wait_for(page, "1 new", 30_000)
    offsets = [int(offset) // 2**20 for offset in sent]
    assert offsets[:3] == [0, 8, 8] and offsets[-1] == 16 and offsets.count(0) == 1, offsets
    page.context.close()


def test_a_server_that_goes_away(browser: Any, tiny: Encoder) -> None:
    page = open_page(browser)
    with serving([tiny]) as base:
        page.goto(f"{base}/console#/models")
        page.get_by_text("Gives one vector").wait_for()
    page.get_by_text("The server does not answer").first.wait_for(timeout=10_000)
    page.get_by_role("button", name="Try again").wait_for()
    page.context.close()
