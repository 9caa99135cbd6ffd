"""Parts of the terminal report that support the verdict: pairs that differ, and the items that decide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nearfield.evaluation.comparison.verdict import report_rows, wording
from nearfield.evaluation.json_types import JsonMapping
from nearfield.message_text import count_of, escape_controls

if TYPE_CHECKING:
    from rich.table import Table

#: Pairs in the table, and deciding items in each direction.
_MAX_PAIRS, _MAX_ITEMS = 12, 2


def difference_table(comparison: JsonMapping) -> Table | None:
    """Return a table of the pairs that differ significantly; None if there are none."""
    from rich import box
    from rich.table import Table

    pairs = [pair for pair in report_rows.tested_pairs(comparison) if pair["significant"]]
    if not pairs:
        return None
    several = len(comparison["datasets"]) > 1
    table = Table(title="Differences that are significant", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("better", "worse", *(["data"] if several else [])):
        table.add_column(heading, overflow="fold")
    for heading in ("points", "95% interval", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pair in pairs[:_MAX_PAIRS]:
        table.add_row(*map(escape_controls, _cells(comparison, pair, several=several)))
    return table


def _cells(comparison: JsonMapping, pair: JsonMapping, *, several: bool) -> Iterator[str]:
    labels = {row["name"]: row["label"] for row in comparison["variants"]}
    yield from (labels[pair["a"]], labels[pair["b"]])
    if several:
        yield report_rows.dataset_label(pair)
    yield from (f"{pair['difference']:+.2f}", wording.signed_interval(pair), f"{pair['adjusted']:.4f}")


def difference_notes(comparison: JsonMapping) -> list[str]:
    """Return how many pairs are not in the table, and how p-values were corrected."""
    pairs = report_rows.tested_pairs(comparison)
    differing = sum(pair["significant"] for pair in pairs)
    notes = []
    if differing > _MAX_PAIRS:
        more = count_of(differing - _MAX_PAIRS, "more pair")
        notes.append(f"{more} with significant differences: --html and --json show them.")
    if len(pairs) > differing:
        others = count_of(len(pairs) - differing, "pair")
        notes.append(f"{others} of {len(pairs)} without a significant difference.")
    correction = comparison["verdict"]["correction"]
    return [*notes, correction] if correction else notes


def deciding_lines(comparison: JsonMapping, width: int) -> Iterator[str]:
    """Yield the items on which the variant to take and the next best differ most, the best known of both."""
    deciding = comparison["verdict"]["deciding"]
    if deciding is None or not sum(deciding["counts"].values()):
        return
    yield ""
    yield report_rows.deciding_headline(comparison)
    for side, other in (("a", "b"), ("b", "a")):
        for item in deciding[f"{side}_better"][:_MAX_ITEMS]:
            yield from _item_lines(comparison, item, (side, other), width)


def _item_lines(comparison: JsonMapping, item: JsonMapping, sides: Sequence[str], width: int) -> Iterator[str]:
    labels = dict(zip("ab", report_rows.deciding_labels(comparison), strict=True))
    numbers = " to ".join(f"{item['scores'][side]:.0f}" for side in sides)
    yield _indented(f"{labels[sides[0]]} by {numbers}: {item.get('text', item['id'])}", width, 2)
    for who, choice in report_rows.preferences(item, labels):
        yield _indented(f"{who}{_grade(choice)}: {choice['text']}", width)
    for expected in item.get("expected", [])[:1]:
        ranks = report_rows.ranks_text(item, expected, labels)
        yield _indented(f"expected{ranks}: {expected['text']}", width)


def _grade(choice: JsonMapping) -> str:
    if "relevance" not in choice:
        return ""
    return " (right)" if choice["relevance"] else " (not relevant)"


def _indented(text: str, width: int, spaces: int = 4) -> str:
    return " " * spaces + textwrap.shorten(text, max(20, width - spaces), placeholder=" ...")
