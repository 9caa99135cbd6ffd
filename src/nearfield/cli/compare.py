"""nearfield compare: models and variants of models, measured on the same data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

from nearfield.cli.report_storage import keep_report
from nearfield.errors import InputError
from nearfield.message_text import escape_controls, to_json

EXAMPLES = """Examples:

nearfield compare all-MiniLM-L6-v2 bge-small --data questions/ --html report.html

nearfield compare all-MiniLM-L6-v2 --dimensions whole,256,128 --dtype float32,int8,binary --data questions/

nearfield compare bm25 bge-small "bge-small?output=hybrid" --data questions/ --weights quality=0.8,speed=0.2

nearfield compare bge-small bge-base --data questions/ --need-texts-per-second 50 --need-p95-ms 100

nearfield compare bge-small "text-embedding-3-small?url=https://api.openai.com/v1&key_env=OPENAI_API_KEY" -d pairs.tsv

A variant is written MODEL?name=value&name=value, with these names: output (dense, sparse, multivector, bm25, hybrid),
dimensions, dtype, prompt, document_prompt, task, rerank, rerank_depth, chunker, chunk_tokens, chunk_overlap, fuse,
precision, max_length, url, key_env. The options of grids take lists: every model is measured with every combination.
Results are cached, so an interrupted comparison continues where it stopped."""


def compare(
    models: Annotated[list[str], typer.Argument(help="Models, or variants of models.")],
    data: Annotated[list[str], typer.Option("--data", "-d", help="Data set: a file or folder; may be repeated.")],
    task: Annotated[str | None, typer.Option(help="Task of the data set, if its layout does not show it.")] = None,
    outputs: Annotated[str | None, typer.Option("--output", help="Grid of outputs, such as dense,hybrid.")] = None,
    dimensions: Annotated[str | None, typer.Option(help="Grid of dimensions, such as whole,256,128.")] = None,
    dtypes: Annotated[
        str | None, typer.Option("--dtype", help="Grid of number types, such as float32,int8,binary.")
    ] = None,
    chunkers: Annotated[
        str | None, typer.Option("--chunker", help="Grid of chunkers, such as none,sentence,fixed.")
    ] = None,
    reranks: Annotated[str | None, typer.Option("--rerank", help="Grid of rerankers, such as none,maxsim.")] = None,
    k: Annotated[int, typer.Option("-k", help="Cutoff: results per query that count.", min=1)] = 10,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Weights that break ties of quality, such as quality=0.6,speed=0.2,memory=0.05,storage=0.15."
        ),
    ] = None,
    need_speed: Annotated[
        float | None,
        typer.Option(
            "--need-texts-per-second", help="Documents per second that suffice; slower variants are no choice."
        ),
    ] = None,
    need_p95: Annotated[
        float | None,
        typer.Option("--need-p95-ms", help="Milliseconds per query at p95 that suffice, at the first of --clients."),
    ] = None,
    need_memory: Annotated[
        str | None, typer.Option("--need-memory", help="Memory that a variant may take, such as 2GB.")
    ] = None,
    need_bytes: Annotated[
        float | None,
        typer.Option("--need-bytes-per-document", help="Bytes of vectors that a document may take."),
    ] = None,
    speed: Annotated[bool, typer.Option(help="Also measure speed, latency and memory.")] = True,
    seconds: Annotated[float, typer.Option(help="Seconds for each speed measurement.", min=0.05)] = 2.0,
    clients: Annotated[str, typer.Option(help="Numbers of concurrent clients, separated by commas.")] = "1,4,16",
    samples: Annotated[int, typer.Option(help="Bootstrap samples for confidence intervals; 0 for none.", min=0)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of all random draws.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for cached results and vectors [in the cache folder].")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep/--no-cache", help="Whether to cache results and vectors, and to use cached ones.")
    ] = True,
    html: Annotated[Path | None, typer.Option(help="HTML file to write, a report with charts.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the HTML report.")] = None,
    pictures: Annotated[bool, typer.Option(help="Draw charts in the terminal.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare models and their settings on your data.

    Measures quality, speed, memory and storage, and says which variant to take.
    """
    from nearfield.evaluation.comparison import ranking, result_store
    from nearfield.evaluation.comparison.compare import compare as measure
    from nearfield.evaluation.systems import grid as variants
    from nearfield.evaluation.weights import normalise_weights
    from nearfield.fileio.output_path import require_writable

    require_writable(html, "html")
    lists = {"output": outputs, "dimensions": dimensions, "dtype": dtypes, "chunker": chunkers, "rerank": reranks}
    grid = variants.grid(models, **{name: _split_list(name, text) for name, text in lists.items() if text})
    shares = normalise_weights(ranking.WEIGHTS, _parse_weights(weights))
    need = _parse_need(need_speed, need_p95, need_memory, need_bytes)
    place = (cache or result_store.default_folder()) if keep else None
    with _Bar(shown=not as_json) as bar:
        comparison = measure(
            grid,
            data,
            task=task,
            k=k,
            weights=shares,
            need=need,
            speed=speed,
            seconds=seconds,
            clients=[int(count) for count in _split_list("clients", clients)],
            samples=samples,
            seed=seed,
            cache=place,
            on_step=bar.step,
        )
    keep_report("compare", comparison, quiet=as_json)
    if html is not None:
        from nearfield.evaluation.comparison.html_report import render_html

        names = ", ".join(dataset["name"] for dataset in comparison["datasets"])
        result_store.write_file(html, render_html(comparison, title or f"Comparison on {names}").encode())
        typer.echo(f"Report: {html}", err=True)
    if as_json:
        typer.echo(to_json(comparison))
    else:
        from nearfield.evaluation.comparison import terminal_report

        terminal_report.print_comparison(comparison, pictures=pictures)
    if not comparison["ranking"]:
        raise typer.Exit(1)


