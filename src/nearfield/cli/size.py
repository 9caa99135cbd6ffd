"""nearfield size: storage of vectors and their index, and time to compute them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.terminal.json_types import JsonObject

if TYPE_CHECKING:
    from nearfield.evaluation.planning.bulk_job import BulkJob
    from nearfield.evaluation.planning.encoding_rate import EncodingRate
    from nearfield.evaluation.planning.index_size import Size
    from nearfield.evaluation.planning.vector_count import VectorCount
    from nearfield.evaluation.planning.vector_model import CountOptions, VectorModel

EXAMPLES = """Examples:

nearfield size 1000000 --dims 768

nearfield size 5M --model bge-small --index pgvector --dtype float16 --text-bytes 800

nearfield size 1M --model colbertv2 --tokens 180 --pool-factor 2

nearfield size 1M --model all-MiniLM-L6-v2 --tokens 128 --measure

nearfield size 10M --dims 1024,256 --texts-per-second 4800 --plan --explain

nearfield size 1B --dims 384 --tokens 30 --tokens-per-second 33000 --workers 100 --failures 0.05 --json"""

#: One type for each size.
_DTYPES = ("float32", "float16", "int8", "binary")
#: Texts of the rows of a plan.
PLAN_TEXTS = (10**6, 10**7, 10**8, 10**9)


def size(
    texts: Annotated[str, typer.Argument(help="Number of texts, such as 1000000, 250k or 1.5M.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="Model, for its vectors and its speed.")] = None,
    dimensions: Annotated[
        str | None,
        typer.Option("--dims", help="Dimensions of vectors, several with commas [those of the model, Matryoshka too]."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="Number type: float32, float16, int8, uint8, binary or ubinary [one of each size]."),
    ] = None,
    index: Annotated[
        str, typer.Option(help="Index: none, lancedb, lancedb-int8, lancedb-binary, hnsw, qdrant, pgvector or all.")
    ] = "none",
    per_text: Annotated[
        float | None,
        typer.Option(help="Vectors per text, such as its chunks [1; of late interaction those of its tokens]."),
    ] = None,
    pool_factor: Annotated[
        float, typer.Option(help="Late interaction: tokens that are merged into one vector before they are stored.")
    ] = 1.0,
    punctuation: Annotated[
        float | None,
        typer.Option(help="Late interaction: share of tokens that are punctuation, which the model leaves out."),
    ] = None,
    terms: Annotated[float | None, typer.Option(help="Sparse models: terms of a text that have a weight.")] = None,
    text_bytes: Annotated[float, typer.Option(help="Bytes per text, if texts are stored with the vectors.")] = 0.0,
    tokens: Annotated[
        float | None, typer.Option(help="Tokens per text, for the time and for models of late interaction.")
    ] = None,
    tokens_per_second: Annotated[
        float | None, typer.Option(help="Speed of a worker in tokens, if you know it.")
    ] = None,
    texts_per_second: Annotated[float | None, typer.Option(help="Speed of a worker in texts, if you know it.")] = None,
    workers: Annotated[int, typer.Option(help="Workers that encode at once.")] = 1,
    efficiency: Annotated[
        float | None,
        typer.Option(help="Share of the workers' speeds that is reached together [1 worker: 1, more: 0.9]."),
    ] = None,
    failures: Annotated[float, typer.Option(help="Failures in an hour of one worker, such as 0.05.")] = 0.0,
    repeats: Annotated[float, typer.Option(help="Share of the work that is done again.")] = 0.0,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the model's speed (and vectors of a text) here for 3 seconds.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Add a table for 1 million to 1 billion texts.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the formula and the source of each figure.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Estimate storage and indexing time of vectors.

    The storage includes an index. kB, MB and GB are powers of 1,000. A model of late interaction has a vector for each
    token that it keeps.
    """
    from nearfield.errors import InputError
    from nearfield.evaluation.planning.amount_checks import check_positive
    from nearfield.evaluation.planning.encoding_rate import stated_rate
    from nearfield.evaluation.planning.vector_model import CountOptions
    from nearfield.units import parse_count

    number, vectors = parse_count(texts), _vector_model(model, dimensions)
    check_positive("texts", number)
    rate, measured = stated_rate(tokens_per_second, texts_per_second, tokens), None
    if measure:
        rate, tokens, measured = _measured(model, tokens, rate)
    count = _count(vectors, per_text, CountOptions(tokens, terms, punctuation, pool_factor, measured))
    stored = _StoredVectors(vectors, count, index, dtype, text_bytes)
    dims = _parse_dimensions(dimensions) if dimensions else vectors.all_dimensions
    rows = list(stored.rows(number, dims))
    job = _job(number, rate, workers=workers, efficiency=efficiency, failures=failures, repeats=repeats)
    if job is None and tokens is not None and vectors.kind == "dense":
        raise InputError("The time needs a speed: --tokens-per-second, --texts-per-second, or --model and --measure.")
    estimate = {
        "texts": number,
        "vectors": {"per_text": stored.count.per_text, "formula": stored.count.formula, "notes": stored.count.notes},
        "rows": [row.to_dict() for row in rows],
        "time": None if job is None else job.to_dict(),
        "warning": None if rate is None else rate.warning,
        "formulas": _formulas(rows),
        "plan": list(_plan(stored, dims[:1], job)) if plan else None,
    }
    typer.echo(json.dumps(estimate) if as_json else _format(estimate, explain=explain))


