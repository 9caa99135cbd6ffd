"""Logs of the processes of a serving cluster: those of the server, without what Ray adds to each line."""

from __future__ import annotations

import logging

from nearfield.server.logs import configure_logging
from nearfield.settings import Settings


def configure_cluster_logging(settings: Settings) -> None:
    """Configure the log as the settings say. In each of its processes, Ray adds a second time to each record."""
    logging.setLogRecordFactory(logging.LogRecord)
    configure_logging(settings.log_level, settings.log_format)
