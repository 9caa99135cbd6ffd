"""nearfield compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from nearfield.errors import InputError

EXAMPLES = """Examples:

nearfield compare all-MiniLM-L6-v2 bge-small --data questions/ --html report.html

nearfield compare all-MiniLM-L6-v2 --dimensions whole,256,128 --dtype float32,int8,binary --data questions/

nearfield compare bm25 bge-small "bge-small?output=hybrid" --data questions/ --weights quality=0.8,speed=0.2

nearfield compare bge-small "text-embedding-3-small?url=https://api.openai.com/v1&key_env=OPENAI_API_KEY" -d pairs.tsv

A variant is written MODEL?name=value&name=value: output (dense, sparse, multivector, bm25, hybrid), dimensions, dtype,
prompt, document_prompt, task, rerank, rerank_depth, chunker, chunk_tokens, chunk_overlap, fuse, precision, max_length,
url, key_env. The lists make a grid: each model with each combination. What was computed is kept, so that a comparison
that was interrupted goes on where it stopped."""


def compare(
    models: Annotated[list[str], typer.Argument(help="Models, or variants of models.")],
    data: Annotated[list[str], typer.Option("--data", "-d", help="Data set: file or folder; repeatable.")],
    task: Annotated[str | None, typer.Option(help="Its task, where its layout leaves that open.")] = None,
    outputs: Annotated[str | None, typer.Option("--output", help="Grid: outputs, such as dense,hybrid.")] = None,
    dimensions: Annotated[str | None, typer.Option(help="Grid: such as whole,256,128.")] = None,
    dtypes: Annotated[str | None, typer.Option("--dtype", help="Grid: such as float32,int8,binary.")] = None,
    chunkers: Annotated[str | None, typer.Option("--chunker", help="Grid: such as none,sentence,fixed.")] = None,
    reranks: Annotated[str | None, typer.Option("--rerank", help="Grid: such as none,maxsim.")] = None,
    k: Annotated[int, typer.Option("-k", help="Cutoff of rankings.", min=1)] = 10,
    weights: Annotated[
        str | None,
        typer.Option(help="What counts in the ranking, such as quality=0.6,speed=0.2,memory=0.05,storage=0.15."),
    ] = None,
    speed: Annotated[bool, typer.Option(help="Measure speed, latency and memory too.")] = True,
    seconds: Annotated[float, typer.Option(help="Seconds for each figure of speed.", min=0.05)] = 2.0,
    clients: Annotated[str, typer.Option(help="Callers at once, with commas between.")] = "1,4,16",
    samples: Annotated[int, typer.Option(help="Draws of the bootstrap for intervals.", min=0)] = 1000,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder for results and vectors [in the cache folder].")] = None,
    keep: Annotated[bool, typer.Option("--keep/--no-cache", help="Keep them, and use those that are kept.")] = True,
    html: Annotated[Path | None, typer.Option(help="File for a report with pictures.")] = None,
    title: Annotated[str | None, typer.Option(help="Of the report.")] = None,
    pictures: Annotated[bool, typer.Option(help="Draw pictures in the terminal.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare models, dimensions, dtypes, hybrids and chunkers on your data: quality, speed, memory, storage."""
    from nearfield.cli.terminal import output_path
    from nearfield.evaluation.comparison import ranking, result_store
    from nearfield.evaluation.comparison.compare import compare as measure
    from nearfield.evaluation.systems import grid as variants
    from nearfield.evaluation.weights import normalise_weights

    output_path.require_writable(html)
    lists = {"output": outputs, "dimensions": dimensions, "dtype": dtypes, "chunker": chunkers, "rerank": reranks}
    grid = variants.grid(models, **{name: _values(name, told) for name, told in lists.items() if told})
    shares = normalise_weights(ranking.WEIGHTS, _weights(weights))
    place = (cache or result_store.default_folder()) if keep else None
    with _Bar(shown=not as_json) as bar:
        told = measure(
            grid,
            data,
            task=task,
            k=k,
            weights=shares,
            speed=speed,
            seconds=seconds,
            clients=[int(each) for each in _values("clients", clients)],
            samples=samples,
            seed=seed,
            cache=place,
            on_step=bar.step,
        )
    if html is not None:
        from nearfield.evaluation.comparison.html_report import render_html

        names = ", ".join(each["name"] for each in told["datasets"])
        result_store.write(html, render_html(told, title or f"Comparison on {names}").encode())
        typer.echo(f"report: {html}", err=True)
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        from nearfield.evaluation.comparison import terminal_report

        terminal_report.print_comparison(told, pictures=pictures)
    if not told["ranking"]:
        raise typer.Exit(1)


class _Bar:
    """A bar of steps, on a terminal."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> _Bar:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        bar: Any = Progress(*columns, console=console, disable=not (self._shown and console.is_terminal))
        self._bar, self._task = bar, bar.add_task("", total=None)
        bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, what: str, done: int, steps: int) -> None:
        """Show how far it is."""
        self._bar.update(self._task, description=what, completed=done, total=steps)


def _values(name: str, told: str) -> list[Any]:
    """Read a list; dimensions and clients are whole numbers."""
    found = [each.strip() for each in told.split(",") if each.strip()]
    if name not in ("dimensions", "clients"):
        return found
    wrong = next((each for each in found if not each.isdigit() and (name, each) != ("dimensions", "whole")), None)
    if wrong is not None or not found:
        raise InputError(f"--{name} are whole numbers with commas between, and not {told!r}.", param=name)
    return [int(each) if each.isdigit() else each for each in found]


def _weights(told: str | None) -> dict[str, float]:
    found = {}
    for each in (told or "").split(","):
        if not each.strip():
            continue
        name, _, value = each.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise InputError(
                f"--weights are NAME=NUMBER with commas between, and not {each!r}.", param="weights"
            ) from None
    return found
