"""Generator of ``settings.md``: every setting with its flag, variable, default and meaning."""

from __future__ import annotations

from collections.abc import Iterator

from nearfield.setting_fields import describe_fields
from nearfield.settings import PREFIX, Settings
from tools.reference.markdown import join_page, render_table

PAGE = "settings.md"
_INTRO = """A server reads its settings from three places. A flag of `nearfield serve` wins over an environment variable, and a
variable wins over `nearfield.toml`. In the file, a setting has the name in the first column. A variable holds a list as
values separated by commas, and a table as JSON. An unknown name is an error that names the nearest known one.

This page is generated from the code by `python -m tools.reference`."""
_VARIABLES = """## Other variables

These are read by the whole package, not only by the server."""
_VARIABLE_ROWS = (
    ("`NEARFIELD_CACHE`", "Cache folder: models, compiled graphs, files of the server. Default: `~/.cache/nearfield`."),
    ("`NEARFIELD_CHAT_KEY`", "API key of the chat endpoint that `nearfield ask` and the server use."),
    ("`NEARFIELD_REPORTS`", "Folder of reports; `off` stores none. Default: `~/.local/share/nearfield/reports`."),
    ("`NEARFIELD_COLLECTIONS`", "Folder of collections. Default: `~/.local/share/nearfield/collections`."),
    ("`NEARFIELD_CONFIG`", "Path of the settings file. Default: `nearfield.toml` in the current folder."),
    ("`NEARFIELD_KEY`", "API key that commands such as `nearfield models loaded` and `nearfield top` send."),
    ("`NEARFIELD_OFFLINE`", "`1` forbids every download."),
    ("`NEARFIELD_PDF_PASSWORDS`", "Passwords that are tried for encrypted PDF files, separated by commas."),
    ("`NEARFIELD_PDF_PASSWORD_FILE`", "Path of a file of passwords for PDF files, one per line."),
    (
        "`NEARFIELD_SERVER`",
        "URL (`http://...` or `unix:/path`) of the server that commands and `load` attach to; `auto` finds one.",
    ),
    (
        "`NEARFIELD_OLLAMA_REGISTRY`",
        "Registry from which `ollama:NAME` is fetched if Ollama does not have it. Default: none.",
    ),
    ("`OLLAMA_MODELS`", "Ollama's own variable: its folder of models. Default: `~/.ollama/models`."),
    ("`HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`", "The Hugging Face Hub's own variables; they are honoured."),
)


def render() -> str:
    """Return the whole page."""
    head = ("setting", "flag", "variable", "default", "meaning")
    variables = render_table(("variable", "meaning"), _VARIABLE_ROWS)
    return join_page("Settings", _INTRO, render_table(head, _rows()), _VARIABLES, variables)


def _rows() -> Iterator[tuple[str, ...]]:
    """Yield (name, flag, variable, default, meaning) for each setting."""
    for field in describe_fields(Settings):
        default = f"`{field.default_text}`" if field.default_text not in ("", "{}") else ""
        yield f"`{field.name}`", f"`{field.flag_name}`", f"`{PREFIX}{field.name.upper()}`", default, field.description
