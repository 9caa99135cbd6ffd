"""nearfield size."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

EXAMPLES = """Examples:

nearfield size 1000000 --dims 768

nearfield size 5M --model bge-small --index pgvector --dtype float16 --text-bytes 800

nearfield size 1M --model all-MiniLM-L6-v2 --tokens 128 --measure

nearfield size 200k --dims 128 --per-text 180 --tokens 180 --tokens-per-second 12000 --json"""

#: One of each size.
_DTYPES = ("float32", "float16", "int8", "binary")


def size(
    texts: Annotated[str, typer.Argument(help="How many texts, such as 1000000, 250k or 1.5M.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="Model, for its dimensions and its speed.")] = None,
    dimensions: Annotated[int | None, typer.Option("--dims", help="Dimensions of a vector [the model's].")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16, int8, uint8, binary or ubinary [the four sizes of them].")
    ] = None,
    index: Annotated[
        str, typer.Option(help="none, lancedb, lancedb-int8, lancedb-binary, hnsw, qdrant, pgvector or all.")
    ] = "none",
    per_text: Annotated[
        float, typer.Option(help="Vectors of a text: more than 1 for late interaction or chunks.", min=0.0)
    ] = 1.0,
    text_bytes: Annotated[float, typer.Option(help="Bytes of a text that is kept beside its vector.", min=0.0)] = 0.0,
    tokens: Annotated[float | None, typer.Option(help="Tokens of a text, for the time to index.", min=1.0)] = None,
    tokens_per_second: Annotated[float | None, typer.Option(help="Speed, where it is known.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure the model's speed here for 3 seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what vectors take on disk or in memory, index and all, and how long making them takes."""
    from nearfield.cli.terminal.units import parse_count
    from nearfield.evaluation.planning import index_size as sizes

    number, dims = parse_count(texts), _dimensions(model, dimensions)
    vectors = round(number * per_text)
    rows = [
        sizes.index_size(vectors, dims, kind, name, text_bytes=text_bytes / per_text if per_text else 0.0)
        for name, kind in _wanted(index, dtype)
    ]
    time = _time(number, tokens, tokens_per_second, model if measure else None)
    told: dict[str, Any] = {"texts": number, "rows": [row.told() for row in rows], "time": time}
    formulas = {name: sizes.INDICES[name] for name in dict.fromkeys(row.index for row in rows)}
    told["formulas"] = {name: {"each": each.formula, "source": each.source} for name, each in formulas.items()}
    typer.echo(json.dumps(told) if as_json else _shown(told))


def _dimensions(model: str | None, dimensions: int | None) -> int:
    from nearfield import catalog
    from nearfield.errors import InputError

    if dimensions is not None:
        return dimensions
    if model is None:
        raise InputError("Say how many dimensions a vector has: --dims, or --model with one of the catalogue's.")
    entry = catalog.find(model)
    if entry is None:
        raise InputError(f"The catalogue has no model {model!r} (nearfield models list): say --dims.", param="model")
    if entry.kind not in ("dense", "multivector"):
        raise InputError(f"{entry.id} ({entry.kind}) has no number of dimensions: say --dims.", param="model")
    return entry.dimensions


def _wanted(index: str, dtype: str | None) -> list[tuple[str, str]]:
    """Return pairs of index and dtype; what was not asked for by name appears only where it fits."""
    from nearfield.evaluation.planning.index_size import INDICES

    if dtype is not None and index != "all":
        return [(index, dtype)]
    kinds = (dtype,) if dtype else _DTYPES
    names = tuple(INDICES) if index == "all" else (index,)
    return [(name, kind) for name in names for kind in kinds if name not in INDICES or kind in INDICES[name].dtypes]


def _time(texts: int, tokens: float | None, speed: float | None, model: str | None) -> dict[str, Any] | None:
    from nearfield.errors import InputError
    from nearfield.evaluation.planning.index_size import seconds_to_index

    if tokens is None and speed is None and model is None:
        return None
    if model is not None and speed is None:
        tokens, speed = _measured(model, tokens)
    if tokens is None or speed is None:
        raise InputError("The time to index needs --tokens and a speed: --tokens-per-second, or --model and --measure.")
    seconds = seconds_to_index(texts, tokens, speed)
    return {"tokens_per_text": tokens, "tokens_per_second": speed, "measured": model is not None, "seconds": seconds}


def _measured(model: str, tokens: float | None) -> tuple[float, float]:
    from nearfield.encoder import Encoder
    from nearfield.evaluation.performance import load_test as speed
    from nearfield.evaluation.performance import workloads

    with Encoder(model, progress=True) as encoder:
        texts = workloads.of_tokens(encoder.tokenizer, int(tokens)) if tokens else workloads.texts("mixed", quick=True)
        target = speed.LocalTarget(encoder)
        target.bulk(texts[:16])
        found = speed.measure_bulk(target.bulk, texts, 3.0)
    return tokens or found["tokens_per_text"], found["tokens_per_second"]


def _shown(told: dict[str, Any]) -> str:
    from nearfield.bulk.report import format_duration
    from nearfield.cli.terminal.units import format_bytes

    lines = [f"{'index':15} {'dtype':8} {'bytes a vector':>14} {'vectors':>18} {'index':>18} {'all together':>30}"]
    for row in told["rows"]:
        whole = f"{row['total']:,} ({format_bytes(row['total'])})"
        named = f"{row['index']:15} {row['dtype']:8} {row['each']:>14,.0f}"
        lines.append(f"{named} {row['raw']:>18,} {row['overhead']:>18,} {whole:>30}")
    lines += ["", "Vectors: texts x vectors of a text x dimensions x bits / 8. An index adds, in bytes a vector (v):"]
    lines += [f"  {name:15} {each['each']}\n  {'':15} {each['source']}" for name, each in told["formulas"].items()]
    time = told["time"]
    if time is not None:
        source = "measured here" if time["measured"] else "as given"
        texts = f"{told['texts']:,} x {time['tokens_per_text']:,.0f} tokens"
        speed = f"{time['tokens_per_second']:,.0f} tokens/s ({source})"
        lines += ["", f"Time to index: {texts} / {speed} = {format_duration(time['seconds'])}"]
    return "\n".join(lines)
