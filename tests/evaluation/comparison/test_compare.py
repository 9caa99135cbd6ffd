"""Comparing variants: nothing is computed twice, nothing that fails costs another, and nothing shown is cut off."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import combinations, pairwise
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfield.encoder import Encoder
from nearfield.errors import InputError
from nearfield.evaluation.comparison import chart_data, html_report, ranking, result_store, svg_charts, terminal_report
from nearfield.evaluation.comparison.compare import compare
from nearfield.evaluation.comparison.measures import figures
from nearfield.evaluation.datasets.dataset import Dataset, PairRows, Retrieval
from nearfield.evaluation.performance import isolated
from nearfield.evaluation.systems import grid
from nearfield.evaluation.systems.variant import Variant
from nearfield.evaluation.weights import normalise_weights
from nearfield.testing import write_tiny_model

WORDS = ("cat", "dog", "fox", "sun", "moon", "star", "river", "bank", "stone", "road")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_model(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return _data()


def _data(count: int = 60) -> Dataset:
    random = np.random.default_rng(1)
    documents = {f"d{at}": " ".join(random.choice(WORDS, 12)) + f" number {at}." for at in range(count)}
    queries = {f"q{at}": " ".join(documents[f"d{at}"].split()[:4]) for at in range(count // 2)}
    return Dataset("made", "retrieval", Retrieval(documents, queries, {f"q{at}": {f"d{at}": 1} for at in range(30)}))


def _counting(real: Callable[..., Any], seen: Counter[str]) -> Callable[..., Any]:
    def counting(self: Encoder, texts: Any, **options: Any) -> Any:
        seen.update([texts] if isinstance(texts, str) else texts)
        return real(self, texts, **options)

    return counting


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the texts that are encoded."""
    seen: Counter[str] = Counter()
    for name in ("encode", "stream"):
        monkeypatch.setattr(Encoder, name, _counting(getattr(Encoder, name), seen))
    return seen


# -- what is compared ----------------------------------------------------------------------------------------------


def test_a_grid_has_each_combination_once_and_none_that_means_nothing() -> None:
    found = grid.grid(["m"], output=["dense", "bm25"], dimensions=["whole", 128], dtype=["float32", "int8"])
    assert [str(each) for each in found] == [
        "m",
        "m?dtype=int8",
        "m?dimensions=128",
        "m?dimensions=128&dtype=int8",
        "m?output=bm25",
    ]
    far = grid.grid(["m?url=http://host/v1"], dtype=["binary"], chunker=["sentence"])
    assert [str(each) for each in far] == ["m?dtype=binary&url=http://host/v1"]
    with pytest.raises(InputError, match="no 'colour'"):
        grid.grid(["m"], colour=["red"])


def test_labels_tell_variants_apart_and_name_models_where_there_are_several() -> None:
    told = [
        "a/m",
        "a/m?dimensions=128&dtype=binary",
        "a/m?output=hybrid",
        "bm25",
        "a/m?chunker=sentence&chunk_tokens=64",
    ]
    one = [Variant.parse(each) for each in told]
    assert grid.labels(one) == ["m", "128 d, binary", "hybrid", "bm25", "sentence chunks of 64"]
    two = [*one[:2], Variant.parse("b/n?dtype=int8"), Variant.parse("n?url=https://host:1/v1")]
    assert grid.labels(two) == ["m", "m, 128 d, binary", "n, int8", "n at host:1"]


# -- stored results-----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_comparison_made_again_encodes_nothing(
    model: str, data: Dataset, tmp_path: Path, encoded: Counter[str]
) -> None:
    told = [model, f"{model}?dimensions=16&dtype=binary", f"{model}?output=hybrid"]
    first = compare(told, data, cache=tmp_path, speed=False)
    # Variants of one model share its vectors: each text was encoded once for all of them, as query or document.
    assert {text for text in encoded if text} == {*data.rows.documents.values(), *data.rows.queries.values()}  # type: ignore[union-attr]
    assert max(encoded.values()) == 1
    encoded.clear()
    again = compare(told, data, cache=tmp_path, speed=False)
    assert not encoded
    assert [row["quality"] for row in again["variants"]] == [row["quality"] for row in first["variants"]]
    # Another number of draws is another result, of the same vectors.
    compare(told, data, cache=tmp_path, speed=False, samples=10)
    assert not encoded


