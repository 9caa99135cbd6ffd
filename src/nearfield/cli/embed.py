"""nearfield embed: files of texts to files of vectors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from nearfield.inference.encode_options import EncodeKeywords

EXAMPLES = """Examples:

nearfield embed notes.txt -o notes.npy

nearfield embed docs.jsonl --field body --id-field id --role document -o docs.jsonl.out.jsonl

nearfield embed table.csv --field text -o table.parquet --dtype int8

cat lines.txt | nearfield embed - -o vectors.npy

An interrupted run of files goes on where it stopped when the same command is given again.

Data sets of any size go to a folder of shards; there, only what is missing or has changed is encoded:

nearfield embed data/ --id-field id --keep title,url --role document -o vectors/

nearfield embed "data/2026-*.parquet" --shard-rows 50000 --dtype float16 -o vectors/ --dry-run

nearfield embed data/ -o /mnt/shared/vectors/ --shard 2/8

nearfield embed data/ -o vectors/ --check"""


def embed(
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Files (.txt, .jsonl, .csv, .tsv, .parquet), folders or patterns of them, or - for stdin."),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="File to write (.npy, .jsonl or .parquet), or a folder of shards: end it with /."
        ),
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="Model to use.")] = "all-MiniLM-L6-v2",
    form: Annotated[
        str | None, typer.Option("--format", help="Format of the input [by its name; txt for stdin].")
    ] = None,
    field: Annotated[str, typer.Option(help="Field or column that holds the text.")] = "text",
    id_field: Annotated[str | None, typer.Option(help="Field or column to carry over as id.")] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Further columns to carry over to shards, with commas between them; may be repeated."),
    ] = None,
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
    shard_format: Annotated[
        str | None, typer.Option("--shard-format", help="parquet, npy (ids in JSONL beside it) or jsonl [parquet].")
    ] = None,
    shard_rows: Annotated[
        int | None, typer.Option("--shard-rows", help="Rows of a shard; a killed run loses one at most [100000].")
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", help="I/N: do the I-th of N parts, beside other runs on the same folder.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read the shards that are there, and do those again that are damaged.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count rows and shards, estimate tokens and time; write nothing.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, whatever an earlier run left.")] = False,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Use a model whose licence does not allow commercial use.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Encode files of texts; bounded memory, resumable, with a report of what was cut."""
    from nearfield.bulk.embed import EmbedRequest, FolderOptions
    from nearfield.bulk.embed import embed as run

    options = {
        "role": role,
        "prompt_name": prompt_name,
        "prompt": prompt,
        "truncate_dim": dimensions,
        "force_truncate_dim": force_dims or None,
        "precision": dtype,
        "truncate": truncate,
    }
    request = EmbedRequest(
        inputs=inputs,
        output=output,
        model=model,
        form=form,
        field=field,
        id_field=id_field,
        options=cast("EncodeKeywords", {name: value for name, value in options.items() if value is not None}),
        loading={"precision": precision, "progress": not quiet, "accept_license": accept_license},
        folder=FolderOptions(keep, shard_format, shard_rows, shard, check, dry_run),
        restart=restart,
        shown=not quiet and sys.stderr.isatty(),
    )
    report = run(request, on_warning=_warn)
    typer.echo(report.to_json() if as_json else report.to_text())


def _warn(warning: str) -> None:
    typer.secho(f"warning: {warning}", fg="yellow", err=True)
