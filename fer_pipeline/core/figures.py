"""Charts of counts and scores as PNG bytes. Pictures of faces are in `photo_figures.py`.

Every function takes plain sequences or arrays, and `dpi` (dots an inch) for the size.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.metrics import CalibrationBin, ClassScores, normalise_rows
from fer_pipeline.core.png import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    SKY,
    YELLOW,
    figure_png,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 110


def _plain(axes: "Axes", *, grid: str | None = None) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=11, color=GREY, labelcolor=INK)
    if grid == "x":
        axes.grid(axis="x", color="#E5E7EB", linewidth=0.8)
    elif grid == "y":
        axes.grid(axis="y", color="#E5E7EB", linewidth=0.8)
    axes.set_axisbelow(True)


def _title(axes: "Axes", text: str) -> None:
    axes.set_title(text, loc="left", fontsize=13, fontweight="bold", color=INK, parse_math=False)


def expression_bars(
    names: Sequence[str],
    manual: Sequence[int],
    auto: Sequence[int],
    other_names: Collection[str] = (),
    *,
    title: str = "Faces by expression",
    dpi: int = _DPI,
) -> bytes:
    """Horizontal bars of row counts, the largest total on top, every bar with its count.

    Args:
        names: expression of each bar.
        manual: manually annotated rows of each.
        auto: automatically annotated rows of each, stacked on the manual ones in a lighter tone.
        other_names: names that are no expression (None, Uncertain, No-Face): another colour.
        title: above the bars.
        dpi: dots an inch.
    """
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    totals = [one + other for one, other in zip(manual, auto, strict=True)]
    order = sorted(range(len(names)), key=lambda at: totals[at])
    largest = max(totals, default=0) or 1
    figure = new_figure(9, 1.5 + 0.42 * max(1, len(names)))
    axes = figure.subplots()
    both = any(manual) and any(auto)
    for place, at in enumerate(order):
        other = names[at] in other_names
        axes.barh(place, manual[at], color=ORANGE if other else BLUE, height=0.72)
        axes.barh(place, auto[at], left=manual[at], color=YELLOW if other else SKY, height=0.72)
        parts = f"   {manual[at]:,} + {auto[at]:,}" if both and manual[at] and auto[at] else ""
        label = axes.annotate(
            f"{totals[at]:,}",
            (totals[at], place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=11,
            fontweight="bold",
            color=INK,
        )
        axes.annotate(parts, (1, 0.5), xycoords=label, va="center", fontsize=9.5, color="#59636E")
    axes.set_yticks(range(len(order)), [names[at] for at in order], parse_math=False)
    axes.set_xlim(0, largest * (1.38 if both else 1.14))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.set_xlabel("rows in the lists", fontsize=11, color=INK)
    _plain(axes, grid="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _title(axes, title)
    keys = []
    expressions = [at for at in order if names[at] not in other_names]
    others = [at for at in order if names[at] in other_names]
    for members, kind, dark, light in (
        (expressions, "expression", BLUE, SKY),
        (others, "no expression", ORANGE, YELLOW),
    ):
        if any(manual[at] for at in members):
            keys.append(Patch(color=dark, label=f"{kind}, annotated by people"))
        if any(auto[at] for at in members):
            keys.append(Patch(color=light, label=f"{kind}, annotated by a model"))
    if keys:
        axes.legend(handles=keys, loc="lower right", fontsize=10, frameon=True, edgecolor="white")
    return figure_png(figure, dpi)


def confusion_heatmap(
    confusion: NDArray[Any],
    classes: Sequence[str],
    normalised: bool = True,
    *,
    columns: Sequence[str] | None = None,
    sides: tuple[str, str] = ("true", "predicted"),
    title: str | None = None,
    dpi: int = _DPI,
) -> bytes:
    """Heat map of a confusion matrix with its figures.

    Args:
        confusion: counts (K, columns), true class in rows, predicted class in columns.
        classes: K names.
        normalised: colour and percentages by the share of the row, counts below in brackets;
            otherwise colour and text by the count.
        columns: names of the columns where they are others than `classes`.
        sides: what rows and columns are.
        title: above the map.
        dpi: dots an inch.
    """
    columns = classes if columns is None else columns
    shares = normalise_rows(confusion)
    largest = max(1, int(confusion.max()))
    values = shares if normalised else confusion / largest
    figure = new_figure(2.8 + 0.82 * len(columns), 2.2 + 0.82 * len(classes))
    axes = figure.subplots()
    axes.set_facecolor("#ECEEF1")
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*confusion.shape):
        share, count = shares[row, column], int(confusion[row, column])
        if not normalised:
            text = f"{count:,}"
        elif np.isnan(share):
            text = "no face"
        else:
            text = f"{share:.0%}\n({count:,})"
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=10.5,
            fontweight="bold" if row == column else "normal",
            color="white" if values[row, column] > 0.55 else INK,
        )
    axes.set_xticks(range(len(columns)), columns, rotation=35, ha="right", parse_math=False)
    axes.set_yticks(range(len(classes)), classes, parse_math=False)
    axes.tick_params(labelsize=11, length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(columns) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(classes) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel(sides[1], fontsize=12, color=INK)
    axes.set_ylabel(sides[0], fontsize=12, color=INK)
    _title(axes, title or ("Share of each true class" if normalised else "Number of faces"))
    return figure_png(figure, dpi)


def training_curves(history: Sequence[Mapping[str, float]], *, dpi: int = _DPI) -> bytes:
    """Loss (left) and scores on dev (right) by epoch; the best dev macro-F1 is marked.

    Args:
        history: a row for each epoch with `epoch`, `loss`, `dev_loss`, `dev_accuracy`,
            `dev_macro_f1`; a missing figure leaves a gap.
        dpi: dots an inch.
    """
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in history]
    figure = new_figure(10, 3.8)
    panels = figure.subplots(1, 2)
    lines = (
        (panels[0], "loss", "training", BLUE, "-"),
        (panels[0], "dev_loss", "dev", ORANGE, "--"),
        (panels[1], "dev_accuracy", "accuracy", BLUE, "-"),
        (panels[1], "dev_macro_f1", "macro-F1", GREEN, "--"),
    )
    # Noisy or long histories read better as lines, short ones need their points.
    marker = "o" if len(epochs) <= 40 else ""
    for axes, key, label, colour, style in lines:
        values = [row.get(key, np.nan) for row in history]
        axes.plot(
            epochs, values, style, color=colour, marker=marker, markersize=4, label=label, lw=2
        )
    scores = np.array([row.get("dev_macro_f1", np.nan) for row in history], np.float64)
    if np.isfinite(scores).any():
        best = int(np.nanargmax(scores))
        # In the legend, which finds a place of its own: beside the point it would hide the lines.
        panels[1].plot(
            epochs[best],
            scores[best],
            "o",
            markersize=11,
            mfc="none",
            mec=INK,
            mew=1.6,
            label=f"best {scores[best]:.3f}, epoch {epochs[best]:.0f}",
        )
    panels[1].set_ylim(0, 1)
    for axes, name in zip(panels, ("Loss", "Scores on the dev split"), strict=True):
        axes.set_xlabel("epoch", fontsize=11, color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(min(epochs, default=1) - 0.5, max(epochs, default=1) + 0.5)
        axes.legend(fontsize=10.5, frameon=False)
        _plain(axes, grid="y")
        _title(axes, name)
    return figure_png(figure, dpi)


def reliability_diagram(
    calibration: Sequence[CalibrationBin], ece: float, *, dpi: int = _DPI
) -> bytes:
    """Accuracy by confidence, against the diagonal of a calibrated model; counts below.

    Args:
        calibration: bins of `metrics.calibration_bins`.
        ece: expected calibration error over those bins, shown in the title.
        dpi: dots an inch.
    """
    figure = new_figure(5.6, 5.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = [one for one in calibration if one.count]
    centres = [(one.low + one.high) / 2 for one in filled]
    widths = [(one.high - one.low) * 0.9 for one in filled]
    accuracy = np.array([one.accuracy for one in filled], np.float64)
    confidence = np.array([one.confidence for one in filled], np.float64)
    above.bar(centres, accuracy, widths, color=BLUE, label="accuracy")
    above.plot([0, 1], [0, 1], "--", color=INK, lw=1.3, label="calibrated")
    above.plot(
        confidence, accuracy, "o", color=ORANGE, markersize=5, label="accuracy at mean confidence"
    )
    above.set_ylim(0, 1)
    above.set_ylabel("share right", fontsize=11, color=INK)
    above.legend(loc="upper left", fontsize=10, frameon=False)
    below.bar(centres, [one.count for one in filled], widths, color=GREY)
    below.set_xlim(0, 1)
    below.set_ylabel("faces", fontsize=11, color=INK)
    below.set_xlabel("largest predicted probability", fontsize=11, color=INK)
    for axes in (above, below):
        _plain(axes, grid="y")
    _title(above, f"Calibration: ECE {ece:.3f} ({len(calibration)} bins)")
    return figure_png(figure, dpi)


def recall_bars(by_class: Sequence[ClassScores], *, dpi: int = _DPI) -> bytes:
    """Recall of each class with its interval and support, in the order given."""
    figure = new_figure(8, 1.4 + 0.48 * max(1, len(by_class)))
    axes = figure.subplots()
    for place, scores in enumerate(reversed(by_class)):
        if scores.recall is None or scores.recall_low is None or scores.recall_high is None:
            axes.text(0.01, place, "no test face", va="center", fontsize=10.5, color="#59636E")
            continue
        axes.barh(place, scores.recall, color=SKY, height=0.66)
        axes.plot([scores.recall_low, scores.recall_high], [place, place], color=INK, lw=2)
        axes.plot([scores.recall], [place], "o", color=INK, markersize=5)
        axes.text(
            1.02,
            place,
            f"{scores.recall:.2f}  ({scores.recall_low:.2f} to {scores.recall_high:.2f})"
            f"   n = {scores.support:,}",
            va="center",
            fontsize=10.5,
            color=INK,
        )
    names = [scores.name for scores in reversed(by_class)]
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel("recall, with 95% interval", fontsize=11, color=INK)
    _plain(axes, grid="x")
    axes.tick_params(axis="y", length=0)
    _title(axes, "Recall by class")
    return figure_png(figure, dpi)
