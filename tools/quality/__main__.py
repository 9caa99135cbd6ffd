"""Command line of ``python -m tools.quality``; the package's docstring describes it."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import tools.quality
from nearfield import catalog
from nearfield.catalog import CatalogEntry, CatalogScore
from nearfield.catalog.languages import MULTILINGUAL, is_multilingual
from nearfield.catalog.languages.codes import find_language
from tools.quality.estimates import LEFT, Figure, HeldOut, ScoreTable, build_table, figures, fit_table, hold_out
from tools.quality.purposes import PUBLISHED, Purpose, purposes
from tools.quality.scores import RawScores, read_scores
from tools.quality.task_values import pack_tasks, task_table
from tools.quality.win_shares import render_shares

TARGET = Path(__file__).parents[2] / "src/nearfield/catalog/quality"
#: What models with several vectors or sparse ones are for; estimates of anything else would say nothing.
_SEARCH = ("retrieval", "code")
#: Search by words, for comparison: not of languages without spaces, whose words the published run does not separate.
BASELINE = "(baseline) BM25"
_UNSPACED = ("zh", "ja", "ko", "th")
_BELEBELE = "BelebeleRetrieval"
#: Grades of languages, and the share of the model's English from which on a language has them.
_GRADES = {"good": 0.85, "weak": 0.5, "poor": 0.0}
RESULTS = "https://github.com/embeddings-benchmark/results at f4cc6c8b365a"


def main() -> int:
    """Print how well hidden figures are estimated, or write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.quality",
        description=tools.quality.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="the folder with the raw figures")
    parser.add_argument("--write", action="store_true", help="write the table of the package")
    parser.add_argument("--hidden", action="store_true", help="also print the errors where less of a model is known")
    options = parser.parse_args()
    scores = read_scores(options.folder)
    known = {entry.id: entry for entry in catalog.entries()}
    wanted = purposes(scores)
    table = build_table(scores, wanted, known)
    held = {purpose.name: hold_out(table, purpose, wanted) for purpose in wanted}
    print(render_held(held))
    if options.hidden:
        print(f"\n{render_hidden(table, wanted)}")
    if options.write:
        measured = read_languages(scores)
        fits = fit_table(table.values)
        found = {
            purpose.name: dict(
                figures(table, fits, purpose, held[purpose.name], claims(purpose, known.values(), measured))
            )
            for purpose in wanted
        }
        (TARGET / "win_shares.toml").write_text(render_shares(scores, wanted), encoding="utf-8")
        (TARGET / "figures.toml").write_text(render_figures(found, scores, known), encoding="utf-8")
        (TARGET / "tasks.json.gz").write_bytes(pack_tasks(task_table(scores, wanted, [*known, BASELINE])))
        (TARGET / "languages.toml").write_text(render_languages(measured, known), encoding="utf-8")
    return 0


#: Purposes whose estimates are tried with less and less of a model.
_HIDDEN = ("retrieval:en", "general:en", "retrieval:de", "retrieval:nl", "retrieval:zh", "retrieval:sw", "code")


def render_hidden(table: ScoreTable, wanted: Sequence[Purpose]) -> str:
    """Return error and rank correlation by what is left of the models, as a Markdown table."""
    tried = [purpose for purpose in wanted if purpose.name in _HIDDEN]
    lines = [f"| left | {' | '.join(purpose.name for purpose in tried)} |", "|---" * (len(tried) + 1) + "|"]
    for left in LEFT:
        rows = [hold_out(table, purpose, wanted, left) for purpose in tried]
        cells = ["too few" if row is None else f"{row.error:.1f}, {row.ranks:.2f}" for row in rows]
        lines.append(f"| {left} | {' | '.join(cells)} |")
    return "\n".join(lines)


