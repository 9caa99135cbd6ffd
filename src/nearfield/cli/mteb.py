"""nearfield mteb."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from nearfield.errors import InputError

EXAMPLES = """Examples:

nearfield mteb all-MiniLM-L6-v2 --tasks STSBenchmark,SciFact --output results

nearfield mteb all-MiniLM-L6-v2 --tasks STSBenchmark --data STSBenchmark=stsb/test.tsv

nearfield mteb all-MiniLM-L6-v2 --tasks SciFact --published results/ --json

nearfield mteb bge-m3 --url http://localhost:8080 --key-env NEARFIELD_API_KEY --tasks SciFact

The data of tasks is fetched from the Hugging Face Hub by the mteb package, unless --data gives it. Kept results are in
MTEB's own layout, and are not computed again."""


def mteb(
    model: Annotated[str, typer.Argument(help="Model: name, folder, or with --url its name there.")],
    tasks: Annotated[str, typer.Option(help="Names of MTEB's tasks, joined by commas.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for results (results/MODEL/REVISION/TASK.json).")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="TASK=PATH: rows that take the place of those MTEB would fetch; repeatable."),
    ] = None,
    published: Annotated[
        Path | None, typer.Option(help="Published results (a folder of MTEB's, or one file) to put beside ours.")
    ] = None,
    dimensions: Annotated[int | None, typer.Option(help="Dimensions to keep of each vector [all].")] = None,
    dtype: Annotated[str, typer.Option(help="float32, float16, int8, uint8, binary or ubinary.")] = "float32",
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="NAME=TEXT: a prompt by task, task type, query, document, or NAME-query; repeatable."),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Server that runs it: Nearfield's, or OpenAI-compatible.")] = None,
    key_env: Annotated[str | None, typer.Option(help="Environment variable with the server's key.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a model by tasks of MTEB, through the mteb package."""
    from nearfield.evaluation.datasets import loaders
    from nearfield.evaluation.mteb import published_scores as known
    from nearfield.evaluation.mteb.model import MtebModel
    from nearfield.evaluation.mteb.tasks import run_tasks

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    sets = {name: loaders.load_dataset(path) for name, path in _told("--data", data).items()}
    theirs = known.read(published) if published is not None else []
    options: dict[str, Any] = {"url": url, "key": _key(key_env), "prompts": _told("--prompt", prompt)}
    with MtebModel(model, truncate_dim=dimensions, precision=dtype, **options) as driven:
        rows = run_tasks(driven, names, output=output, data=sets, progress=not as_json)
        name = str(driven.mteb_model_meta.name)
    found = known.beside(rows, known.of(theirs, name) if theirs else [])
    if as_json:
        metrics = [row["metrics"] for row in rows]
        told = [{**row, "metrics": each} for row, each in zip(found, metrics, strict=True)]
        typer.echo(json.dumps({"model": name, "results": told}))
        return
    _show(name, found, with_published=bool(theirs))


def _told(option: str, given: list[str] | None) -> dict[str, str]:
    found = {}
    for each in given or []:
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise InputError(f"{option} is NAME=VALUE, and not {each!r}.", param=option.lstrip("-"))
        found[name] = value
    return found


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    if variable not in os.environ:
        raise InputError(f"The environment has no variable {variable!r} (--key-env).", param="key_env")
    return os.environ[variable]


def _show(model: str, rows: list[dict[str, Any]], *, with_published: bool) -> None:
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
    Console().print(table)
