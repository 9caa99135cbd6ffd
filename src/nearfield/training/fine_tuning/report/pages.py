"""The report of a run: ``report.md``, ``report.html`` with the curve in it, and ``curve.png``."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from nearfield.evaluation.json_types import JsonMapping
from nearfield.fileio.atomic import write_atomic
from nearfield.training.fine_tuning.report.curve import draw_curve

_HEADER = ("set", "metric", "before", "after", "difference", "95% interval", "p")
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .3rem .6rem; text-align: right; border-top: 1px solid #8886; }}
th:first-child, td:first-child {{ text-align: left; }}
figure {{ margin: 1rem 0; background: #fff; border-radius: .5rem; }} figure svg {{ width: 100%; height: auto; }}
.verdict {{ font-weight: 600; }}
</style></head><body>
<h1>{title}</h1>
<p class="verdict">{verdict}</p>
{reasons}
<table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table>
<figure role="img" aria-label="Loss and dev figure by step">{curve}</figure>
<h2>Run</h2>
<ul>{facts}</ul>
</body></html>
"""


def write_pages(folder: Path, result: JsonMapping) -> None:
    """Write the three files into the folder of a run; ``result`` is that of ``TrainingRun.run``."""
    write_atomic(folder / "report.md", render_markdown(result))
    write_atomic(folder / "curve.png", draw_curve(result["curve"]))
    write_atomic(folder / "report.html", _render_html(result))


def headline(result: JsonMapping) -> str:
    """Return the verdict in one sentence."""
    if result["written"] is not None:
        proof = "Better" if result["verdict"]["better"] else "Written without proof that it is better"
        return f"{proof}: {result['written']}"
    return "Not better: nothing was written."


def comparison_rows(result: JsonMapping) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each set's figures."""
    leaked = " (leaked)" if result["leaked"] else ""
    for name, row in result["comparisons"].items():
        low, high = row["interval"]
        cells = (
            f"{row['before']:.2f}",
            f"{row['after']:.2f}",
            f"{row['difference']:+.2f}",
            f"{low:+.2f} to {high:+.2f}",
        )
        yield f"{name}{leaked}", row["metric"], *cells, f"{row['p']:.4f}"


def facts(result: JsonMapping) -> list[str]:
    """Return sentences on the run."""
    loss, average, curve = result["loss"], result["average"], result["curve"]["points"]
    lines = [
        f"Base: {result['base']['name']} ({result['base']['digest'][:12]}).",
        f"Loss: {loss['name']} ({loss['reason']}), rate {result['rate']:g}.",
        f"Dev ({result['curve']['metric']}): {curve[0]['dev']:.2f} before, {max(p['dev'] for p in curve):.2f} at best.",
    ]
    if average["share"]:
        lines.append(f"Weights: {average['share']:g} of those of step {average['step']}, the rest of the base.")
    counts = (result["mined"] or {}).get("counts")
    if counts:
        share = 100 * counts["share_within_margin"]
        lines.append(f"Negatives: {counts['mined']} mined; {share:.0f}% of the candidates were too close to an answer.")
    return [*lines, *result["notes"]]


def render_markdown(result: JsonMapping) -> str:
    """Return the report in Markdown."""
    rows = [_line(_HEADER), _line(["---"] * len(_HEADER)), *map(_line, comparison_rows(result))]
    reasons = "\n\n".join(result["verdict"]["reasons"])
    table = "\n".join(rows) if result["comparisons"] else "The test set was not used."
    listed = "\n".join(f"- {fact}" for fact in facts(result))
    return f"# Training of {result['base']['name']}\n\n**{headline(result)}**\n\n{reasons}\n\n{table}\n\n{listed}\n"


def _line(cells: object) -> str:
    assert isinstance(cells, (list, tuple))
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _render_html(result: JsonMapping) -> str:
    svg = draw_curve(result["curve"], "svg").decode()
    rows = "".join(f"<tr>{_cells('td', cells)}</tr>" for cells in comparison_rows(result))
    return _PAGE.format(
        title=escape(f"Training of {result['base']['name']}"),
        verdict=escape(headline(result)),
        reasons="".join(f"<p>{escape(reason)}</p>" for reason in result["verdict"]["reasons"]),
        header=_cells("th", _HEADER),
        rows=rows,
        curve=svg[svg.index("<svg") :],
        facts="".join(f"<li>{escape(fact)}</li>" for fact in facts(result)),
    )


def _cells(tag: str, cells: tuple[str, ...]) -> str:
    return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