def render_held(held: Mapping[str, HeldOut | None]) -> str:
    """Return the errors of estimates as a Markdown table."""
    lines = [
        "| purpose | models | spread | error | rank correlation | errors widened by |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in held.items():
        if row is None:
            lines.append(f"| {name} | too few | | | | |")
        else:
            numbers = f"{row.spread:.1f} | {row.error:.1f} | {row.ranks:.2f} | {row.widening:.1f}"
            lines.append(f"| {name} | {row.count} | {numbers} |")
    return "\n".join(lines)


# -- languages -------------------------------------------------------------------------------------------------------


def read_languages(scores: RawScores) -> dict[str, dict[str, list[str]]]:
    """Return for each model the languages that are good, weak and poor on Belebele, beside its own English.

    A language in several scripts has the grade of its best: Belebele also has transliterations.
    """
    spoken: dict[str, frozenset[str]] = {}
    for (language, task), subsets in scores.spoken.items():
        if task == _BELEBELE:
            code = find_language(language) or language
            spoken[code] = spoken.get(code, frozenset()) | subsets
    grades: dict[str, dict[str, list[str]]] = {}
    for model, cells in scores.cells.items():
        values = {
            language: max((value for (task, part, _), value in cells.items() if task == _BELEBELE and part in subsets))
            for language, subsets in sorted(spoken.items())
            if any(task == _BELEBELE and part in subsets for task, part, _ in cells)
        }
        if "en" in values and len(values) > 1:
            grades[model] = {name: [] for name in _GRADES}
            for language, value in values.items():
                grade = next(name for name, share in _GRADES.items() if value >= share * values["en"])
                grades[model][grade].append(language)
    return grades


def claims(
    purpose: Purpose, entries: Collection[CatalogEntry], measured: Mapping[str, Mapping[str, list[str]]]
) -> set[str]:
    """Return the models that are estimated for a purpose: those that are for its language.

    A model is for the languages that the catalogue lists. One of several languages is also for those that were
    measured good or weak.
    """
    return {entry.id for entry in entries if _claims(purpose, entry, measured.get(entry.id, {}))}


def _claims(purpose: Purpose, entry: CatalogEntry, measured: Mapping[str, list[str]]) -> bool:
    if entry.kind == "scores" or not _is_for(entry, purpose.name):
        return False
    language = "en" if purpose.language == "code" else purpose.language
    if language in entry.languages:
        return True
    works = {*measured.get("good", ()), *measured.get("weak", ())} if is_multilingual(entry) else set()
    return language in works or (language == "en" and MULTILINGUAL in entry.languages)


def _is_for(entry: CatalogEntry, purpose: str) -> bool:
    """Return whether an estimate for a purpose means anything: models of code are for code, others by their kind."""
    if entry.is_for_code:
        return purpose == "code"
    return entry.kind == "dense" or purpose.startswith(_SEARCH)


# -- the table -------------------------------------------------------------------------------------------------------


def render_figures(found: Mapping[str, Mapping[str, Figure]], scores: RawScores, known: Collection[str]) -> str:
    """Return the table as TOML: by model and purpose, [figure, error, tasks published, tasks, source]."""
    sources = [RESULTS]
    lines: list[str] = []
    for model in sorted([*known, BASELINE], key=str.lower):
        rows = [*_estimated_rows(model, found), *_published_rows(model, scores, sources)]
        if rows:
            lines += [f'["{model}"]', *rows, ""]
    head = [
        "# Published quality of models, and estimates from it. Written by tools/quality; do not edit.",
        "# purpose = [figure in points of 100, standard error, tasks published, tasks, number of the source]",
        "",
        "sources = [",
        *(f'    "{source}",' for source in sources),
        "]",
        "",
    ]
    return "\n".join([*head, *lines]).rstrip() + "\n"


def _estimated_rows(model: str, found: Mapping[str, Mapping[str, Figure]]) -> Iterator[str]:
    for purpose, figures_of in found.items():
        if model in figures_of and (model != BASELINE or purpose.partition(":")[2] not in _UNSPACED):
            row = figures_of[model]
            yield f'"{purpose}" = [{row.value:.1f}, {row.error:.1f}, {row.published}, {row.tasks}, 0]'


def _published_rows(model: str, scores: RawScores, sources: list[str]) -> Iterator[str]:
    means = scores.means.get(model, {})
    for purpose, (benchmark, metric) in PUBLISHED.items():
        if model == BASELINE and purpose.endswith(":multilingual"):
            continue
        match = next((value for key, value in means.items() if key[0] == benchmark and metric in ("", key[1])), None)
        if match is not None:
            source = RESULTS if match[1].startswith("results/") else match[1]
            if source not in sources:
                sources.append(source)
            yield f'"{purpose}" = [{match[0]:.1f}, 0.0, {match[2]}, {match[2]}, {sources.index(source)}]'
        elif purpose == "pages" and (score := _score_on_pages(model)) is not None:
            sources.extend({score.source} - set(sources))
            yield f'"pages" = [{score.value:.1f}, 0.0, 10, 10, {sources.index(score.source)}]'


def _score_on_pages(model: str) -> CatalogScore | None:
    """Return a model's figure on the ten sets of ViDoRe v1, as its card gives it."""
    entry = catalog.find(model)
    score = None if entry is None else entry.score
    return score if score is not None and score.benchmark == "ViDoRe v1 nDCG@5" else None


def render_languages(measured: Mapping[str, Mapping[str, Sequence[str]]], known: Collection[str]) -> str:
    """Return the measured languages of the catalogue's models as TOML."""
    lines = [
        "# Languages by retrieval on Belebele beside the model's own English: good from 85%, weak from 50%, else poor.",
        "# Written by tools/quality; do not edit.",
        "",
    ]
    for model in sorted(set(measured) & set(known), key=str.lower):
        grades = [f'{grade} = "{" ".join(codes)}"' for grade, codes in measured[model].items() if codes]
        lines += [f'["{model}"]', *grades, ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
