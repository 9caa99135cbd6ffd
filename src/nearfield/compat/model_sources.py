"""Where the classes of other libraries get a model from, and where it runs: tokens of the Hub, local files, devices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from nearfield import catalog, hub
from nearfield.errors import InputError


def check_tokens(**tokens: bool | str | None) -> None:
    """Raise InputError for a token of the Hub that is another than that of the environment, which is used."""
    for name, token in tokens.items():
        if isinstance(token, str) and token != os.environ.get("HF_TOKEN"):
            raise InputError("A token for the Hub is read from the environment: set HF_TOKEN.", param=name)


def device_options(device: Any) -> dict[str, Any]:
    """Return the keywords of `nearfield.load` for a device of torch: OpenVINO computes on the CPU, torch elsewhere."""
    name = f"cuda:{device}" if isinstance(device, int) else str(device or "cpu")
    return {} if name.partition(":")[0] == "cpu" else {"backend": "torch", "device": name}


def local_source(name: str, files: Sequence[str] = (), revision: str | None = None) -> str:
    """Return the source on this machine that has the files of a model.

    Raises:
        ModelNotFound, SourceUnavailable: the model is not on this machine.
    """
    pin = catalog.pin_of(name)
    return hub.locate(name, pin=pin, revision=revision, fetch=False, files=tuple(files)).source
