"""Words for differences between variants; none says more than the test does."""

from __future__ import annotations

from nearfield.evaluation.json_types import JsonMapping

#: Points of 100: differences below the first make no difference in practice, from the second on they are large. Of
#: models whose published means differ by 2 to 8 points, the better one was better on another data set in 70% to 80% of
#: cases, and in 90% above.
ALIKE_POINTS, CLEAR_POINTS = 2.0, 8.0


def word(test: JsonMapping) -> str:
    """Return what a test says about its first variant against its second, which is not better.

    ``equal``: the same scores of all items; ``alike``: not significant, and the whole interval is below
    ``ALIKE_POINTS``; ``undecided``: not significant, and a difference that matters is possible. Significant differences
    are ``slightly better`` below ``ALIKE_POINTS``, ``probably better`` below ``CLEAR_POINTS``, else ``better``.
    """
    if test["significant"]:
        return _significant_word(abs(test["difference"]))
    if test["same_scores"]:
        return "equal"
    return "alike" if max(map(abs, test["interval"])) < ALIKE_POINTS else "undecided"


def _significant_word(points: float) -> str:
    if points < ALIKE_POINTS:
        return "slightly better"
    return "probably better" if points < CLEAR_POINTS else "better"


def points(value: float) -> str:
    """Return a number of points with one decimal, two if it is below one: ``12.3``, ``0.04``."""
    return f"{value:.2f}" if abs(value) < 1 else f"{value:.1f}"


def signed_interval(test: JsonMapping) -> str:
    """Return the interval of a difference: ``-0.40 to +1.2``."""
    return " to ".join(f"{'+' if end > 0 else ''}{points(end)}" for end in test["interval"])


def rounded(count: int) -> str:
    """Return a number rounded up to two digits, such as ``1,900``."""
    step = 10 ** max(0, len(str(count)) - 2)
    return f"{-(-count // step) * step:,}"
