"""Generator of ``models.md``: the catalogue as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from nearfield import catalog, families
from nearfield.catalog.quality import BM25, QualityFigure, quality_figures
from tools.reference.markdown import join_page, render_table

PAGE = "models.md"
_INTRO = """The models that the catalogue describes. Any other folder or Hub model of the same architectures loads too, from
what its own files say. `nearfield models list` filters this table, and `nearfield models show NAME` prints everything that
is known about one model.

- **input**: what the model reads, and the pixels of a side to which pictures are scaled.
- **dims**: length of the vectors. More than one value: the model was trained to be truncated to these (Matryoshka).
- **tokens**: longest input; patches, for a model of pictures alone.
- **licence**: `*` marks a licence that does not allow commercial use. Such a model loads with `--accept-license` only.

This page is generated from the catalogue by `python -m tools.reference`."""
_QUALITY = """Figures of the models for some purposes, in points of 100: published ones, and estimates with their standard error
after `±`. Those of different columns cannot be compared. `nearfield models list --for PURPOSE --language LANGUAGE` has
all purposes and languages, and `nearfield models figures MODEL PURPOSE` shows the tasks, values and files behind a
figure."""
#: Purposes of the table, and the heads of their columns.
_PURPOSES: Mapping[str, str] = MappingProxyType(
    {
        "retrieval:en": "retrieval (en)",
        "general:en": "general (en)",
        "retrieval:multilingual": "retrieval (many languages)",
        "code": "code",
        "long-documents": "long documents",
        "images": "images",
        "pages": "pages",
    }
)
_HEAD = ("model", "aliases", "input", "output", "parameters", "dims", "tokens", "licence")


def render() -> str:
    """Return the whole page."""
    quality = render_table(("model", *_PURPOSES.values()), _quality_rows())
    return join_page("Models", _INTRO, render_table(_HEAD, _rows()), "## Quality", _QUALITY, quality)


def _quality_rows() -> Iterator[tuple[str, ...]]:
    """Yield a row for each model with a figure, and for BM25."""
    for model in (BM25, *(entry.id for entry in catalog.entries())):
        figures = quality_figures(model)
        if not figures.keys().isdisjoint(_PURPOSES):
            yield model, *(_figure(figures.get(purpose)) for purpose in _PURPOSES)


def _figure(figure: QualityFigure | None) -> str:
    if figure is None:
        return ""
    return f"{figure.value:.1f} ±{figure.error:.1f}" if figure.is_estimated else f"{figure.value:.1f}"


def _rows() -> Iterator[tuple[str, ...]]:
    """Yield a row for each model of the catalogue."""
    for entry in catalog.entries():
        size = f"{entry.parameters / 1e6:.0f}M" if entry.parameters else ""
        dims = ", ".join(map(str, sorted({entry.dimensions, *entry.matryoshka}, reverse=True)))
        licence = entry.licence + ("" if entry.commercial else " \\*")
        name = entry.id if entry.family in families.REGISTRY.names() else f"{entry.id} (not run by this version)"
        pixels = f" ({entry.image_size} px)" if entry.image_size else ""
        inputs = ", ".join(entry.modalities) + pixels
        yield name, ", ".join(entry.aliases), inputs, entry.kind, size, dims, str(entry.max_length), licence
