"""nearfield evaluate: quality of a model on your data sets."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.report_storage import keep_report
from nearfield.cli.terminal.json_types import JsonObject, Keywords
from nearfield.message_text import count_of, to_json

if TYPE_CHECKING:
    from rich.console import Console

    from nearfield.evaluation.systems.variant import Variant

EXAMPLES = """Examples:

nearfield evaluate all-MiniLM-L6-v2 --data scifact --data stsb/test.tsv

nearfield evaluate "all-MiniLM-L6-v2?dimensions=256&dtype=binary" --data scifact --worst 5

nearfield evaluate bge-small --kind hybrid --rerank maxsim --data questions.jsonl -o result.json

nearfield evaluate text-embedding-3-small --url https://api.openai.com/v1 --key-env OPENAI_API_KEY --data scifact --json

A data set is a folder in BEIR's layout (retrieval), a folder with train and test files (classification), or a file of
JSON lines, TSV or CSV. The columns of a file show its task: query and document; sentence1, sentence2 and score or
label; text and label; query, positive and negative. For two columns without names (bitext) add --task bitext."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON, without the scores of single items.")]


def evaluate(
    model: Annotated[str, typer.Argument(help="Model, a variant such as MODEL?dimensions=256&dtype=binary, or bm25.")],
    data: Annotated[list[Path], typer.Option("--data", "-d", help="Data set: a file or folder; may be repeated.")],
    task: Annotated[
        str | None,
        typer.Option(help="Task, if the columns do not show it: retrieval, sts, pairs, clustering, reranking, bitext."),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of a folder: which judgments or which file to use.")] = "test",
    k: Annotated[int, typer.Option("-k", help="Cutoff: results per query that count.", min=1)] = 10,
    kind: Annotated[
        str | None, typer.Option(help="Output: dense, sparse, multivector, bm25 or hybrid [dense].")
    ] = None,
    dimensions: Annotated[
        int | None, typer.Option("--dims", help="Shorten vectors to so many dimensions.", min=1)
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Number type of vectors: float32, float16, int8, uint8, binary or ubinary.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Prompt of queries: its name, its text, or none.")] = None,
    document_prompt: Annotated[
        str | None, typer.Option(help="Prompt of documents: its name, its text, or none.")
    ] = None,
    rerank: Annotated[
        str | None, typer.Option(help="Rerank by maxsim, sentences, multivector, or the name of a cross-encoder.")
    ] = None,
    chunker: Annotated[
        str | None, typer.Option(help="Split documents with this chunker; the best chunk counts.")
    ] = None,
    chunk_tokens: Annotated[int | None, typer.Option(help="Tokens per chunk [128].", min=1)] = None,
    chunk_overlap: Annotated[
        int | None, typer.Option(help="Tokens that neighbouring chunks share [19].", min=0)
    ] = None,
    language: Annotated[str | None, typer.Option(help="Language of the texts, for BM25 and sentences [en].")] = None,
    url: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint that runs the model.")] = None,
    key_env: Annotated[str | None, typer.Option(help="Environment variable with the key of the endpoint.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Classification: use all training texts.")] = False,
    ignore_identical_ids: Annotated[
        bool,
        typer.Option(
            "--ignore-identical-ids", help="Do not count a document with the id of the query as a result, as in BEIR."
        ),
    ] = False,
    samples: Annotated[int, typer.Option(help="Bootstrap samples for confidence intervals; 0 for none.", min=0)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of all random draws.", min=0)] = 0,
    worst: Annotated[
        int, typer.Option("--worst", help="Show the N worst items of each data set: those that lost most.", min=0)
    ] = 0,
    as_json: Json = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON file to write, with the scores of single items.")
    ] = None,
) -> None:
    """Measure the quality of a model on your data."""
    from nearfield.evaluation.systems.variant import Variant
    from nearfield.fileio.output_path import require_writable

    require_writable(output)
    flags = {
        "output": kind,
        "dimensions": dimensions,
        "dtype": dtype,
        "prompt": prompt,
        "document_prompt": document_prompt,
        "rerank": rerank,
        "chunker": chunker,
        "chunk_tokens": chunk_tokens,
        "chunk_overlap": chunk_overlap,
        "language": language,
        "url": url,
        "key_env": key_env,
    }
    variant = Variant.parse(model).with_(**{name: value for name, value in flags.items() if value is not None})
    options = {
        "k": k,
        "ignore_identical_ids": ignore_identical_ids,
        "full": full,
        "samples": samples,
        "seed": seed,
        "worst": max(worst, 10),
    }
    results = _results(variant, data, task, split, options, shown=sys.stderr.isatty() and not as_json)
    keep_report("evaluate", {"results": results}, quiet=as_json)
    if output is not None:
        output.write_text(json.dumps({"results": results}, ensure_ascii=False), encoding="utf-8")
        typer.echo(f"{count_of(len(results), 'result')} written to {output}", err=True)
    if as_json:
        summaries = [{name: value for name, value in result.items() if name != "per_item"} for result in results]
        typer.echo(to_json({"results": summaries}))
        return
    print_results(results, worst)


def _results(
    variant: Variant, data: Sequence[Path], task: str | None, split: str, options: Keywords, *, shown: bool
) -> list[JsonObject]:
    """Read all data sets first, so that an error in one shows at once; then open the model and measure."""
    from nearfield.evaluation.datasets.loaders import load_dataset
    from nearfield.evaluation.evaluate import evaluate as measure
    from nearfield.evaluation.systems import open_system

    sets = [load_dataset(path, task, split=split) for path in data]
    subject = open_system(variant, attach=True)
    try:
        return [measure(subject, dataset, progress=shown, **options) for dataset in sets]
    finally:
        subject.close()


def print_results(results: Sequence[JsonObject], worst: int = 0) -> None:
    """Print the results as a table, with notes and the worst items."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)
    console.print(f"{_plain(results[0]['subject']['name'])}, in points of 100\n", markup=False)
    table = Table(box=None, pad_edge=False)
    for name, side in (("data set", "left"), ("metric", "left"), ("score", "right"), ("95% interval", "left")):
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
    table.add_column("others", justify="left")
    for result in results:
        table.add_row(*_cells(result))
    console.print(table)
    for note in _notes(results):
        console.print(f"\n{note}", style="dim", markup=False)
    for result in results if worst else ():
        _show_worst(console, result, worst)


def _cells(result: JsonObject) -> tuple[str, ...]:
    interval = result["interval"]
    between = "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
    others = [f"{name} {value:.2f}" for name, value in result["metrics"].items() if name != result["main"]]
    name = _plain(result["dataset"]["name"]) + (" *" if result["dataset"].get("synthetic") else "")
    return name, result["main"], f"{result['score']:.2f}", between, ", ".join(others)


def _notes(results: Iterable[JsonObject]) -> list[str]:
    """Return notes on the results."""
    notes = []
    for result in results:
        data, cut = result["dataset"], result["truncated"]
        if data.get("synthetic"):
            notes.append(f"* {_plain(data['synthetic'])} Such scores rank models only roughly.")
        if data.get("unused_columns"):
            columns = ", ".join(map(_plain, data["unused_columns"]))
            notes.append(f"{_plain(data['name'])}: columns without a role in {data['task']}, not used: {columns}.")
        if cut:
            notes.append(f"{_plain(data['name'])}: {count_of(cut, 'text')} too long for the model, and truncated.")
        if result.get("unread"):
            texts = count_of(result["unread"], "text")
            notes.append(
                f"{_plain(data['name'])}: {texts} mostly unknown to the model, so that the vectors say little."
            )
        notes += [f"{_plain(data['name'])}: {_plain(caution)}" for caution in result.get("cautions", ())]
        if result["subject"].get("note"):
            notes.append(f"{_plain(result['subject']['name'])}: {result['subject']['note']}.")
    return list(dict.fromkeys(notes))


def _show_worst(console: Console, result: JsonObject, count: int) -> None:
    from nearfield.evaluation.error_analysis import describe_row

    none = "" if result["worst"] else ": none, since every item has the full score"
    console.print(f"\nWorst of {_plain(result['dataset']['name'])}{none}", style="bold", markup=False)
    for item in result["worst"][:count]:
        console.print(f"\n{item['score']:6.1f}  {_plain(item['text'])}", markup=False)
        for name in ("expected", "found"):
            for row in item[name]:
                console.print(f"        {name}: {_plain(describe_row(row))}", style="dim", markup=False)


def _plain(text: str) -> str:
    from nearfield.cli.terminal.passages import plain

    return plain(text)
