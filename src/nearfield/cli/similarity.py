"""nearfield similarity: one text, picture or video compared with others."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nearfield.cli.terminal.json_types import JsonObject
from nearfield.message_text import escape_controls

EXAMPLES = """Examples:

nearfield similarity "a cat sat" "a dog lay" "stock prices fell"

nearfield similarity "how tall is Mont Blanc?" "It rises 4,806 m." --model bge-small --query --json

nearfield similarity photo.jpg "a red shoe" "a blue hat" --model clip

nearfield similarity clip.mp4 "a dog runs" --model clip

An argument is a picture or a video if it is the name of an existing file that begins like a JPEG, PNG, WebP, GIF, BMP,
TIFF, AVIF, MP4, Matroska, AVI or MPEG-TS; every other one is a text. Scores of a picture and a text are lower than
those of two texts or of two pictures: compare them only with each other."""


def similarity(
    context: typer.Context,
    texts: Annotated[
        list[str],
        typer.Argument(
            help="The first is compared with each of the others. Names of files of pictures and videos stand for these."
        ),
    ],
    model: Annotated[
        str, typer.Option(help="Model to use. With pictures or videos, the default is google/siglip2-base-patch16-224.")
    ] = "all-MiniLM-L6-v2",
    query: Annotated[bool, typer.Option(help="Treat the first text as a query, the others as documents.")] = False,
    texts_only: Annotated[
        bool, typer.Option("--texts-only", help="All arguments are texts, also names of files.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the first text, picture or video with each of the others."""
    if len(texts) < 2:
        raise typer.BadParameter("give at least two texts")
    from nearfield import Encoder
    from nearfield.cli.terminal import picture_arguments
    from nearfield.inference.preparation.media_inputs import modality_of

    items = list(texts) if texts_only else picture_arguments.read_arguments(texts)
    picture = next((name for name, item in zip(texts, items, strict=True) if not isinstance(item, str)), None)
    encoder = Encoder(picture_arguments.choose_model(context, model, picture is not None), progress=not as_json)
    if picture is not None:
        picture_arguments.require_pictures(encoder, picture, " To compare the name itself, add --texts-only.")
    first = encoder.encode_query(items[:1]) if query else encoder.encode(items[:1])
    rest = encoder.encode_document(items[1:]) if query else encoder.encode(items[1:])
    scores = encoder.similarity(first, rest)[0].tolist()
    if as_json:
        kinds = [modality_of(item) for item in items]
        rows: list[JsonObject] = [
            {kind: name, "score": round(score, 6)}
            for kind, name, score in zip(kinds[1:], texts[1:], scores, strict=True)
        ]
        head = {"model": encoder.name, "metric": encoder.recipe.similarity, kinds[0]: texts[0]}
        typer.echo(json.dumps({**head, "scores": rows}))
        return
    for score, text in sorted(zip(scores, texts[1:], strict=True), reverse=True):
        typer.echo(f"{score:8.4f}  {escape_controls(text)}")
