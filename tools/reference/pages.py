"""The list of generated pages, and their texts."""

from __future__ import annotations

from pathlib import Path

from tools.reference import cli, compat, decisions, errors, http_api, machines, models, python, settings

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"
_GENERATORS = (cli, settings, http_api, python, errors, models, machines, decisions, compat)


def render_pages() -> dict[str, str]:
    """Return the text of each generated page by its file name."""
    return {generator.PAGE: generator.render() for generator in _GENERATORS}
