"""nearfield embed: files of texts to files of vectors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """Examples:

nearfield embed notes.txt -o notes.npy

nearfield embed docs.jsonl --field body --id-field id --role document -o docs.jsonl.out.jsonl

nearfield embed table.csv --field text -o table.parquet --dtype int8

cat lines.txt | nearfield embed - -o vectors.npy

An interrupted run of files goes on where it stopped when the same command is given again."""


def embed(
    inputs: Annotated[list[Path], typer.Argument(help="Files (.txt, .jsonl, .csv, .tsv, .parquet), or - for stdin.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .npy, .jsonl or .parquet.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Model to use.")] = "all-MiniLM-L6-v2",
    form: Annotated[
        str | None, typer.Option("--format", help="Format of the input [by its name; txt for stdin].")
    ] = None,
    field: Annotated[str, typer.Option(help="Field or column that holds the text.")] = "text",
    id_field: Annotated[str | None, typer.Option(help="Field or column to carry over as id.")] = None,
    role: Annotated[str | None, typer.Option(help="query or document: the model's own prompt for it.")] = None,
    prompt_name: Annotated[str | None, typer.Option(help="A prompt of the model, by name or task.")] = None,
    prompt: Annotated[str | None, typer.Option(help="A prompt as text.")] = None,
    dimensions: Annotated[int | None, typer.Option("--dims", help="Dimensions to keep.")] = None,
    force_dims: Annotated[
        bool, typer.Option("--force-dims", help="Cut even where the model was not trained for it.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="float32, float16, int8, uint8, binary or ubinary.")] = "float32",
    truncate: Annotated[str, typer.Option(help="report, error, left, right or chunk.")] = "report",
    precision: Annotated[str, typer.Option(help="auto or float32: how the model computes.")] = "auto",
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, whatever an earlier run left.")] = False,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Use a model whose licence does not allow commercial use.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Encode files of texts; bounded memory, resumable, with a report of what was cut."""
    from nearfield import Encoder
    from nearfield.cli.texts import Source
    from nearfield.cli.vectors_file import Job, check_output

    source = Source(tuple(inputs), form, field, id_field)
    check_output(output, source)
    wanted = {
        "role": role,
        "prompt_name": prompt_name,
        "prompt": prompt,
        "truncate_dim": dimensions,
        "force_truncate_dim": force_dims or None,
        "precision": dtype,
        "truncate": truncate,
    }
    encoder = Encoder(model, precision=precision, progress=not quiet, accept_license=accept_license)
    encoder.require("dense")
    for warning in encoder.recipe.warnings:
        typer.secho(f"warning: {warning}", fg="yellow", err=True)
    job = Job(encoder, source, output, {name: value for name, value in wanted.items() if value is not None})
    report = job.run(restart=restart, shown=not quiet and sys.stderr.isatty())
    typer.echo(report.json() if as_json else report.text())
