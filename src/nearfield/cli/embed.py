"""nearfield embed: from files of texts, pictures, videos or sounds to files of vectors."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from nearfield.cli.terminal.command_words import command_words, was_set
from nearfield.cli.terminal.interruption import continued_later
from nearfield.cli.terminal.ray_options import PerWorker, Workers
from nearfield.message_text import escape_controls

if TYPE_CHECKING:
    from nearfield.bulk.embed import EmbedRequest
    from nearfield.bulk.report import EmbedReport, Forecast
    from nearfield.inference.encode_options import EncodeKeywords
    from nearfield.media.fetch import FetchPolicy
    from nearfield.progress import Shown

#: Values of ``--media-urls``, as the server's setting has them.
_MEDIA_URLS = ("off", "https", "http")
EXAMPLES = """Examples:

nearfield embed notes.txt -o notes.npy

nearfield embed docs.jsonl --field body --id-field id --role document -o docs.jsonl.out.jsonl

nearfield embed table.csv --field text -o table.parquet --dtype int8

cat lines.txt | nearfield embed - -o vectors.npy

An interrupted run continues where it stopped if the same command is repeated.

Data sets of any size go to a folder of shards. A second run encodes only what is missing or has changed:

nearfield embed data/ --id-field id --keep title,url --role document -o vectors/

nearfield embed "data/2026-*.parquet" --shard-rows 50000 --dtype float16 -o vectors/ --dry-run

nearfield embed data/ -o /mnt/shared/vectors/ --shard 2/8

nearfield embed data/ -o vectors/ --check

Inputs and shards on S3-compatible storage, by the usual variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID ...):

nearfield embed "s3://bucket/data/*.parquet" -o s3://bucket/vectors/

nearfield embed s3://bucket/photos/ --format image -o s3://bucket/vectors/

On a Ray cluster, whose machines see inputs and output at the same paths; --ray local uses this machine alone:

nearfield embed data/ -o /mnt/shared/vectors/ --ray auto --per-worker cpus=4

nearfield embed data/ -o /mnt/shared/vectors/ --ray auto --detach

Late interaction (ColBERT), and pages of scanned or rendered documents, several vectors of each:

nearfield embed data/ --id-field id --model answerai-colbert-small --dtype float16 -o vectors/

nearfield embed pages/ --model colmodernvbert -o pages.parquet

Pictures go to one file, a row for each. The id is the path below the folder. In a folder with tables, these are read,
unless --format image says otherwise:

nearfield embed photos/ -o photos.parquet

nearfield embed "photos/*.jpg" -o photos.parquet --model clip --skip-unreadable

Videos too, a row for each, or one for each segment of so many seconds, with its start and end:

nearfield embed clips/ -o clips.parquet --segments 10

Sounds in the same way:

nearfield embed sounds/ -o sounds.parquet

Many of them go to a folder of shards; what cannot be read is set aside, with the reason. They may be files, samples of
tars in the layout of WebDataset, or bytes, paths or addresses in a column of a table:

nearfield embed photos/ -o vectors/

nearfield embed "train-*.tar" --keep txt -o vectors/ --ray auto

nearfield embed products.parquet --media image --field photo --id-field sku -o vectors/

