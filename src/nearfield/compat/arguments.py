"""What becomes of each argument of another library: tables that are checked by tests and printed in the docs.

A module of ``compat`` has ``ARGUMENTS``: for each class or function, for each argument, an `Effect`. Tests compare the
tables with the signatures, and ``python -m tools.reference`` prints them in ``docs/reference/compat.md``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from nearfield.errors import InputError
from nearfield.inference.calls.keywords import report_remote_code as report_remote_code

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Effect:
    """What an argument does here.

    ``used``: what it does in the other library. ``ignored``: it is accepted, and the result is the same without it.
    ``refused``: a value other than the default raises InputError. ``note`` says more, or what to do instead.
    """

    kind: Literal["used", "ignored", "refused"]
    note: str = ""


#: Effects by argument, by the name of a class or function ("SentenceTransformer", "SentenceTransformer.encode").
ArgumentTable: TypeAlias = Mapping[str, Mapping[str, Effect]]

USED = Effect("used")
BATCHES = Effect("ignored", "Batches are built from tokens, across calls.")
BAR = Effect("used", "None shows a bar where messages of level INFO are logged.")
DEVICE_OF_CALL = Effect("used", "A tensor is moved to it. The model stays where it was loaded.")
HUB_TOKEN = Effect("used", "True, False or the value of HF_TOKEN; set HF_TOKEN for any other.")
REMOTE_CODE = Effect("ignored", "No code of a model is run. A warning says so once.")


def wants_bar(show_progress_bar: bool | None) -> bool:
    """Return whether a call shows a bar; None means where messages of level INFO are shown, as in the original."""
    if show_progress_bar is None:
        return _log.getEffectiveLevel() in (logging.INFO, logging.DEBUG)
    return bool(show_progress_bar)


def refuse_changed(values: Mapping[str, Any], table: Mapping[str, Effect], where: str) -> None:
    """Raise InputError for the first value that is not None and that the table lists as refused.

    Args:
        values: arguments by name; None stands for the default.
        table: the effects of the arguments of this class or function.
        where: its name, for the message.
    """
    for name, value in values.items():
        effect = table[name]
        if value is not None and effect.kind == "refused":
            raise InputError(f"{where} does not support {name}={value!r}. {effect.note}", param=name)
