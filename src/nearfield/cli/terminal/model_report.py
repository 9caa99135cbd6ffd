"""What is known about a model, in words for a terminal: each fact with the place it comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING

from nearfield.message_text import escape_controls, quote_name

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from nearfield.catalog import CatalogEntry
    from nearfield.recipe import Recipe

_FILES = "from the model's files"
_CATALOGUE = "from the catalogue"
_ORIGINS = {"catalogue": _CATALOGUE, "assumed": "assumed", "positions": "from the model's number of positions"}
#: Names that classes had in version 0.1, which ``models show --json`` still prints.
_RECORDED_NAMES = {
    "CatalogScore": "Score",
    "ClassScores": "Classes",
    "EncodeTask": "Task",
    "RerankPrompt": "Answer",
    "RoleFormat": "Marking",
}
#: Field names that recipes had in version 0.1, which ``models show --json`` still prints.
_RECORDED_FIELDS = {
    "exported_graph": "body",
    "unsupported_precisions": "forbid",
    "skip_first_tokens": "drop",
    "divide_by_query_length": "average",
}


def to_json_object(value: DataclassInstance, *, without: str = "") -> dict[str, object]:
    """Return the fields of a dataclass but one, with the dataclasses and mappings in it as plain objects."""
    return {
        _RECORDED_FIELDS.get(item.name, item.name): _to_plain(getattr(value, item.name))
        for item in fields(value)
        if item.name != without
    }


def _to_plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        name = type(value).__name__
        return {"kind": _RECORDED_NAMES.get(name, name), **to_json_object(value)}
    if isinstance(value, (tuple, list)):
        return [_to_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def to_text(name: str, entry: CatalogEntry | None, recipe: Recipe | None, languages: Sequence[str] = ()) -> str:
    """Return a line for each fact, and for each of ``languages``, which are codes.

    ``recipe`` is None if the files are not on this machine.
    """
    facts = [
        *_about(entry, languages),
        *(_of_recipe(recipe) if recipe is not None else _of_entry(entry)),
        *_files(name, recipe),
    ]
    title = entry.id if entry is not None else recipe.name if recipe is not None else name
    lines = (f"  {escape_controls(label) + ':':20} {escape_controls(value)}" for label, value in facts)
    return "\n".join([quote_name(title), *lines])


def _about(entry: CatalogEntry | None, languages: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield what only the catalogue knows."""
    from nearfield import families
    from nearfield.catalog.languages import language_support
    from nearfield.catalog.languages.codes import language_name

    if entry is None:
        yield "Catalogue", "the catalogue does not have this model"
        return
    if entry.notes:
        yield "Description", entry.notes
    yield "Aliases", ", ".join(entry.aliases) or "none"
    supported = "" if entry.family in families.REGISTRY.names() else " (not supported by this version)"
    yield "Architecture", entry.family + supported
    yield "Size", "unknown" if entry.parameters is None else f"{entry.parameters / 1e6:,.0f} million parameters"
    if "text" in entry.modalities:
        yield "Languages", _count_languages(entry)
    for code in languages:
        support = language_support(entry, code)
        yield f"  {language_name(code)} ({code})", f"{support.grade} ({support.source})"
    use = "commercial use is allowed" if entry.commercial else "commercial use is not allowed"
    yield "Licence", f"{entry.licence}; {use}"
    if entry.gated:
        yield "Access", "ask for access on the model's page, then set HF_TOKEN"
    if entry.score is not None:
        yield "Score", f"{entry.score.value:g} in {entry.score.benchmark} (source: {entry.score.source})"
    yield from _quality(entry.id)


def _count_languages(entry: CatalogEntry) -> str:
    """Return the languages of a model: their codes, or how many were measured with which grade, or are listed."""
    from nearfield.catalog.languages import MULTILINGUAL, language_support, listed_languages
    from nearfield.catalog.quality import measured_languages

    codes = {*measured_languages(entry.id), *listed_languages(entry)}
    counts = Counter(language_support(entry, code).grade for code in codes)
    measured = ", ".join(f"{counts[grade]} {grade}" for grade in ("good", "weak", "poor") if counts[grade])
    parts = [", ".join(entry.languages), *([f"measured {measured}"] if measured else [])]
    if MULTILINGUAL in entry.languages:
        parts.append(f"listed without a measure: {counts['listed']}")
    return "; ".join(parts)


def _quality(model: str) -> Iterator[tuple[str, str]]:
    """Yield published and estimated quality, a line for each purpose, and the languages that were measured."""
    from nearfield.catalog.quality import measured_languages, quality_figures
    from nearfield.cli.terminal.model_table import figure_line

    by_purpose: dict[str, list[str]] = {}
    for figure in quality_figures(model).values():
        name, _, part = figure.purpose.partition(":")
        by_purpose.setdefault(name, []).append(f"{part} {figure_line(figure)}".strip())
    if by_purpose:
        yield "Quality", f"points of 100, ± the error of an estimate; sources: nearfield models figures {model}"
    for name, figures in by_purpose.items():
        yield f"  {name}", ", ".join(figures)
    grades = measured_languages(model)
    for grade in ("good", "weak"):
        if codes := [code for code, value in grades.items() if value == grade and code != "en"]:
            yield f"Measured {grade}", f"{' '.join(codes)} (retrieval on Belebele beside its own English)"


