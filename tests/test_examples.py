"""The notebooks run unchanged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from nearfield.encoder import Encoder
from nearfield.errors import SourceUnavailable
from tests.support.paths import ROOT
from tests.support.requirements import missing

nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel", reason="ipykernel is for Python 3.11 on")
EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _model() -> None:
    try:
        Encoder("all-MiniLM-L6-v2", precision="float32").close()
    except SourceUnavailable as error:
        missing(f"the model cannot be fetched: {error}")


def _run(path: Path, folder: Path) -> Any:
    import nbformat

    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    client = nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": str(folder)}})
    return client.execute()


def _last(book: Any) -> str:
    """Return what the last cell that shows something shows."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.output_type == "error"]
    last = outputs[-1]
    return str(last.text if last.output_type == "stream" else last.data["text/plain"])


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["compare", "evaluate", "golden"]
    told = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(path.name in told for path in NOTEBOOKS)


@pytest.mark.slow
def test_the_notebook_on_evaluating_runs(tmp_path: Path) -> None:
    book = _run(EXAMPLES / "evaluate.ipynb", tmp_path)
    assert "queries lost something; query -> first result" in _last(book)
    shown = "".join(output.get("text", "") for cell in book.cells for output in cell.get("outputs", ()))
    widths = [float(text) for text in re.findall(r"\(([\d.]+) wide\)", shown)]
    assert len(widths) == 3 and widths[0] < widths[1], "six queries have the wider interval, as the text says"
    assert shown.count("Only 6 queries") == 1, "the whole set has no caution"


@pytest.mark.slow
def test_the_notebook_on_comparing_runs(tmp_path: Path) -> None:
    shown = _last(_run(EXAMPLES / "compare.ipynb", tmp_path))
    # By storage above all, what keeps least stands first.
    assert shown in ("'bm25'", "'binary'", "'128 d, binary'")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("<svg") == 2


@pytest.mark.slow
def test_the_notebook_on_golden_vectors_runs(tmp_path: Path) -> None:
    assert "NOT reproduced; lowest cosine -1.000000" in _last(_run(EXAMPLES / "golden.ipynb", tmp_path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    import nbformat

    book = nbformat.read(path, as_version=4)
    assert not [cell for cell in book.cells if cell.get("outputs") or cell.get("execution_count")]
