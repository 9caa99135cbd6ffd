"""nearfield train static: a table of static embeddings, distilled from a model without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.message_text import quote_name, to_json

if TYPE_CHECKING:
    from nearfield.cli.terminal.json_types import JsonObject
    from nearfield.training.light.static import StaticSettings, StaticTable

EXAMPLES = """Examples:

nearfield train static all-MiniLM-L6-v2 -o static/

nearfield train static all-MiniLM-L6-v2 --corpus texts/ --words 5000 --test judged/ -o static/

nearfield train static bge-small --vocabulary words.txt --clusters 4096 --precision int8 -o static/

The folder is one of model2vec's: Nearfield, model2vec and sentence-transformers load it. A text takes microseconds;
what that costs in quality is measured with --test."""


def static(
    model: Annotated[str, typer.Argument(help="Model of texts.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to create.")],
    corpus: Annotated[
        list[str] | None,
        typer.Option("--corpus", help="Texts that rank the tokens: a file, a folder or a collection [ids rank them]."),
    ] = None,
    field: Annotated[str, typer.Option(help="Field or column of the text in a table.")] = "text",
    dimensions: Annotated[int, typer.Option(help="Principal components; 0 for all dimensions of the model.")] = 256,
    sif: Annotated[float, typer.Option(help="Coefficient of the weights by rank; 0 for no weights.")] = 1e-4,
    words: Annotated[int, typer.Option(help="Most frequent words of the corpus that become tokens.", min=0)] = 0,
    vocabulary: Annotated[Path | None, typer.Option(help="File of words that become tokens, one a line.")] = None,
    clusters: Annotated[int | None, typer.Option(help="Rows that tokens share [one row for each token].")] = None,
    precision: Annotated[str, typer.Option(help="Number format of the rows: float32, float16 or int8.")] = "float16",
    pooling: Annotated[
        str, typer.Option(help="mean of the states of a token, as model2vec; or model: the model's vectors.")
    ] = "mean",
    test: Annotated[Path | None, typer.Option(help="Data set on which both models are measured.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Distil a model into static embeddings: a table of tokens, hundreds of times as fast."""
    from nearfield.errors import InputError
    from nearfield.training.light.sample_texts import read_sample
    from nearfield.training.light.static import StaticSettings, check_static_folder, frequent_words

    check_static_folder(output)
    if words and not corpus:
        raise InputError("--words takes words from the texts of --corpus: name them.", param="words")
    texts = read_sample(corpus, field=field) if corpus else []
    added = (*(read_sample([vocabulary]) if vocabulary else ()), *frequent_words(texts, words))
    settings = StaticSettings(dimensions or None, sif or None, added, clusters, precision, pooling)  # type: ignore[arg-type]
    table, scores = _distil(model, texts, settings, output, test, shown=not as_json)
    if as_json:
        typer.echo(to_json({"folder": str(output), **table.to_dict(), "scores": scores}))
        return
    typer.echo(table.to_text())
    for name, score in scores.items():
        low, high = score["interval"]
        typer.echo(f"  {name}: {score['main']} {score['score']:.1f} (95% {low:.1f} to {high:.1f})")
    typer.echo(f"written: {quote_name(str(output))}")


def _distil(
    model: str, texts: list[str], settings: StaticSettings, output: Path, test: Path | None, *, shown: bool
) -> tuple[StaticTable, JsonObject]:
    """Write the table; return it, and the scores of both models on the test if there is one."""
    from nearfield.encoder import Encoder
    from nearfield.evaluation.datasets.loaders import load_dataset
    from nearfield.evaluation.evaluate import evaluate
    from nearfield.training.light.static import distil, write_table

    dataset = None if test is None else load_dataset(test)
    with Encoder(model, progress=shown) as encoder:
        table = distil(encoder, texts, settings, progress=shown)
        write_table(table, output)
        if dataset is None:
            return table, {}
        with Encoder(str(output)) as static_encoder:
            results = {"model": evaluate(encoder, dataset), "static": evaluate(static_encoder, dataset)}
    figures = ("main", "score", "interval")
    return table, {name: {key: result[key] for key in figures} for name, result in results.items()}
