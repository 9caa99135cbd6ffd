"""Type aliases of the commands: reports as JSON objects, and keyword arguments that are passed on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

#: A report of another package, as ``--json`` prints it.
JsonObject: TypeAlias = Mapping[str, Any]
#: Keyword arguments of a function that checks them itself.
Keywords: TypeAlias = dict[str, Any]
