"""nearfield similarity: one text compared with others."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nearfield.message_text import escape_controls

EXAMPLES = """Examples:

nearfield similarity "a cat sat" "a dog lay" "stock prices fell"

nearfield similarity "how tall is Mont Blanc?" "It rises 4,806 m." --model bge-small --query --json"""


def similarity(
    texts: Annotated[list[str], typer.Argument(help="The first text is compared with each of the others.")],
    model: Annotated[str, typer.Option(help="Model to use.")] = "all-MiniLM-L6-v2",
    query: Annotated[bool, typer.Option(help="Treat the first text as a query, the others as documents.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the first text with each of the others."""
    if len(texts) < 2:
        raise typer.BadParameter("give at least two texts")
    from nearfield import Encoder

    encoder = Encoder(model, progress=not as_json)
    first = encoder.encode_query(texts[:1]) if query else encoder.encode(texts[:1])
    rest = encoder.encode_document(texts[1:]) if query else encoder.encode(texts[1:])
    scores = encoder.similarity(first, rest)[0].tolist()
    if as_json:
        rows = [{"text": text, "score": round(score, 6)} for text, score in zip(texts[1:], scores, strict=True)]
        typer.echo(
            json.dumps({"model": encoder.name, "metric": encoder.recipe.similarity, "text": texts[0], "scores": rows})
        )
        return
    for score, text in sorted(zip(scores, texts[1:], strict=True), reverse=True):
        typer.echo(f"{score:8.4f}  {escape_controls(text)}")
