"""nearfield demo: searches to try. One file per command; ``demo FILES`` means ``demo text FILES``."""

from __future__ import annotations

import typer

from nearfield.cli.default_command import DefaultCommandGroup
from nearfield.cli.demo import media, text


class DemoGroup(DefaultCommandGroup):
    """``nearfield demo`` and ``nearfield demo FILES`` mean ``nearfield demo text``."""

    default_command = "text"


app = typer.Typer(
    help="Try a search: in a novel or in your own files (text, which is also what `nearfield demo` and `nearfield demo "
    "FILES` do), or in pictures, sounds, a video and a scan (media).",
    cls=DemoGroup,
    rich_markup_mode=None,
)
app.command("text", epilog=text.EXAMPLES)(text.text)
app.command("media", epilog=media.EXAMPLES)(media.media)