def _parse_need(
    speed: float | None, p95: float | None, memory: str | None, bytes_per_document: float | None
) -> dict[str, float]:
    """Return the needs that are stated, by their names in ``nearfield.compare``."""
    from nearfield.units import parse_size

    values = {
        "texts_per_second": speed,
        "p95_ms": p95,
        "memory": parse_size(memory) if memory else None,
        "bytes_per_document": bytes_per_document,
    }
    return {name: value for name, value in values.items() if value is not None}


class _Bar:
    """A progress bar of steps; without a terminal, a line for each step on standard error."""

    def __init__(self, *, shown: bool) -> None:
        self._shown, self._last = shown, ""
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> _Bar:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        if self._shown and console.is_terminal:
            step = TextColumn("{task.description}", markup=False)
            bar = Progress(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), step, console=console)
            self._bar, self._task = bar, bar.add_task("", total=None)
            bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, what: str, done: int, steps: int) -> None:
        """Show the progress."""
        name = escape_controls(what)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=name, completed=done, total=steps)
        elif self._shown and name != self._last:
            # Tests of pairs follow the last step.
            typer.echo(f"  {done + 1} of {steps}: {name}" if done < steps else f"  {name}", err=True)
            self._last = name


def _split_list(name: str, text: str) -> Sequence[int | str]:
    """Parse a list; dimensions and clients are whole numbers."""
    values = [value.strip() for value in text.split(",") if value.strip()]
    if name not in ("dimensions", "clients"):
        return values
    wrong = next((value for value in values if not value.isdigit() and (name, value) != ("dimensions", "whole")), None)
    if wrong is not None or not values:
        raise InputError(f"--{name} are whole numbers separated by commas, not {text!r}.", param=name)
    return [int(value) if value.isdigit() else value for value in values]


def _parse_weights(text: str | None) -> dict[str, float]:
    from nearfield.argument_checks import require_once

    weights: dict[str, float] = {}
    parts = [part for part in (text or "").split(",") if part.strip()]
    require_once("weights", (part.partition("=")[0].strip() for part in parts))
    for part in parts:
        name, _, value = part.partition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            raise InputError(f"--weights are NAME=NUMBER separated by commas, not {part!r}.", param="weights") from None
    return weights