def test_nothing_is_kept_where_nobody_wants_it(
    model: str, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: Counter[str]
) -> None:
    monkeypatch.setenv("NEARFIELD_CACHE", str(tmp_path))
    compare(model, data, cache=False, speed=False)
    assert encoded and not (tmp_path / "evaluate").exists()


SCRIPT = """
import sys
from pathlib import Path
from nearfield.encoder import Encoder
from nearfield.evaluation.comparison.compare import compare
from nearfield.evaluation.datasets.loaders import load_dataset

model, data, cache, seen, last = sys.argv[1:]
real = Encoder.encode
count = 0

def noting(self, texts, **options):
    global count
    vectors = real(self, texts, **options)
    with open(seen, "a") as file:
        file.writelines(text + "\\n" for text in texts if text)
    count += len(texts)
    if count >= int(last):
        print("encoded, and not stored", flush=True)
        sys.stdin.read()
    return vectors

Encoder.encode = noting
told = compare([model, model + "?dimensions=16", model + "?dtype=int8"], data, cache=cache, speed=False)
print(len(told["ranking"]))
"""


def _written(folder: Path, documents: int) -> Path:
    rows = [
        {"_id": f"d{at}", "text": f"{WORDS[at % 10]} {WORDS[at // 10 % 10]} number {at}"} for at in range(documents)
    ]
    queries = [{"_id": f"q{at}", "text": f"number {at}"} for at in range(40)]
    folder.mkdir()
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    judged = "".join(f"q{at}\td{at}\t1\n" for at in range(40))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return folder