def _of_entry(entry: CatalogEntry | None) -> Iterator[tuple[str, str]]:
    """Yield what the catalogue says of a model without files."""
    if entry is None:
        return
    sides = None if entry.image_size is None else (entry.image_size, entry.image_size)
    yield "Input", f"{_inputs(entry.reads, sides)} ({_CATALOGUE})"
    yield "Output", entry.kind
    yield "Dimensions", f"{entry.dimensions:,}{_shorter(entry.matryoshka)}"
    yield "Maximum length", f"{entry.max_length:,} {_length_unit(entry.modalities)} ({_CATALOGUE})"
    yield "Pooling", f"{entry.pooling} ({_CATALOGUE})" if entry.pooling else "in the model's files"
    if entry.prompts:
        yield from _prompts(entry.prompts, entry.default_prompt_name, _CATALOGUE)
    else:
        yield "Prompts", f"none ({_CATALOGUE}; the model's files may have some)"
    yield "Similarity", f"{entry.similarity} ({_CATALOGUE})"


def _of_recipe(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield what the model's files say, completed from the catalogue."""

    def origin(fact: str) -> str:
        source = recipe.origins.get(fact)
        return _FILES if source is None else _ORIGINS.get(source, f"from {source}")

    yield "Input", f"{_inputs(recipe.reads, _picture_size(recipe))} ({_FILES})"
    yield "Output", ", ".join(recipe.outputs)
    yield "Dimensions", f"{recipe.dimensions:,}{_shorter(recipe.matryoshka)}"
    if recipe.truncate_dim is not None:
        yield "Truncated to", f"{recipe.truncate_dim:,} dimensions by default"
    yield "Maximum length", f"{recipe.max_length:,} {_length_unit(recipe.modalities)} ({origin('max_length')})"
    yield "Pooling", f"{_pooling(recipe)} ({origin('pooling')})" if recipe.modules else "none"
    if recipe.modules:
        normalized = "vectors have unit length" if recipe.normalized else "none"
        if recipe.normalize_by_default:
            normalized = "vectors have unit length, unless a call says otherwise"
        yield "Normalization", f"{normalized} ({origin('normalize')})"
    yield from _prompts(recipe.prompts, recipe.default_prompt_name, origin("prompts"))
    if recipe.instruction:
        yield "Instructions", f"inserted as {recipe.instruction!r}"
    if recipe.tasks:
        yield "Tasks", ", ".join(recipe.tasks)
    yield "Similarity", f"{recipe.similarity} ({origin('similarity')})"
    if recipe.unsupported_precisions:
        yield "Not computed in", ", ".join(recipe.unsupported_precisions)
    yield "Warnings", "; ".join(recipe.warnings) or "none"


def _inputs(modalities: Sequence[str], sides: tuple[int, int] | None) -> str:
    """Return what a model reads; ``sides`` are height and width to which pictures are scaled."""
    names = {"text": "texts", "image": "pictures", "audio": "sounds"}
    if "video" in modalities:
        names["image"] += " and frames of videos"
    if sides is not None:
        names["image"] += f", scaled to {sides[1]} x {sides[0]} pixels"
    return " and ".join(names[modality] for modality in modalities if modality in names)


def _length_unit(modalities: Sequence[str]) -> str:
    return "tokens" if "text" in modalities else "patches"


def _picture_size(recipe: Recipe) -> tuple[int, int] | None:
    """Return height and width of prepared pictures; None for a model without pictures, or of pictures of any size."""
    from nearfield.checkpoint.processors.image import read_image_processor
    from nearfield.errors import ModelRefused

    tower = recipe if recipe.modality == "image" else recipe.towers.get("image")
    try:
        processor = None if tower is None else read_image_processor(tower.folder)
    except ModelRefused:  # a warning says so
        return None
    return None if processor is None else processor.size


def _pooling(recipe: Recipe) -> str:
    from nearfield.recipe import Pooling, ProbePooling

    pooling = next((module for module in recipe.modules if isinstance(module, (Pooling, ProbePooling))), None)
    if pooling is None:
        return "none"
    if isinstance(pooling, ProbePooling):
        return "attention of a learned query"
    return " and ".join(pooling.modes) + ("" if pooling.include_prompt else ", without the prompt's tokens")


def _prompts(prompts: Mapping[str, str], default: str | None, origin: str) -> Iterator[tuple[str, str]]:
    named = {name: text for name, text in prompts.items() if text}
    if not named:
        yield "Prompts", f"none ({origin})"
        return
    yield "Prompts", f"{len(named)} ({origin})"
    for name, text in named.items():
        yield f"  {name}", repr(text) + (" (default)" if name == default else "")


def _shorter(dimensions: tuple[int, ...]) -> str:
    return f"; may be shortened to {', '.join(map(str, dimensions))}" if dimensions else ""


def _files(name: str, recipe: Recipe | None) -> Iterator[tuple[str, str]]:
    if recipe is None:
        yield "Files", f"not on this machine; fetch them with: nearfield models pull {name}"
        return
    yield "Revision", recipe.revision or "unknown"
    yield "Files", str(recipe.folder)
