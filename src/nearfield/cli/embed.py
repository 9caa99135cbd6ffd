"""nearfield embed: files of texts to files of vectors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearfield.errors import InputError

if TYPE_CHECKING:
    from nearfield import Encoder
    from nearfield.bulk.report import EmbedReport, Forecast

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
    from nearfield.bulk.file_job import is_folder

    wanted = {
        "role": role,
        "prompt_name": prompt_name,
        "prompt": prompt,
        "truncate_dim": dimensions,
        "force_truncate_dim": force_dims or None,
        "precision": dtype,
        "truncate": truncate,
    }
    asked = {name: value for name, value in wanted.items() if value is not None}
    shown = not quiet and sys.stderr.isatty()
    loading = {"model": model, "precision": precision, "progress": not quiet, "accept_license": accept_license}
    reading = {"inputs": inputs, "form": form, "field": field, "id_field": id_field}
    of_folders = {
        "keep": keep,
        "shard_format": shard_format,
        "shard_rows": shard_rows,
        "shard": shard,
        "check": check,
        "dry_run": dry_run,
    }
    if is_folder(output):
        report = _to_folder(Path(output), reading, loading, asked, of_folders, restart=restart, shown=shown)
    else:
        _refuse(output, of_folders)
        report = _to_file(Path(output), reading, loading, asked, restart=restart, shown=shown)
    typer.echo(report.json() if as_json else report.text())


def _to_file(
    output: Path,
    reading: dict[str, Any],
    loading: dict[str, Any],
    wanted: dict[str, Any],
    *,
    restart: bool,
    shown: bool,
) -> EmbedReport:
    from nearfield.bulk.file_job import FileJob, check_output
    from nearfield.bulk.input_table import expand_paths
    from nearfield.bulk.text_source import TextSource

    paths = expand_paths(reading["inputs"], reading["form"], output)
    source = TextSource(paths, reading["form"], reading["field"], reading["id_field"])
    check_output(output, source)
    return FileJob(_encoder(loading), source, output, wanted).run(restart=restart, shown=shown)


def _to_folder(
    output: Path,
    reading: dict[str, Any],
    loading: dict[str, Any],
    wanted: dict[str, Any],
    options: dict[str, Any],
    *,
    restart: bool,
    shown: bool,
) -> EmbedReport | Forecast:
    from nearfield.bulk.input_table import InputTable, expand_paths
    from nearfield.bulk.preflight import EmbedRequest, Sharding, share_of
    from nearfield.bulk.shard_job import ShardJob

    share = (1, 1) if options["shard"] is None else share_of(options["shard"])
    sharding = Sharding(options["shard_format"], options["shard_rows"], share)
    keep = tuple(dict.fromkeys(name for names in options["keep"] or () for name in names.split(",") if name))
    paths = expand_paths(reading["inputs"], reading["form"], output)
    _refuse_own(paths, output)
    source = InputTable(paths, reading["form"], reading["field"], reading["id_field"], keep)
    order = EmbedRequest(_encoder(loading), source, output, sharding, wanted)
    job = ShardJob(order, restart=restart, thorough=options["check"], shown=shown)
    return job.forecast() if options["dry_run"] else job.run()


def _encoder(loading: dict[str, Any]) -> Encoder:
    from nearfield import Encoder

    encoder = Encoder(**loading)
    encoder.require("dense")
    for warning in encoder.recipe.warnings:
        typer.secho(f"warning: {warning}", fg="yellow", err=True)
    return encoder


def _refuse(output: str, options: dict[str, Any]) -> None:
    """Refuse an option of folders beside a single file."""
    given = next((name for name, value in options.items() if value not in (None, False)), None)
    if given is not None:
        flag = "--" + given.replace("_", "-")
        raise InputError(
            f"{flag} goes with a folder of shards: end the output's name with a slash, {output}/.", param=given
        )


def _refuse_own(paths: tuple[Path, ...], output: Path) -> None:
    """Refuse to read what is being written."""
    own = next((path for path in paths if output.resolve() in path.resolve().parents), None)
    if own is not None:
        raise InputError(f"{own} is an input and lies in the folder of shards: write to another.", param="inputs")
