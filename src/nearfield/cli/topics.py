"""nearfield topics: what texts are about, by clusters of their vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.job_arguments import (
    FORMAT_HELP,
    INPUTS_HELP,
    choose_vectors,
    read_job_items,
    show_progress,
    stored_vectors,
)
from nearfield.cli.terminal.chat_options import ChatKind, ChatModel, ChatUrl, configured_endpoint
from nearfield.errors import InputError
from nearfield.message_text import escape_controls, to_json

if TYPE_CHECKING:
    from nearfield.corpus.answering.chat_client import ChatEndpoint
    from nearfield.jobs.sources.job_items import JobItems
    from nearfield.jobs.topics.topics import Topics

EXAMPLES = """Examples:

nearfield topics tickets.jsonl

nearfield topics tickets.jsonl --count 30 --json > topics.json

nearfield topics tickets.jsonl --method density --min-size 20

nearfield topics tickets.jsonl -o topics/

nearfield topics new-tickets.jsonl --with topics/ --json

nearfield topics tickets.jsonl --chat-url http://localhost:11434 --chat-model llama3.2

nearfield topics vectors/

nearfield topics collection:handbook

Each line is a topic: its number, how many texts it has, its words, and the text nearest to its centre. Stability is how
alike topics of other seeds and other parts of the texts are: below 0.5, do not build on single topics. Texts that are
unlike all topics are apart, with the number -1. New texts join topics of --with; none of the old ones moves."""


def topics(
    inputs: Annotated[list[str], typer.Argument(help=INPUTS_HELP)],
    count: Annotated[int | None, typer.Option(help="Number of topics [the highest silhouette of 2 to 256].")] = None,
    method: Annotated[str, typer.Option(help="k-means or density (HDBSCAN).")] = "k-means",
    min_size: Annotated[int, typer.Option(help="Texts of the smallest topic.")] = 5,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Model of the vectors [all-MiniLM-L6-v2; with --with, that of the topics]."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the topics, for --with.")] = None,
    topics_folder: Annotated[
        Path | None, typer.Option("--with", help="Folder of topics: texts join these, and no new ones are looked for.")
    ] = None,
    field: Annotated[str, typer.Option(help="Field or column of the text.")] = "text",
    id_field: Annotated[str | None, typer.Option(help="Field or column of the id [row number].")] = None,
    form: Annotated[str | None, typer.Option("--format", help=FORMAT_HELP)] = None,
    seed: Annotated[int, typer.Option(help="Seed of k-means and samples.", min=0)] = 1,
    chat_names: Annotated[
        bool, typer.Option("--chat-names", help="Let a chat endpoint name the topics: it gets three texts of each.")
    ] = False,
    chat_url: ChatUrl = None,
    chat_model: ChatModel = None,
    chat_kind: ChatKind = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Use a model whose licence does not allow commercial use.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line for each text, before them one with the topics.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bar.")] = False,
) -> None:
    """Find what texts are about: topics with their words, and the topic of each text."""
    from nearfield.fileio.output_path import require_writable_folder
    from nearfield.jobs.topics.find_topics import find_topics
    from nearfield.jobs.topics.topics import load_topics

    if topics_folder is not None and (output or count):
        raise InputError("Texts join the topics of --with as they were saved: leave out --output and --count.")
    require_writable_folder(output)
    known = None if topics_folder is None else load_topics(topics_folder)
    items = read_job_items(inputs, field=field, id_field=id_field, form=form)
    if known is not None:
        _print_joined(items, known, model, as_json=as_json)
        return
    result = find_topics(
        list(items.texts),
        count=count,
        method=method,
        min_size=min_size,
        seed=seed,
        accept_license=accept_license,
        progress=show_progress(quiet=quiet or as_json),
        **choose_vectors(items, model),
    )
    if chat_names or chat_url:
        endpoint = configured_endpoint(chat_url=chat_url, chat_model=chat_model, chat_kind=chat_kind)
        result = _name(result, items, endpoint, progress=show_progress(quiet=quiet or as_json))
    if output is not None:
        result.save(output)
    if not as_json:
        typer.echo(result.to_text(items.texts))
        return
    typer.echo(to_json(result.to_dict()))
    for key, number in zip(items.ids, result.assignments.tolist(), strict=True):
        typer.echo(to_json({"id": key, "topic": number}))


def _name(result: Topics, items: JobItems, endpoint: ChatEndpoint | None, *, progress: bool) -> Topics:
    from nearfield.jobs.topics.topic_names import name_topics

    if endpoint is None:
        raise InputError("--chat-names needs a chat endpoint: name it with --chat-url.", param="chat_url")
    return name_topics(result, items.require_texts("A chat endpoint").texts, endpoint, progress=progress)


def _print_joined(items: JobItems, known: Topics, model: str | None, *, as_json: bool) -> None:
    names = [topic.name for topic in known.topics]
    stored = stored_vectors(items, model)
    if stored is None:
        items.require_texts("The model")
    joined = known.assign(items.texts, vectors=stored, model=model).tolist()
    for key, text, number in zip(items.ids, items.texts, joined, strict=True):
        name = names[number] if number >= 0 else "(apart)"
        row = {"id": key, "topic": number, "name": name}
        typer.echo(to_json(row) if as_json else escape_controls(f"{number:4}  {name}  {text[:80]}"))
