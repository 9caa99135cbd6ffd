"""Reports: what commands store is shown with their figures; other files of the folder have a reason in their place."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import nearfield
from nearfield.cli import report_storage
from nearfield.errors import InputError, NotThere, StorageFailed
from nearfield.evaluation.comparison.compare import compare
from nearfield.evaluation.planning.advice.advisor import advise
from nearfield.evaluation.planning.advice.requirements import Requirements
from nearfield.evaluation.reports.report import MAX_ROWS
from nearfield.evaluation.reports.report_file import MAX_BYTES
from nearfield.evaluation.reports.report_folder import MAX_FILES, ReportFolder
from nearfield.evaluation.reports.report_writer import reports_folder, store_report
from nearfield.training.light.quantization_report import QuantizationReport
from tests.support.cli_runner import run

ROWS = [("a cat", "a cat sat", 1), ("a dog", "a dog ran", 1), ("rates", "interest rose", 1), ("birds", "a cat sat", 1)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEARFIELD_REPORTS", str(tmp_path / "reports"))
    return tmp_path / "reports"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "words.tsv"
    file.write_text("query\tdocument\tscore\n" + "".join(f"{q}\t{d}\t{s}\n" for q, d, s in ROWS))
    return file


def only(folder: Path) -> Any:
    """Return the one report of a folder."""
    (summary,) = ReportFolder(folder).summaries().reports
    assert summary.problem == ""
    report = ReportFolder(folder).read(summary.name)
    assert {name: getattr(report, name) for name in summary.__struct_fields__} == {
        name: getattr(summary, name) for name in summary.__struct_fields__
    }
    return report


def test_an_evaluation_is_stored_by_the_command_with_its_figures(
    folder: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run(capsys, monkeypatch, "evaluate", "bm25", "--data", str(data), "--samples", "200")
    assert "Stored for the console" in ran.err
    report, result = only(folder), nearfield.evaluate("bm25", data, samples=200)
    (score,) = report.scores
    assert (report.kind, report.models, report.data) == ("evaluate", ["bm25"], ["words"])
    assert (score.metric, score.score, [score.low, score.high]) == (result["main"], result["score"], result["interval"])
    assert [case.text for case in report.worst] == [item["text"] for item in result["worst"]]
    assert [case.score for case in report.worst] == [item["score"] for item in result["worst"]]
    assert any("not found" in line or "rank" in line for line in report.worst[-1].expected)
    assert report.tables[0].rows == [["words", name, f"{value:.2f}"] for name, value in result["metrics"].items()]
    assert [f"words: {caution}" for caution in result["cautions"]] == report.sentences
    assert "per_item" not in next(folder.iterdir()).read_text()
    assert folder.stat().st_mode & 0o077 == 0


def test_a_comparison_has_its_verdict_pairs_and_failures(folder: Path, data: Path) -> None:
    result = compare(["bm25", "bm25?language=de", "no-such-model"], data, speed=False, samples=200, cache=False)
    assert store_report("compare", result) is not None
    report = only(folder)
    (test,) = result["significance"]
    (pair,) = report.pairs
    assert report.sentences[0] == result["verdict"]["headline"]
    assert (pair.difference, pair.p, pair.significant) == (test["difference"], test["adjusted"], test["significant"])
    assert [pair.low, pair.high] == test["interval"]
    assert [row.score for row in report.scores] == [one["quality"] for one in result["variants"][:2]]
    assert any("no-such-model" in sentence for sentence in report.sentences)
    assert report.worst


def test_what_quantize_train_and_advise_print_is_shown(folder: Path) -> None:
    before = {"dataset": "sts", "metric": "Spearman", "before": 80.0, "after": 79.0}
    test = {"interval": [-2.0, 0.5], "p": 0.2, "test": "bootstrap", "items": 9, "significant": False}
    cosines = {"texts": 2, "least": 0.9, "mean": 0.95, "worst": [{"cosine": 0.9, "role": "query", "text": "cat"}]}
    quantized = QuantizationReport("tiny", "int8", (4, 1), (None, None), 1.5, [{**before, **test}], cosines, 0.5, False)
    store_report("quantize", {"folder": None, "refusal": quantized.refusal, **quantized.to_dict()})
    need = Requirements(purpose="retrieval", languages=("en",), tokens=200, texts=1000)
    advice = advise(need)
    store_report("advise", advice)
    reports = {report.kind: report for report in ReportFolder(folder).summaries().reports}
    shown = ReportFolder(folder).read(reports["quantize"].name)
    assert [(row.subject, row.score) for row in shown.scores] == [("int8", 79.0), ("float32", 80.0)]
    assert (shown.pairs[0].difference, shown.pairs[0].p, shown.pairs[0].high) == (-1.0, 0.2, 0.5)
    assert "loses 1.00 points" in shown.sentences[0]
    assert shown.tables[0].rows == [["0.9000", "cat"]]
    shown = ReportFolder(folder).read(reports["advise"].name)
    assert shown.sentences == advice["summary"]
    assert shown.models == [one["id"] for one in advice["candidates"]]


def test_bare_results_are_recognised(folder: Path, data: Path) -> None:
    folder.mkdir()
    result = nearfield.evaluate("bm25", data, samples=0)
    (folder / "mine.json").write_text(json.dumps({"results": [result]}))
    os.utime(folder / "mine.json", (1000, 1000))
    report = only(folder)
    assert (report.kind, report.created, report.scores[0].score) == ("evaluate", 1000.0, result["score"])
    assert report.scores[0].low is None


def write_bad_files(folder: Path) -> dict[str, str]:
    """Write files that are no reports; return a part of the reason by name."""
    good = {"nearfield_report": 1, "kind": "evaluate", "created": "2026-01-01T00:00:00Z", "report": {"results": []}}
    (folder.parent / "outside.json").write_text(json.dumps(good))
    (folder / "link.json").symlink_to(folder.parent / "outside.json")
    (folder / "broken-link.json").symlink_to("nowhere")
    (folder / "folder.json").mkdir()
    os.mkfifo(folder / "pipe.json")
    with (folder / "huge.json").open("wb") as file:
        file.truncate(2 * MAX_BYTES)
    files = {
        "cut.json": (json.dumps(good)[:-5], "truncated"),
        "empty.json": ("", "truncated"),
        "other.json": ('{"name": "package"}', "no command writes"),
        "list.json": ("[1]", "Expected `object`"),
        "deep.json": ('{"results": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested"),
        "version.json": (json.dumps({**good, "nearfield_report": 2}), "format is 2"),
        "kind.json": (json.dumps({**good, "kind": "<b>"}), "'<b>'"),
        "time.json": (json.dumps({**good, "created": "yesterday"}), "created"),
        "text.json": ('{"results": [{"score": "<img>"}]}', "results"),
        "nan.json": ('{"results": NaN}', "malformed"),
        "big.json": ('{"results": 1e999}', "results"),
        "binary.json": ("\x00\x01", "malformed"),
        "<img src=x onerror=alert(1)>.json": ("{}", "no command writes"),
    }
    for name, (text, _) in files.items():
        (folder / name).write_text(text)
    (folder / "surrogate.json").write_text('{"results": "\\ud800"}')
    (folder / "bytes.json").write_bytes(b'{"results": "\xff"}')
    reasons = {name: reason for name, (_, reason) in files.items()}
    return reasons | {
        "link.json": "link",
        "broken-link.json": "link",
        "folder.json": "no file",
        "pipe.json": "no file",
        "huge.json": "4 MB at most",
        "surrogate.json": "no report",
        "bytes.json": "no report",
    }


def test_bad_files_are_listed_with_the_reason_and_good_ones_beside_them(folder: Path) -> None:
    store_report("evaluate", {"results": []})
    reasons = write_bad_files(folder)
    undecodable = os.fsencode(folder) + b"/\xff.json"
    Path(os.fsdecode(undecodable)).write_text("{}")
    (folder / ".hidden.json").write_text("{}")
    (folder / "notes.txt").write_text("{}")
    problems = {report.name: report.problem for report in ReportFolder(folder).summaries().reports}
    assert [name for name, problem in problems.items() if not problem] == [next(folder.glob("2*")).name]
    assert "UTF-8" in problems.pop("\ufffd.json")
    assert {name for name, problem in problems.items() if problem} == set(reasons)
    for name, reason in reasons.items():
        assert reason in problems[name], (name, problems[name])
        with pytest.raises(InputError, match="cannot be shown"):
            ReportFolder(folder).read(name)


@pytest.mark.parametrize(
    "name", ["../outside.json", "/etc/passwd", "none.json", ".json", "a\0.json", "", "x" * 300 + ".json"]
)
def test_nothing_outside_is_read(folder: Path, name: str) -> None:
    folder.mkdir()
    (folder.parent / "outside.json").write_text("{}")
    with pytest.raises(NotThere, match="GET /reports"):
        ReportFolder(folder).read(name)


def test_rows_and_files_are_bounded(folder: Path) -> None:
    one = {"subject": {"name": "m"}, "dataset": {"name": "d"}, "main": "f1", "score": 1.0}
    store_report("evaluate", {"results": [one] * (MAX_ROWS + 1)})
    report = only(folder)
    assert len(report.scores) == MAX_ROWS
    assert "Only 200 of 201 scores are shown." in report.sentences
    for number in range(MAX_FILES + 2):
        (folder / f"{number}.json").write_text("{}")
    listed = ReportFolder(folder).summaries()
    assert (len(listed.reports), listed.more) == (MAX_FILES, 3)


def test_a_file_that_has_not_changed_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store_report("evaluate", {"results": []})
    assert path is not None
    reports = ReportFolder(folder)
    reports.summaries()
    monkeypatch.setattr("nearfield.evaluation.reports.report_folder.read_report", lambda _: pytest.fail("was read"))
    assert [report.name for report in reports.summaries().reports] == [path.name]
    path.unlink()
    assert reports.summaries().reports == []


def test_there_may_be_no_folder_and_one_that_cannot_be_read_is_an_error(folder: Path, monkeypatch: Any) -> None:
    assert ReportFolder(folder).summaries().reports == []
    assert ReportFolder(None).summaries().reports == []
    monkeypatch.setenv("NEARFIELD_REPORTS", "off")
    assert reports_folder() is None
    assert store_report("evaluate", {"results": []}) is None

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageFailed, match="Permission denied"):
        ReportFolder(folder).summaries()


def test_a_report_that_cannot_be_stored_is_no_error_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEARFIELD_REPORTS", str(tmp_path / "file" / "reports"))
    report_storage.keep_report("evaluate", {"results": []}, quiet=True)
    assert "NEARFIELD_REPORTS names another folder" in capsys.readouterr().err


def test_numbers_and_letters_that_json_lacks_are_stored(folder: Path) -> None:
    one = {"subject": {"name": "m\ud800"}, "dataset": {"name": "d"}, "main": "f1", "score": 1.0}
    store_report("evaluate", {"results": [{**one, "seconds": float("nan")}]})
    assert only(folder).models == ["m?"]