# -- what is stored -------------------------------------------------------------------------------------------------


class _StoredVectors:
    """Vectors of a text, and how they are stored."""

    def __init__(
        self, model: VectorModel, count: VectorCount, index: str, dtype: str | None, text_bytes: float
    ) -> None:
        from nearfield.errors import InputError
        from nearfield.evaluation.planning.amount_checks import check_not_negative

        check_not_negative("text_bytes", text_bytes)
        if model.kind == "sparse" and index != "none":
            raise InputError("The size of an index of sparse vectors is not known: leave --index out.", param="index")
        self.model, self.count, self.index, self.dtype, self.text_bytes = model, count, index, dtype, text_bytes

    def rows(self, texts: int, dimensions: Sequence[int]) -> Iterator[Size]:
        """Yield the size of each combination of dimensions, index and number type."""
        from nearfield.evaluation.planning.index_size import index_size, sparse_size

        if self.model.kind == "sparse":
            for kind in (self.dtype,) if self.dtype else _DTYPES[:2]:
                yield sparse_size(texts, self.count.per_text, kind, text_bytes=self.text_bytes)
            return
        vectors, per_vector = round(texts * self.count.per_text), self.text_bytes / self.count.per_text
        for dims in dimensions:
            for name, kind in _combinations(self.index, self.dtype, dims):
                yield index_size(vectors, dims, kind, name, text_bytes=per_vector)


def _vector_model(model: str | None, dimensions: str | None) -> VectorModel:
    """Return the model; without one, dense vectors of the dimensions that are stated."""
    from nearfield.errors import InputError
    from nearfield.evaluation.planning.vector_model import VectorModel, read_vector_model

    if model is not None:
        return read_vector_model(model)
    if dimensions is None:
        raise InputError("The number of dimensions is needed: --dims, or --model with a model or its folder.")
    return VectorModel("a model that is not named", "dense", _parse_dimensions(dimensions)[0], 10**9)


def _parse_dimensions(text: str) -> tuple[int, ...]:
    from nearfield.errors import InputError

    parts = [part.strip() for part in text.split(",")]
    wrong = next((part for part in parts if not (part.isascii() and part.isdigit() and 0 < len(part) < 8)), None)
    if wrong is not None:
        raise InputError(f"--dims are whole numbers such as 768 or 768,256, not {wrong!r}.", param="dimensions")
    return tuple(dict.fromkeys(map(int, parts)))


def _count(model: VectorModel, per_text: float | None, options: CountOptions) -> VectorCount:
    """Return the vectors of a text: those that --per-text states, or those that the model gives."""
    from nearfield.evaluation.planning.amount_checks import check_positive
    from nearfield.evaluation.planning.vector_count import VectorCount
    from nearfield.evaluation.planning.vector_model import count_vectors
    from nearfield.units import format_amount

    if per_text is None:
        return count_vectors(model, options)
    check_positive("per_text", per_text)
    return VectorCount(per_text, f"{format_amount(per_text)} vectors a text, as stated")


