"""Pictures, sounds and videos that cannot be read: left out and reported, where a caller asks for that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from nearfield.errors import InputError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
#: Called with the number of an input that cannot be read, and with the reason.
OnRefused: TypeAlias = Callable[[int, InputError], None]


def read_or_refuse(read: Callable[[ItemT], ResultT], item: ItemT) -> ResultT | InputError:
    """Return what a function reads of an input, or the error that says why it cannot."""
    try:
        return read(item)
    except InputError as error:
        return error


def leave_out_refused(
    items: Sequence[ItemT], results: Sequence[ResultT | InputError], first_index: int, on_refused: OnRefused
) -> tuple[list[ItemT], list[ResultT]]:
    """Return the inputs that were read, and their results. The others are reported, in their order.

    ``first_index`` is the number of the first input.
    """
    for number, result in enumerate(results, first_index):
        if isinstance(result, InputError):
            on_refused(number, result)
    pairs = [(item, result) for item, result in zip(items, results, strict=True) if not isinstance(result, InputError)]
    return [item for item, _ in pairs], [result for _, result in pairs]
