"""Charts of how far a model can be trusted as PNG bytes: calibration, risk, ROC, damage, maps.

Takes what `calibration.py`, `curves.py`, `robustness.py` and `saliency.py` give. Charts of scores
are in `figures.py`. Every chart is narrow enough to be read on a phone.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.calibration import CalibrationScores
from fer_pipeline.core.curves import OneVsRest, RiskCoverage
from fer_pipeline.core.png import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    as_rgb,
    figure_png,
    image_png,
    new_figure,
)
from fer_pipeline.core.robustness import SEVERITIES, Robustness

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 110
_WIDTH, _HEIGHT = 5.6, 4.9
_COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#8A8F98", "#1F2933")
_STYLES = ("-", "--", "-.", ":")
_MAP_SIDE = 96


def reliability_before_after(
    before: CalibrationScores, after: CalibrationScores, *, dpi: int = _DPI
) -> bytes:
    """Accuracy against confidence before and after the temperature, and the faces of each bin."""
    figure = new_figure(_WIDTH, 5.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], "--", color=INK, lw=1.3, label="calibrated")
    series = ((before, "before", GREY, "s", ":"), (after, "after", BLUE, "o", "-"))
    for scores, name, colour, marker, style in series:
        filled = [one for one in scores.bins if one.count]
        above.plot(
            [one.confidence for one in filled],
            [one.accuracy for one in filled],
            style,
            color=colour,
            marker=marker,
            markersize=5,
            lw=2,
            label=f"{name}: ECE {scores.ece:.3f}",
        )
    centres = [(one.low + one.high) / 2 for one in after.bins]
    width = 0.9 / len(centres)
    below.bar(centres, [one.count for one in after.bins], width, color=BLUE)
    below.step(
        [0, *(one.high for one in before.bins)],
        [before.bins[0].count, *(one.count for one in before.bins)],
        color=GREY,
        lw=1.6,
    )
    _finish(above, "Reliability, before and after", None, "share right")
    _finish(below, None, "largest predicted probability", "faces")
    above.set_ylim(0, 1)
    below.set_xlim(0, 1)
    above.legend(loc="upper left", fontsize=10.5, frameon=False)
    return figure_png(figure, dpi)


def risk_coverage_chart(found: RiskCoverage, *, dpi: int = _DPI) -> bytes:
    """Share of errors against the share of faces answered, beside the best order and none."""
    figure = new_figure(_WIDTH, _HEIGHT)
    axes = figure.subplots()
    axes.fill_between(found.coverage, found.risk, color=BLUE, alpha=0.14, lw=0)
    axes.plot(found.coverage, found.risk, color=BLUE, lw=2.2, label=f"area {found.area:.3f}")
    axes.plot(
        [0, 1], [found.error] * 2, "--", color=INK, lw=1.3, label=f"by chance: {found.error:.3f}"
    )
    axes.plot(
        found.coverage,
        found.best_risk,
        ":",
        color=GREEN,
        lw=2,
        label=f"errors last: {found.best_area:.3f}",
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, min(1.02, max(0.05, 1.35 * float(found.risk.max()))))
    for place in (axes.xaxis, axes.yaxis):
        place.set_major_formatter(lambda value, _: f"{value:.0%}")
    _finish(axes, "Errors among the surest", "faces answered, the surest first", "errors")
    axes.legend(loc="upper left", fontsize=10.5, frameon=False)
    return figure_png(figure, dpi)


def roc_chart(by_class: Sequence[OneVsRest], *, dpi: int = _DPI) -> bytes:
    """ROC of each class against the others."""
    figure = new_figure(_WIDTH, _HEIGHT)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "--", color=GREY, lw=1.2)
    for place, one in enumerate(by_class):
        if one.roc_area is not None:
            _curve(axes, place, one.false_positive_rate, one.true_positive_rate, one.name)
    _finish(axes, "ROC, one class against the rest", "false positive rate", "true positive rate")
    _unit_square(axes)
    if not _none_is_drawn(axes, by_class):
        axes.legend(loc="lower right", fontsize=10, frameon=False)
    return figure_png(figure, dpi)


def precision_recall_chart(by_class: Sequence[OneVsRest], *, dpi: int = _DPI) -> bytes:
    """Precision against recall of each class."""
    figure = new_figure(_WIDTH, _HEIGHT)
    axes = figure.subplots()
    for place, one in enumerate(by_class):
        if one.average_precision is not None:
            _curve(axes, place, one.recall, one.precision, one.name)
    _finish(axes, "Precision and recall of each class", "recall", "precision")
    _unit_square(axes)
    if not _none_is_drawn(axes, by_class):
        # Curves lie anywhere: those behind the legend are left faintly visible.
        axes.legend(fontsize=9.5, framealpha=0.85, edgecolor="none")
    return figure_png(figure, dpi)


def robustness_chart(found: Robustness, *, dpi: int = _DPI) -> bytes:
    """Accuracy against the severity of each kind of damage."""
    figure = new_figure(_WIDTH, _HEIGHT)
    axes = figure.subplots()
    for place, kind in enumerate(SEVERITIES):
        values = [found.clean, *(one.accuracy for one in found.of(kind))]
        _curve(axes, place, np.arange(6), values, kind, marker="o")
    axes.set_ylim(0, 1)
    _finish(axes, f"Accuracy on {found.faces:,} damaged faces", "severity", "accuracy")
    axes.legend(loc="lower left", fontsize=10, frameon=False, ncols=2)
    return figure_png(figure, dpi)


def map_beside_crop(crop: NDArray[np.uint8], cells: NDArray[np.float32]) -> bytes:
    """A crop, and the crop under a map of what spoke for the answer (bright: much), side by side.

    `crop` is uint8 (h, w, c), `cells` float (cells, cells) from 0 to 1.
    """
    import cv2
    from matplotlib import colormaps

    side = _MAP_SIDE
    face = cv2.resize(as_rgb(crop), (side, side), interpolation=cv2.INTER_CUBIC)
    heat = np.clip(cv2.resize(cells, (side, side), interpolation=cv2.INTER_CUBIC), 0, 1)
    grey = np.asarray(face, np.float32).mean(axis=2, keepdims=True)
    coloured = 255 * colormaps["inferno"](heat)[..., :3]
    laid = grey * (1 - 0.6 * heat[..., None]) * 0.75 + 0.7 * coloured * heat[..., None]
    return image_png(np.hstack([face, np.clip(laid, 0, 255).astype(np.uint8)]))


def _curve(
    axes: "Axes",
    place: int,
    across: Sequence[float] | NDArray[np.float64] | NDArray[np.int64],
    up: Sequence[float] | NDArray[np.float64],
    name: str,
    *,
    marker: str | None = None,
) -> None:
    # Colour and dashes together tell more curves apart than either, on any kind of sight.
    axes.plot(
        across,
        up,
        _STYLES[place // len(_COLOURS) + place % 2],
        color=_COLOURS[place % len(_COLOURS)],
        lw=1.9,
        marker=marker,
        markersize=4,
        label=name.replace("$", r"\$"),
    )


def _none_is_drawn(axes: "Axes", by_class: Sequence[OneVsRest]) -> bool:
    """Whether no class has a curve, which is then written on the axes."""
    if any(one.roc_area is not None for one in by_class):
        return False
    axes.text(0.5, 0.5, "all faces are of one class", ha="center", fontsize=11.5, color=INK)
    return True


def _unit_square(axes: "Axes") -> None:
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)


def _finish(axes: "Axes", title: str | None, across: str | None, up: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=11, color=GREY, labelcolor=INK)
    axes.grid(color="#E5E7EB", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_ylabel(up, fontsize=11.5, color=INK)
    if across is not None:
        axes.set_xlabel(across, fontsize=11.5, color=INK)
    if title is not None:
        axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK)