@pytest.mark.process
@pytest.mark.slow
def test_a_comparison_that_was_killed_goes_on_where_it_stopped(model: str, tmp_path: Path) -> None:
    """Only what was on its way when it was killed is encoded again: no more than a part."""
    data, cache, seen = _written(tmp_path / "data", 1500), tmp_path / "cache", tmp_path / "seen"
    command = [sys.executable, "-c", SCRIPT, model, str(data), str(cache), str(seen)]
    last = str(4 * result_store.TEXTS_PER_FILE)
    with subprocess.Popen([*command, last], stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as running:
        assert running.stdout is not None and running.stderr is not None
        said = running.stdout.readline()
        running.kill()
        assert said == "encoded, and not stored\n", running.stderr.read()
    before = seen.read_text().splitlines()
    assert len(before) < 1540, "it was killed too late to show anything"
    done = subprocess.run([*command, "1000000"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3"]
    counts = Counter(seen.read_text().splitlines())
    assert len(counts) == 1540
    assert 0 < sum(counts.values()) - len(counts) <= result_store.TEXTS_PER_FILE
    assert not list(cache.rglob("*.json.*"))


@pytest.mark.slow
def test_an_interrupt_leaves_the_variants_before_it_done(
    model: str, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: Counter[str]
) -> None:
    told = [model, f"{model}?dimensions=16", f"{model}?max_length=8"]

    def interrupt(what: str, done: int, steps: int) -> None:
        assert steps == 3
        if "max_length" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(told, data, cache=tmp_path, speed=False, on_step=interrupt)
    first = encoded.copy()
    compare(told, data, cache=tmp_path, speed=False)
    # The last one reads fewer tokens: new vectors for it, and none of the others again.
    assert {text: encoded[text] - first[text] for text in first if text} == dict.fromkeys(filter(None, first), 1)


def test_a_damaged_file_is_as_good_as_none(tmp_path: Path) -> None:
    store = result_store.ResultStore(tmp_path)
    store.put("quality", {"score": 1.0}, identity="a")
    assert store.get("quality", identity="a") == {"score": 1.0}
    assert store.get("quality", identity="b") is None
    for path in tmp_path.iterdir():
        path.write_text(path.read_text()[:20])
    assert store.get("quality", identity="a") is None


# -- results -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(model: str, data: Dataset) -> dict[str, Any]:
    """A comparison of many variants, with speeds that are not measured."""
    names = [
        model,
        *(f"{model}?dimensions={size}" for size in (24, 16, 8)),
        f"{model}?dtype=int8",
        f"{model}?dtype=binary",
    ]
    names += [f"{model}?output=hybrid", f"{model}?chunker=sentence&chunk_tokens=16&chunk_overlap=0", "bm25", "nobody"]
    found = compare(names, data, cache=None, speed=False)
    for at, row in enumerate(found["variants"]):
        curve = {str(n): {"requests_per_second": n * 9.0, **_times(n * (at + 1.0))} for n in (1, 4, 16)}
        row["speed"] = {"bulk": {"texts_per_second": 100.0 + at}, "latency": curve, "memory": {"peak": 2**27 + at}}
        row["speed"] = None if row["errors"] else row["speed"]
    found["front"] = ranking.pareto_front([figures(row) for row in found["variants"]])
    found["settings"]["speed"] = {"seconds": 1.0, "clients": [1, 4, 16]}
    return found


def _times(value: float) -> dict[str, float]:
    return {"count": 9, "p50": value, "p95": 2 * value, "p99": 3 * value, "max": 4 * value}


@pytest.mark.slow
def test_what_fails_costs_no_other(told: dict[str, Any]) -> None:
    failed = [row for row in told["variants"] if row["errors"]]
    assert [row["name"] for row in failed] == ["nobody"]
    assert failed[0]["errors"][0]["step"] == "opening" and "nobody" in failed[0]["errors"][0]["message"]
    assert len(told["ranking"]) == 9
    assert json.loads(json.dumps(told)) == told


@pytest.mark.slow
def test_a_variant_that_cannot_do_one_task_does_the_other(model: str, data: Dataset) -> None:
    pairs = Dataset(
        "alike", "sts", PairRows(["a cat", "a dog", "the sun"], ["cat", "a moon", "the sun"], [4.0, 1.0, 5.0])
    )
    found = compare([model, "bm25"], [data, pairs], cache=None, speed=False)
    words = found["variants"][1]
    assert [*words["results"]] == ["made"] and words["errors"][0]["step"] == "alike"
    assert words["quality"] is None and [each["name"] for each in found["ranking"]] == [model]
    assert {pair["dataset"] for pair in found["significance"]} == {"made"}


@pytest.mark.slow
def test_storage_is_that_of_dimensions_dtype_and_pieces(told: dict[str, Any]) -> None:
    stored = {row["label"]: row["storage"] for row in told["variants"] if row["results"]}
    assert stored["tiny"]["bytes_per_document"] == 32 * 4
    assert stored["tiny, 16 d"]["bytes_per_document"] == 16 * 4
    assert stored["tiny, int8"]["bytes_per_document"] == 32
    assert stored["tiny, binary"]["bytes_per_document"] == 32 / 8
    assert stored["bm25"]["bytes_per_document"] == 0
    chunks = stored["tiny, sentence chunks of 16"]
    assert chunks["bytes_per_document"] == chunks["vectors_per_document"] * 128


def test_pairs_are_tested_and_adjusted_by_holms_method(told: dict[str, Any]) -> None:
    pairs = told["significance"]
    assert len(pairs) == 8  # of nine, each with the best
    # Holm (1979): the i-th smallest of m is multiplied by m - i, counting from 0, and never falls below one before.
    order, least = sorted(pairs, key=lambda each: each["p"]), 0.0
    for rank, pair in enumerate(order):
        least = max(least, min(1.0, pair["p"] * (len(order) - rank)))
        assert pair["adjusted"] == pytest.approx(least)
        assert pair["significant"] == (least < 0.05)
    assert any(pair["significant"] for pair in pairs)


def test_the_ranking_is_that_of_its_formula() -> None:
    rows: list[dict[str, Any]] = [
        {"name": "a", "quality": 80.0, "speed": 100.0, "memory": 1e9, "storage": 1000.0},
        {"name": "b", "quality": 75.0, "speed": 1000.0, "memory": 1e8, "storage": 10.0},
        {"name": "c", "quality": 60.0, "speed": None, "memory": 1e8, "storage": 0.0},
        {"name": "d", "quality": None, "speed": 5000.0, "memory": 1.0, "storage": 1.0},
    ]
    shares = normalise_weights(ranking.WEIGHTS, {"quality": 2, "speed": 1, "memory": 1, "storage": 0})
    assert shares == {"quality": 0.5, "speed": 0.25, "memory": 0.25, "storage": 0.0}
    found = {each["name"]: each for each in ranking.rank(rows, shares)}
    assert found["a"]["parts"] == pytest.approx({"quality": 1, "speed": 0.5, "memory": 0.5, "storage": 0})
    assert found["b"]["parts"] == pytest.approx({"quality": 0.5, "speed": 1, "memory": 1, "storage": 1})
    assert found["a"]["total"] == pytest.approx(0.75) and found["b"]["total"] == pytest.approx(0.75)
    assert found["c"]["unknown"] == ["speed"] and found["c"]["total"] == pytest.approx(0.375)  # as slow as the slowest
    assert [*found][-1] == "c" and "d" not in found
    unmeasured = ranking.rank([{**row, "memory": None} for row in rows], shares)
    assert [each["unknown"] for each in unmeasured] == [[], [], ["speed"]]
    with pytest.raises(InputError, match="Did you mean 'quality'"):
        normalise_weights(ranking.WEIGHTS, {"qualty": 1})
    with pytest.raises(InputError, match="not all 0"):
        normalise_weights(ranking.WEIGHTS, dict.fromkeys(ranking.WEIGHTS, 0))


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(places: list[tuple[int, int]]) -> None:
    rows = [{"name": str(at), "speed": float(x), "quality": float(y)} for at, (x, y) in enumerate(places)]
    front = {int(name) for name in ranking.pareto_front(rows)}
    for at, (x, y) in enumerate(places):
        beaten = any(u >= x and v >= y and (u, v) != (x, y) for u, v in places)
        assert (at in front) != beaten


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 0.12)), max_size=30))
def test_names_stand_apart_and_within(rows: list[tuple[float, float]]) -> None:
    wanted, heights = sorted(at for at, _ in rows), [height for _, height in rows]
    found = chart_data.place_labels(wanted, heights)
    gaps = [(a + b) / 2 for a, b in pairwise(heights)]
    room = min(1.0, 1 / sum(gaps)) if gaps else 1.0
    assert all(found[at + 1] - found[at] >= room * gap - 1e-9 for at, gap in enumerate(gaps))
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in found)
    # A label without neighbours does not move.
    if all(b - a >= gap for (a, b), gap in zip(pairwise(wanted), gaps, strict=True)):
        assert found == pytest.approx(wanted)


