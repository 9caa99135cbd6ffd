"""nearfield demo text: a small search, in a novel or in your own files."""

from __future__ import annotations

import os
import shutil
import sys
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, cast

import typer

from nearfield.errors import InputError
from nearfield.message_text import escape_controls, quote_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearfield.corpus.collection import Collection
    from nearfield.corpus.search.hit import SearchHit
    from nearfield.evaluation.datasets.dataset import Retrieval

EXAMPLES = """Examples:

nearfield demo

nearfield demo docs README.md

nearfield demo --model bge-small --question 'What does Mrs. Bennet complain of?'"""

QUESTIONS = (
    "Who has taken Netherfield Park?",
    "What did Mr. Bingley inherit from his father?",
    "What is the difference between pride and vanity?",
)
_WORDS = 55
CLIENT = """from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="none")
reply = client.embeddings.create(model="all-MiniLM-L6-v2", input=["How tall is Mont Blanc?"])
print(reply.data[0].embedding[:4])"""


#: The collection for the user's own files.
COLLECTION = "demo"


def text(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Files and folders to index and search [the opening of a novel].")
    ] = None,
    model: Annotated[str, typer.Option(help="Model to use.")] = "all-MiniLM-L6-v2",
    question: Annotated[
        list[str] | None, typer.Option("--question", "-q", help="Question to ask instead; may be repeated.")
    ] = None,
) -> None:
    """Try a search in a novel or in your own files.

    Three questions are answered from the opening chapters of a novel. Files that you name are searched for your
    questions; without a question, for three of their headings.
    """
    from nearfield.attach import open_encoder

    if sources:
        _search(sources, model, question)
        return

    typer.echo(f"Loading {model} (downloaded at the first start)...")
    encoder = open_encoder(model, progress=True)
    typer.echo(
        f"  {encoder.name}, {encoder.dimensions} dimensions, {encoder.precision}, "
        f"loaded in {encoder.load_seconds:.1f} s"
    )
    passages = read_passages()
    started = time.perf_counter()
    vectors = encoder.encode_document(passages)
    seconds = time.perf_counter() - started
    tokens = int(vectors.tokens.sum()) if vectors.tokens is not None else 0
    typer.echo(
        f"\nEmbedded {len(passages)} passages of Pride and Prejudice, chapters 1 to 8: "
        f"{len(passages) / seconds:,.0f} passages/s, {tokens / seconds:,.0f} tokens/s"
    )
    for query in question or QUESTIONS:
        typer.secho(f"\n{query}", bold=True)
        scores = encoder.similarity(encoder.encode_query([query]), vectors)[0]
        for place in scores.argsort()[::-1][:2]:
            typer.echo(f"  {scores[place]:.3f}  {_shorten(passages[place])}")
    typer.echo(f"\nServe it:\n\n{command()} serve\n\nThen, from Python (pip install openai):\n\n{CLIENT}")


def _search(sources: list[str], model: str, questions: Sequence[str] | None) -> None:
    """Index files into a collection and search it by meaning and by words, reranked."""
    from nearfield.corpus.collection import Collection
    from nearfield.corpus.sources.spec import parse_source

    opened = [parse_source(source) for source in sources]
    typer.echo(f"Indexing {', '.join(map(quote_name, sources))} with {model} (downloaded at the first start)...")
    config = {"features": {"dense": {"model": model}}}
    with Collection.ensure(COLLECTION, config) as collection:
        _forget_others(collection, [source.location for source in opened])
        typer.echo(collection.index(opened, shown=sys.stderr.isatty()).to_text())
        if questions is None:
            questions = _headings(collection)
            typer.echo("\nThese are headings of the files. Ask your own: --question 'your question'")
        for query in questions:
            _show_hits(query, collection.search(query, 2, mode="hybrid", rerank="maxsim", highlight=True))
    typer.echo(
        f"\nSearch again: {command()} search 'your question' -c {COLLECTION}; "
        f"delete the collection: {command()} collections drop {COLLECTION}"
    )


def _forget_others(collection: Collection, locations: Sequence[str]) -> None:
    """Remove the files of an earlier demo from its collection."""
    for source in collection.config.sources:
        if source.location not in locations:
            collection.forget(source.location)


def _headings(collection: Collection) -> list[str]:
    """Return three headings or titles of a collection; none if its documents have none."""
    from nearfield.evaluation.datasets.synthetic import known_items

    try:
        dataset = known_items(collection, level="document", queries=len(QUESTIONS))
    except InputError:  # no headings
        return []
    return list(cast("Retrieval", dataset.rows).queries.values())


def _show_hits(query: str, hits: Sequence[SearchHit]) -> None:
    typer.secho(f"\n{escape_controls(query)}", bold=True)
    for hit in hits:
        place = " > ".join([quote_name(hit.document.partition("#")[2]), *map(escape_controls, hit.headings)])
        typer.echo(f"  {hit.score:.3f}  {place}\n         {escape_controls(_sentence(hit))}")


def _sentence(hit: SearchHit) -> str:
    """Return the sentence that matches best, or the start of the passage."""
    start, end = hit.highlights[0] if hit.highlights else (0, len(hit.text))
    return _shorten(" ".join(hit.text[start:end].split()))


def read_passages() -> list[str]:
    """Return the demo document, split at paragraphs into passages of about 55 words."""
    novel = files("nearfield.cli").joinpath("data/demo.txt").read_text(encoding="utf-8")
    passages, current = [], ""
    for paragraph in (" ".join(block.split()) for block in novel.split("\n\n") if block.strip()):
        current = f"{current} {paragraph}".strip()
        if len(current.split()) >= _WORDS:
            passages.append(current)
            current = ""
    return [*passages, current] if current else passages


def command() -> str:
    """Return how to call ``nearfield``: after ``make demo`` it is in a folder that is not on the PATH."""
    return "nearfield" if shutil.which("nearfield") else os.path.relpath(sys.argv[0])


def _shorten(text: str, max_length: int = 420) -> str:
    return text if len(text) <= max_length else text[:max_length].rsplit(" ", 1)[0] + " ..."
