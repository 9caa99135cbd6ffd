"""nearfield rerank: documents in order of relevance to a query."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from nearfield.message_text import escape_controls

EXAMPLES = """Examples:

nearfield rerank "how tall is Mont Blanc?" "It rises 4,806 m." "A cat sat." --model ms-marco-MiniLM-L6-v2

cat passages.txt | nearfield rerank "how tall is Mont Blanc?" --model bge-reranker-base --top 3 --json"""


def rerank(
    query: Annotated[str, typer.Argument(help="The query.")],
    documents: Annotated[list[str] | None, typer.Argument(help="Documents [the lines of stdin].")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Model to use.")] = "ms-marco-MiniLM-L6-v2",
    top: Annotated[int | None, typer.Option(help="Number of documents to show [all].")] = None,
    instruction: Annotated[
        str | None, typer.Option(help="What counts as relevant, for models that take instructions.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Order documents by relevance to a query."""
    texts = documents or [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not texts:
        raise typer.BadParameter("give documents, or lines on stdin")
    from nearfield.attach import open_reranker

    reranker = open_reranker(model, instruction=instruction, progress=not as_json)
    ranked = reranker.rank(query, texts, top_k=top)
    if as_json:
        rows = [{"index": one.index, "score": round(one.score, 6), "text": texts[one.index]} for one in ranked]
        typer.echo(json.dumps({"model": reranker.name, "query": query, "results": rows}))
        return
    for one in ranked:
        typer.echo(f"{one.score:8.4f}  {escape_controls(texts[one.index])}")
