"""nearfield demo media: a collection of pictures, sounds, a video and a scan, in which each file is searched for."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.thumbnails.terminal_choice import AUTO, Thumbnails, choose_protocol, hit_thumbnails
from nearfield.message_text import count_of, escape_controls, to_json

if TYPE_CHECKING:
    from nearfield.cli.demo.demo_collection import DemoPlan
    from nearfield.cli.demo.demo_files import DemoFiles
    from nearfield.cli.demo.finds import FindResult
    from nearfield.corpus.collection import Collection

EXAMPLES = """Examples:

nearfield demo media

nearfield demo media --output demo/

nearfield demo media --image-model openai/clip-vit-base-patch32 --audio-model laion/clap-htsat-unfused

nearfield demo media --speech-model base

nearfield demo media --json

Nothing is downloaded: the pictures and sounds are those that installed Python packages ship, and the video and the scan
are drawn. Without models with trained weights, in the cache or by an option, files are found by examples, and words in
the scan by OCR; the output says by which means each was found. Models that you name are downloaded if need be.
"""

#: The collection in the folder of the demo.
COLLECTION = "media"


def media(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the files and the collection [a temporary one].")
    ] = None,
    image_model: Annotated[
        str | None, typer.Option(help="Model of pictures and texts, such as CLIP: a name or a folder [a cached one].")
    ] = None,
    audio_model: Annotated[
        str | None, typer.Option(help="Model of sounds and texts, such as CLAP: a name or a folder [a cached one].")
    ] = None,
    speech_model: Annotated[
        str | None, typer.Option(help="Whisper model for words in a spoken file, such as base [no speech].")
    ] = None,
    thumbnails: Thumbnails = AUTO,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a collection of pictures, sounds, a video and a scan, and search for each of them.

    The exit status is 1 if one of them is not found.
    """
    from nearfield.cli.demo.demo_collection import DemoOptions, DemoPlan
    from nearfield.cli.demo.demo_files import write_files

    protocol = choose_protocol(thumbnails)
    options = DemoOptions(image_model, audio_model, speech_model)
    with _folder(output) as home:
        files = write_files(home / "files", speech_model)
        plan = DemoPlan(home, files, options)
        with _collection(home, plan) as collection:
            summary = _index(collection, files)
            results = [find.run(collection) for find in plan.finds()]
            pictures = _pictures(collection, results, None if as_json else protocol)
    if as_json:
        typer.echo(_to_json(None if output is None else files.folder, files, plan, results))
    else:
        _introduce(files, plan, summary)
        _print_results(results, pictures)
        typer.echo("" if output is None else _how_to_go_on(home))
    if not all(result.is_right for result in results):
        raise typer.Exit(1)


@contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    if output is not None:
        yield output.expanduser().absolute()
        return
    with tempfile.TemporaryDirectory(prefix="nearfield-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _collection(home: Path, plan: DemoPlan) -> Collection:
    from nearfield.attach import open_encoder
    from nearfield.corpus.collection import Collection
    from nearfield.encoder import Encoder

    def open_model(name: str) -> Encoder:
        # Computed models are so small that another runtime takes longer to start than numpy to run.
        return Encoder(name, backend="reference") if name in plan.computed else open_encoder(name, progress=True)

    return Collection.ensure(COLLECTION, plan.definition(), home=home / "collections", encoder_of=open_model)


def _index(collection: Collection, files: DemoFiles) -> str:
    """Index the files, and return a summary: OCR says of photos which lines of them it could not read."""
    from nearfield.corpus.sources import open_source

    report = collection.index([open_source("files", str(files.folder))], shown=sys.stderr.isatty())
    if report.failures:
        return report.to_text()
    counts = collection.manifest.counts()
    return (
        f"Indexed {count_of(counts['documents'], 'file')} as {count_of(counts['chunks'], 'chunk')} in "
        f"{report.seconds:.1f} s: {', '.join(sorted(path.name for path in files.folder.iterdir()))}"
    )


def _introduce(files: DemoFiles, plan: DemoPlan, report: str) -> None:
    typer.echo(f"{report}\n")
    for line in plan.notes:
        typer.echo(line)
    if files.missing:
        typer.echo("\nNot part of this demo, since something is not installed:")
    for line in files.missing:
        typer.echo(f"- {line}")


def _pictures(collection: Collection, results: Sequence[FindResult], protocol: str | None) -> dict[str, str]:
    """Return what shows small pictures of hits in the terminal, by their ids."""
    hits = [result.hit for result in results if result.hit is not None]
    return hit_thumbnails(collection.document_file, hits, protocol)


def _print_results(results: Sequence[FindResult], pictures: Mapping[str, str]) -> None:
    """Print the hits that have a picture with it, and a table of all."""
    from rich.console import Console
    from rich.table import Table

    for result in results:
        if result.hit is not None and result.hit.id in pictures:
            typer.echo(f"\n{escape_controls(result.find.question)}\n{pictures[result.hit.id]}")
    console = Console(highlight=False, markup=False, emoji=False)
    table = Table(box=None, pad_edge=False)
    for name in ("search", "expected", "found", "score", "means"):
        table.add_column(name, justify="right" if name == "score" else "left", overflow="fold")
    for result in results:
        table.add_row(*map(escape_controls, _cells(result)), style="" if result.is_right else "red")
    console.print()
    console.print(table)
    right = sum(result.is_right for result in results)
    console.print(f"\n{right} of {count_of(len(results), 'search', 'searches')} found what they should.")


def _cells(result: FindResult) -> tuple[str, ...]:
    find, hit = result.find, result.hit
    if hit is None:
        return find.question, find.expected, "nothing", "", find.means
    place = ", ".join(part for part in (str(hit.fields["path"]), hit.location.describe()) if part)
    return find.question, find.expected, place, f"{hit.score:.2f}", find.means


def _to_json(folder: Path | None, files: DemoFiles, plan: DemoPlan, results: Sequence[FindResult]) -> str:
    models = {"picture": vars(plan.picture), "sound": vars(plan.sound)}
    return to_json(
        {
            "folder": None if folder is None else str(folder),
            "models": {
                name: {"name": model["name"], "computed": model["is_computed"]} for name, model in models.items()
            },
            "missing": files.missing,
            "searches": [result.to_dict() for result in results],
            "found": sum(result.is_right for result in results),
        }
    )


def _how_to_go_on(home: Path) -> str:
    from nearfield.cli.demo.text import command

    variable = f"NEARFIELD_COLLECTIONS={home / 'collections'}"
    return (
        f"\nThe files are in {home / 'files'}. Search with your own pictures and sounds:\n\n"
        f"{variable} {command()} search --image PICTURE -c {COLLECTION}"
    )
