"""Which pictures the terminal shows, by its environment: it is asked nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from nearfield.errors import InputError, nearest

if TYPE_CHECKING:
    from nearfield.corpus.answering.passage_pictures import FileOpener
    from nearfield.corpus.search.hit import SearchHit

#: The option of commands that show pictures.
Thumbnails = Annotated[
    str,
    typer.Option(
        help="Small pictures of results: auto (in terminals that are known to show them), never, kitty, iterm or "
        "sixel. Output to a file or a program has none."
    ),
]
AUTO, _NEVER = "auto", "never"
_CHOICES = (AUTO, _NEVER, "kitty", "iterm", "sixel")
#: Variables of terminals that show pictures, how their values begin, and the protocol; the first that fits counts.
_TERMINALS = (
    ("KITTY_WINDOW_ID", "", "kitty"),
    ("TERM", "xterm-kitty", "kitty"),
    ("TERM", "xterm-ghostty", "kitty"),
    ("TERM_PROGRAM", "ghostty", "kitty"),
    ("KONSOLE_VERSION", "", "kitty"),
    ("TERM_PROGRAM", "iTerm.app", "iterm"),
    ("LC_TERMINAL", "iTerm2", "iterm"),
    ("TERM_PROGRAM", "WezTerm", "iterm"),
    ("TERM_PROGRAM", "mintty", "iterm"),
    ("WT_SESSION", "", "sixel"),
    ("TERM", "foot", "sixel"),
    ("TERM", "mlterm", "sixel"),
    ("TERM", "contour", "sixel"),
)
#: How ``TERM`` begins in multiplexers, which do not pass pictures on.
_MULTIPLEXERS = ("tmux", "screen")


def choose_protocol(
    option: str, environment: Mapping[str, str] | None = None, is_terminal: bool | None = None
) -> str | None:
    """Return the protocol of ``PROTOCOLS`` by which pictures are shown; None if none are.

    Args:
        option: that of the command.
        environment: the variables of the process.
        is_terminal: whether the output is read by a person; by default that of standard output.

    Raises:
        InputError: the option has another value.
    """
    if option not in _CHOICES:
        raise InputError(f"--thumbnails {option!r} is unknown. {nearest(option, _CHOICES)}", param="thumbnails")
    shown = sys.stdout.isatty() if is_terminal is None else is_terminal
    if option == _NEVER or not shown:
        return None
    return option if option != AUTO else _detect(os.environ if environment is None else environment)


def _detect(environment: Mapping[str, str]) -> str | None:
    if environment.get("TMUX") or environment.get("TERM", "").startswith(_MULTIPLEXERS):
        return None
    for variable, start, protocol in _TERMINALS:
        if variable in environment and environment[variable].startswith(start):
            return protocol
    return None


def hit_thumbnails(open_file: FileOpener, hits: Sequence[SearchHit], protocol: str | None) -> dict[str, str]:
    """Return the sequences that show pictures of hits, by their ids; those without a picture are left out."""
    if protocol is None:
        return {}
    from nearfield.cli.thumbnails.protocols import PIXELS, PROTOCOLS
    from nearfield.corpus.answering.passage_pictures import passage_picture

    pictures = {hit.id: passage_picture(open_file, hit, 2 * PIXELS) for hit in hits}
    return {key: PROTOCOLS[protocol](data) for key, data in pictures.items() if data is not None}
