"""nearfield size: storage of vectors and their index, and time to compute them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nearfield.cli.terminal.json_types import JsonObject

EXAMPLES = """Examples:

nearfield size 1000000 --dims 768

nearfield size 5M --model bge-small --index pgvector --dtype float16 --text-bytes 800

nearfield size 1M --model all-MiniLM-L6-v2 --tokens 128 --measure

nearfield size 200k --dims 128 --per-text 180 --tokens 180 --tokens-per-second 12000 --json"""

#: One type for each size.
_DTYPES = ("float32", "float16", "int8", "binary")


def size(
    texts: Annotated[str, typer.Argument(help="Number of texts, such as 1000000, 250k or 1.5M.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="Model, for its dimensions and its speed.")] = None,
    dimensions: Annotated[
        int | None, typer.Option("--dims", help="Dimensions of vectors [those of the model].")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="Number type: float32, float16, int8, uint8, binary or ubinary [one of each size]."),
    ] = None,
    index: Annotated[
        str, typer.Option(help="Index: none, lancedb, lancedb-int8, lancedb-binary, hnsw, qdrant, pgvector or all.")
    ] = "none",
    per_text: Annotated[
        float, typer.Option(help="Vectors per text: more than 1 for late interaction or chunks.", min=0.0)
    ] = 1.0,
    text_bytes: Annotated[
        float, typer.Option(help="Bytes per text, if texts are stored with the vectors.", min=0.0)
    ] = 0.0,
    tokens: Annotated[float | None, typer.Option(help="Tokens per text, for the indexing time.", min=1.0)] = None,
    tokens_per_second: Annotated[float | None, typer.Option(help="Speed of the model, if you know it.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Measure the model's speed here for 3 seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Estimate storage and indexing time of vectors.

    The storage includes an index.
    """
    from nearfield.evaluation.planning import index_size as sizes
    from nearfield.units import parse_count

    number, dims = parse_count(texts), _dimensions(model, dimensions)
    vectors = round(number * per_text)
    rows = [
        sizes.index_size(vectors, dims, kind, name, text_bytes=text_bytes / per_text if per_text else 0.0)
        for name, kind in _combinations(index, dtype)
    ]
    time = _indexing_time(number, tokens, tokens_per_second, model if measure else None)
    estimate: dict[str, object] = {"texts": number, "rows": [row.to_dict() for row in rows], "time": time}
    formulas = {name: sizes.INDICES[name] for name in dict.fromkeys(row.index for row in rows)}
    estimate["formulas"] = {
        name: {"each": formula.formula, "source": formula.source} for name, formula in formulas.items()
    }
    typer.echo(json.dumps(estimate) if as_json else _format(estimate))


def _dimensions(model: str | None, dimensions: int | None) -> int:
    from nearfield import catalog, hub
    from nearfield.errors import InputError
    from nearfield.inference.uncompiled_model import read_model

    if dimensions is not None:
        return dimensions
    if model is None:
        raise InputError("The number of dimensions is needed: --dims, or --model with a model or its folder.")
    entry = catalog.find_unless_folder(model)
    if entry is None:
        if not hub.has_model(model):
            raise InputError(
                f"The catalogue has no model {model!r} (nearfield models list): use --dims.", param="model"
            )
        recipe = read_model(model).recipe
        name, kind, dimensions = recipe.name, recipe.outputs[0], recipe.dimensions
    else:
        name, kind, dimensions = entry.id, entry.kind, entry.dimensions
    if kind not in ("dense", "multivector"):
        raise InputError(f"{name} ({kind}) has no fixed number of dimensions: use --dims.", param="model")
    return dimensions


def _combinations(index: str, dtype: str | None) -> list[tuple[str, str]]:
    """Return pairs of index and number type; without --dtype only the types that an index supports."""
    from nearfield.evaluation.planning.index_size import INDICES

    if dtype is not None and index != "all":
        return [(index, dtype)]
    kinds = (dtype,) if dtype else _DTYPES
    names = tuple(INDICES) if index == "all" else (index,)
    return [(name, kind) for name in names for kind in kinds if name not in INDICES or kind in INDICES[name].dtypes]


def _indexing_time(texts: int, tokens: float | None, speed: float | None, model: str | None) -> JsonObject | None:
    from nearfield.errors import InputError
    from nearfield.evaluation.planning.index_size import seconds_to_index

    if tokens is None and speed is None and model is None:
        return None
    if model is not None and speed is None:
        tokens, speed = measure_tokens(model, tokens)
    if tokens is None or speed is None:
        raise InputError("The indexing time needs --tokens and a speed: --tokens-per-second, or --model and --measure.")
    seconds = seconds_to_index(texts, tokens, speed)
    return {"tokens_per_text": tokens, "tokens_per_second": speed, "measured": model is not None, "seconds": seconds}


def measure_tokens(model: str, tokens: float | None) -> tuple[float, float]:
    """Return tokens per text and tokens per second of a model, measured for 3 seconds on this machine."""
    from nearfield.encoder import Encoder
    from nearfield.evaluation.performance import load_test as speed
    from nearfield.evaluation.performance import workloads

    with Encoder(model, progress=True) as encoder:
        texts = (
            workloads.texts_of_tokens(encoder.tokenizer, int(tokens))
            if tokens
            else workloads.texts("mixed", quick=True)
        )
        target = speed.LocalTarget(encoder)
        target.bulk(texts[:16])
        measurement = speed.measure_bulk(target.bulk, texts, 3.0)
    return tokens or measurement["tokens_per_text"], measurement["tokens_per_second"]


def _format(estimate: JsonObject) -> str:
    from nearfield.bulk.report import format_duration
    from nearfield.units import format_bytes

    lines = [f"{'index':15} {'dtype':8} {'bytes/vector':>14} {'vectors':>18} {'index':>18} {'total':>30}"]
    for row in estimate["rows"]:
        whole = f"{row['total']:,} ({format_bytes(row['total'])})"
        named = f"{row['index']:15} {row['dtype']:8} {row['each']:>14,.0f}"
        lines.append(f"{named} {row['raw']:>18,} {row['overhead']:>18,} {whole:>30}")
    lines += ["", "Vectors: texts x vectors per text x dimensions x bits / 8. An index adds, in bytes per vector (v):"]
    lines += [
        f"  {name:15} {formula['each']}\n  {'':15} {formula['source']}"
        for name, formula in estimate["formulas"].items()
    ]
    time = estimate["time"]
    if time is not None:
        source = "measured here" if time["measured"] else "from --tokens-per-second"
        texts = f"{estimate['texts']:,} x {time['tokens_per_text']:,.0f} tokens"
        speed = f"{time['tokens_per_second']:,.0f} tokens/s ({source})"
        lines += ["", f"Indexing time: {texts} / {speed} = {format_duration(time['seconds'])}"]
    return "\n".join(lines)
