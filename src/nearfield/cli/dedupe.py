"""nearfield dedupe: copies among the pictures, videos and sounds of folders, or among the texts of tables."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.dedupe_texts import TextTables, dedupe_texts, is_table
from nearfield.message_text import escape_controls

if TYPE_CHECKING:
    from nearfield.bulk.media_files.duplicates.duplicate_report import DuplicateReport
    from nearfield.bulk.media_files.duplicates.hard_links import LinkReport
    from nearfield.progress import Shown

_FORMATS = ("text", "json")
EXAMPLES = """Examples:

nearfield dedupe photos/

nearfield dedupe photos/ backup/photos/ --format json

nearfield dedupe photos/ --model clip --threshold 0.98

nearfield dedupe scans/ --distance 8

nearfield dedupe photos/ --link --dry-run

nearfield dedupe photos/ --link

nearfield dedupe articles.jsonl --id-field id

nearfield dedupe articles.jsonl comments.csv --keep newest --date published -o links.jsonl

nearfield dedupe articles.jsonl --model all-MiniLM-L6-v2 --threshold 0.95 --ask 20

Without --link nothing is changed, and no command deletes a file. Each group begins with the file to keep: the one of
the largest resolution, of several the largest, the oldest, and the first by name. Below it, = is a file with the same
bytes, ~ one that looks the same, or whose vector is near. Look at those before you delete any: two scans of one form
may look the same too: use --distance 8 for those.

--link replaces only files with the same bytes (=, and equal ones among ~), after comparing all of them. A change of one
name's content in place is then one of all. Files of other owners, permissions or file systems stay.

Files of tables (.jsonl, .csv, .tsv, .parquet, .txt) are read as texts: = is a text that differs in case, punctuation or
space alone, ~ one whose character 5-grams overlap by --similarity, * one whose vector is near. They are listed, and -o
writes the list of copies. --ask shows pairs from the least similar on, and estimates how many are copies.

Hashes are stored in the cache folder (NEARFIELD_CACHE), so that the same command continues after an interruption."""


def dedupe(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of pictures, videos and sounds; or files of tables with texts.")
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Compare vectors of this model too, for each kind of file that it reads."),
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="Of --model: the cosine of two vectors from which on files are copies.")
    ] = 0.97,
    distance: Annotated[
        int, typer.Option(help="Bits of 256 in which the hashes of two pictures differ at most; 0 to 96.")
    ] = 40,
    link: Annotated[
        bool, typer.Option("--link", help="Replace files by hard links to files with the same bytes; see below.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Of --link: say what it would replace, and change nothing, as without --link."),
    ] = False,
    similarity: Annotated[
        float, typer.Option(help="Texts: share of character 5-grams that near copies have in common; 0.8 to 1.")
    ] = 0.8,
    keep: Annotated[str, typer.Option(help="Texts: which of a group to keep: longest, first or newest.")] = "longest",
    date: Annotated[str | None, typer.Option(help="Texts: column of the date or number, for --keep newest.")] = None,
    field: Annotated[str, typer.Option(help="Texts: field or column of the text.")] = "text",
    id_field: Annotated[str | None, typer.Option(help="Texts: field or column of the id [row number].")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Texts: file for the list of copies, in JSON lines.")
    ] = None,
    ask: Annotated[
        int | None, typer.Option(help="Texts: show so many pairs, and estimate the precision from your answers.", min=1)
    ] = None,
    form: Annotated[str, typer.Option("--format", help="Format of the report: text or json.")] = "text",
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Use a model whose licence does not allow commercial use.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bar.")] = False,
) -> None:
    """List copies among pictures, videos and sounds, or among texts, and which to keep. Changes nothing without --link.

    The exit status is 1 if a file cannot be read, or cannot be replaced by a link.
    """
    from nearfield.bulk.media_files.duplicates.duplicate_search import find_duplicate_files
    from nearfield.bulk.media_files.duplicates.hard_links import link_copies
    from nearfield.errors import InputError, nearest

    if form not in _FORMATS:
        raise InputError(f"--format {form!r} is unknown. {nearest(form, _FORMATS)}", param="format")
    if dry_run and not link:
        raise InputError("--dry-run is for --link: without it, nothing is changed anyway.", param="dry_run")
    shown: Shown = not quiet and sys.stderr.isatty()
    tables = [path for path in folders if is_table(path)]
    if tables and len(tables) < len(folders):
        other = next(path for path in folders if path not in tables)
        raise InputError(
            f"{tables[0]} has texts, and {other} is a folder or file of pictures, videos and sounds: compare them in "
            "two runs.",
            param="folders",
        )
    if tables:
        if link:
            raise InputError("--link is for files of pictures, videos and sounds: texts are listed.", param="link")
        options = {"model": model, "threshold": threshold, "similarity": similarity, "keep": keep}
        options |= {"accept_license": accept_license, "progress": shown}
        dedupe_texts(TextTables(tuple(folders), field, id_field, date), options, form, output, ask)
        return
    report = find_duplicate_files(
        folders,
        model=model,
        threshold=threshold,
        max_distance=distance,
        accept_license=accept_license,
        progress=shown,
        on_warning=_warn,
    )
    links = link_copies(report, dry_run=dry_run) if link else None
    typer.echo(_to_json(report, links) if form == "json" else _to_text(report, links))
    if report.unreadable or (links is not None and links.skipped):
        raise typer.Exit(1)


def _to_json(report: DuplicateReport, links: LinkReport | None) -> str:
    return json.dumps({**report.to_dict(), "links": None if links is None else links.to_dict()})


def _to_text(report: DuplicateReport, links: LinkReport | None) -> str:
    if links is None:
        return f"{report.to_text()}\nNothing was changed (a dry run; --link replaces files with the same bytes)."
    return f"{report.to_text()}\n\n{links.to_text()}"


def _warn(warning: str) -> None:
    typer.secho(f"warning: {escape_controls(warning)}", fg="yellow", err=True)
