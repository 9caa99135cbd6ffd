"""nearfield evaluate."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from nearfield.evaluation.systems.variant import Variant

EXAMPLES = """Examples:

nearfield evaluate all-MiniLM-L6-v2 --data scifact --data stsb/test.tsv

nearfield evaluate "all-MiniLM-L6-v2?dimensions=256&dtype=binary" --data scifact --worst 5

nearfield evaluate bge-small --kind hybrid --rerank maxsim --data questions.jsonl -o result.json

nearfield evaluate text-embedding-3-small --url https://api.openai.com/v1 --key-env OPENAI_API_KEY --data scifact --json

Data sets: a folder in BEIR's layout (retrieval), a folder with train and test files (classification), or a file of JSON
lines, TSV or CSV, whose columns say what it is for: query and document, sentence1 and sentence2 with score or label,
text and label, query with positive and negative. Two columns without names are bitext: --task bitext."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON, without the figures of single items.")]


def evaluate(
    model: Annotated[str, typer.Argument(help="Model, or a variant: MODEL?dimensions=256&dtype=binary; or bm25.")],
    data: Annotated[list[Path], typer.Option("--data", "-d", help="Data set: a file or folder; may be repeated.")],
    task: Annotated[
        str | None,
        typer.Option(help="Where the layout leaves it open: retrieval, sts, pairs, clustering, reranking, bitext."),
    ] = None,
    split: Annotated[str, typer.Option(help="Which judgements or file of a folder.")] = "test",
    k: Annotated[int, typer.Option("-k", help="Cutoff of rankings.", min=1)] = 10,
    kind: Annotated[str | None, typer.Option(help="dense, sparse, multivector, bm25 or hybrid [dense].")] = None,
    dimensions: Annotated[int | None, typer.Option("--dims", help="Dimensions to keep.", min=1)] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16, int8, uint8, binary or ubinary.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Of queries: a prompt's name, its text, or none.")] = None,
    document_prompt: Annotated[str | None, typer.Option(help="The same for documents.")] = None,
    rerank: Annotated[str | None, typer.Option(help="maxsim, sentences, multivector, or a cross-encoder.")] = None,
    chunker: Annotated[str | None, typer.Option(help="Cut documents; the best chunk counts.")] = None,
    chunk_tokens: Annotated[int | None, typer.Option(help="Tokens of a chunk [128].", min=1)] = None,
    chunk_overlap: Annotated[int | None, typer.Option(help="Tokens that chunks repeat [19].", min=0)] = None,
    language: Annotated[str | None, typer.Option(help="Of the texts, for BM25 and sentences [en].")] = None,
    url: Annotated[str | None, typer.Option(help="An OpenAI-compatible endpoint that runs the model.")] = None,
    key_env: Annotated[str | None, typer.Option(help="Environment variable that holds its key.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Classification: learn from all training texts.")] = False,
    ignore_identical_ids: Annotated[
        bool, typer.Option("--ignore-identical-ids", help="A query's own document is no result, as in BEIR.")
    ] = False,
    samples: Annotated[int, typer.Option(help="Draws of the bootstrap; 0 for no intervals.", min=0)] = 1000,
    seed: Annotated[int, typer.Option(help="Of all draws.", min=0)] = 0,
    worst: Annotated[int, typer.Option("--worst", help="Show the N worst items of each set.", min=0)] = 0,
    as_json: Json = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON file to write, single items and all.")
    ] = None,
) -> None:
    """Measure how good a model is on your data."""
    from nearfield.cli.terminal import output_path
    from nearfield.evaluation.systems.variant import Variant

    output_path.require_writable(output)
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
    if output is not None:
        output.write_text(json.dumps({"results": results}, ensure_ascii=False), encoding="utf-8")
        typer.echo(f"{len(results)} results, {output}", err=True)
    if as_json:
        told = [{name: value for name, value in each.items() if name != "per_item"} for each in results]
        typer.echo(json.dumps({"results": told}, ensure_ascii=False))
        return
    show(results, worst)


def _results(
    variant: Variant, data: Sequence[Path], task: str | None, split: str, options: dict[str, Any], *, shown: bool
) -> list[dict[str, Any]]:
    """Read all data sets, so that a wrong one is told at once, then open the model and measure."""
    from nearfield.evaluation.datasets.loaders import load_dataset
    from nearfield.evaluation.evaluate import evaluate as measure
    from nearfield.evaluation.systems import open_system

    sets = [load_dataset(path, task, split=split) for path in data]
    subject = open_system(variant)
    try:
        return [measure(subject, each, progress=shown, **options) for each in sets]
    finally:
        subject.close()


def show(results: Sequence[Mapping[str, Any]], worst: int = 0) -> None:
    """Print results as a table, with what should be known beside them, and the worst items."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"{_plain(results[0]['subject']['name'])}, in points of 100\n", markup=False)
    table = Table(box=None, pad_edge=False)
    for name, side in (("data set", "left"), ("metric", "left"), ("score", "right"), ("95% interval", "left")):
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
    table.add_column("others", justify="left")
    for each in results:
        table.add_row(*_cells(each))
    console.print(table)
    for note in _notes(results):
        console.print(f"\n{note}", style="dim", markup=False)
    for each in results if worst else ():
        _show_worst(console, each, worst)


def _cells(result: Mapping[str, Any]) -> tuple[str, ...]:
    interval = result["interval"]
    between = "" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
    others = [f"{name} {value:.2f}" for name, value in result["metrics"].items() if name != result["main"]]
    name = _plain(result["dataset"]["name"]) + (" *" if result["dataset"].get("synthetic") else "")
    return name, result["main"], f"{result['score']:.2f}", between, ", ".join(others)


def _notes(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what a reader of the figures should know."""
    notes = []
    for each in results:
        data, cut = each["dataset"], each["truncated"]
        if data.get("synthetic"):
            notes.append(f"* {_plain(data['synthetic'])} Such figures order models roughly, and promise nothing.")
        if cut:
            notes.append(f"{_plain(data['name'])}: {cut} texts were longer than what is read of one, and were cut.")
        if each["subject"].get("note"):
            notes.append(f"{_plain(each['subject']['name'])}: {each['subject']['note']}.")
    return list(dict.fromkeys(notes))


def _show_worst(console: Any, result: Mapping[str, Any], count: int) -> None:
    console.print(f"\nWorst of {_plain(result['dataset']['name'])}", style="bold", markup=False)
    for each in result["worst"][:count]:
        console.print(f"\n{each['score']:6.1f}  {_plain(each['text'])}", markup=False)
        for name in ("expected", "found"):
            for row in each[name]:
                console.print(f"        {name}: {_told(row)}", style="dim", markup=False)


def _told(row: Mapping[str, Any]) -> str:
    """Return what was expected or found, its text last."""
    facts = [
        f"{name} {_fact(value)}" for name, value in row.items() if name not in ("text", "id") and value is not None
    ]
    if "rank" in row and row["rank"] is None:
        facts.append("not found")
    text = _plain(str(row.get("text", "")))
    return ": ".join(part for part in (", ".join(facts), text) if part)


def _fact(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.3f}" if isinstance(value, float) else _plain(str(value))


def _plain(text: str) -> str:
    from nearfield.cli.terminal.passages import plain

    return plain(text)
