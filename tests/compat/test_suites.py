"""The runner of other libraries' tests: names are replaced everywhere, ids resolve offline, outcomes are counted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.suites import checkpoints
from tools.suites.library import Library
from tools.suites.runner import SuiteResult
from tools.suites.substitution import substitute

ORIGINAL = "class Model: pass\nclass Trainer: pass\ndef search(): return 'original'\nDEFAULT = 3\n"
OURS = "__all__ = ['Model', 'search', 'DEFAULT_ONLY_HERE']\nclass Model: pass\ndef search(): return 'ours'\n"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A library with a module that imports from another one, and our module that replaces a part of it."""
    theirs = tmp_path / "their_library"
    theirs.mkdir()
    (theirs / "core.py").write_text(ORIGINAL)
    (theirs / "__init__.py").write_text("from their_library.core import Model, Trainer, search\n")
    (theirs / "tools.py").write_text("from their_library.core import Model as Encoder, Trainer\n")
    (tmp_path / "our_library.py").write_text(OURS + "DEFAULT_ONLY_HERE = 4\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("their_library", "our_library")]:
        del sys.modules[name]


def test_a_class_is_replaced_under_every_name(packages: None) -> None:
    assert sorted(substitute("their_library", {"their_library": "our_library"})) == [
        "their_library.Model",
        "their_library.search",
    ]
    import our_library  # type: ignore[import-not-found]
    import their_library.core  # type: ignore[import-not-found]
    import their_library.tools  # type: ignore[import-not-found]

    assert their_library.Model is their_library.core.Model is their_library.tools.Encoder is our_library.Model
    assert their_library.search() == "ours"
    assert their_library.Trainer is their_library.tools.Trainer is not our_library.Model


def test_ids_of_the_hub_lead_to_the_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import snapshot_download

    models = {"org/model": lambda folder: (folder / "config.json").write_text("{}")}
    checkpoints.write_checkpoints(models, tmp_path / "checkpoints")
    checkpoints.write_hub_cache(models, tmp_path / "checkpoints", tmp_path / "hub")
    found = Path(snapshot_download("org/model", cache_dir=tmp_path / "hub", local_files_only=True))
    assert (found / "config.json").read_text() == "{}"


def test_outcomes_are_counted_by_reason() -> None:
    library = Library("p", ("tests",), {}, left_out={r"::test_gpu": "GPU"}, expected_failures={r"\[b\]$": "pairs"})
    assert library.reason_left_out("tests/test_a.py::test_gpu[x]") == "GPU"
    assert library.reason_left_out("tests/test_a.py::test_cpu") is None
    failed = {"tests/test_a.py::test[a]": "boom", "tests/test_a.py::test[b]": "no pairs"}
    expected = {test: "pairs" for test in failed if library.reason_expected(test) is not None}
    result = SuiteResult("p", "1.0", [], ["tests/test_b.py::test"], failed, expected, {}, {"x": "GPU", "y": "GPU"})
    facts = result.to_dict()
    assert result.unexpected == {"tests/test_a.py::test[a]": "boom"}
    assert (facts["collected"], facts["run"], facts["passed"]) == (5, 3, 1)
    assert facts["failed"] == {"boom": 1, "pairs": 1}
    assert facts["left_out"] == {"GPU": 2}
    assert facts["files"]["tests/test_a.py"] == {"run": 2, "passed": 0}
