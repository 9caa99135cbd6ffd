"""nearfield index: create or update a collection from its sources."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from nearfield.cli.terminal.interruption import continued_later
from nearfield.cli.terminal.process_time import seconds_since_start
from nearfield.cli.terminal.ray_options import PerWorker, Workers
from nearfield.errors import CollectionNotFound, InputError, NearfieldError, nearest
from nearfield.message_text import count_of, escape_controls, escape_lines, quote_name

if TYPE_CHECKING:
    from nearfield.corpus.collection import Collection
    from nearfield.corpus.indexing.report import IndexReport
    from nearfield.corpus.indexing.workers import IndexWorkers
    from nearfield.corpus.sources import Source

#: A definition of a collection, or a part of one, as it is read from a file.
Definition: TypeAlias = dict[str, Any]

EXAMPLES = """Examples:

nearfield index docs ~/notes 'manual/*.pdf'

nearfield index docs

nearfield index papers papers.jsonl --text abstract --title title --id id --meta year:int

nearfield index docs --feature dense=bge-m3 --feature sparse=bge-m3:sparse --feature short=dense:binary

nearfield index docs ~/notes --store 'postgresql://me:${PGPASSWORD}@host/db' --watch

nearfield index docs --config docs.toml --dry-run

nearfield index docs --query-map map/

nearfield index docs --model bge-small --bridge bridge/

On a Ray cluster, whose workers extract, split and encode; the store and the manifest are written here:

nearfield index docs /mnt/shared/docs --ray auto --per-worker cpus=4

