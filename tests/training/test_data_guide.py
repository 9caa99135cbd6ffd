"""The examples of the page on training data run."""

import json
import re
from pathlib import Path

import pytest

from nearfield import Encoder
from nearfield.errors import SourceUnavailable
from tests.support.paths import ROOT
from tests.support.requirements import missing

PAGE = ROOT / "docs" / "guides" / "training-data.md"


@pytest.mark.slow
def test_the_example_of_mining(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        Encoder("all-MiniLM-L6-v2")
    except SourceUnavailable as error:
        missing(f"the model cannot be fetched: {error}")
    texts = {"capital of France?": "Paris is the capital of France.", "who wrote Faust?": "Goethe wrote Faust."}
    rows = [json.dumps({"query": query, "positive": text}) for query, text in texts.items()]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    exec(example, {})
    assert capsys.readouterr().out == "2 {'judged': 2}\n"
