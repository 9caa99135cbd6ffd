"""nearfield classify: which of some labels fits a text, picture, video or sound."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearfield.cli import job_arguments
from nearfield.cli.terminal import picture_arguments
from nearfield.fileio.s3.path import refuse_object
from nearfield.message_text import escape_controls, quote_name, to_json

if TYPE_CHECKING:
    from nearfield.inference.calls.prediction import Prediction
    from nearfield.jobs.classification.label_prediction import LabelPrediction
    from nearfield.jobs.sources.job_items import JobItems

EXAMPLES = """Examples:

nearfield classify photo.jpg --labels cat,dog

nearfield classify photos/*.jpg --labels "red shoe,blue hat" --template "a photo of a {}." --template "a {} in a shop"

nearfield classify sounds/*.wav --labels rain,bell

nearfield classify "my card is lost" --labels "lost card,new card,exchange rate"

nearfield classify tickets.jsonl --examples labelled.tsv --json > labels.jsonl

nearfield classify tickets.jsonl --examples labelled.tsv --next 20

nearfield train classifier labelled.tsv -o intents/

nearfield classify tickets.jsonl --model intents/

Scores of CLIP add up to 1 over the labels. SigLIP judges each label alone: its scores do not add up to 1, and where all
are small, only their order matters. Scores of texts by --labels are cosines; with --examples or a classifier they are
probabilities. A line that begins with ? is unsure: a person should look at it."""

#: Characters of a text that are shown.
_SHOWN = 100


def classify(
    context: typer.Context,
    inputs: Annotated[
        list[str], typer.Argument(help="Files of pictures, videos or sounds; files or folders of texts; or texts.")
    ],
    labels: Annotated[
        list[str] | None,
        typer.Option("--labels", "-l", help="Names of the classes, separated by commas; may be repeated."),
    ] = None,
    examples: Annotated[
        Path | None, typer.Option(help="Texts: a file or folder of labelled ones, to learn from.")
    ] = None,
    several: Annotated[
        bool, typer.Option("--several", help="Texts: examples have several labels, lists in JSON lines.")
    ] = False,
    next_count: Annotated[
        int | None,
        typer.Option("--next", help="Texts: list so many that should be labelled next, the most useful first.", min=1),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            help="A sentence with {} for the label; may be repeated, and the mean is taken [a photo of a {}.; for "
            "sounds: This is a sound of {}.; for texts: {}]."
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="Model to use. With sounds, the default is laion/clap-htsat-unfused; with texts all-MiniLM-L6-v2, or "
            "name a classifier."
        ),
    ] = picture_arguments.PICTURE_MODEL,
    activation: Annotated[
        str | None, typer.Option(help="softmax, sigmoid or identity [that of the model's training].")
    ] = None,
    field: Annotated[str, typer.Option(help="Texts: the field or column of the text.")] = "text",
    id_field: Annotated[str | None, typer.Option(help="Texts: the field or column of the id [row number].")] = None,
    form: Annotated[str | None, typer.Option("--format", help=f"Texts: {job_arguments.FORMAT_HELP}")] = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Use a model whose licence does not allow commercial use.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line for each input.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bar.")] = False,
) -> None:
    """Say which of some labels fits a text, picture, video or sound best."""
    from nearfield.errors import InputError

    for name in inputs:
        refuse_object(name, param="inputs")
    names = [name.strip() for group in labels or () for name in group.split(",")]
    if any(map(picture_arguments.is_media_name, inputs)):
        if examples or next_count or several:
            raise InputError("Pictures, videos and sounds are classified by --labels alone.", param="labels")
        zero_shot = {"templates": template, "activation": activation}
        _classify_media(context, inputs, names, model, zero_shot, accept_license=accept_license, as_json=as_json)
        return
    if activation:
        raise InputError("--activation is for pictures, videos and sounds.", param="activation")
    chosen = _text_model(context, model)
    items = job_arguments.read_job_items(inputs, field=field, id_field=id_field, form=form)
    shared = {"accept_license": accept_license, "progress": job_arguments.show_progress(quiet=quiet or as_json)}
    vectors = job_arguments.choose_vectors(items, chosen) if names or examples or next_count else {}
    if next_count is not None:
        learnt = {"examples": examples, "several": several}
        _print_next(items, next_count, {**vectors, **learnt, **shared}, as_json=as_json)
        return
    if names or examples:
        choice = {"labels": names or None, "examples": examples, "several": several, "templates": template}
        predictions = _classify_texts(items, {**vectors, **choice, **shared})
    elif chosen is not None:
        predictions = _apply_classifier(items.require_texts("A classifier"), chosen, accept_license=accept_license)
    else:
        raise InputError("Name --labels, --examples, or a classifier by --model.", param="labels")
    for key, text, prediction in zip(items.ids, items.texts, predictions, strict=True):
        typer.echo(_text_to_json(key, prediction) if as_json else _text_line(text, prediction))


# -- texts -------------------------------------------------------------------------------------------------------------


def _text_model(context: typer.Context, model: str) -> str | None:
    """Return the model that the user names; None if that is left out."""
    source = context.get_parameter_source("model")
    return None if source is None or source.name == "DEFAULT" else model


def _classify_texts(items: JobItems, options: dict[str, Any]) -> list[LabelPrediction]:
    from nearfield.jobs.classification.classify import classify as run

    return run(list(items.texts), **options)


def _apply_classifier(items: JobItems, model: str, *, accept_license: bool) -> list[LabelPrediction]:
    from nearfield.jobs.classification.classify import apply_classifier

    return apply_classifier(items.texts, model, accept_license=accept_license)


def _print_next(items: JobItems, count: int, options: dict[str, Any], *, as_json: bool) -> None:
    from nearfield.jobs.classification.classify import next_to_label

    for number in next_to_label(list(items.texts), count, **options):
        row = {"id": items.ids[number], "text": items.texts[number]}
        typer.echo(to_json(row) if as_json else escape_controls(items.texts[number]))


def _text_to_json(key: object, prediction: LabelPrediction) -> str:
    scores = {label: round(score, 6) for label, score in prediction.scores.items()}
    chosen = {"label": prediction.label, "labels": list(prediction.chosen), "unsure": prediction.unsure}
    return to_json({"id": key, **chosen, "scores": scores})


def _text_line(text: str, prediction: LabelPrediction) -> str:
    mark, labels = "?" if prediction.unsure else " ", ", ".join(prediction.chosen) or "(none)"
    return f"{mark} {prediction.score:.4f}  {escape_controls(labels)}  {escape_controls(text[:_SHOWN])}"


# -- pictures, videos and sounds ---------------------------------------------------------------------------------------


def _classify_media(
    context: typer.Context,
    names: Sequence[str],
    labels: Sequence[str],
    model: str,
    options: dict[str, Any],
    *,
    accept_license: bool,
    as_json: bool,
) -> None:
    from nearfield import Image
    from nearfield.attach import open_encoder
    from nearfield.inference.preparation.media_inputs import modality_of

    # What is none of these is refused as a picture, by its name and format.
    items = [
        Image(path=item) if isinstance(item, str) else item for item in map(picture_arguments.read_argument, names)
    ]
    chosen = picture_arguments.choose_model(context, model, modality_of(items[0]))
    encoder = open_encoder(chosen, accept_license=accept_license, progress=not as_json)
    predictions = encoder.zero_shot(items, labels, **options)
    for name, item, prediction in zip(names, items, predictions, strict=True):
        typer.echo(_to_json(modality_of(item), name, prediction) if as_json else _to_text(name, prediction))


def _to_json(kind: str, name: str, prediction: Prediction) -> str:
    scores = {label: round(score, 6) for label, score in prediction.scores.items()}
    return json.dumps({kind: name, "label": prediction.label, "scores": scores})


def _to_text(name: str, prediction: Prediction) -> str:
    ranked = sorted(prediction.scores.items(), key=lambda pair: pair[1], reverse=True)
    return "\n".join([quote_name(name), *(f"{score:10.4f}  {escape_controls(label)}" for label, score in ranked)])
