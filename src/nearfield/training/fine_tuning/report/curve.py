"""The curve of a run as a picture: loss and dev figure by step, and the step whose weights were taken."""

from __future__ import annotations

import io

from nearfield.evaluation.json_types import JsonMapping
from nearfield.evaluation.metrics import library

_SIZE, _DPI = (7.2, 4.2), 120
#: Distinguishable for colour-blind readers (Okabe & Ito 2008).
_DEV, _LOSS = "#0072b2", "#d55e00"


def draw_curve(curve: JsonMapping, form: str = "png") -> bytes:
    """Return the picture of a curve (``DevCurve.to_dict``) as PNG or SVG.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = library("matplotlib.figure").Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    points = curve["points"]
    best = max(points, key=lambda point: point["dev"])
    axes.plot([point["step"] for point in points], [point["dev"] for point in points], "o-", color=_DEV, markersize=3)
    axes.axhline(points[0]["dev"], color=_DEV, alpha=0.4, linestyle="--", linewidth=1)
    axes.plot(best["step"], best["dev"], "*", color=_DEV, markersize=14)
    axes.set_xlabel("step")
    axes.set_ylabel(f"dev: {curve['metric']}", color=_DEV)
    losses = [point for point in points if point["loss"] is not None]
    right = axes.twinx()
    right.plot([point["step"] for point in losses], [point["loss"] for point in losses], color=_LOSS, alpha=0.8)
    right.set_ylabel("loss", color=_LOSS)
    out = io.BytesIO()
    figure.savefig(out, format=form, dpi=_DPI, metadata={"Date": None} if form == "svg" else None)
    return out.getvalue()
