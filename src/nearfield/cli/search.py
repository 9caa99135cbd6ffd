"""nearfield search and nearfield ask: passages of a collection, and answers with citations."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from nearfield.cli.terminal.chat_options import ChatKind, ChatModel, ChatUrl, configured_endpoint
from nearfield.cli.terminal.json_types import Keywords
from nearfield.cli.thumbnails.terminal_choice import AUTO, Thumbnails, choose_protocol, hit_thumbnails
from nearfield.message_text import count_of, to_json
from nearfield.strict_json import parse_json

if TYPE_CHECKING:
    from nearfield.corpus.answering.answer import Answer
    from nearfield.corpus.answering.passage_pictures import PassagePicture
    from nearfield.corpus.collection import Collection
    from nearfield.corpus.search.content.query import SearchQuery
    from nearfield.corpus.search.hit import SearchHit

SEARCH_EXAMPLES = """Examples:

nearfield search "how do I rotate keys?"

nearfield search "rotate keys" -c handbook -k 5 --mode hybrid --rerank maxsim --explain

nearfield search "budget" -c papers --where '{"year": {"gte": 2020}, "type": "pdf"}' --json

nearfield search --image shoe.jpg "but in red" --weight 2 --weight 1 -c catalogue

nearfield search --like "files:/photos#beach.jpg" --group-by document -c photos

nearfield search --queries questions.jsonl --field question --id-field id -c handbook -o found.jsonl"""

ASK_EXAMPLES = """Examples:

nearfield ask "how do I rotate keys?" --chat-url http://localhost:11434 --chat-model llama3.2

nearfield ask "how do I rotate keys?" -c handbook --chat-url https://api.openai.com/v1 --chat-model gpt-4.1-mini

nearfield ask "which year had the highest budget?" -c papers --where '{"type": "pdf"}' --json