# -- what is shown -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("size", [*svg_charts.SIZES])
@pytest.mark.parametrize("name", [*svg_charts.CHARTS])
def test_no_text_of_a_picture_is_cut_off_or_covered(told: dict[str, Any], name: str, size: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = svg_charts.figure(told, svg_charts.CHARTS[name][1], size)
    canvas, renderer = figure.bbox, FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    axes = figure.axes[0]
    ticks = [tick.label1 for axis in (axes.xaxis, axes.yaxis) for tick in axis._update_ticks()]  # those that are drawn
    texts = [axes.xaxis.label, axes.yaxis.label, *ticks, *axes.texts]
    boxes = {text.get_text(): _box(text, renderer) for text in texts if text.get_text() and text.get_visible()}
    shown = {row["label"].replace("\n", " ") for row in svg_charts.CHARTS[name][0](told)}
    assert shown <= {text.replace("\n", " ") for text in boxes}, "a variant is not named"
    for text, box in boxes.items():
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= canvas.x1 + 1 and box.y1 <= canvas.y1 + 1
        assert inside, f"{text!r} is cut off: {box}, {canvas}"
    named = [(text.get_text(), _box(text, renderer)) for text in [*ticks, *axes.texts] if text.get_text()]
    for (a, one), (b, other) in combinations(named, 2):
        assert not one.shrunk(0.98, 0.8).overlaps(other.shrunk(0.98, 0.8)), f"{a!r} covers {b!r}"


def _box(text: Any, renderer: Any) -> Any:
    from matplotlib.text import Text

    return Text.get_window_extent(text, renderer)  # of an annotation: its text without the line to its point


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.slow
def test_the_report_needs_nothing_from_elsewhere_and_can_be_read_aloud(told: dict[str, Any]) -> None:
    html = html_report.render_html(told, 'A "title" & <more>')
    tags = _Tags()
    tags.feed(html)
    assert "A &#34;title&#34; &amp; &lt;more&gt;" in html
    assert not [attrs for tag, attrs in tags.found if tag in ("link", "img", "iframe") or attrs.get("src")]
    assert not re.findall(r"(?:url\(|@import|href=\")(?!#)", html)
    ids = [str(attrs["id"]) for _, attrs in tags.found if "id" in attrs]
    assert len(ids) == len(set(ids))
    aimed = [each for _, attrs in tags.found for each in str(attrs.get("aria-labelledby", "")).split()]
    assert aimed and {*aimed} <= {*ids}
    assert all("scope" in attrs for tag, attrs in tags.found if tag == "th")
    # Drawn in the page's own colour, so that it is seen on light and dark alike.
    assert html.count("<svg") == 6 and "currentColor" in html and "#010203" not in html
    assert all(row["label"] in html for row in told["variants"])
    for row in told["variants"]:
        if row["quality"] is not None:
            assert f">{row['quality']:.2f}</td>" in html


@pytest.mark.slow
def test_the_terminal_shows_every_variant_by_its_letter(
    told: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    terminal_report.print_comparison(told)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "bytes/doc" in shown and "Failures" in shown and "nobody" in shown
    latency = terminal_report.draw_charts(told)[-1]
    # All but the one that failed, at 16 clients, where nothing covers anything.
    assert {*"ABCDEFGHI"} <= {*latency} and "J" not in latency.replace("Milliseconds", "")


# -- speed, and the command ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("options", ["?dimensions=16&dtype=int8", "?output=hybrid"])
def test_a_variant_is_timed_in_a_process_of_its_own(model: str, options: str) -> None:
    found = isolated.measure_in_subprocess(
        model + options, ["a cat sat", "the sun"] * 8, ["a cat", "sun"], seconds=0.1, clients=(1, 2)
    )
    assert found["subject"] == model + options
    assert found["bulk"]["texts_per_second"] > 0 and [*found["latency"]] == ["1", "2"]
    assert 0 < found["memory"]["empty"] < found["memory"]["peak"]
    assert found["load_seconds"] > 0


def test_a_process_that_fails_says_why() -> None:
    from nearfield.errors import NearfieldError

    with pytest.raises(NearfieldError, match="Unknown dtype 'int9'"):
        isolated.measure_in_subprocess("m?dtype=int9", ["a"], ["b"])


@pytest.mark.slow
def test_the_command_makes_a_report_and_goes_on_from_what_is_kept(
    model: str, tmp_path: Path, encoded: Counter[str]
) -> None:
    import typer
    from typer.testing import CliRunner

    from nearfield.cli.compare import compare as command

    app = typer.Typer()
    app.command()(command)
    data = _written(tmp_path / "data", 60)
    flags = [model, "--data", str(data), "--dimensions", "whole,16", "--dtype", "float32,binary", "--no-speed"]
    flags += ["--cache", str(tmp_path / "kept"), "--html", str(tmp_path / "report.html")]
    first = CliRunner().invoke(app, [*flags, "--json", "--weights", "quality=1,storage=1"], catch_exceptions=False)
    told = json.loads(first.stdout)
    assert [row["label"] for row in told["variants"]] == ["tiny", "binary", "16 d", "16 d, binary"]
    assert told["weights"]["quality"] == pytest.approx(told["weights"]["storage"] * 1)
    assert "<svg" in (tmp_path / "report.html").read_text()
    encoded.clear()
    again = CliRunner().invoke(app, flags, catch_exceptions=False)
    assert not encoded and "16 d, binary" in again.stdout
    for odd in (["--weights", "quality"], ["--speed", "--clients", "0"], ["--html", str(tmp_path)]):
        wrong = CliRunner().invoke(app, [*flags, *odd])
        assert isinstance(wrong.exception, InputError) and not encoded, "told before anything is measured"


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own results out of it, but not the models."""
    monkeypatch.setattr(result_store, "default_folder", lambda: tmp_path / "default")
