"""Signals beside SIGTERM and SIGINT: none of them ends the server without finishing the accepted requests."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable

from nearfield.server.logs import LOG


def ignore_early_signals() -> None:
    """Ignore SIGHUP and user signals while models are loaded: they would end the process."""
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


class SignalHandlers:
    """Handles SIGHUP and SIGQUIT on the event loop.

    SIGHUP calls ``reload``. If it was sent because the server's terminal was closed, the server stops in order, since
    nothing could stop it from there any more. SIGQUIT stops in order.

    Args:
        reload: reads keys and certificates again.
        stop: begins an orderly shutdown.
    """

    def __init__(self, reload: Callable[[], None], stop: Callable[[], None]) -> None:
        self._reload = reload
        self._stop = stop
        self._had_terminal = _has_terminal()

    def install(self) -> None:
        """Handle the signals from now on; call it on the event loop."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        loop.add_signal_handler(signal.SIGQUIT, self._stop)

    def _on_hangup(self) -> None:
        if self._had_terminal and not _has_terminal():
            LOG.info("the terminal was closed: the server stops")
            self._stop()
            return
        try:
            self._reload()
        except Exception as error:  # noqa: BLE001 - the server goes on with what it has
            LOG.error("reloading failed: %s", type(error).__name__, exc_info=error)


def _has_terminal() -> bool:
    """Return whether stdin is a terminal that still exists."""
    try:
        return sys.stdin is not None and os.isatty(sys.stdin.fileno())
    except (OSError, ValueError):
        return False
