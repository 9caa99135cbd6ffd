"""nearfield train map: a map that moves queries nearer to their documents, without embedding anything again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.terminal.json_types import JsonObject
from nearfield.message_text import escape_lines, quote_name, to_json

if TYPE_CHECKING:
    from nearfield.training.light.query_map import MapSettings, QueryMapProof

EXAMPLES = """Examples:

nearfield train map all-MiniLM-L6-v2 --data pairs.tsv -o map/

nearfield train map all-MiniLM-L6-v2 --data clicks.jsonl --test judged/ -o map/

nearfield index docs --query-map map/

Pairs of the same meaning (a query and its translation, or its wording in the documents) are regressed onto each other,
shrunk to the identity. For questions and answers a ranking loss is used. The map is written only if a test that had no
part in it says that it is better; else the exit status is 3."""


def query_map(
    model: Annotated[str, typer.Argument(help="Model of the index.")],
    data: Annotated[Path, typer.Option(help="Queries with documents: a file or folder, as `nearfield train` reads.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to create.")],
    test: Annotated[
        Path | None, typer.Option(help="Retrieval set that proves the map [a part of the data, by document].")
    ] = None,
    method: Annotated[
        str, typer.Option(help="meaning, ranking, or auto: meaning for pairs of about equal length.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the split.", min=0)] = 1,
    shape: Annotated[str | None, typer.Option(help="ranking, where a file does not name its columns.")] = None,
    allow_leaks: Annotated[
        bool, typer.Option("--allow-leaks", help="Fit although texts of the test are in the data; the figures say so.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fit a map for queries; documents stay where they are.

    The exit status is 3, and nothing is written, if the map is not better.
    """
    from nearfield.training.light.map_folder import require_map_folder, write_map
    from nearfield.training.light.query_map import MapSettings

    settings = MapSettings(method, seed=seed, allow_leaks=allow_leaks)  # type: ignore[arg-type]
    require_map_folder(output)
    proof = _fit(model, data, test, settings, shape, shown=not as_json)
    if proof.is_better:
        write_map(proof.query_map, output, proof.to_text())
    _print(proof, output, as_json=as_json)
    if not proof.is_better:
        raise typer.Exit(3)


def _fit(
    model: str, data: Path, test: Path | None, settings: MapSettings, shape: str | None, *, shown: bool
) -> QueryMapProof:
    from nearfield.encoder import Encoder
    from nearfield.evaluation.datasets.loaders import load_dataset
    from nearfield.training.data.loaders import load_training_data
    from nearfield.training.light.query_map import fit_query_map

    rows = load_training_data(data, shape=shape)
    dataset = None if test is None else load_dataset(test, "retrieval")
    with Encoder(model, progress=shown) as encoder:
        return fit_query_map(encoder, rows, test=dataset, settings=settings, progress=None if shown else False)


def _print(proof: QueryMapProof, output: Path, *, as_json: bool) -> None:
    if as_json:
        result: JsonObject = {"folder": str(output) if proof.is_better else None, **proof.to_dict()}
        typer.echo(to_json(result))
        return
    typer.echo(escape_lines(proof.to_text()))
    typer.echo(f"written: {quote_name(str(output))}" if proof.is_better else "Nothing was written.")