Without sources, the command reads the sources that the collection has. An interrupted run continues where it stopped
if the command is repeated."""


def index(
    name: Annotated[str, typer.Argument(help="Name of the collection; it is created if it does not exist.")],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, patterns, tables (.jsonl, .csv, .parquet), URLs, or - for stdin [its sources]."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="File with the definition of the collection, TOML or YAML.")
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(
            "--feature",
            help="NAME=MODEL, NAME=MODEL:sparse or :multivector; NAME=FEATURE:256 or :binary shortens FEATURE.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Model, for a collection with one dense feature.")
    ] = None,
    query_map: Annotated[
        str | None,
        typer.Option("--query-map", help="Folder of `nearfield train map`, applied to queries; none removes it."),
    ] = None,
    bridge: Annotated[
        Path | None,
        typer.Option("--bridge", help="Folder of `nearfield convert fit`: searches until --model is complete."),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", help="Store of the vectors: lancedb://, qdrant://, postgresql:// or chroma://."),
    ] = None,
    chunker: Annotated[
        str | None,
        typer.Option(
            "--chunker", help="How documents are split: auto, sentence, markdown, code, semantic, fixed or late."
        ),
    ] = None,
    tokens: Annotated[int | None, typer.Option("--chunk-tokens", help="Maximum number of tokens per chunk.")] = None,
    overlap: Annotated[int | None, typer.Option("--overlap", help="Tokens that neighbouring chunks share.")] = None,
    include: Annotated[list[str] | None, typer.Option("--include", help="Only files that match this glob.")] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="No files that match this glob.")] = None,
    encoding: Annotated[
        str | None,
        typer.Option("--encoding", help="Encoding of texts that are not UTF-8, such as cp1252 [recognised]."),
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Tables: column of the text [text].")] = None,
    title: Annotated[str | None, typer.Option("--title", help="Tables: column of the title.")] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="Tables: column of the id.")] = None,
    meta: Annotated[
        list[str] | None, typer.Option("--meta", help="Column to filter by, such as year:int (str, int, float, bool).")
    ] = None,
    language: Annotated[str | None, typer.Option("--language", help="Language of the texts, such as de [en].")] = None,
    ocr: Annotated[
        bool | None,
        typer.Option("--ocr/--no-ocr", help="Read the text of pictures and of scanned pages (needs nearfield[ocr])."),
    ] = None,
    ocr_damaged: Annotated[
        bool, typer.Option("--ocr-damaged", help="As --ocr, and also for pages with text that looks damaged.")
    ] = False,
    speech: Annotated[
        bool | None,
        typer.Option("--speech/--no-speech", help="Read what is said in sounds and videos (needs nearfield[speech])."),
    ] = None,
    speech_model: Annotated[
        str | None,
        typer.Option("--speech-model", help="As --speech, by this Whisper model: small, turbo, a folder [base]."),
    ] = None,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Keep chunks that nearly repeat others.")
    ] = False,
    keep_boilerplate: Annotated[
        bool,
        typer.Option("--keep-boilerplate", help="Keep lines that repeat in many documents or pages, such as headers."),
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep running, and index again when files change.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done. Nothing is written.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Read documents again that failed before.")
    ] = False,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Use a model whose licence does not allow commercial use.")
    ] = False,
    allow_removal: Annotated[
        bool,
        typer.Option("--allow-removal", help="Remove deleted documents even if they are most of a source's."),
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            help="Process documents on a Ray cluster: auto, local, HOST:PORT or ray://HOST:PORT.",
            metavar="ADDRESS",
        ),
    ] = None,
    workers: Workers = None,
    per_worker: PerWorker = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only problems: failed and partial documents.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Create or update a collection from its sources.

    Only new and changed documents are read and embedded. The exit status is 1 if nothing could be indexed, if a source
    could not be listed, or if removals wait for --allow-removal; documents that failed are in the report.
    """
    from nearfield.corpus import config as definitions
    from nearfield.corpus.collection import Collection, list_collections
    from nearfield.corpus.sources.spec import ColumnSpec, check_stated, parse_source

    if model and feature:
        raise InputError("Use --model or --feature, not both.", param="model")
    places = _workers(ray, workers, per_worker)
    fields, earlier = definitions.parse_fields(meta or []), _definition_of(name)
    features = definitions.parse_features([f"dense={model}"] if model else feature or [])
    definition = _merge(
        definitions.load_config(config) if config else {},
        earlier,
        features=_with_maps(features, earlier.get("features"), query_map, bridge),
        chunks=_without_none(by=chunker, tokens=tokens, overlap=overlap),
        clean=_without_none(
            duplicates=False if keep_duplicates else None, boilerplate=False if keep_boilerplate else None
        ),
        fields=fields,
        options=_without_none(
            store=store,
            language=language,
            accept_license=accept_license or None,
            ocr="damaged" if ocr_damaged else ocr,
            speech=speech if speech_model is None else speech_model,
        ),
    )
    columns = ColumnSpec(text, title, id_column, tuple(fields))
    opened = [
        parse_source(source, include=include or [], exclude=exclude or [], columns=columns, encoding=encoding)
        for source in sources or []
    ]
    _require_existing(opened)
    is_new = name not in list_collections()
    if is_new and not opened and not definition.get("sources"):
        raise _nothing_to_index(name)
    check_stated(opened, columns=columns, include=include or [], exclude=exclude or [], encoding=encoding)
    if dry_run:
        report = _plan(
            name, definition, opened, retry_failed=retry_failed, allow_removal=allow_removal, quiet=quiet or as_json
        )
        typer.echo(report.to_json() if as_json else report.to_text())
        if is_new and not watch and not report.documents:
            raise _nothing_found(name)
        _exit_if_failed(report)
        return
    with Collection.ensure(name, definition) as collection:
        if not quiet and not as_json:
            _print_recorded(collection, opened)
            _print_bridges(collection)
            if query_map is not None:
                _print_query_map(collection, query_map)
        shown = not quiet and sys.stderr.isatty()
        try:
            with continued_later():
                report = collection.index(
                    opened, shown=shown, retry_failed=retry_failed, allow_removal=allow_removal, workers=places
                )
        except NearfieldError:
            if is_new and not collection.manifest.vector_tables():  # for example, the model does not exist
                collection.drop()
            raise
        if report.held_removals and not as_json and sys.stdin.isatty() and _confirm_removal(report):
            report = collection.index(shown=shown, allow_removal=True, workers=places)
        report.seconds = seconds_since_start()
        _print_report(report, as_json=as_json, quiet=quiet)
        if is_new and not watch and not collection.manifest.counts()["documents"]:
            collection.drop()
            raise _nothing_found(name)
        if watch:
            _watch(collection, places, shown=shown, as_json=as_json, quiet=quiet)
        _exit_if_failed(report)


