"""nearfield train prune: a model with the tokens of your texts alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfield.message_text import escape_lines, quote_name, to_json

EXAMPLES = """Examples:

nearfield train prune multilingual-e5-small --corpus texts/ -o e5-small-de/

nearfield train prune all-MiniLM-L6-v2 --corpus docs -o small/

Texts of the remaining tokens give the same vectors, which is checked before anything is written. Other texts fall back
to characters, bytes or the unknown token: take a corpus with the words of your queries too. A tenth of it is left out
once to say how many other texts are read as before; with less than 95% of their tokens nothing is written. Memory and
loading time fall, and the time of a token does not."""


def prune(
    model: Annotated[str, typer.Argument(help="Model with a vocabulary of WordPiece, Unigram or BPE.")],
    corpus: Annotated[
        list[str],
        typer.Option("--corpus", help="Texts: a file, a folder, or the name of a collection; repeatable."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to create.")],
    field: Annotated[str, typer.Option(help="Field or column of the text in a table.")] = "text",
    force: Annotated[
        bool, typer.Option("--force", help="Write a model that reads other texts of this kind differently too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Remove the tokens of a model that your texts do not use."""
    from nearfield.encoder import Encoder
    from nearfield.training.light.prune import prune_model
    from nearfield.training.light.sample_texts import read_sample

    texts = read_sample(corpus, field=field)
    with Encoder(model, progress=not as_json) as encoder:
        report = prune_model(encoder, texts, output, force=force)
    if as_json:
        typer.echo(to_json({"folder": str(output), **report.to_dict()}))
    else:
        typer.echo(escape_lines(report.to_text()))
        typer.echo(f"written: {quote_name(str(output))}")
