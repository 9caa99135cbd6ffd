"""nearfield synthetic: a retrieval data set of a collection without human judgments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.terminal.chat_options import ChatKind, ChatModel, ChatUrl, configured_endpoint
from nearfield.cli.terminal.json_types import JsonObject
from nearfield.message_text import count_of, escape_controls, quote_name, to_json

if TYPE_CHECKING:
    from nearfield.corpus.answering.chat_client import ChatEndpoint
    from nearfield.corpus.collection import Collection
    from nearfield.evaluation.datasets.dataset import Dataset

EXAMPLES = """Examples:

nearfield synthetic handbook handbook-set

nearfield synthetic handbook handbook-set --level document --queries 200

nearfield synthetic handbook handbook-questions --chat-url http://localhost:11434 --chat-model llama3.2 --queries 100

nearfield evaluate bge-small --data handbook-set

Headings are easy queries. Questions of a chat model are harder: they use other words than the passage, and each must
find its passage again. An interrupted run continues with the same command. No person judged such a set. Its scores rank
models only roughly, and every report marks them as synthetic."""


def synthetic(
    collection: Annotated[str, typer.Argument(help="Collection to build the data set from.")],
    folder: Annotated[Path, typer.Argument(help="Folder to create, in BEIR's layout; one of questions is continued.")],
    level: Annotated[str, typer.Option(help="What queries should find: passage or document.")] = "passage",
    queries: Annotated[int, typer.Option(help="Maximum number of queries.", min=1)] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the sample, if there are more queries.", min=0)] = 0,
    source: Annotated[
        str | None,
        typer.Option("--questions", help="headings, or chat: a chat model writes questions [chat with --chat-url]."),
    ] = None,
    top: Annotated[
        int, typer.Option(help="A question stays if its passage is among so many first results.", min=1)
    ] = 20,
    chat_url: ChatUrl = None,
    chat_model: ChatModel = None,
    chat_kind: ChatKind = None,
    chat_timeout: Annotated[float | None, typer.Option(help="Seconds for one reply [120].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Build a synthetic retrieval data set.

    Headings and titles of a collection become queries for the text below them; or a chat model writes questions.
    """
    from nearfield.corpus.collection import Collection
    from nearfield.evaluation.evaluate import measure_difficulty
    from nearfield.fileio.output_path import require_writable_folder

    source = _require_source(source or ("headings" if chat_url is None else "chat"))
    endpoint = _require_endpoint(chat_url, chat_model, chat_kind, chat_timeout) if source == "chat" else None
    require_writable_folder(folder, "folder")
    with Collection.open(collection) as opened:
        report: JsonObject = {}
        if endpoint is None:
            dataset = _write_headings(opened, folder, level, queries, seed)
        else:
            options: JsonObject = {"level": level, "queries": queries, "top": top, "seed": seed}
            dataset, report = _write_questions(opened, endpoint, folder, options, shown=not as_json)
    result = {"folder": str(folder), **dataset.to_dict(), **measure_difficulty(dataset), **report}
    if as_json:
        typer.echo(to_json(result))
    else:
        _show(result, level)


def _require_source(source: str) -> str:
    from nearfield.errors import InputError, nearest

    sources = ("headings", "chat")
    if source not in sources:
        raise InputError(f"--questions {source!r} is unknown. {nearest(source, sources)}", param="questions")
    return source


def _require_endpoint(url: str | None, model: str | None, kind: str | None, timeout: float | None) -> ChatEndpoint:
    from nearfield.errors import InputError

    endpoint = configured_endpoint(chat_url=url, chat_model=model, chat_kind=kind, chat_timeout=timeout)
    if endpoint is None:
        raise InputError("No chat endpoint is set: use --chat-url, or the setting chat_url.", param="chat_url")
    return endpoint


def _write_headings(opened: Collection, folder: Path, level: str, queries: int, seed: int) -> Dataset:
    from nearfield.evaluation.datasets.beir import write_beir
    from nearfield.evaluation.datasets.synthetic import known_items

    dataset = known_items(opened, level=level, queries=queries, seed=seed)  # type: ignore[arg-type]
    write_beir(dataset, folder)
    return dataset


def _write_questions(
    opened: Collection, endpoint: ChatEndpoint, folder: Path, options: JsonObject, *, shown: bool
) -> tuple[Dataset, JsonObject]:
    """Generate the questions; progress is one line for each passage, since one takes seconds."""
    from nearfield.evaluation.datasets.question_generation import GenerationOptions, generate_questions

    def show(count: int, total: int, result: str) -> None:
        typer.echo(f"  {count} of {count_of(total, 'question')}: {escape_controls(result)}", err=True)

    step = show if shown else None
    return generate_questions(opened, endpoint, folder, GenerationOptions(**options), step)


def _show(result: JsonObject, level: str) -> None:
    size = f"{count_of(result['queries'], 'query', 'queries')}, {count_of(result['documents'], level)}"
    typer.echo(f"{size}, in {quote_name(result['folder'])}")
    if result["keyword_score"] is not None:
        typer.echo(f"BM25 scores {result['keyword_score']:.1f} of 100 (nDCG@10).")
    if "tried" in result:
        reasons = ", ".join(f"{escape_controls(reason)} {count}" for reason, count in result["left_out"].items())
        typer.echo(f"{count_of(result['tried'], 'passage')} tried; without a question: {reasons or 'none'}.")
        typer.echo(f"A question shares {100 * result['shared_words']:.0f}% of its words with its passage.")
    typer.echo(result["synthetic"], err=True)
    for caution in result["cautions"]:
        typer.secho(f"warning: {escape_controls(caution)}", fg="yellow", err=True)