def _workers(address: str | None, count: int | None, per_worker: str | None) -> IndexWorkers | None:
    """Return where documents are processed; None: here.

    Raises:
        InputError: an option is wrong, or needs --ray.
        MissingExtra: Ray is not installed.
    """
    option = "workers" if count is not None else "per_worker" if per_worker is not None else None
    if address is None and option is not None:
        raise InputError(f"--{option.replace('_', '-')} needs --ray.", param=option)
    if address is None:
        return None
    from nearfield.cluster import RayWorkers

    workers = RayWorkers(address, count, per_worker)
    workers.check()
    return workers


def _nothing_found(name: str) -> InputError:
    return InputError(f"There is nothing to index: the collection {name} was not created.", param="sources")


def _exit_if_failed(report: IndexReport) -> None:
    nothing_done = report.failed and not report.documents and not report.unchanged
    if nothing_done or report.unlisted or report.held_removals:
        raise typer.Exit(1)


def _print_recorded(collection: Collection, sources: Sequence[Source]) -> None:
    """Say which options of an earlier run the sources have, that no flag states now."""
    from nearfield.corpus.sources.spec import recorded_flags

    for location, flags in recorded_flags(sources, collection.config.sources).items():
        typer.echo(f"{quote_name(location)} is read as before: {escape_controls(flags)}", err=True)


def _print_bridges(collection: Collection) -> None:
    """Say what searches lose while the vectors of another model are computed."""
    from nearfield.corpus.manifest.migration import bridge_notes

    if not any(feature.bridge for feature in collection.config.features.values()):
        return  # no model is loaded to find that out
    for note in bridge_notes(collection.features, collection.manifest):
        typer.secho(escape_controls(note), fg="yellow", err=True)


def _print_query_map(collection: Collection, query_map: str) -> None:
    """Say that queries changed, as the report counts documents alone."""
    how = "by no map" if query_map == "none" else f"by {quote_name(query_map)}"
    typer.echo(f"Queries of {collection.name} are now moved {how}; the vectors of documents stay.", err=True)


def _definition_of(name: str) -> Definition:
    """Return the definition of a collection; an empty one if there is none of that name."""
    from nearfield.corpus.collection import Collection, list_collections

    if name not in list_collections():
        return {}
    with Collection.open(name) as collection:
        return collection.config.to_dict()


def _require_existing(sources: Sequence[Source]) -> None:
    """Refuse files and folders that do not exist, before a collection is created for them.

    Raises:
        InputError: the first of them.
    """
    from nearfield.hub import existing_path

    for source in sources:
        for path in source.watch():
            if existing_path(path) is None and not any(letter in path for letter in "*?["):
                raise InputError(f"There is no file or folder {quote_name(path)}.", param="sources")


def _nothing_to_index(name: str) -> InputError:
    """Return the error for a new collection without sources: a slip in the name of another, or a forgotten one."""
    from nearfield.corpus.collection import list_collections
    from nearfield.corpus.directory import CollectionDirectory
    from nearfield.hub import existing_path

    CollectionDirectory.from_name(name)  # refuses what cannot be a name
    source = name if existing_path(name) is not None else "FOLDER"
    new = "NAME" if source == name else name
    return CollectionNotFound(
        f"There is no collection {name!r}. {nearest(name, list_collections())} To create one, say what to index: "
        f"nearfield index {new} {source}",
        param="name",
    )


