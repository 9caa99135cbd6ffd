"""Quality of all-MiniLM-L6-v2 on public data sets of every task, compared with published scores.

``python -m benchmarks --only quality`` measures, and writes the table of ``docs/guides/evaluate.md``. It needs the
public sets in ``../shared/data`` and the published figures in ``../shared/reference``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nearfield import Encoder
from nearfield.evaluation.datasets.loaders import load_dataset
from nearfield.evaluation.evaluate import evaluate
from nearfield.evaluation.mteb import published_scores

SHARED = Path(__file__).resolve().parents[2] / "shared"
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "guides" / "evaluate.md"
MODEL = "all-MiniLM-L6-v2"
#: Each set, its task where the layout leaves it open, and MTEB's task, split and subset with a figure for it.
SETS: Sequence[tuple[str, str | None, tuple[str, str, str] | None]] = (
    ("stsb", None, ("STSBenchmark", "test", "default")),
    ("scifact", None, ("SciFact", "test", "default")),
    ("banking77", None, ("Banking77Classification", "test", "default")),
    *((f"xquad/{each}", None, ("XQuADRetrieval", "validation", each)) for each in ("en", "de", "es", "ru", "ar", "zh")),
    *(
        (f"tatoeba/{each}-eng.tsv", "bitext", ("Tatoeba", "test", f"{each}-eng"))
        for each in ("deu", "spa", "fra", "ara", "cmn", "jpn")
    ),
    ("trec-qc", None, None),
    ("squad-dev", None, None),
)
#: Sets of a quick run.
QUICK = ("stsb", "xquad/en")
#: Points that our figure may be from the published one.
ALLOWED = 0.5
_MARKS = "<!-- figures -->", "<!-- /figures -->"


def measure(*, quick: bool) -> dict[str, Any]:
    """Return a row for each set; ``met`` says whether every published figure is reached within half a point."""
    scores = published_scores.read_scores(SHARED / "reference" / "published_mteb.json")
    rows = []
    with Encoder(MODEL) as encoder:
        told = {"model": MODEL, "precision": encoder.precision, "max_length": encoder.max_length}
        for name, task, known in SETS:
            if not quick or name in QUICK:
                rows.append(_row(encoder, name, task, _published(scores, known)))
                print(table(rows[-1:]), flush=True)
    met = all(abs(row["difference"]) <= ALLOWED for row in rows if row["difference"] is not None)
    if not quick:
        write(rows)
    return {**told, "rows": rows, "met": met}


def _published(scores: Sequence[published_scores.PublishedScore], place: tuple[str, str, str] | None) -> float | None:
    """Return the published figure of a task, split and subset."""
    if place is None:
        return None
    task, split, subset = place
    return round(published_scores.select_scores(scores, MODEL, task, split=split, subset=subset)[0].main, 2)


def _row(encoder: Encoder, name: str, task: str | None, known: float | None) -> dict[str, Any]:
    found = evaluate(encoder, load_dataset(SHARED / "data" / name, task))
    low, high = found["interval"]
    score = round(found["score"], 2)
    return {
        "set": name,
        "task": found["dataset"]["task"],
        "metric": found["main"],
        "score": score,
        "interval": [round(low, 2), round(high, 2)],
        "published": known,
        "difference": None if known is None else round(score - known, 2),
        "metrics": {each: round(value, 2) for each, value in found["metrics"].items()},
        "counts": {key: value for key, value in found["dataset"].items() if isinstance(value, int)},
        "truncated": found["truncated"],
        "seconds": round(found["seconds"]["total"], 1),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| set | task | metric | ours | 95% interval | published | difference | other figures |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        known = ("", "") if row["published"] is None else (f"{row['published']:.2f}", f"{row['difference']:+.2f}")
        others = ", ".join(f"{name} {value:.2f}" for name, value in row["metrics"].items() if name != row["metric"])
        interval = "{:.2f} to {:.2f}".format(*row["interval"])
        cells = [row["set"], row["task"], row["metric"], f"{row['score']:.2f}", interval, *known, others]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write(rows: Sequence[Mapping[str, Any]]) -> None:
    """Put the table where the page has its marks."""
    text, (start, end) = DOCUMENT.read_text(encoding="utf-8"), _MARKS
    between = re.compile(f"(?<={re.escape(start)}\n).*?(?={re.escape(end)})", re.DOTALL)
    DOCUMENT.write_text(between.sub(lambda _: f"\n{table(rows)}\n\n", text), encoding="utf-8")
