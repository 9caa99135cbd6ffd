"""nearfield similarity: one text, picture, video or sound compared with others."""

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

nearfield similarity bell.wav "a church bell" "rain"

An argument is a picture, a video or a sound if it is the name of an existing file that begins like a JPEG, PNG, WebP,
GIF, BMP, TIFF, AVIF, MP4, Matroska, AVI, MPEG-TS, WAV, FLAC, OGG, MP3 or AIFF; every other one is a text. Scores of a
picture and a text are lower than those of two texts or of two pictures: compare them only with each other. With a model
of multi-vectors, give the query first."""


def similarity(
    context: typer.Context,
    texts: Annotated[
        list[str],
        typer.Argument(
            help="The first is compared with each of the others. Names of files of pictures, videos and sounds stand "
            "for these."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Model to use. With pictures or videos, the default is google/siglip2-base-patch16-224, with sounds "
            "laion/clap-htsat-unfused."
        ),
    ] = "all-MiniLM-L6-v2",
    query: Annotated[bool, typer.Option(help="Treat the first text as a query, the others as documents.")] = False,
    texts_only: Annotated[
        bool, typer.Option("--texts-only", help="All arguments are texts, also names of files.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the first text, picture, video or sound with each of the others."""
    if len(texts) < 2:
        raise typer.BadParameter("give at least two texts")
    from nearfield.attach import open_encoder
    from nearfield.cli.terminal import picture_arguments
    from nearfield.inference.preparation.media_inputs import modality_of

    items = list(texts) if texts_only else picture_arguments.read_arguments(texts)
    kinds = [modality_of(item) for item in items]
    if not texts_only:
        picture_arguments.warn_of_missing_files(items)
    medium = next((kind for kind in kinds if kind != "text"), "text")
    encoder = open_encoder(picture_arguments.choose_model(context, model, medium), progress=not as_json)
    for name, kind in zip(texts, kinds, strict=True):
        if kind != "text":
            remedy = " To compare the name itself, add --texts-only."
            picture_arguments.require_modality(encoder, kind, name, remedy)
    first = encoder.encode_query(items[:1]) if query else encoder.encode(items[:1])
    rest = encoder.encode_document(items[1:]) if query else encoder.encode(items[1:])
    scores = encoder.similarity(first, rest)[0].tolist()
    if as_json:
        rows: list[JsonObject] = [
            {kind: name, "score": round(score, 6)}
            for kind, name, score in zip(kinds[1:], texts[1:], scores, strict=True)
        ]
        head = {"model": encoder.name, "metric": encoder.recipe.similarity, kinds[0]: texts[0]}
        typer.echo(json.dumps({**head, "scores": rows}))
        return
    for score, text in sorted(zip(scores, texts[1:], strict=True), reverse=True):
        typer.echo(f"{score:8.4f}  {escape_controls(text)}")
