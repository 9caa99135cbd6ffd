"""nearfield classify: which of some labels fits a picture, video or sound best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.terminal import picture_arguments
from nearfield.message_text import escape_controls, quote_name

if TYPE_CHECKING:
    from nearfield.inference.calls.prediction import Prediction

EXAMPLES = """Examples:

nearfield classify photo.jpg --labels cat,dog

nearfield classify photos/*.jpg --labels "red shoe,blue hat" --template "a photo of a {}." --template "a {} in a shop"

nearfield classify sounds/*.wav --labels rain,bell

Scores of CLIP add up to 1 over the labels. SigLIP judges each label alone: its scores do not add up to 1, and where all
are small, only their order matters."""


def classify(
    context: typer.Context,
    pictures: Annotated[list[Path], typer.Argument(help="Files of pictures, videos or sounds.")],
    labels: Annotated[
        list[str], typer.Option("--labels", "-l", help="Names of the classes, separated by commas; may be repeated.")
    ],
    template: Annotated[
        list[str] | None,
        typer.Option(
            help="A sentence with {} for the label; may be repeated, and the mean is taken [a photo of a {}.; for "
            "sounds: This is a sound of {}.]."
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="Model to use, one of pictures or sounds, and texts. With sounds, the default is "
            "laion/clap-htsat-unfused."
        ),
    ] = picture_arguments.PICTURE_MODEL,
    activation: Annotated[
        str | None, typer.Option(help="softmax, sigmoid or identity [that of the model's training].")
    ] = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Use a model whose licence does not allow commercial use.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line for each file.")] = False,
) -> None:
    """Say which of some labels fits a picture, video or sound best, without any training."""
    from nearfield import Image
    from nearfield.attach import open_encoder
    from nearfield.inference.preparation.media_inputs import modality_of

    names = [name for group in labels for name in (part.strip() for part in group.split(",")) if name]
    arguments = [picture_arguments.read_argument(str(path)) for path in pictures]
    # What is none of these is refused as a picture, by its name and format.
    items = [Image(path=item) if isinstance(item, str) else item for item in arguments]
    chosen = picture_arguments.choose_model(context, model, modality_of(items[0]))
    encoder = open_encoder(chosen, accept_license=accept_license, progress=not as_json)
    predictions = encoder.zero_shot(items, names, templates=template, activation=activation)
    for path, item, prediction in zip(pictures, items, predictions, strict=True):
        typer.echo(_to_json(modality_of(item), path, prediction) if as_json else _to_text(path, prediction))


def _to_json(kind: str, path: Path, prediction: Prediction) -> str:
    scores = {label: round(score, 6) for label, score in prediction.scores.items()}
    return json.dumps({kind: str(path), "label": prediction.label, "scores": scores})


def _to_text(path: Path, prediction: Prediction) -> str:
    ranked = sorted(prediction.scores.items(), key=lambda pair: pair[1], reverse=True)
    return "\n".join([quote_name(str(path)), *(f"{score:10.4f}  {escape_controls(label)}" for label, score in ranked)])
