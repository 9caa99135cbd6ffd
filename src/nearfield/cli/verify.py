"""nearfield verify: whether a collection's vectors are still those that its models make."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

EXAMPLES = """Examples:

nearfield verify docs

nearfield verify docs --sample 1000 --json

It ends with 1 where vectors are not reproduced, or the books and the store disagree."""


def verify(
    name: Annotated[str, typer.Argument(help="The collection.")],
    sample: Annotated[int, typer.Option("--sample", min=1, help="Chunks to encode anew and compare.")] = 100,
    seed: Annotated[int, typer.Option(help="Another number draws another sample.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Encode a sample of a collection anew: are its vectors reproduced (cosine, fingerprint), its books in order?"""
    from nearfield.corpus.collection import Collection
    from nearfield.evaluation.stability.drift import drift

    with Collection.open(name) as collection:
        told = drift(collection, sample=sample, seed=seed)
        books = collection.verify(sample=0)
    told["books"] = {key: books[key] for key in ("missing", "foreign")}
    typer.echo(json.dumps(told, ensure_ascii=False) if as_json else _shown(told))
    if not told["reproduced"] or any(told["books"].values()):
        raise typer.Exit(1)


def _shown(told: dict[str, Any]) -> str:
    lines = [f"{told['collection']}: {told['chunks']:,} chunks"]
    for name, each in told["features"].items():
        lines += [f"  {name} ({each['model']}): {'reproduced' if each['reproduced'] else 'NOT reproduced'}"]
        lines += [f"    {line}" for line in _lines(each)]
    books = told["books"]
    wrong = [f"{len(books[key]):,} {key}" for key in ("missing", "foreign") if books[key]]
    return "\n".join([*lines, f"  books and store: {', '.join(wrong) or 'agree'}"])


def _lines(each: dict[str, Any]) -> list[str]:
    cosine, fingerprint = each["cosine"], each["fingerprint"]
    found = (
        "nothing to compare" if cosine is None else f"cosine at least {cosine['min']:.6f}, mean {cosine['mean']:.6f}"
    )
    lines = [f"{each['sampled']:,} chunks: {found} (bound {each['least']:g})"]
    if fingerprint["same"]:
        lines.append(f"fingerprint {fingerprint['now']}, as it was")
    else:
        lines.append(f"fingerprint was {fingerprint['saved']}, is {fingerprint['now']}")
    if each["changed"]:
        lines.append(f"another {', '.join(each['changed'])} than when the vectors were made")
    if each["unlike"]:
        lines.append(f"{len(each['unlike']):,} unlike: {', '.join(each['unlike'][:5])}")
    return lines