def _combinations(index: str, dtype: str | None, dimensions: int) -> list[tuple[str, str]]:
    """Return pairs of index and number type; without --dtype only the types that index and dimensions allow."""
    from nearfield.evaluation.planning.index_size import BITS, INDICES

    if dtype is not None and index != "all":
        return [(index, dtype)]
    kinds = (dtype,) if dtype else tuple(kind for kind in _DTYPES if BITS[kind] > 1 or dimensions % 8 == 0)
    names = tuple(INDICES) if index == "all" else (index,)
    return [(name, kind) for name in names for kind in kinds if name not in INDICES or kind in INDICES[name].dtypes]


def _formulas(rows: Sequence[Size]) -> JsonObject:
    from nearfield.evaluation.planning.index_size import INDICES

    formulas = {name: INDICES[name] for name in dict.fromkeys(row.index for row in rows)}
    return {name: {"each": formula.formula, "source": formula.source} for name, formula in formulas.items()}


# -- time -----------------------------------------------------------------------------------------------------------


def _measured(
    model: str | None, tokens: float | None, rate: EncodingRate | None
) -> tuple[EncodingRate | None, float | None, float | None]:
    """Return the rate, tokens and vectors of a text as measured here; a stated rate stays."""
    from nearfield.errors import InputError

    if model is None:
        raise InputError("--measure needs --model, the model to measure.", param="model")
    sample = measure_rate(model, tokens)
    return rate or sample[0], tokens or sample[0].tokens_per_text, sample[1]


def measure_rate(model: str, tokens: float | None) -> tuple[EncodingRate, float | None]:
    """Measure a model for 3 seconds on this machine.

    Returns:
        Its rate, and the vectors (of a sparse model the terms) that it gives a text; None for one vector.
    """
    from nearfield.encoder import Encoder
    from nearfield.evaluation.performance import load_test as speed
    from nearfield.evaluation.performance import workloads
    from nearfield.evaluation.planning.amount_checks import check_positive
    from nearfield.evaluation.planning.encoding_rate import EncodingRate

    if tokens is not None:
        check_positive("tokens", tokens)
    with Encoder(model, progress=True) as encoder:
        texts = (
            workloads.texts_of_tokens(encoder.tokenizer, int(tokens))
            if tokens
            else workloads.texts("mixed", quick=True)
        )
        target = speed.LocalTarget(encoder)
        target.bulk(texts[:16])
        _warn_if_busy()
        measurement = speed.measure_bulk(target.bulk, texts, 3.0)
        vectors = _vectors_per_text(encoder.encode(texts[:64], role="document"))
    per_text = tokens or measurement["tokens_per_text"]
    return EncodingRate(measurement["tokens_per_second"], "tokens", per_text, measured=True), vectors


def _warn_if_busy() -> None:
    from nearfield.evaluation.planning.speed.core_share import busy_warning

    if warning := busy_warning({}):
        typer.echo(warning, err=True)


def _vectors_per_text(vectors: object) -> float | None:
    from nearfield.vectors.multivector import MultiVectors
    from nearfield.vectors.sparse import SparseVectors

    if isinstance(vectors, MultiVectors):
        return len(vectors.data) / len(vectors)
    return len(vectors.values) / len(vectors) if isinstance(vectors, SparseVectors) else None


def _job(
    texts: int,
    rate: EncodingRate | None,
    *,
    workers: int,
    efficiency: float | None,
    failures: float,
    repeats: float,
) -> BulkJob | None:
    """Return the job of encoding the texts; None if no speed is known and none is needed."""
    from nearfield.errors import InputError
    from nearfield.evaluation.planning.bulk_job import BulkJob

    if rate is not None:
        return BulkJob(texts, rate, workers, efficiency, 0.0, failures, repeats)
    if (workers, efficiency, failures, repeats) != (1, None, 0.0, 0.0):
        raise InputError(
            "Workers, failures and repeats change the time, which needs a speed: --tokens-per-second, "
            "--texts-per-second, or --model and --measure."
        )
    return None


