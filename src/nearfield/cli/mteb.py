"""nearfield mteb: a model on tasks of the MTEB benchmark."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nearfield.cli.terminal.json_types import JsonObject, Keywords
from nearfield.errors import InputError

EXAMPLES = """Examples:

nearfield mteb all-MiniLM-L6-v2 --tasks STSBenchmark,SciFact --output results

nearfield mteb all-MiniLM-L6-v2 --tasks STSBenchmark --data STSBenchmark=stsb/test.tsv

nearfield mteb all-MiniLM-L6-v2 --tasks SciFact --published results/ --json

nearfield mteb bge-m3 --url http://localhost:8080 --key-env SERVER_KEY --tasks SciFact

The mteb package downloads the data of tasks from the Hugging Face Hub, unless --data names files. Results are stored in
MTEB's own layout; those that exist are not computed again."""


def mteb(
    model: Annotated[str, typer.Argument(help="Name or folder of the model; with --url its name on the server.")],
    tasks: Annotated[str, typer.Option(help="Names of MTEB tasks, separated by commas.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for results (results/MODEL/REVISION/TASK.json).")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="TASK=PATH: use this file as the data of a task; may be repeated."),
    ] = None,
    published: Annotated[
        Path | None, typer.Option(help="Published results to compare with: a folder in MTEB's layout, or one file.")
    ] = None,
    dimensions: Annotated[int | None, typer.Option(help="Shorten vectors to so many dimensions [all].")] = None,
    dtype: Annotated[
        str, typer.Option(help="Number type of vectors: float32, float16, int8, uint8, binary or ubinary.")
    ] = "float32",
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=TEXT: a prompt for a task, a task type, query, document, or NAME-query; may be repeated."
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Server that runs the model: Nearfield, or OpenAI-compatible.")
    ] = None,
    key_env: Annotated[str | None, typer.Option(help="Environment variable with the key of the server.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a model on tasks of MTEB, with the mteb package."""
    from nearfield.evaluation.datasets import loaders
    from nearfield.evaluation.mteb import published_scores
    from nearfield.evaluation.mteb.model import MtebModel
    from nearfield.evaluation.mteb.tasks import run_tasks
    from nearfield.fileio.output_path import require_writable_folder

    require_writable_folder(output)
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    sets = {name: loaders.load_dataset(path) for name, path in _parse_pairs("--data", data).items()}
    theirs = published_scores.read_scores(published) if published is not None else []
    options: Keywords = {"url": url, "key": _key(key_env), "prompts": _parse_pairs("--prompt", prompt)}
    with MtebModel(model, truncate_dim=dimensions, precision=dtype, **options) as driven:
        rows = run_tasks(driven, names, output=output, data=sets, progress=not as_json)
        name = str(driven.mteb_model_meta.name)
    compared = published_scores.compare_scores(rows, published_scores.select_scores(theirs, name) if theirs else [])
    if as_json:
        metrics = [row["metrics"] for row in rows]
        results = [{**row, "metrics": row_metrics} for row, row_metrics in zip(compared, metrics, strict=True)]
        typer.echo(json.dumps({"model": name, "results": results}))
        return
    _show(name, compared, with_published=bool(theirs))


def _parse_pairs(option: str, texts: list[str] | None) -> dict[str, str]:
    from nearfield.argument_checks import require_once

    pairs = {}
    require_once(option.lstrip("-"), (text.partition("=")[0] for text in texts or []))
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise InputError(f"{option} is NAME=VALUE, not {text!r}.", param=option.lstrip("-"))
        pairs[name] = value
    return pairs


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    if variable not in os.environ:
        raise InputError(f"The environment has no variable {variable!r} (--key-env).", param="key_env")
    return os.environ[variable]


def _show(model: str, rows: Sequence[JsonObject], *, with_published: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{model}, by MTEB", title_justify="left")
    for heading in ("task", "split", "subset", "metric"):
        table.add_column(heading, overflow="fold")
    for heading in ("score", "published", "difference") if with_published else ("score",):
        table.add_column(heading, justify="right")
    for row in rows:
        shown = [f"{row['ours']:.2f}"]
        if with_published:
            there = row["published"] is not None
            shown += [f"{row['published']:.2f}", f"{row['difference']:+.2f}"] if there else ["-", "-"]
        table.add_row(row["task"], row["split"], row["subset"], row["main"], *shown)
    Console(markup=False, emoji=False).print(table)
