"""nearfield judge and nearfield synthetic: retrieval sets of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nearfield.corpus.collection import Collection
    from nearfield.evaluation.datasets.judgments import JudgmentCandidate

JUDGE_EXAMPLES = """Examples:

nearfield judge handbook judged --queries questions.txt

nearfield judge papers judged --query "which year had the highest budget?" --depth 20 --mode dense --mode bm25

nearfield evaluate all-MiniLM-L6-v2 --data judged

Answers are kept at once; the same command goes on where it was left."""

SYNTHETIC_EXAMPLES = """Examples:

nearfield synthetic handbook handbook-set

nearfield synthetic handbook handbook-set --level document --queries 200

nearfield evaluate bge-small --data handbook-set

Nobody judged such a set: its figures order models roughly, and are labelled wherever they are shown."""

#: Characters shown of a candidate.
_SHOWN = 1200


def judge(
    collection: Annotated[str, typer.Argument(help="Collection whose passages are judged.")],
    folder: Annotated[Path, typer.Argument(help="Folder of judgements, in BEIR's layout: a new one, or to go on.")],
    query: Annotated[list[str] | None, typer.Option("--query", help="Query to judge; may be repeated.")] = None,
    queries: Annotated[
        Path | None, typer.Option(help="File of queries (.txt, .jsonl, .csv, .tsv, .parquet), or - for stdin.")
    ] = None,
    field: Annotated[str, typer.Option(help="Field or column of the file that holds the query.")] = "text",
    depth: Annotated[int, typer.Option(help="Candidates from each way to search.", min=1)] = 10,
    mode: Annotated[
        list[str] | None, typer.Option("--mode", help="Way to search for candidates; may be repeated [all there are].")
    ] = None,
    whole: Annotated[bool, typer.Option(help="Put the whole collection into the set, judged or not.")] = True,
) -> None:
    """Build a retrieval set by judging what a collection's search finds, one passage at a time."""
    from nearfield.corpus.collection import Collection
    from nearfield.errors import InputError
    from nearfield.evaluation.datasets.judgments import MEANING, Judgments
    from nearfield.evaluation.datasets.judgments import annotate as work

    asked = [*(query or []), *(_texts(queries, field) if queries else [])]
    if not asked:
        raise InputError("Give queries to judge: --query, or a file of them (--queries).", param="queries")
    kept = Judgments(folder)
    with Collection.open(collection) as opened:
        modes = mode or _modes(opened)
        if whole:
            kept.add_documents(_passages(opened))
        typer.echo(MEANING, err=True)
        given = work(kept, asked, _candidates(opened, modes, depth), _ask)
    judged = sum(len(grades) for grades in kept.grades.values())
    typer.echo(f"{given} answers now, {judged} in all, on {len(kept.grades)} queries: {folder}")


def synthetic(
    collection: Annotated[str, typer.Argument(help="Collection to make a set of.")],
    folder: Annotated[Path, typer.Argument(help="New folder, for BEIR's layout.")],
    level: Annotated[str, typer.Option(help="What is to be found: passage or document.")] = "passage",
    queries: Annotated[int, typer.Option(help="Queries at most.", min=1)] = 500,
    seed: Annotated[int, typer.Option(help="Of the sample, where there are more.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a synthetic retrieval set of a collection: headings and titles as queries for what stands below them."""
    from nearfield.corpus.collection import Collection
    from nearfield.evaluation.datasets.beir import write_beir
    from nearfield.evaluation.datasets.synthetic import known_items

    with Collection.open(collection) as opened:
        made = known_items(opened, level=level, queries=queries, seed=seed)  # type: ignore[arg-type]
    write_beir(made, folder)
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), **made.told()}, ensure_ascii=False))
        return
    counts = made.rows.counts()
    typer.echo(f"{counts['queries']} queries, {counts['documents']} {level}s: {folder}")
    typer.echo(made.synthetic, err=True)


def _texts(path: Path, field: str) -> list[str]:
    from nearfield.bulk.text_source import TextSource

    return [text for _, text in TextSource((path,), None, field, None).rows() if text.strip()]


def _modes(opened: Collection) -> list[str]:
    """Return the ways that a collection can be searched by, one for each kind of feature, and BM25."""
    kinds = dict.fromkeys(feature.kind for feature in opened.features.values())
    return [*kinds, "bm25"]


def _passages(opened: Collection) -> list[tuple[str, str]]:
    found, after = [], None
    while page := opened.documents(limit=500, after=after):
        found += [(chunk.id, chunk.text) for info in page for chunk in opened.manifest.chunks(info.id)]
        after = page[-1].id
    return found


def _candidates(opened: Collection, modes: Sequence[str], depth: int) -> Callable[[str], list[JudgmentCandidate]]:
    from nearfield.evaluation.datasets.judgments import JudgmentCandidate, pool_candidates

    def candidates(query: str) -> list[JudgmentCandidate]:
        rankings = [opened.search(query, depth, mode=mode) for mode in modes]
        return pool_candidates(
            [
                [
                    JudgmentCandidate(each.id, each.text, each.text[:_SHOWN], each.title or each.document)
                    for each in ranking
                ]
                for ranking in rankings
            ],
            depth,
        )

    return candidates


def _ask(query: str, candidate: JudgmentCandidate, place: str) -> str:
    """Show a query and a candidate, and return what is typed; the end of input stops."""
    from nearfield.cli.terminal.passages import plain

    typer.secho(f"\n{place}", dim=True)
    typer.secho(plain(query), bold=True)
    typer.secho(plain(candidate.title), dim=True)
    typer.echo(plain(candidate.shown))
    try:
        answer: Any = typer.prompt("0 1 2 3 s n b q", prompt_suffix=" > ", default="", show_default=False)
    except typer.Abort:
        return "q"
    return str(answer)