def _plan(stored: _StoredVectors, dimensions: Sequence[int], job: BulkJob | None) -> Iterator[JsonObject]:
    """Yield a row for each number of texts: bytes by index and number type, and seconds."""
    for texts in PLAN_TEXTS:
        sizes = {f"{row.index} {row.dtype}": row.total for row in stored.rows(texts, dimensions)}
        yield {"texts": texts, "bytes": sizes, "seconds": None if job is None else job.with_texts(texts).seconds}


# -- text -----------------------------------------------------------------------------------------------------------


def _format(estimate: JsonObject, *, explain: bool) -> str:
    vectors = estimate["vectors"]
    lines = [f"Stored of each text: {vectors['formula']}", *(f"  {note}" for note in vectors["notes"]), ""]
    lines += [*_format_rows(estimate["rows"]), *_format_time(estimate)]
    lines += _format_plan(estimate["plan"]) if estimate["plan"] else []
    lines += [""] + (_format_formulas(estimate) if explain else ["How each figure is computed: --explain"])
    return "\n".join(lines)


def _format_rows(rows: Sequence[JsonObject]) -> Iterator[str]:
    from nearfield.units import format_bytes

    yield f"{'index':15} {'dims':>6} {'dtype':8} {'bytes/vector':>14} {'vectors':>18} {'index':>18} {'total':>30}"
    for row in rows:
        total = f"{row['total']:,} ({format_bytes(row['total'])})"
        named = f"{row['index']:15} {row['dimensions']:>6,} {row['dtype']:8} {row['each']:>14,.0f}"
        yield f"{named} {row['raw']:>18,} {row['overhead']:>18,} {total:>30}"


def _format_time(estimate: JsonObject) -> Iterator[str]:
    from nearfield.bulk.report import format_duration
    from nearfield.units import format_amount, format_time

    time = estimate["time"]
    if time is None:
        return
    source = "measured here" if time["measured"] else "as stated"
    speeds = ((time["tokens_per_second"], "tokens/s"), (time["texts_per_second"], "texts/s"))
    speed = ", ".join(f"{format_amount(value)} {unit}" for value, unit in speeds if value)
    workers = "" if time["workers"] == 1 else f" x {time['workers']:,} workers x {time['efficiency']:g}"
    lost = f", of it {time['lost'] / (1 + time['lost']):.2%} for lost work" if time["lost"] else ""
    duration = f"{format_duration(time['seconds'])} ({format_time(time['seconds'])}{lost})"
    yield ""
    yield f"Indexing time: {estimate['texts']:,} texts at {speed} ({source}){workers} = {duration}"
    if estimate["warning"]:
        yield f"  Note: {estimate['warning']}"


def _format_plan(rows: Sequence[JsonObject]) -> Iterator[str]:
    from nearfield.units import format_bytes, format_count, format_time

    names = list(rows[0]["bytes"])
    yield ""
    yield f"{'texts':>12} " + " ".join(f"{name:>16}" for name in names) + f" {'time':>14}"
    for row in rows:
        sizes = " ".join(f"{format_bytes(row['bytes'][name]):>16}" for name in names)
        time = "not known" if row["seconds"] is None else format_time(row["seconds"])
        yield f"{format_count(row['texts']):>12} {sizes} {time:>14}"


def _format_formulas(estimate: JsonObject) -> list[str]:
    from nearfield.evaluation.planning.bulk_job import FORMULAS

    lines = [
        "Vectors: texts x vectors per text x dimensions x bits / 8. Sparse: texts x terms x (4 + bits / 8).",
        "An index adds, in bytes per vector (v):",
    ]
    for name, formula in estimate["formulas"].items():
        lines += [f"  {name:15} {formula['each']}", f"  {'':15} {formula['source']}"]
    names = ("encoded texts", "lost work", "time") if estimate["time"] else ()
    return [*lines, *(f"{name.capitalize()}: {FORMULAS[name]}" for name in names)]