def _confirm_removal(report: IndexReport) -> bool:
    for source, gone, total in report.held_removals:
        line = f"{gone:,} of {count_of(total, 'document')} of {quote_name(source)} are gone from it."
        typer.echo(line, err=True)
    return typer.confirm("Remove them from the collection?", default=False, err=True)


def _print_report(report: IndexReport, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        typer.echo(report.to_json())
    elif not quiet:
        typer.echo(report.to_text())
    elif problems := report.problems():
        typer.echo(problems, err=True)


def _without_none(**values: object) -> Definition:
    return {name: value for name, value in values.items() if value is not None}


def _with_maps(
    features: Definition, earlier: Definition | None, query_map: str | None, bridge: Path | None
) -> Definition:
    """Return the features of the flags, with the maps for the first one; those that exist if the flags name none.

    Raises:
        InputError: there is no map in a folder, or a bridge without a new model.
    """
    from nearfield.vectors.vector_map import load_map

    if query_map is None and bridge is None:
        return features
    if bridge is not None and not features:
        raise InputError("--bridge needs --model: the model that takes the place of the present one.", param="bridge")
    maps: Definition = {}
    if bridge is not None:
        load_map(bridge, "bridge")
        maps["bridge"] = str(bridge.expanduser().resolve())
    if query_map is not None:
        maps["query_map"] = "" if query_map == "none" else str(Path(query_map).expanduser().resolve())
        if query_map != "none":
            load_map(query_map, "query")
    name, *others = (changed := features or earlier or {"dense": {}})
    return {name: {**changed[name], **maps}, **{other: changed[other] for other in others}}


def _merge(
    definition: Definition,
    earlier: Definition,
    *,
    features: Definition,
    chunks: Definition,
    clean: Definition,
    fields: Definition,
    options: Definition,
) -> Definition:
    """Return the definition with what the flags set: features are replaced, the other parts are merged.

    A part that the definition lacks is merged into that of the ``earlier`` one.
    """
    merged = {**definition, **options}
    if features:
        merged["features"] = features
    for key, part in (("chunks", chunks), ("clean", clean), ("fields", fields)):
        if part:
            base = merged[key] if key in merged else earlier.get(key, {})
            merged[key] = {**base, **part}
    return merged


def _plan(
    name: str,
    definition: Definition,
    sources: Sequence[Source],
    *,
    retry_failed: bool,
    allow_removal: bool,
    quiet: bool,
) -> IndexReport:
    """Return what would be done; for a new collection with the help of a temporary one."""
    from nearfield.corpus.collection import Collection, list_collections

    if name in list_collections():
        with Collection.open(name) as collection:
            if not quiet:
                _print_recorded(collection, sources)
            return collection.plan(sources, definition, retry_failed=retry_failed, allow_removal=allow_removal)
    with TemporaryDirectory() as folder:
        temporary = Collection.create(name, {**definition, "store": f"memory:{folder}"}, home=Path(folder))
        with temporary as collection:
            return collection.plan(sources)


def _watch(collection: Collection, workers: IndexWorkers | None, *, shown: bool, as_json: bool, quiet: bool) -> None:
    """Index again when files of a source change, until the user stops it."""
    from nearfield.corpus.sources.watcher import watch_paths

    if not quiet:
        typer.echo("Watching for changes; stop with Ctrl-C.", err=True)
    last_problems = ""
    paths, own = collection.watched(), collection.own_folders()
    for _ in watch_paths(paths, ignore=own):
        try:
            report = collection.index(shown=shown, workers=workers)
        except NearfieldError as error:  # the cause may be gone at the next change
            typer.secho(f"nearfield: {escape_lines(str(error))}", fg="red", err=True)
            continue
        problems = report.problems()
        if report.documents or report.removed or (problems and problems != last_problems):
            _print_report(report, as_json=as_json, quiet=quiet)
        last_problems = problems
