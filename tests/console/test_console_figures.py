"""Reports and live figures in a browser: hostile files, an empty folder, and a server that comes back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nearfield import evaluate
from nearfield.encoder import Encoder
from nearfield.evaluation.comparison.compare import compare
from nearfield.evaluation.reports.report_writer import store_report
from nearfield.server.observability import history
from tests.evaluation.reports.test_report_folder import write_bad_files
from tests.support.console_browser import ATTACK, MARKS, THEMES, check_page, open_page, press, wait_for
from tests.support.serving import listening, serving

pytestmark = MARKS


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an evaluation, a comparison of its data, both with hostile names, and files that are no reports."""
    home = tmp_path_factory.mktemp("reports")
    data = home / f"{ATTACK.replace('/', '')}.tsv"
    data.write_text(f"query\tdocument\ncat\tthe cat {ATTACK}\ndog {ATTACK}\trates\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEARFIELD_REPORTS", str(home / "stored"))
        one = store_report("evaluate", {"results": [evaluate("bm25", data, samples=100)]})
        two = store_report("compare", compare(["bm25", "bm25?language=de", ATTACK], data, speed=False, cache=False))
    assert one is not None
    assert two is not None
    one.rename(one.with_name("one.json"))
    two.rename(two.with_name("two.json"))
    write_bad_files(home / "stored")
    return home / "stored"


@pytest.fixture(scope="module")
def url(tiny: Encoder, reports: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "INTERVAL", 0.3)
        with serving([tiny], observed=True, reports_dir=reports) as base:
            yield base


@pytest.mark.parametrize("scheme", THEMES)
def test_reports(browser: Any, url: str, scheme: str) -> None:
    page = open_page(browser, scheme=scheme)
    page.goto(f"{url}/console#/reports")
    wait_for(page, "4 MB at most")
    assert page.get_by_text("unreadable", exact=True).count() == 20
    check_page(page, scheme)
    button = page.get_by_role("button", name="Show two side by side")
    assert button.is_disabled()
    for name in ("one.json", "two.json"):
        page.get_by_label(f"Choose {name}").check()
    button.click()
    wait_for(page, "Best scores on the same data")
    wait_for(page, "overlap")
    check_page(page, scheme)
    page.goto(f"{url}/console#/reports/two.json")
    wait_for(page, "Paired comparison")
    for text in ("Worst cases", "not proved", "bm25?language=de", "(1 item)"):
        wait_for(page, text)
    check_page(page, scheme)
    assert not page.problems
    for name, text in (("cut.json", "truncated"), (ATTACK, "There is no report"), ("one.json/cut.json", "truncated")):
        page.goto(f"{url}/console#/reports/{name}")
        wait_for(page, text)
        check_page(page, scheme)
    page.context.close()


def test_no_reports_say_which_command_makes_one(browser: Any, tiny: Encoder, tmp_path: Path) -> None:
    with serving([tiny], reports_dir=tmp_path) as base:
        page = open_page(browser)
        page.goto(f"{base}/console#/reports")
        wait_for(page, "nearfield evaluate MODEL --data FOLDER")
        page.goto(f"{base}/console#/live")
        wait_for(page, "No figures yet")
        check_page(page, "light")
        page.context.close()


@pytest.mark.parametrize("scheme", THEMES)
def test_charts_are_full_when_the_page_is_opened(browser: Any, url: str, scheme: str) -> None:
    for name in ("tiny", "tiny", ATTACK):
        httpx.post(f"{url}/encode", json={"model": name, "input": ["the cat"]})
    page = open_page(browser, scheme=scheme)
    page.wait_for_timeout(1000)  # the server stores a point
    page.goto(f"{url}/console#/live")
    wait_for(page, "Latency by stage")
    wait_for(page, "404 /encode")
    assert page.locator("figure svg polyline[points]").count() >= 7
    assert page.get_by_role("table", name="Stages").get_by_text("run").count() == 1
    check_page(page, scheme)
    assert not page.problems
    page.context.close()


def test_a_server_that_goes_away_and_comes_back(browser: Any, tiny: Encoder, reports: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    page, models, live = (open_page(browser) for _ in range(3))
    with listening([tiny], port=port, reports_dir=reports):
        for tab, address in ((page, "reports"), (models, "models"), (live, "live")):
            tab.goto(f"http://127.0.0.1:{port}/console#/{address}")
        wait_for(page, "unreadable")
        wait_for(models, "Gives one vector")
    page.get_by_role("link", name="bm25").first.click()
    for tab in (page, models, live):
        wait_for(tab, "The server does not answer")
        tab.get_by_role("button", name="Try again").wait_for()
    with listening([tiny], port=port, reports_dir=reports):
        press("Try again")(page)
        wait_for(page, "All reports")
        wait_for(models, "Gives one vector")
        wait_for(live, "No figures yet")
    for tab in (page, models, live):
        tab.context.close()
