"""nearfield train classifier: a linear head on the vectors of a model, from labelled texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfield.message_text import quote_name, to_json

EXAMPLES = """Examples:

nearfield train classifier labelled.tsv -o intents/

nearfield train classifier labelled.tsv --test test.tsv --model bge-small -o intents/

nearfield train classifier topics.jsonl --several -o topics/

nearfield classify tickets.jsonl --model intents/

nearfield serve ./intents

The model stays unchanged, so that seconds or minutes suffice. Figures are of cross-validation: each text is judged by a
head that did not see it. Without -o, nothing is written. The folder has the layout of a CrossEncoder of
sentence-transformers, and is served as a classifier by each API that has one."""


def classifier(
    examples: Annotated[
        Path,
        typer.Argument(help="Labelled texts: a file with text and label, or a folder, as `nearfield train` reads."),
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to create; nothing without it.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Model of the vectors.")] = "all-MiniLM-L6-v2",
    test: Annotated[Path | None, typer.Option(help="Further labelled texts, to measure on.")] = None,
    several: Annotated[
        bool, typer.Option("--several", help="A text may have several labels: JSON lines with text and a list labels.")
    ] = False,
    sure: Annotated[
        float, typer.Option(help="Share of right labels among predictions that are not called unsure.", min=0.5, max=1)
    ] = 0.95,
    seed: Annotated[int, typer.Option(help="Seed of the parts of cross-validation.", min=0)] = 1,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Use a model whose licence does not allow commercial use.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bar.")] = False,
) -> None:
    """Train a classifier of texts on frozen vectors, measure it, and write it."""
    from nearfield.cli.job_arguments import show_progress
    from nearfield.jobs.classification.training import train_classifier

    report = train_classifier(
        examples,
        output,
        model=model,
        test=test,
        several=several,
        sure=sure,
        seed=seed,
        accept_license=accept_license,
        progress=show_progress(quiet=quiet or as_json),
    )
    typer.echo(to_json(report.to_dict()) if as_json else report.to_text())
    if output is not None and not as_json:
        typer.echo(f"written to {quote_name(str(output))}")
