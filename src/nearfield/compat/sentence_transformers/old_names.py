"""Names of arguments that sentence-transformers has renamed and still accepts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any, TypeVar, cast

_log = logging.getLogger(__name__)

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def accept_old_names(
    positional: Sequence[str] = (), dropped: Sequence[str] = (), **renamed: str
) -> Callable[[FunctionT], FunctionT]:
    """Return a decorator of a method that accepts old names of its arguments; its signature stays.

    Args:
        positional: names of arguments that were positional, after the first one.
        dropped: names of arguments that have no effect any more.
        renamed: new names by old ones. An argument with the new name wins.
    """

    def decorate(function: FunctionT) -> FunctionT:
        @wraps(function)
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            if positional:
                args, kwargs = args[:1], {**dict(zip(positional, args[1:], strict=False)), **kwargs}
            for name in [name for name in dropped if name in kwargs]:
                del kwargs[name]
                _warn(f"The argument `{name}` of {function.__qualname__} has no effect.")
            for old, new in renamed.items():
                if old in kwargs:
                    kwargs = {new: kwargs.pop(old), **kwargs}
                    _warn(f"The argument `{old}` of {function.__qualname__} is now called `{new}`.")
            return function(self, *args, **kwargs)

        return cast("FunctionT", run)

    return decorate


@cache
def _warn(message: str) -> None:
    _log.warning(message)
