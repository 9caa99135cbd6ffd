"""Which share of the trained weights is taken, the rest being the base's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: Shares that the dev set chooses from.
SHARES = (0.3, 0.5, 0.7, 1.0)


@dataclass(frozen=True)
class ShareChoice:
    """A share, and by how many points each guard set falls with each share that was tried."""

    share: float
    falls: Mapping[float, Mapping[str, float]]


def choose_share(
    dev: Mapping[float, float],
    base_dev: float,
    falls_of: Callable[[float], Mapping[str, float]],
    max_fall: float,
) -> ShareChoice:
    """Return the share with the best dev figure with which no guard set falls by more than ``max_fall``.

    Shares that are no better than the base on the dev set are not tried. If a guard set falls with all others, the
    share with the best dev figure is returned: the verdict then says what fell.

    Args:
        dev: the dev figure of each share.
        base_dev: that of the base.
        falls_of: measures by how many points each guard set falls with a share.
        max_fall: points that a guard set may lose.
    """
    order = sorted(dev, key=lambda share: (-dev[share], share))
    falls: dict[float, Mapping[str, float]] = {}
    for share in order:
        if dev[share] <= base_dev:
            break
        falls[share] = falls_of(share)
        if all(fall <= max_fall for fall in falls[share].values()):
            return ShareChoice(share, falls)
    return ShareChoice(order[0], falls)
