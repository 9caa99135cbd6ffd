"""nearfield golden: save vectors of a model, and check after an upgrade that it still computes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfield.cli.terminal.json_types import JsonObject
from nearfield.message_text import count_of, to_json

EXAMPLES = """Examples:

nearfield golden save all-MiniLM-L6-v2 golden.json

nearfield golden check golden.json"""

app = typer.Typer(
    help="Save vectors, and check them after an upgrade.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode=None,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Precision = Annotated[
    str, typer.Option(help="Precision of the model's arithmetic: auto, float32, int8, int8-dynamic or int4.")
]
Accept = Annotated[
    bool, typer.Option("--accept-license", help="Use a model whose licence does not allow commercial use.")
]


@app.command(epilog="Example: nearfield golden save bge-small golden.json --texts questions.txt")
def save(
    model: Annotated[str, typer.Argument(help="Name, alias, Hub id or folder of the model.")],
    path: Annotated[Path, typer.Argument(help="JSON file to write.")],
    texts: Annotated[
        Path | None, typer.Option(help="File of texts (.txt, .jsonl, .csv, .tsv, .parquet) [13 texts of Nearfield].")
    ] = None,
    field: Annotated[str, typer.Option(help="Field or column of the text.")] = "text",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    precision: Precision = "auto",
    accept_license: Accept = False,
) -> None:
    """Save the vectors of some texts, as queries and as documents, with fingerprint and versions."""
    from nearfield.encoder import Encoder
    from nearfield.evaluation.stability import golden_vectors
    from nearfield.fileio.output_path import require_writable

    require_writable(path, "path")
    chosen = None
    if texts is not None:
        from nearfield.bulk.text_source import TextSource

        chosen = [text for _, text in TextSource((texts,), None, field, None).rows()]
    with Encoder(model, precision=precision, accept_license=accept_license, progress=True) as encoder:
        golden = golden_vectors.save(encoder, path, chosen, force=force)
    facts = (count_of(len(golden["texts"]), "text"), *(golden[key] for key in ("model", "fingerprint", "precision")))
    typer.echo(f"Wrote {path}: {', '.join(facts)}")


@app.command(epilog="Example: nearfield golden check golden.json --precision float32")
def check(
    path: Annotated[Path, typer.Argument(help="File that save has written.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Model to compare, or its folder [the saved model].")
    ] = None,
    min_cosine: Annotated[
        float | None,
        typer.Option("--least", help="Minimum cosine [0.99999 in float32, 0.999 in bf16].", min=0.0, max=1.0),
    ] = None,
    precision: Precision = "auto",
    accept_license: Accept = False,
    as_json: Json = False,
) -> None:
    """Compute the saved vectors again and compare; the exit status is 1 if they differ."""
    from nearfield.encoder import Encoder
    from nearfield.evaluation.stability import golden_vectors

    saved = golden_vectors.load(path)
    with Encoder(model or saved["model"], precision=precision, accept_license=accept_license, progress=True) as encoder:
        result = golden_vectors.check(encoder, saved, min_cosine=min_cosine)
    typer.echo(to_json(result) if as_json else _format(result))
    if not result["reproduced"]:
        raise typer.Exit(1)


def _format(result: JsonObject) -> str:
    cosine, fingerprint, precision = result["cosine"], result["fingerprint"], result["precision"]
    lines = [f"{result['model']}: {'reproduced' if result['reproduced'] else 'NOT reproduced'}"]
    lines.append(f"  cosine at least {cosine['min']:.6f}, mean {cosine['mean']:.6f} (required {result['least']:g})")
    for name, state in (("fingerprint", fingerprint), ("precision", precision)):
        lines.append(f"  {name} {state['now']}" + (" (unchanged)" if state["same"] else f" (saved: {state['saved']})"))
    lines += [f"  {name}: {old} when saved, {new} now" for name, (old, new) in result["versions"].items()]
    if not result["vectors_alike"]:
        lines += [f"  {row['cosine']:.6f}  {row['role']}: {row['text']!r}" for row in result["worst"]]
    return "\n".join(lines)
