"""The examples of the guide to jobs, executed with a tiny model in place of the default one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nearfield.jobs import job_vectors
from nearfield.testing import write_tiny_model
from tests.support.paths import ROOT

pytest.importorskip("sklearn", reason="the extra 'jobs' is not installed")
GUIDE = (ROOT / "docs" / "guides" / "jobs.md").read_text(encoding="utf-8")


def test_the_examples_in_python_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = str(write_tiny_model(tmp_path / "tiny", words=set(re.findall(r"[a-z]+", GUIDE.lower()))))
    examples = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    for example in examples:
        named = re.sub(
            r"(classify|find_topics|recommend|find_outliers|find_drift|draw_map)\(((?:[^()]|\([^()]*\))*)\)",
            rf"\1(\2, model={folder!r})",
            example,
        )
        assert named != example and job_vectors.DEFAULT_MODEL not in named
        exec(named, {})
    assert len(examples) == 6 and "card" in capsys.readouterr().out
