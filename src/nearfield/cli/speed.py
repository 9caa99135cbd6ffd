"""nearfield speed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLES = """Examples:

nearfield speed all-MiniLM-L6-v2

nearfield speed bge-small --workload long --clients 1,4,16 --seconds 10 --json

nearfield speed bge-small --data questions.txt --precision float32 --dims 256

nearfield speed text-embedding-3-small --url https://api.openai.com/v1 --key-env OPENAI_API_KEY"""

Seconds = Annotated[float, typer.Option(help="Seconds for each figure.", min=0.05)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def speed(
    model: Annotated[str, typer.Argument(help="Model: name, alias, Hub id or folder; or its name at the endpoint.")],
    workload: Annotated[str, typer.Option(help="Texts of our own: short, mixed or long.")] = "mixed",
    data: Annotated[
        Path | None, typer.Option(help="Your texts instead (.txt, .jsonl, .csv, .tsv, .parquet), 2,000 at most.")
    ] = None,
    field: Annotated[str, typer.Option(help="Field or column that holds the text.")] = "text",
    clients: Annotated[str, typer.Option(help="Callers at once, with commas between.")] = "1,8,32",
    seconds: Seconds = 3.0,
    url: Annotated[str | None, typer.Option(help="An OpenAI-compatible endpoint, such as http://host:8080/v1.")] = None,
    key_env: Annotated[str | None, typer.Option(help="The variable that holds its key.")] = None,
    precision: Annotated[str, typer.Option(help="auto or float32: how the model computes.")] = "auto",
    dimensions: Annotated[int | None, typer.Option("--dims", help="Dimensions to keep.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, float16, int8, uint8, binary or ubinary.")] = "float32",
    role: Annotated[str | None, typer.Option(help="query or document: the model's own prompt for it.")] = None,
    backend: Annotated[str, typer.Option(help="openvino, torch or reference.")] = "openvino",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps, for torch.")] = "auto",
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Though its licence does not allow commercial use.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure a model here or at an endpoint: texts/s, tokens/s, waiting of callers, load time, memory."""
    from nearfield.evaluation.performance import load_test as speeds
    from nearfield.evaluation.performance.http_target import HttpTarget

    texts, counts = _texts(workload, data, field), _counts(clients)
    stage = None if as_json else lambda name: typer.echo(f"  {name} ...", err=True)
    wanted = {"truncate_dim": dimensions, "precision": None if dtype == "float32" else dtype, "role": role}
    asked = {name: value for name, value in wanted.items() if value is not None}
    options: dict[str, Any] = {"seconds": seconds, "clients": counts, "on_stage": stage}
    if url is not None:
        extra = {} if dimensions is None else {"dimensions": dimensions}
        told = speeds.measure(HttpTarget(url, model, _key(key_env), **extra), texts, **options)
    else:
        told = _here(model, texts, asked, options, precision, backend, device, accept_license)
    typer.echo(json.dumps(told) if as_json else _shown(told))


def _here(
    model: str,
    texts: list[str],
    wanted: dict[str, Any],
    options: dict[str, Any],
    precision: str,
    backend: str,
    device: str,
    accept_license: bool,
) -> dict[str, Any]:
    from nearfield.encoder import Encoder
    from nearfield.evaluation.performance import load_test as speeds

    loading: dict[str, Any] = {"precision": precision, "backend": backend, "device": device}
    with Encoder(model, accept_license=accept_license, progress=True, **loading) as encoder:
        return speeds.measure(speeds.LocalTarget(encoder, **wanted), texts, **options)


def _texts(workload: str, data: Path | None, field: str) -> list[str]:
    from itertools import islice

    from nearfield.errors import InputError, nearest
    from nearfield.evaluation.performance import workloads

    if data is None and workload not in workloads.SIZES:
        raise InputError(f"Unknown workload {workload!r}. {nearest(workload, workloads.SIZES)}", param="workload")
    if data is None:
        return workloads.texts(workload, quick=True)
    from nearfield.bulk.text_source import TextSource

    found = [text for _, text in islice(TextSource((data,), None, field, None).rows(), 2000)]
    if not found:
        raise InputError(f"{data} has no texts.", param="data")
    return found


def _counts(told: str) -> list[int]:
    try:
        found = [int(part) for part in told.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise typer.BadParameter(f"--clients are numbers above 0 with commas between, such as 1,8,32, not {told!r}")
    return found


def _key(variable: str | None) -> str | None:
    from nearfield.errors import InputError

    if variable is not None and variable not in os.environ:
        raise InputError(f"The variable {variable} is not set (--key-env).", param="key_env")
    return None if variable is None else os.environ[variable]


def _shown(told: dict[str, Any]) -> str:
    from nearfield.evaluation.performance import environment

    bulk, memory = told["bulk"], told["memory"]
    low, high = bulk["range"]
    tokens = "" if bulk["tokens_per_second"] is None else f", {bulk['tokens_per_second']:,.0f} tokens/s"
    lines = [
        told["subject"],
        f"  machine   {environment.line(told['machine'])}",
        f"  bulk      {bulk['texts_per_second']:,.1f} texts/s{tokens} ({low:,.1f} to {high:,.1f} in {bulk['passes']})",
    ]
    for name in ("precision", "load_seconds", "first_answer_seconds", "dimensions", "bytes_per_vector", "refused"):
        if told.get(name) is not None:
            lines.append(f"  {name.replace('_', ' ')}: {told[name]}")
    if memory["peak"] is not None:
        lines.append(f"  memory    {memory['peak'] / 2**20:,.0f} MiB at most, this process as a whole")
    lines += ["", f"  {'clients':>7} {'texts/s':>9} {'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9} {'count':>7}"]
    for count, row in told["latency"].items():
        times = " ".join(f"{row[name]:>9,.1f}" for name in ("p50", "p95", "p99"))
        lines.append(f"  {count:>7} {row['requests_per_second']:>9,.1f} {times} {row['count']:>7,}")
    return "\n".join(lines)
