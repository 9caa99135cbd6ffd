"""Ctrl-C and SIGTERM in commands whose work is continued by the same command."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer

#: The exit status of shells for a process that a signal ended.
TERMINATED = 128 + signal.SIGTERM


@contextmanager
def continued_later(what: str = "The same command") -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, and say after both that the command continues where it stopped.

    The exit status is 130 after Ctrl-C, and 143 after SIGTERM.
    """
    handler = _SigtermHandler()
    earlier = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    except KeyboardInterrupt:
        _say("interrupted", what)
        raise
    except BaseException:
        if not handler.is_called:
            raise
        _say("ended by SIGTERM", what)
        raise SystemExit(TERMINATED) from None
    finally:
        signal.signal(signal.SIGTERM, earlier)


class _SigtermHandler:
    """Ends the process in order. Ray replaces the exception of a handler by another one: that it came is noted."""

    def __init__(self) -> None:
        self.is_called = False

    def __call__(self, _: int, __: FrameType | None) -> NoReturn:
        self.is_called = True
        raise SystemExit(TERMINATED)


def _say(how: str, what: str) -> None:
    typer.echo(f"nearfield: {how}. What is complete stays. {what} continues where it stopped.", err=True)
