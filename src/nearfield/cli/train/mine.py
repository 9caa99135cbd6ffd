"""nearfield train mine: hard negatives for pairs of queries and documents."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.message_text import count_of, escape_controls, quote_name, to_json

if TYPE_CHECKING:
    from nearfield.cli.terminal.json_types import JsonObject
    from nearfield.training.mining import MinedNegatives
    from nearfield.training.training_data import TrainingData

EXAMPLES = """Examples:

nearfield train mine pairs.jsonl --model bge-small -o mined/

nearfield train mine beir-folder/ --model all-MiniLM-L6-v2 --per-query 5 --ranks 2-200 -o mined/

nearfield train mine pairs.jsonl --model bge-small --teacher bge-reranker-base -o mined/

nearfield train all-MiniLM-L6-v2 --data mined/ -o tuned/

The corpus is all documents of the data. A document that scores nearly as high as the answer is often an answer too, and
is left out; a teacher, such as a reranker, decides the same way with better scores, which the training uses."""


def mine(
    data: Annotated[Path, typer.Argument(help="Queries with documents: a file or folder, as `nearfield train` reads.")],
    model: Annotated[str, typer.Option(help="Model whose mistakes become negatives; usually the one to train.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to create, for `nearfield train --data`.")],
    per_query: Annotated[int, typer.Option(help="Negatives for each query.", min=1)] = 3,
    ranks: Annotated[str, typer.Option(help="First and last rank of candidates.")] = "1-100",
    relative_margin: Annotated[
        float, typer.Option(help="Share by which a negative scores lower than the answer.", min=0, max=1)
    ] = 0.05,
    teacher: Annotated[
        str | None, typer.Option(help="Reranker, or model of dense vectors, that checks each candidate.")
    ] = None,
    shape: Annotated[str | None, typer.Option(help="ranking, where a file does not name its columns.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Add hard negatives to queries with documents: what a model ranks high although it is no answer."""
    from nearfield.fileio.whole_folder import require_new_folder
    from nearfield.training.data.loaders import load_training_data, write_training_data
    from nearfield.training.mining import NegativeChoice

    bounds = _parse_ranks(ranks)
    NegativeChoice(per_query, bounds, relative_margin)  # refuses what is out of range before anything is read
    require_new_folder(output)
    rows = load_training_data(data, shape=shape)
    options: JsonObject = {"per_query": per_query, "ranks": bounds, "relative_margin": relative_margin}
    result = _mine(rows, model, teacher, options, shown=not as_json)
    write_training_data(result.data, output)
    if as_json:
        typer.echo(to_json({"folder": str(output), **result.data.counts(), **result.to_dict()}))
    else:
        _show(result, output)


def _mine(rows: TrainingData, model: str, teacher: str | None, options: JsonObject, *, shown: bool) -> MinedNegatives:
    from nearfield.training.miner import open_miner
    from nearfield.training.mining import mine_negatives
    from nearfield.training.teachers import open_teacher

    with ExitStack() as stack:
        judge = None if teacher is None else stack.enter_context(open_teacher(teacher))
        encoder = stack.enter_context(open_miner(model, progress=shown))
        return mine_negatives(rows, encoder, teacher=judge, **options)


def _parse_ranks(text: str) -> tuple[int, int]:
    from nearfield.errors import InputError

    first, _, last = text.partition("-")
    if not (first.strip().isdecimal() and last.strip().isdecimal()):
        raise InputError(f"--ranks is two numbers such as 1-100, and is {text!r}.", param="ranks")
    return int(first), int(last)


def _show(result: MinedNegatives, output: Path) -> None:
    from nearfield.training.mining import REASONS

    counts = result.data.counts()
    queries = count_of(counts["queries"], "query", "queries")
    typer.echo(f"{count_of(result.mined, 'negative')} for {queries}, in {quote_name(str(output))}")
    for reason, number in result.left_out.items():
        typer.echo(f"  left out: {number} {escape_controls(REASONS[reason])}")
    if result.short_of:
        short_of = count_of(result.short_of, "query", "queries")
        typer.echo(f"  {short_of} with fewer negatives: raise the last rank, or add documents.")
