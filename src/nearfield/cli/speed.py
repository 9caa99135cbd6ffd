"""nearfield speed: throughput and latency of a model, here or on a server."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from nearfield.cli.terminal.json_types import JsonObject, Keywords
from nearfield.units import format_bytes

EXAMPLES = """Examples:

nearfield speed all-MiniLM-L6-v2

nearfield speed bge-small --workload long --clients 1,4,16 --seconds 10 --json

nearfield speed bge-small --data questions.txt --precision float32 --dims 256

nearfield speed text-embedding-3-small --url https://api.openai.com/v1 --key-env OPENAI_API_KEY"""

#: Further results, in words.
_LABELS = {
    "precision": "Precision",
    "load_seconds": "Load time (s)",
    "first_answer_seconds": "First result (s)",
    "dimensions": "Dimensions",
    "bytes_per_vector": "Bytes per vector",
    "refused": "Refused requests",
}
Seconds = Annotated[float, typer.Option(help="Seconds for each measurement.", min=0.05)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def speed(
    model: Annotated[
        str, typer.Argument(help="Name, alias, Hub id or folder of the model; with --url its name on the server.")
    ],
    workload: Annotated[str, typer.Option(help="Built-in texts: short, mixed or long.")] = "mixed",
    data: Annotated[
        Path | None,
        typer.Option(
            help="File of texts to use instead (.txt, .jsonl, .csv, .tsv, .parquet); the first 2,000 are read."
        ),
    ] = None,
    field: Annotated[str, typer.Option(help="Field or column of the text.")] = "text",
    clients: Annotated[str, typer.Option(help="Numbers of concurrent clients, separated by commas.")] = "1,8,32",
    seconds: Seconds = 3.0,
    url: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint, such as http://host:8080/v1.")] = None,
    key_env: Annotated[str | None, typer.Option(help="Environment variable with the key of the endpoint.")] = None,
    precision: Annotated[
        str, typer.Option(help="Precision of the model's arithmetic: auto, float32, int8, int8-dynamic or int4.")
    ] = "auto",
    dimensions: Annotated[int | None, typer.Option("--dims", help="Shorten vectors to so many dimensions.")] = None,
    dtype: Annotated[
        str, typer.Option(help="Number type of vectors: float32, float16, int8, uint8, binary or ubinary.")
    ] = "float32",
    role: Annotated[str | None, typer.Option(help="query or document: use the model's prompt for this role.")] = None,
    backend: Annotated[str, typer.Option(help="Backend: openvino, torch or reference.")] = "openvino",
    device: Annotated[str, typer.Option(help="Device of the torch backend: auto, cpu, cuda or mps.")] = "auto",
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Use a model whose licence does not allow commercial use.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure the speed and the memory of a model.

    The model runs here or at an endpoint. The report has throughput, latency, load time and memory.
    """
    from nearfield.evaluation.performance import load_test as speeds
    from nearfield.evaluation.performance.http_target import HttpTarget

    texts, counts = _texts(workload, data, field), _counts(clients)
    stage = None if as_json else lambda name: typer.echo(f"  {name} ...", err=True)
    encode_flags = {"truncate_dim": dimensions, "precision": None if dtype == "float32" else dtype, "role": role}
    encode_options = {name: value for name, value in encode_flags.items() if value is not None}
    options: Keywords = {"seconds": seconds, "clients": counts, "on_stage": stage}
    if url is not None:
        extra = {} if dimensions is None else {"dimensions": dimensions}
        result: JsonObject = speeds.measure(HttpTarget(url, model, _key(key_env), **extra), texts, **options)
    else:
        result = _here(model, texts, encode_options, options, precision, backend, device, accept_license)
    typer.echo(json.dumps(result) if as_json else _format(result))


def _here(
    model: str,
    texts: list[str],
    encode_options: Keywords,
    options: Keywords,
    precision: str,
    backend: str,
    device: str,
    accept_license: bool,
) -> JsonObject:
    from nearfield.encoder import Encoder
    from nearfield.evaluation.performance import load_test as speeds
    from nearfield.evaluation.planning.speed.core_share import busy_warning

    loading: Keywords = {"precision": precision, "backend": backend, "device": device}
    with Encoder(model, accept_license=accept_license, progress=True, **loading) as encoder:
        if warning := busy_warning(loading):
            typer.echo(warning, err=True)
        return speeds.measure(speeds.LocalTarget(encoder, **encode_options), texts, **options)


def _texts(workload: str, data: Path | None, field: str) -> list[str]:
    from itertools import islice

    from nearfield.errors import InputError, nearest
    from nearfield.evaluation.performance import workloads

    if data is None and workload not in workloads.SIZES:
        raise InputError(f"Unknown workload {workload!r}. {nearest(workload, workloads.SIZES)}", param="workload")
    if data is None:
        return workloads.texts(workload, quick=True)
    from nearfield.bulk.text_source import TextSource

    texts = [text for _, text in islice(TextSource((data,), None, field, None).rows(), 2000)]
    if not texts:
        raise InputError(f"{data} has no texts.", param="data")
    return texts


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise typer.BadParameter(f"--clients are numbers above 0 separated by commas, such as 1,8,32, not {text!r}")
    return counts


def _key(variable: str | None) -> str | None:
    from nearfield.errors import InputError

    if variable is not None and variable not in os.environ:
        raise InputError(f"The variable {variable} is not set (--key-env).", param="key_env")
    return None if variable is None else os.environ[variable]


def _format(result: JsonObject) -> str:
    from nearfield.evaluation.performance import environment

    bulk, memory = result["bulk"], result["memory"]
    low, high = bulk["range"]
    spread = f"{low:,.1f} to {high:,.1f} texts/s in {bulk['passes']} passes"
    tokens = "" if bulk["tokens_per_second"] is None else f", {bulk['tokens_per_second']:,.0f} tokens/s"
    lines = [
        result["subject"],
        f"  Machine:             {environment.summary_line(result['machine'])}",
        f"  Throughput:          {bulk['texts_per_second']:,.1f} texts/s{tokens} ({spread})",
    ]
    for name, label in _LABELS.items():
        if result.get(name) is not None:
            lines.append(f"  {label + ':':20} {result[name]}")
    if memory["peak"] is not None:
        lines.append(f"  Peak memory:         {format_bytes(memory['peak'])}, the whole process")
    lines += ["", f"  {'clients':>7} {'texts/s':>9} {'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9} {'requests':>8}"]
    for count, row in result["latency"].items():
        times = " ".join(f"{row[name]:>9,.1f}" for name in ("p50", "p95", "p99"))
        lines.append(f"  {count:>7} {row['requests_per_second']:>9,.1f} {times} {row['count']:>8,}")
    return "\n".join(lines)
