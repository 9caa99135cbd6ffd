"""Types of evaluation results and their parts, which JSON can hold, and of keyword arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

#: A result, or a part of one, that is being built.
JsonDict: TypeAlias = dict[str, Any]
#: A result, or a part of one, that is only read.
JsonMapping: TypeAlias = Mapping[str, Any]
#: Keyword arguments that are passed on.
Keywords: TypeAlias = dict[str, Any]
