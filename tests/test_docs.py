"""The documentation site: it builds without warnings, fetches nothing, and names only files that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tools.reference.pages import FOLDER, render_pages

DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
TOP_PAGES = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "deploy/README.md", "examples/README.md")
]
GENERATED = {path.name for path in FOLDER.glob("*.md")}
#: Files and folders that the pages name: those of the repository, and those of the package without ``src/nearfield/``.
_FILE = re.compile(
    r"`((?:src|tests|docs|tools|benchmarks|deploy|examples)/[\w./*-]+|[a-z_]+/[a-z_/]*\.(?:py|toml)|(?:[a-z_]+/)+)`"
)
_PLACES = (ROOT, ROOT / "src/nearfield", ROOT / "deploy")
_LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source)[^>]+src=\"(?:https?:)?//|<link[^>]+href=\"(?:https?:)?//(?!.*canonical)"
)


@pytest.mark.slow
def test_generated_pages_are_current() -> None:
    stale = [name for name, text in render_pages().items() if (FOLDER / name).read_text(encoding="utf-8") != text]
    assert not stale, "run: python -m tools.reference"


@pytest.mark.parametrize("page", [*PAGES, *TOP_PAGES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in _LINK.findall(_without_code(page.read_text(encoding="utf-8"))):
        name, _, anchor = target.partition("#")
        linked = (page.parent / name) if name else page
        assert linked.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in _anchors(linked), f"{page.name}: {target}"


@pytest.mark.parametrize("page", [*PAGES, *TOP_PAGES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    names = {name.rstrip("/") for name in _FILE.findall(page.read_text(encoding="utf-8"))}
    assert not {name for name in names if not any(list(place.glob(name)) for place in _PLACES)}


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = {path for page in PAGES for path in _toctree_entries(page)}
    assert not {page.relative_to(DOCS).as_posix() for page in PAGES} - listed - {"index.md"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; the build fails on a warning."""
    if find_spec("sphinx") is None or find_spec("myst_parser") is None or find_spec("furo") is None:
        pytest.skip("the extra 'docs' is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(folder / "cache")]
    done = subprocess.run(
        [*command, str(DOCS), str(folder / "html")], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


@pytest.mark.process
@pytest.mark.slow
def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        assert not _FETCHED.findall(page.read_text(encoding="utf-8")), page.name
    for style in site.rglob("*.css"):
        assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), (
            style.name
        )


@pytest.mark.process
def test_the_site_can_be_searched_offline(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert "guides/serve" in index and "matryoshka" in index


def _without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as MyST and GitHub write them."""
    if page.suffix != ".md":
        return set()
    headings = re.findall(r"^#{1,3} (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _toctree_entries(page: Path) -> Iterator[str]:
    """Yield the pages, relative to ``docs``, that a page's tables of contents list."""
    for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        for line in block.splitlines():
            if line and not line.startswith(":"):
                for path in DOCS.glob(f"{page.parent.relative_to(DOCS).as_posix()}/{line}.md"):
                    yield path.relative_to(DOCS).as_posix()
