"""Charts of people's answers as PNG bytes, and pictures of a study read.

Charts of a model alone are in `figures.py`.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.agreement import Share
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.figures import confusion_heatmap
from fer_pipeline.core.png import BLUE, GREY, INK, ORANGE, figure_png, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 110
_BINS = 30


def answer_heatmap(
    confusion: NDArray[np.int64],
    classes: Sequence[str],
    choices: Sequence[str],
    *,
    standard: str = "label",
) -> bytes:
    """Heat map of answers: shares of each row with counts below.

    Args:
        confusion: counts (K, choices), the standard's class in rows, the answer in columns.
        classes: K names.
        choices: names of the answers, the classes first.
        standard: what the rows are.
    """
    return confusion_heatmap(
        confusion,
        classes,
        columns=choices,
        sides=(standard, "answer"),
        title=f"What people say, by {standard}",
        dpi=_DPI,
    )


def recall_chart(
    classes: Sequence[str],
    series: Mapping[str, Sequence[Share]],
    *,
    title: str = "Agreement with the labels, by class",
) -> bytes:
    """Recall of each class with its interval, of one rater or of several side by side.

    Args:
        classes: K names.
        series: name of the rater (at most three) to K shares, first ones on top.
        title: above the chart.
    """
    colours, markers = (BLUE, ORANGE, GREY), ("o", "s", "^")
    row = 0.34 + 0.24 * len(series)
    figure = new_figure(8.6, 1.7 + row * len(classes))
    axes = figure.subplots()
    step = 0.8 / (len(series) + 1)
    for number, (name, shares) in enumerate(series.items()):
        colour = colours[number]
        offset = ((len(series) - 1) / 2 - number) * step
        for at, share in enumerate(shares):
            place = len(classes) - 1 - at + offset
            if share.value is None:
                axes.text(1.02, place, "no answer", va="center", fontsize=10, color="#59636E")
                continue
            axes.plot([share.low, share.high], [place, place], color=colour, lw=2.4)
            axes.plot(
                [share.value], [place], markers[number], color=colour, markersize=7, clip_on=False
            )
            axes.text(
                1.02,
                place,
                f"{share.value:.2f}  ({share.low:.2f} to {share.high:.2f})   n = {share.of:,}",
                va="center",
                fontsize=10,
                color=INK,
            )
        axes.plot([], [], markers[number], ls="-", color=colour, label=name)
    for place in range(1, len(classes)):
        axes.axhline(place - 0.5, color="#E5E7EB", lw=0.8)
    axes.set_yticks(range(len(classes)), list(reversed(classes)), parse_math=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, len(classes) - 0.4)
    axes.set_xlabel("share that is the label, with 95% interval", fontsize=11, color=INK)
    _plain(axes)
    axes.grid(axis="x", color="#E5E7EB", linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK, parse_math=False)
    if len(series) > 1:
        figure.legend(loc="outside lower center", ncols=len(series), fontsize=10.5, frameon=False)
    return figure_png(figure, _DPI)


def time_histogram(seconds: NDArray[np.float64]) -> bytes:
    """How long answers took, with median and quartiles; `seconds` (n,), n > 0, without pauses."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(7, 3.2)
    axes = figure.subplots()
    # A few slow answers must not press the others into one bar.
    longest = max(1.0, np.ceil(np.quantile(seconds, 0.99)))
    axes.hist(np.minimum(seconds, longest), bins=_BINS, range=(0, longest), color=BLUE, rwidth=0.92)
    lower, median, upper = np.quantile(seconds, [0.25, 0.5, 0.75])
    axes.axvspan(lower, upper, color="#FBE3D1", lw=0, zorder=0)
    axes.axvline(median, color=ORANGE, lw=2)
    axes.annotate(
        f"median {median:.1f} s",
        (median, 1),
        xycoords=("data", "axes fraction"),
        xytext=(6, -4),
        textcoords="offset points",
        va="top",
        fontsize=11,
        color=INK,
    )
    over = int((seconds > longest).sum())
    beyond = f" ({over} slower ones in the last bar)" if over else ""
    axes.set_xlabel(f"seconds for an answer{beyond}", fontsize=11, color=INK)
    axes.set_ylabel("answers", fontsize=11, color=INK)
    axes.set_xlim(0, longest)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    _plain(axes)
    return figure_png(figure, _DPI)


def picture_pixels(face_id: str, data: bytes) -> NDArray[np.uint8]:
    """An encoded picture as RGB, uint8 (h, w, 3).

    Raises InputError naming the face when it can't be read.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as opened:
            return np.asarray(opened.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"the picture of face {face_id} can't be read ({error}): the study is damaged, bring "
            "its file back or make a new study"
        ) from error


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=11, color=GREY, labelcolor=INK)
    axes.set_axisbelow(True)
