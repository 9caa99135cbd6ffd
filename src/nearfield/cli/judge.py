"""nearfield judge: a retrieval data set from judgments of your own collection's search results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.message_text import count_of, quote_name

if TYPE_CHECKING:
    from nearfield.corpus.collection import Collection
    from nearfield.evaluation.datasets.judgments import JudgmentCandidate

EXAMPLES = """Examples:

nearfield judge handbook judged --queries questions.txt

nearfield judge papers judged --query "which year had the highest budget?" --depth 20 --mode dense --mode bm25

nearfield evaluate all-MiniLM-L6-v2 --data judged

Each answer is saved at once. The same command continues where you stopped."""

#: Maximum number of characters of a candidate that are shown.
_SHOWN = 1200


def judge(
    collection: Annotated[str, typer.Argument(help="Collection with the passages to judge.")],
    folder: Annotated[
        Path, typer.Argument(help="Folder of the data set in BEIR's layout; an existing one is continued.")
    ],
    query: Annotated[list[str] | None, typer.Option("--query", help="Query to judge; may be repeated.")] = None,
    queries: Annotated[
        Path | None, typer.Option(help="File of queries (.txt, .jsonl, .csv, .tsv, .parquet), or - for stdin.")
    ] = None,
    field: Annotated[str, typer.Option(help="Field or column of the query in the file.")] = "text",
    depth: Annotated[int, typer.Option(help="Candidates per search mode.", min=1)] = 10,
    mode: Annotated[
        list[str] | None, typer.Option("--mode", help="Search mode for candidates; may be repeated [all modes].")
    ] = None,
    whole: Annotated[
        bool, typer.Option(help="Put the whole collection into the data set, also passages that are not judged.")
    ] = True,
) -> None:
    """Build a retrieval data set by hand.

    You judge the search results of a collection, one passage at a time.
    """
    from nearfield.corpus.collection import Collection
    from nearfield.errors import InputError
    from nearfield.evaluation.datasets.judgments import MEANING, Judgments
    from nearfield.evaluation.datasets.judgments import annotate as work
    from nearfield.fileio.output_path import require_writable_folder

    queries_to_judge = [*(query or []), *(_texts(queries, field) if queries else [])]
    if not queries_to_judge:
        raise InputError("No queries to judge: use --query, or --queries with a file.", param="queries")
    require_writable_folder(folder, "folder")
    judgments = Judgments(folder)
    with Collection.open(collection) as opened:
        modes = mode or _modes(opened)
        if whole:
            judgments.add_documents(_passages(opened))
        typer.echo(MEANING, err=True)
        answers = work(judgments, queries_to_judge, _candidates(opened, modes, depth), _ask)
    judged = sum(len(grades) for grades in judgments.grades.values())
    queries_judged = count_of(len(judgments.grades), "query", "queries")
    typer.echo(
        f"{count_of(answers, 'new judgment')}, {judged:,} in total for {queries_judged}, in {quote_name(str(folder))}"
    )


def _texts(path: Path, field: str) -> list[str]:
    from nearfield.bulk.text_source import TextSource

    return [text for _, text in TextSource((path,), None, field, None).rows() if text.strip()]


def _modes(opened: Collection) -> list[str]:
    """Return the search modes of a collection: one for each kind of feature, and BM25."""
    kinds = dict.fromkeys(feature.kind for feature in opened.features.values())
    return [*kinds, "bm25"]


def _passages(opened: Collection) -> list[tuple[str, str]]:
    passages, after = [], None
    while page := opened.documents(limit=500, after=after):
        passages += [(chunk.id, chunk.text) for info in page for chunk in opened.manifest.chunks(info.id)]
        after = page[-1].id
    return passages


def _candidates(opened: Collection, modes: Sequence[str], depth: int) -> Callable[[str], list[JudgmentCandidate]]:
    from nearfield.evaluation.datasets.judgments import JudgmentCandidate, pool_candidates

    def candidates(query: str) -> list[JudgmentCandidate]:
        rankings = [opened.search(query, depth, mode=mode) for mode in modes]
        return pool_candidates(
            [
                [JudgmentCandidate(hit.id, hit.text, hit.text[:_SHOWN], hit.title or hit.document) for hit in ranking]
                for ranking in rankings
            ],
            depth,
        )

    return candidates


def _ask(query: str, candidate: JudgmentCandidate, place: str) -> str:
    """Show a query and a candidate, and return the answer that is typed; the end of input means quit."""
    from nearfield.cli.terminal.passages import plain

    typer.secho(f"\n{place}", dim=True)
    typer.secho(plain(query), bold=True)
    typer.secho(quote_name(candidate.title), dim=True)
    typer.echo(plain(candidate.shown))
    try:
        answer: object = typer.prompt("0 1 2 3 s n b q", prompt_suffix=" > ", default="", show_default=False)
    except typer.Abort:
        return "q"
    return str(answer)
