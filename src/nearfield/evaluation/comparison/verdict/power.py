"""How many items distinguish two variants, by the power of a paired test."""

from __future__ import annotations

import math
from statistics import NormalDist

from nearfield.evaluation.json_types import JsonMapping

#: Probability of a significant result if the difference is real, and significance level (both as in Cohen 1988).
POWER, LEVEL = 0.8, 0.05
#: Half the width of a 95% interval, in standard errors.
_HALF_WIDTH = NormalDist().inv_cdf(0.975)


def standard_error(test: JsonMapping) -> float:
    """Return the standard error of the difference of a paired test, in points, from its 95% interval.

    It is 0 if all items have the same scores.
    """
    if test["same_scores"]:
        return 0.0
    low, high = test["interval"]
    return float(high - low) / (2 * _HALF_WIDTH)


def items_needed(difference: float, error: float, items: int, level: float = LEVEL) -> int | None:
    """Return the number of items at which a difference in points would be significant with a probability of ``POWER``.

    n = ((z(1 - level / 2) + z(POWER)) s / difference)^2, where s = error x sqrt(items) is the standard deviation of
    the items' differences (Cohen 1988, chapter 2; for retrieval: Webber, Moffat & Zobel 2008). None: the difference or
    its error is 0, or the number has no meaning because it exceeds a billion.
    """
    if not difference or not error:
        return None
    normal = NormalDist()
    errors = (normal.inv_cdf(1 - level / 2) + normal.inv_cdf(POWER)) * error / abs(difference)
    needed = errors * errors * items
    return math.ceil(needed) if needed < 1e9 else None


def smallest_p(items: int) -> float:
    """Return the smallest p of a two-sided paired permutation test: one of the 2^items assignments and its mirror."""
    return float(min(1.0, 2.0 ** (1 - items)))


def normal_p(difference: float, error: float) -> float:
    """Return the two-sided p of a difference with a standard error above 0, by the normal distribution."""
    return 2 * NormalDist().cdf(-abs(difference) / error)
