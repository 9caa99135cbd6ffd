"""The console in a browser: every page in both themes and at the size of a phone, hostile texts, and what goes wrong.

It needs Chromium, ``pip install playwright``, and axe-core (``npm pack axe-core``): ``AXE_CORE`` is its ``axe.min.js``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from nearfield.corpus.collection import Collection
from nearfield.encoder import Encoder
from nearfield.inference.loaded_model import LoadedModel
from nearfield.server.auth.api_key import ApiKey
from nearfield.server.auth.key_file import append_key, create_key, remove_key
from nearfield.server.models.model_pool import ModelPool
from nearfield.testing import tiny_encoder
from tests.support.chat_server import Say, chatting
from tests.support.serving import serving

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
AXE = Path(os.environ.get("AXE_CORE", "axe.min.js"))
pytestmark = [
    pytest.mark.network,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(not AXE.is_file(), reason="AXE_CORE does not name axe.min.js of axe-core"),
]

#: Markup that would run if a text of it were read as markup.
ATTACK = "<img src=x onerror=window.attacked=1><svg onload=window.attacked=1>"
DOCUMENT = {"id": ATTACK, "text": f"The cat sat on the mat. {ATTACK} A dog ran.", "title": ATTACK, "note": ATTACK}
THEMES = {"light": (1280, 900), "dark": (390, 844)}
Act = Callable[[Any], None]


def press(name: str) -> Act:
    return lambda page: page.get_by_role("button", name=name, exact=True).click()


def fill(label: str, text: str, button: str) -> Act:
    def act(page: Any) -> None:
        page.get_by_label(label, exact=True).fill(text)
        press(button)(page)

    return act


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
    "live": (None, "Latency of requests"),
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def open_page(browser: Any, key: str = "", scheme: str = "light") -> Any:
    """Open a tab with a key; ``page.problems`` collects errors, and addresses that are not the server's."""
    width, height = THEMES[scheme]
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
    if key:
        context.add_init_script(f"if (location.protocol === 'http:') sessionStorage.setItem('nearfield-key', '{key}')")
    page = context.new_page()
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: page.problems.append(request.url) if _is_foreign(page, request) else None)
    return page


def _is_foreign(page: Any, request: Any) -> bool:
    return (
        not request.url.startswith("blob:")
        and page.url != "about:blank"
        and (urlsplit(request.url).netloc != urlsplit(page.url).netloc)
    )


@pytest.mark.parametrize("scheme", THEMES)
def test_every_page(browser: Any, url: str, key: str, scheme: str) -> None:
    page = open_page(browser, key, scheme)
    for address, (act, text) in PAGES.items():
        page.goto("about:blank")
        page.goto(f"{url}/console#/{address}")
        if act is not None:
            act(page)
        wait_for(page, text, 240_000)  # a map takes some seconds
        assert page.evaluate("window.attacked") is None, address
        assert page.evaluate("document.documentElement.scrollWidth") <= THEMES[scheme][0], address
        assert not serious_faults(page), address
    allowed = [problem for problem in page.problems if "status of 404" in problem]  # two addresses are of nothing
    assert page.problems == allowed
    assert len(allowed) == 2
    page.goto(f"{url}/console#/models")
    page.reload()
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    print(f"first contentful paint: {paint:.0f} ms")  # noqa: T201 - a figure to look at, not to assert
    page.context.close()


def wait_for(page: Any, text: str, timeout: float = 10_000) -> None:
    """Wait for a text; if it does not come, say what the page says."""
    try:
        page.get_by_text(text).first.wait_for(timeout=timeout)
    except playwright.TimeoutError:
        pytest.fail(f"{text!r} is not in: {page.inner_text('main')[-1000:]}", pytrace=False)


def serious_faults(page: Any) -> list[str]:
    """Return what axe-core calls serious or critical."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [
        f"{fault['id']}: {fault['nodes'][0]['html']}" for fault in found if fault["impact"] in ("serious", "critical")
    ]


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