The endpoint can also be set in nearfield.toml (chat_url, chat_model). Its key is read from NEARFIELD_CHAT_KEY.
Without an endpoint, the passages are shown that it would receive."""

#: Queries of a file that are searched together.
_QUERIES_PER_BATCH = 64
Name = Annotated[
    str | None, typer.Option("--collection", "-c", help="Collection to search; not needed if there is only one.")
]
Mode = Annotated[
    str,
    typer.Option(
        help="How to search: auto, dense, sparse, bm25, hybrid, multivector, two-stage, or the name of a feature."
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        help="""Filter as JSON, such as '{"year": {"gte": 2020}}'. Fields: type (pdf, markdown, text, html, ...), """
        "path (relative to its source, such as guides/start.md), source, document, page, and those of --meta: see "
        "nearfield collections show."
    ),
]
Rerank = Annotated[
    str | None, typer.Option(help="Rerank by maxsim, sentences, multivector, or the name of a cross-encoder [none].")
]
Depth = Annotated[int | None, typer.Option(help="Number of candidates to rerank [50; 20 by sentences].")]
Mmr = Annotated[float | None, typer.Option(help="Diversify results: 1 counts only relevance, 0 only variety [off].")]
MinScore = Annotated[
    float | None,
    typer.Option(help="Leave out passages with a lower score, from 0 (unrelated) to 1 [0].", min=0, max=1),
]
MinAnswerScore = Annotated[
    float | None,
    typer.Option(help="Leave out passages with a lower score, from 0 (unrelated) to 1 [0.5].", min=0, max=1),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def search(
    query: Annotated[
        str | None, typer.Argument(help="Text to search for; together with files or --like, all are searched for.")
    ] = None,
    collection: Name = None,
    k: Annotated[int, typer.Option("-k", help="Number of passages to show.")] = 10,
    mode: Mode = "auto",
    where: Where = None,
    rerank: Rerank = None,
    rerank_depth: Depth = None,
    mmr: Mmr = None,
    min_score: MinScore = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every vector instead of using the store's index.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show the scores of each stage.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Show whole passages.")] = False,
    as_json: Json = False,
    queries: Annotated[
        Path | None, typer.Option(help="File of queries (.txt, .jsonl, .csv, .tsv, .parquet), or - for stdin.")
    ] = None,
    field: Annotated[str, typer.Option(help="Field or column of the query in the file.")] = "text",
    id_field: Annotated[str | None, typer.Option(help="Field or column of the id in the file.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON lines file to write, one line per query [stdout].")
    ] = None,
    image: Annotated[list[Path] | None, typer.Option(help="Picture to search for; may be repeated.")] = None,
    audio: Annotated[list[Path] | None, typer.Option(help="Sound to search for; may be repeated.")] = None,
    video: Annotated[list[Path] | None, typer.Option(help="Video to search for; may be repeated.")] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(help="Id of a passage or document of the collection: search for more like it; may be repeated."),
    ] = None,
    weight: Annotated[
        list[float] | None,
        typer.Option(help="Weight of each part, in the order: text, pictures, sounds, videos, --like [1 each]."),
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(help="document: show the best passage of each document, and -k documents [off].")
    ] = None,
    others: Annotated[
        int, typer.Option(help="With --group-by: further passages of each document, at most.", min=0)
    ] = 3,
    thumbnails: Thumbnails = AUTO,
) -> None:
    """Search a collection by meaning, by words, by pictures, sounds and videos, or by all of them."""
    protocol = choose_protocol(thumbnails)
    parts = _parts(query, image, audio, video)
    if (not parts and not like) == (queries is None):
        raise typer.BadParameter("give either a query (text, file or --like), or a file of queries with --queries")
    options = _options(mode, where, rerank, rerank_depth, mmr, min_score) | {"exact": exact, "explain": explain}
    options |= {"like": like or None, "part_weights": weight or None, "group_by": group_by, "others": others}
    name = _collection_name(collection)
    if queries is not None:
        _search_all(name, k, options, _rows(queries, field, id_field), output)
        return
    hits = _search(name, parts[0] if len(parts) == 1 else parts or None, k, options)
    if as_json:
        typer.echo(to_json({"collection": name, "query": query, "results": [hit.to_dict() for hit in hits]}))
        return
    from nearfield.cli.terminal import passages

    passages.show(hits, full=full, explain=explain, thumbnails=_thumbnails(name, hits, protocol))


def _thumbnails(name: str, hits: list[SearchHit], protocol: str | None) -> dict[str, str]:
    """Return what shows pictures of hits in the terminal, by their ids."""
    if protocol is None:
        return {}
    from nearfield.corpus.collection import Collection

    with Collection.open(name) as opened:
        return hit_thumbnails(opened.document_file, hits, protocol)


def _parts(query: str | None, *files: list[Path] | None) -> list[SearchQuery]:
    """Return the text and the files of a query."""
    if not any(files):
        return [] if query is None else [query]
    from nearfield.media.audio import Audio
    from nearfield.media.image import Image
    from nearfield.media.video.video import Video

    kinds = zip((Image, Audio, Video), files, strict=True)
    media: list[SearchQuery] = [kind(path) for kind, paths in kinds for path in paths or ()]
    return [*([] if query is None else [query]), *media]


def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    collection: Name = None,
    k: Annotated[int, typer.Option("-k", help="Number of passages for the answer.")] = 8,
    mode: Mode = "auto",
    where: Where = None,
    rerank: Rerank = None,
    rerank_depth: Depth = None,
    mmr: Mmr = None,
    min_score: MinAnswerScore = None,
    chat_url: ChatUrl = None,
    chat_model: ChatModel = None,
    chat_kind: ChatKind = None,
    chat_timeout: Annotated[float | None, typer.Option(help="Seconds for the answer [120].")] = None,
    chat_max_tokens: Annotated[
        int | None, typer.Option(help="Maximum number of tokens of the answer [the endpoint's own].", min=1)
    ] = None,
    chat_temperature: Annotated[
        float | None, typer.Option(help="Temperature of the model [the endpoint's own].", min=0)
    ] = None,
    budget: Annotated[int, typer.Option(help="Maximum number of tokens of all passages together.", min=1)] = 3000,
    pictures: Annotated[
        int,
        typer.Option(help="Maximum number of pictures, pages and frames to send, to models that read them.", min=0),
    ] = 0,
    stream: Annotated[bool, typer.Option(help="Print the answer while it is written.")] = True,
    as_json: Json = False,
) -> None:
    """Answer a question from a collection, and cite the passages."""
    endpoint = configured_endpoint(
        chat_url=chat_url,
        chat_model=chat_model,
        chat_kind=chat_kind,
        chat_timeout=chat_timeout,
        chat_max_tokens=chat_max_tokens,
        chat_temperature=chat_temperature,
    )
    from nearfield.cli.terminal import passages
    from nearfield.corpus.answering import answer
    from nearfield.corpus.search.relevance import MIN_ANSWER_SCORE

    name = _collection_name(collection)
    options = _options(mode, where, rerank, rerank_depth, mmr, min_score)
    options = {"min_score": MIN_ANSWER_SCORE, **options}
    hits = _search(name, question, k, options)
    streamed = endpoint is not None and stream and not as_json
    make = answer.stream if streamed else answer.ask
    reply = make(question, hits, endpoint, budget=budget, pictures=_pictures(name, hits, pictures))
    whole = reply if isinstance(reply, answer.Answer) else _print_stream(reply)
    if as_json:
        typer.echo(to_json({"collection": name, "question": question, **whole.to_dict()}))
    elif endpoint is None and whole.passages:
        passages.show(whole.passages)
        typer.echo("No chat endpoint is set (--chat-url). These are the passages that it would receive.", err=True)
    else:
        typer.echo("\n" if streamed else f"{passages.plain(whole.text)}\n")
        passages.show_sources(whole)
    least = 0.0 if hits else float(options["min_score"])
    for warning in (*passages.warnings(whole), *passages.warnings_without_evidence(least)):
        typer.secho(f"warning: {warning}", fg="yellow", err=True)


def _pictures(name: str, hits: list[SearchHit], count: int) -> list[PassagePicture]:
    """Return the pictures of passages that are sent to the chat endpoint."""
    if not count:
        return []
    from nearfield.corpus.answering.passage_pictures import passage_pictures
    from nearfield.corpus.collection import Collection

    with Collection.open(name) as opened:
        return passage_pictures(opened.document_file, hits, count)


def _explain_filter(name: str, where: object) -> None:
    """Say which values the fields of a filter have, if no document has the wanted ones."""
    from nearfield.corpus.collection import Collection
    from nearfield.corpus.search.filter_values import describe_values

    with Collection.open(name) as opened:
        reason = describe_values(opened.manifest, where, opened.config.all_fields)
    if reason:
        typer.secho(f"warning: {reason}", fg="yellow", err=True)


def _print_stream(pieces: Iterator[str | Answer]) -> Answer:
    """Print an answer while it is written, and return the complete answer."""
    from nearfield.cli.terminal.passages import plain

    last: str | Answer | None = None
    for last in pieces:
        if isinstance(last, str):
            typer.echo(plain(last), nl=False)
    if last is None or isinstance(last, str):
        raise RuntimeError("The stream of an answer ends with the complete answer.")
    return last


def _collection_name(name: str | None) -> str:
    """Return the name of the collection to search: the given one, or that of the only one."""
    from nearfield.corpus.directory import list_collections
    from nearfield.errors import CollectionNotFound, nearest

    known = list_collections() if name is None else []
    if name is None and not known:
        raise CollectionNotFound("There is no collection yet. Create one: nearfield index NAME FOLDER")
    if len(known) > 1:
        raise CollectionNotFound(
            f"There are several collections: choose one with -c. {nearest('', known)}", param="collection"
        )
    return name or known[0]


def _search(name: str, query: SearchQuery | None, k: int, options: Keywords) -> list[SearchHit]:
    """Search a collection for one query; if a filter is why nothing is found, say which values there are."""
    hits = _search_fast(name, query, k, options)
    if not hits and "where" in options:
        _explain_filter(name, options["where"])
    return hits


def _search_fast(name: str, query: SearchQuery | None, k: int, options: Keywords) -> list[SearchHit]:
    """Search a collection for one query; without reranking, in less time and memory."""
    if "rerank" not in options:
        from nearfield.cli import cold_start

        return cold_start.search(name, query, k, highlight=True, **options)
    from nearfield.corpus.collection import Collection

    with Collection.open(name) as opened:
        return opened.search(query, k, highlight=True, **options)


def _options(
    mode: str, where: str | None, rerank: str | None, depth: int | None, mmr: float | None, min_score: float | None
) -> Keywords:
    from nearfield.errors import InputError

    try:
        condition = None if where is None else parse_json(where)
    except ValueError as error:
        raise InputError(f"--where is not JSON: {error}.", param="where") from error
    options = {"mode": mode, "where": condition, "rerank": rerank, "rerank_depth": depth, "mmr": mmr}
    options["min_score"] = min_score
    return {name: value for name, value in options.items() if value is not None}


def _rows(path: Path, field: str, id_field: str | None) -> Iterator[tuple[object, str]]:
    from nearfield.bulk.text_source import TextSource

    return TextSource((path,), None, field, id_field).rows()


def _search_all(name: str, k: int, options: Keywords, rows: Iterator[tuple[object, str]], output: Path | None) -> None:
    """Search for many queries in batches, and write one line per query; a file appears when it is complete."""
    from nearfield.corpus.collection import Collection
    from nearfield.fileio.atomic import atomic_text_file

    with Collection.open(name) as opened:
        if output is None:
            _write_all(opened, k, options, rows, sys.stdout)
            return
        with atomic_text_file(output) as file:
            count = _write_all(opened, k, options, rows, file)
    typer.echo(f"{count_of(count, 'query', 'queries')} written to {output}", err=True)


def _write_all(opened: Collection, k: int, options: Keywords, rows: Iterator[tuple[object, str]], file: TextIO) -> int:
    count = 0
    while part := list(islice(rows, _QUERIES_PER_BATCH)):
        rankings = opened.search_many([text for _, text in part], k, **options)
        for (key, text), hits in zip(part, rankings, strict=True):
            named = {} if key is None else {"id": key}
            file.write(to_json({**named, "query": text, "results": [hit.to_dict() for hit in hits]}) + "\n")
        count += len(part)
    return count