nearfield embed rows.jsonl --media image --media-urls https -o vectors/"""


def embed(
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Files (.txt, .jsonl, .csv, .tsv, .parquet, pictures, videos, sounds), folders or patterns of them, "
            "- for stdin; also at s3:// URLs."
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="File to write (.npy, .jsonl or .parquet), or a folder of shards, which ends with a slash; also s3://BUCKET/FOLDER/.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="Model to use. For pictures and videos, the default is google/siglip2-base-patch16-224, for sounds "
            "laion/clap-htsat-unfused.",
        ),
    ] = "all-MiniLM-L6-v2",
    form: Annotated[
        str | None,
        typer.Option(
            "--format", help="Format of the input; image, video or audio for such files [by its name; txt for stdin]."
        ),
    ] = None,
    media: Annotated[
        str | None,
        typer.Option(
            "--media",
            help="image, video or audio: a column of tables, or tars, have such items (bytes, paths, addresses).",
        ),
    ] = None,
    media_urls: Annotated[
        str, typer.Option(help="Of --media: addresses that are fetched: off, https, or http (both); public ones only.")
    ] = "off",
    media_host: Annotated[
        list[str] | None,
        typer.Option(help="Of --media-urls: a host that may be fetched from, or *.HOST [any]; repeatable."),
    ] = None,
    field: Annotated[
        str, typer.Option(help="Field or column of the text. With --media: of the item [image, video or audio].")
    ] = "text",
    id_field: Annotated[str | None, typer.Option(help="Field or column of the id.")] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Further columns to copy to the shards, separated by commas; may be repeated."),
    ] = None,
    role: Annotated[str | None, typer.Option(help="query or document: use the model's prompt for this role.")] = None,
    prompt_name: Annotated[str | None, typer.Option(help="Name of one of the model's prompts or tasks.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Text of a prompt.")] = None,
    dimensions: Annotated[int | None, typer.Option("--dims", help="Shorten vectors to so many dimensions.")] = None,
    force_dims: Annotated[
        bool, typer.Option("--force-dims", help="Shorten vectors even if the model was not trained for it.")
    ] = False,
    dtype: Annotated[
        str,
        typer.Option(
            help="Number type of vectors: float32, float16, int8, uint8, binary or ubinary; multi-vectors: a float."
        ),
    ] = "float32",
    vectors: Annotated[
        str | None,
        typer.Option(
            help="Vectors to write: dense, or multivector for several of each input [the model's main output]."
        ),
    ] = None,
    truncate: Annotated[
        str, typer.Option(help="What to do with texts that are too long: report, error, left, right or chunk.")
    ] = "report",
    precision: Annotated[
        str, typer.Option(help="Precision of the model's arithmetic: auto, float32, int8, int8-dynamic or int4.")
    ] = "auto",
    shard_format: Annotated[
        str | None,
        typer.Option(
            "--shard-format", help="Format of shards: parquet, npy (with ids in a JSONL file) or jsonl [parquet]."
        ),
    ] = None,
    shard_rows: Annotated[
        int | None,
        typer.Option("--shard-rows", help="Rows per shard; an interrupted run loses one shard at most [100000]."),
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", help="I/N: write the I-th of N parts, while other runs write the others.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read existing shards completely, and write damaged ones again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count rows and shards, and estimate tokens and time. Nothing is written.")
    ] = False,
    skip_unreadable: Annotated[
        bool,
        typer.Option(
            "--skip-unreadable",
            help="Name pictures, videos and sounds that cannot be read, and leave them out; decodes each twice. Of a "
            "folder of shards: let the exit status be 0 although some were set aside.",
        ),
    ] = False,
    retry_set_aside: Annotated[
        bool,
        typer.Option(
            "--retry-set-aside", help="Encode shards again of which pictures, videos or sounds were set aside."
        ),
    ] = False,
    segments: Annotated[
        float | None,
        typer.Option(help="Of videos and sounds: a row for each part of so many seconds, with its start and end."),
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Of videos: frames to read of each second [1].")] = None,
    max_frames: Annotated[
        int | None, typer.Option(help="Of videos: the most frames to read of each, or of each segment [32].")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            help="Encode shards on a Ray cluster: auto, local, HOST:PORT or ray://HOST:PORT.",
            metavar="ADDRESS",
        ),
    ] = None,
    workers: Workers = None,
    per_worker: PerWorker = None,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach", help="Of --ray: submit the run as a job of the cluster, and return; see nearfield cluster jobs."
        ),
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start from the beginning and replace what an earlier run has written.")
    ] = False,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Use a model whose licence does not allow commercial use.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bar.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Turn files of texts, pictures, videos or sounds into files of vectors.

    Memory is bounded, an interrupted run can be continued, and the report counts truncated texts.
    """
    from nearfield.bulk.embed import EmbedRequest, FolderOptions
    from nearfield.bulk.embed import embed as run
    from nearfield.bulk.media_files.detection import find_media
    from nearfield.bulk.media_files.video_source import VideoOptions
    from nearfield.bulk.report import FolderReport
    from nearfield.cli.terminal.picture_arguments import choose_model
    from nearfield.errors import InputError, UnsupportedDimensions
    from nearfield.fileio.s3.matching import listed
    from nearfield.fileio.s3.path import S3Path, parse_location

    locations = [listed(path) if isinstance(path, S3Path) else path for path in map(parse_location, inputs)]
    detected = find_media(locations, form, media)
    options = {
        "role": role,
        "prompt_name": prompt_name,
        "prompt": prompt,
        "truncate_dim": dimensions,
        "force_truncate_dim": force_dims or None,
        "precision": dtype,
        "outputs": vectors,
        "truncate": truncate,
    }
    request = EmbedRequest(
        inputs=locations,
        output=output,
        model=choose_model(context, model, "text" if detected is None else detected.kind),
        form=form,
        media=media,
        fetching=_fetch_policy(media_urls, media_host or ()),
        field=field if was_set(context, "field") else None,
        id_field=id_field,
        options=cast("EncodeKeywords", {name: value for name, value in options.items() if value is not None}),
        loading={"precision": precision, "progress": not quiet, "accept_license": accept_license},
        folder=FolderOptions(keep, shard_format, shard_rows, shard, check, dry_run, retry_set_aside),
        skip_unreadable=skip_unreadable,
        videos=VideoOptions(segments, fps, max_frames),
        restart=restart,
        shown=_progress_form(ray, quiet=quiet),
    )
    cluster_options = {"workers": workers, "per_worker": per_worker, "detach": detach or None}
    option = next((name for name, value in cluster_options.items() if value is not None), None)
    if ray is None and option is not None:
        raise InputError(f"--{option.replace('_', '-')} needs --ray.", param=option)
    if ray is not None and detach:
        _submit(context, request, ray, as_json=as_json)
        return
    try:
        with nullcontext() if dry_run or "-" in inputs else continued_later():
            report = (
                run(request, on_warning=_warn) if ray is None else _run_on_cluster(request, ray, workers, per_worker)
            )
    except UnsupportedDimensions as error:
        raise InputError(error.describe("--dims", "--force-dims"), param="dims") from error
    typer.echo(report.to_json() if as_json else report.to_text())
    if isinstance(report, FolderReport) and (report.failed or (report.set_aside and not skip_unreadable)):
        raise typer.Exit(1)


