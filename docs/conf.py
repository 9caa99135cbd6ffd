"""Sphinx configuration of the documentation site. ``make docs`` builds it into ``docs/_build/html``."""

from __future__ import annotations

project = "Nearfield"
author = "The Nearfield authors"
project_copyright = author

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

# Headings down to the third level can be linked to: `page.md#heading-in-lower-case`.
myst_heading_anchors = 3

html_theme = "furo"
html_title = "Nearfield"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
