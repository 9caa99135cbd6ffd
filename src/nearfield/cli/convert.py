"""nearfield convert: bridges between the vector spaces of two models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.message_text import escape_lines, quote_name, to_json

if TYPE_CHECKING:
    from nearfield.training.light.bridge import BridgeProof

EXAMPLES = """Examples:

nearfield convert fit --from all-MiniLM-L6-v2 --to bge-small --texts sample.txt -o bridge/

nearfield convert fit --from all-MiniLM-L6-v2 --to tuned/ --texts docs --test judged/ -o bridge/

nearfield index docs --model bge-small --bridge bridge/"""

app = typer.Typer(
    help="Use an index of one model with queries of another, while it is embedded again.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Make typer treat the application as a group, although it has one command."""


@app.command(epilog=EXAMPLES)
def fit(
    old: Annotated[str, typer.Option("--from", help="Model of the index.")],
    new: Annotated[str, typer.Option("--to", help="Model that takes its place.")],
    texts: Annotated[
        list[str],
        typer.Option("--texts", help="Sample of the index: a file, a folder, or the name of a collection; repeatable."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to create.")],
    test: Annotated[Path | None, typer.Option(help="Retrieval set on which the loss is measured too.")] = None,
    field: Annotated[str, typer.Option(help="Field or column of the text in a table.")] = "text",
    limit: Annotated[int, typer.Option(help="Maximum number of texts.", min=1)] = 20_000,
    max_loss: Annotated[
        float | None,
        typer.Option(
            help="Points that may be lost, or nothing is written and the status is 3 [25 of recall; 5 with --test].",
            min=0,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split.", min=0)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fit a bridge: searches with the new model in the index of the old one, at a measured loss."""
    from nearfield.training.light.map_folder import require_map_folder, write_map

    require_map_folder(output)
    proof = _fit(old, new, texts, test, field, limit, seed, shown=not as_json)
    refused = proof.refusal(max_loss)
    if refused is None:
        write_map(proof.bridge, output, proof.to_text())
    if as_json:
        typer.echo(to_json({"folder": None if refused else str(output), **proof.bridge.to_dict()}))
    else:
        typer.echo(escape_lines(proof.to_text()))
        written = f"written: {quote_name(str(output))}"
        typer.echo(escape_lines(f"Nothing was written: {refused}.") if refused else written)
    if refused:
        raise typer.Exit(3)


def _fit(
    old: str, new: str, texts: list[str], test: Path | None, field: str, limit: int, seed: int, *, shown: bool
) -> BridgeProof:
    from nearfield.encoder import Encoder
    from nearfield.evaluation.datasets.loaders import load_dataset
    from nearfield.training.light.bridge import fit_bridge
    from nearfield.training.light.sample_texts import read_sample

    sample = read_sample(texts, field=field, limit=limit)
    dataset = None if test is None else load_dataset(test, "retrieval")
    with Encoder(old, progress=shown) as first, Encoder(new, progress=shown) as second:
        return fit_bridge(first, second, sample, test=dataset, seed=seed, progress=None if shown else False)