def _fetch_policy(media_urls: str, hosts: Sequence[str]) -> FetchPolicy:
    from nearfield.errors import InputError, nearest
    from nearfield.media.fetch import FetchPolicy

    if media_urls not in _MEDIA_URLS:
        raise InputError(
            f"--media-urls {media_urls!r} is unknown. {nearest(media_urls, _MEDIA_URLS)}", param="media_urls"
        )
    if hosts and media_urls == "off":
        raise InputError("--media-host needs --media-urls https.", param="media_host")
    return FetchPolicy(enabled=media_urls != "off", allow_http=media_urls == "http", hosts=tuple(hosts))


def _run_on_cluster(
    request: EmbedRequest, address: str, workers: int | None, per_worker: str | None
) -> EmbedReport | Forecast:
    from nearfield.cluster.embed import ClusterOptions
    from nearfield.cluster.embed import embed as run

    return run(request, ClusterOptions(address, workers, per_worker), on_warning=_warn)


def _progress_form(ray: str | None, *, quiet: bool) -> Shown:
    """Return how progress is shown: in lines where a job of a cluster writes its log."""
    if quiet or sys.stderr.isatty():
        return not quiet
    if ray is None:
        return False
    from nearfield.cluster.ray_runtime import is_job

    return "lines" if is_job() else False


def _submit(context: typer.Context, request: EmbedRequest, address: str, *, as_json: bool) -> None:
    """Submit the command as a job of a cluster, and say how to follow it."""
    from nearfield.cluster.embed import ClusterOptions, submit, whole_paths
    from nearfield.cluster.ray_jobs import place_of

    whole = whole_paths(request)
    model = str(Path(request.model).absolute()) if Path(request.model).is_dir() else request.model
    left_out = dict.fromkeys(("ray", "detach", "as_json", "quiet"))
    changes = {"inputs": whole.inputs, "output": whole.output, "model": model, **left_out}
    options = ClusterOptions(address, context.params["workers"], context.params["per_worker"])
    job, is_new = submit(request, options, ["embed", *command_words(context, **changes)])
    if as_json:
        typer.echo(json.dumps({"job": job.id, "state": job.state, "output": job.output, "is_new": is_new}))
        return
    place = place_of(address)
    typer.echo(
        f"{'Submitted' if is_new else 'The same command runs already as'} job {job.id}, which writes {job.output}.\n"
        f"  Follow it:  nearfield cluster logs {job.id} --follow{place}\n"
        f"  Stop it:    nearfield cluster stop {job.id}{place}\n"
        f"  All jobs:   nearfield cluster jobs{place}\n"
        "If it fails or is stopped, the same command continues where it ended."
    )


def _warn(warning: str) -> None:
    typer.secho(f"warning: {escape_controls(warning)}", fg="yellow", err=True)
