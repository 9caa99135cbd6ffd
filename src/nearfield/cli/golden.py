"""nearfield golden: save a model's vectors, and check after an upgrade whether it still gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLES = """Examples:

nearfield golden save all-MiniLM-L6-v2 golden.json

nearfield golden check golden.json"""

app = typer.Typer(
    help="Golden vectors: save a model's, and check after an upgrade whether it still gives them.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode=None,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Precision = Annotated[str, typer.Option(help="auto or float32: how the model computes.")]
Accept = Annotated[bool, typer.Option("--accept-license", help="Though its licence does not allow commercial use.")]


@app.command(epilog="Example: nearfield golden save bge-small golden.json --texts questions.txt")
def save(
    model: Annotated[str, typer.Argument(help="Model: name, alias, Hub id or folder.")],
    path: Annotated[Path, typer.Argument(help="File to write, JSON.")],
    texts: Annotated[
        Path | None, typer.Option(help="Your texts (.txt, .jsonl, .csv, .tsv, .parquet) [13 of ours].")
    ] = None,
    field: Annotated[str, typer.Option(help="Field or column that holds the text.")] = "text",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    precision: Precision = "auto",
    accept_license: Accept = False,
) -> None:
    """Save what a model gives for some texts, as queries and as documents, with fingerprint and versions."""
    from nearfield.encoder import Encoder
    from nearfield.evaluation.stability import golden_vectors

    chosen = None
    if texts is not None:
        from nearfield.bulk.text_source import TextSource

        chosen = [text for _, text in TextSource((texts,), None, field, None).rows()]
    with Encoder(model, precision=precision, accept_license=accept_license, progress=True) as encoder:
        told = golden_vectors.save(encoder, path, chosen, force=force)
    typer.echo(f"{path}: {len(told['texts'])} texts, {told['model']}, {told['fingerprint']}, {told['precision']}")


@app.command(epilog="Example: nearfield golden check golden.json --precision float32")
def check(
    path: Annotated[Path, typer.Argument(help="What save wrote.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Model to compare, or where it lies now [the one saved].")
    ] = None,
    least: Annotated[
        float | None, typer.Option(help="Least cosine [0.99999 in float32, 0.999 in bf16].", min=0.0, max=1.0)
    ] = None,
    precision: Precision = "auto",
    accept_license: Accept = False,
    as_json: Json = False,
) -> None:
    """Compare with what was saved; ends with 1 where vectors or fingerprint are not reproduced."""
    from nearfield.encoder import Encoder
    from nearfield.evaluation.stability import golden_vectors

    saved = golden_vectors.read(path)
    with Encoder(model or saved["model"], precision=precision, accept_license=accept_license, progress=True) as encoder:
        told = golden_vectors.check(encoder, saved, least=least)
    typer.echo(json.dumps(told, ensure_ascii=False) if as_json else _shown(told))
    if not told["reproduced"]:
        raise typer.Exit(1)


def _shown(told: dict[str, Any]) -> str:
    cosine, fingerprint, precision = told["cosine"], told["fingerprint"], told["precision"]
    lines = [f"{told['model']}: {'reproduced' if told['reproduced'] else 'NOT reproduced'}"]
    lines.append(f"  cosine at least {cosine['min']:.6f}, mean {cosine['mean']:.6f} (bound {told['least']:g})")
    for name, each in (("fingerprint", fingerprint), ("precision", precision)):
        lines.append(f"  {name} {each['now']}" + (", as it was" if each["same"] else f", was {each['saved']}"))
    lines += [f"  {name} was {old}, is {new}" for name, (old, new) in told["versions"].items()]
    if not told["vectors_alike"]:
        lines += [f"  {row['cosine']:.6f}  {row['role']}: {row['text']!r}" for row in told["worst"]]
    return "\n".join(lines)
