"""nearfield verify: whether the models of a collection still compute its vectors."""

from __future__ import annotations

from typing import Annotated

import typer

from nearfield.cli.terminal.json_types import JsonObject
from nearfield.message_text import count_of, to_json

EXAMPLES = """Examples:

nearfield verify docs

nearfield verify docs --sample 1000 --json

The exit status is 1 if vectors are not reproduced, or if the manifest and the store disagree."""


def verify(
    name: Annotated[str, typer.Argument(help="Name of the collection.")],
    sample: Annotated[int, typer.Option("--sample", min=1, help="Number of chunks to encode again and compare.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check the vectors of a collection.

    A sample is encoded again and compared, and the manifest is compared with the store.
    """
    from nearfield.corpus.collection import Collection
    from nearfield.evaluation.stability.drift import drift

    with Collection.open(name) as collection:
        result = drift(collection, sample=sample, seed=seed)
        books = collection.verify(sample=0)
    result["books"] = {key: books[key] for key in ("missing", "foreign")}
    typer.echo(to_json(result) if as_json else _format(result))
    if not result["reproduced"] or any(result["books"].values()):
        raise typer.Exit(1)


def _format(result: JsonObject) -> str:
    lines = [f"{result['collection']}: {count_of(result['chunks'], 'chunk')}"]
    for name, feature in result["features"].items():
        lines += [f"  {name} ({feature['model']}): {'reproduced' if feature['reproduced'] else 'NOT reproduced'}"]
        lines += [f"    {line}" for line in _lines(feature)]
    books = result["books"]
    words = {"missing": ("chunk without a vector", "chunks without a vector"), "foreign": ("unknown vector",)}
    wrong = [count_of(len(books[key]), *units) for key, units in words.items() if books[key]]
    return "\n".join([*lines, f"  Manifest and store: {', '.join(wrong) or 'no differences'}"])


def _lines(feature: JsonObject) -> list[str]:
    cosine, fingerprint = feature["cosine"], feature["fingerprint"]
    summary = (
        "nothing to compare" if cosine is None else f"cosine at least {cosine['min']:.6f}, mean {cosine['mean']:.6f}"
    )
    lines = [f"{count_of(feature['sampled'], 'chunk')}: {summary} (required {feature['least']:g})"]
    if fingerprint["same"]:
        lines.append(f"fingerprint {fingerprint['now']} (unchanged)")
    else:
        lines.append(f"fingerprint {fingerprint['now']} (when indexed: {fingerprint['saved']})")
    if feature["changed"]:
        lines.append(f"changed since the vectors were computed: {', '.join(feature['changed'])}")
    if feature["unlike"]:
        lines.append(f"different: {count_of(len(feature['unlike']), 'vector')}: {', '.join(feature['unlike'][:5])}")
    return lines
