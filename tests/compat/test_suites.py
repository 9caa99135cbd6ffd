"""The runner of other libraries' tests: names are replaced everywhere, ids resolve offline, outcomes are counted."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tools.reference.compat import RESULTS
from tools.suites import __main__ as command
from tools.suites import checkpoints
from tools.suites.library import Library
from tools.suites.runner import SuiteResult, checkout_version
from tools.suites.substitution import shared_names, substitute

RECORDED = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
#: Names that were added after a suite was recorded; remove them when it is recorded again.
ADDED_SINCE = {
    library: {"sentence_transformers.LoggingHandler"}
    for library in ("sentence_transformers", "sentence_transformers_scores")
}
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
    assert (facts["version"], facts["tests_version"]) == ("1.0", "")


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded["library"])
def test_recorded_results_are_of_the_names_that_are_replaced_now(recorded: dict[str, Any]) -> None:
    """A class that was added since was not tested: record the suite again (`python -m tools.suites`)."""
    library = Library.load(recorded["library"])
    pytest.importorskip(library.package)
    if version(library.package) != recorded["version"]:
        pytest.skip(f"{library.package} {recorded['version']} is not installed")
    replaced = {f"{theirs}.{name}" for theirs, ours in library.modules.items() for name in shared_names(theirs, ours)}
    assert replaced - set(recorded["replaced"]) == ADDED_SINCE.get(recorded["library"], set())
    assert set(recorded["replaced"]) <= replaced


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[project]\nversion = "1.2"', "1.2"),
        ('[tool.poetry]\nversion = "1.3"', "1.3"),
        ('[project]\ndynamic = ["version"]', "1.4"),
    ],
)
def test_the_version_of_a_checkout(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    (tmp_path / "package").mkdir()
    (tmp_path / "package/version.py").write_text('__version__ = ".".join(["1", "4"])')
    assert checkout_version(tmp_path, "package") == expected
    assert checkout_version(tmp_path, "other") == ("" if expected == "1.4" else expected)


def test_only_a_whole_suite_without_new_failures_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    passed = SuiteResult("p", "1.0", [], ["tests/test_b.py::test"], {}, {}, {}, {})
    results = {
        "none": replace(passed, passed=[]),
        "failing": replace(passed, failed={"tests/test_b.py::other": "boom"}),
        "passing": passed,
    }
    monkeypatch.setattr(command, "run_suite", lambda name, *_, **__: results[name])
    monkeypatch.setattr(command, "RESULTS", tmp_path)

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["suites", *words, "--record"])
        return command.main()

    for part in ("--original", "tests/test_b.py"):
        with pytest.raises(SystemExit):
            run("passing", str(tmp_path), part)
    assert [run(name, str(tmp_path)) for name in results] == [1, 1, 0]
    assert capsys.readouterr().err.count("Not recorded") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["passing.json"]
