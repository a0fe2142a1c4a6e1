"""Pictures of faces as PNG bytes: samples, contact sheets, boxes, galleries of errors.

Images are uint8, (h, w), (h, w, 1) or (h, w, 3) in RGB order.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.png import GREY, INK, ORANGE, as_rgb, figure_png, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 72
"""Points an inch: font sizes are in points, the grid in inches."""


def _fitted(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """RGB, shrunk (never enlarged) to at most `side` pixels on the longer side."""
    from PIL import Image

    picture = Image.fromarray(as_rgb(image))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def _canvas(
    cells: int, columns: int, cell: float, caption: float, headline: str | None
) -> tuple["Figure", "Axes", int, float]:
    """Figure and axes in inches (origin top left), columns used, top of the first row."""
    columns = max(1, min(columns, cells))
    rows = -(-max(1, cells) // columns)
    top = 0.34 if headline else 0.06
    width, height = columns * cell + 0.06, top + rows * (cell + caption)
    figure = new_figure(max(width, 2.0), height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, figure.get_figwidth())
    axes.set_ylim(height, 0)
    if headline:
        axes.text(
            0.06,
            top / 2,
            headline,
            va="center",
            fontsize=12,
            fontweight="bold",
            color=INK,
            parse_math=False,
        )
    return figure, axes, columns, top


def _grid(
    images: Sequence[NDArray[np.uint8] | None],
    captions: Sequence[str],
    *,
    columns: int,
    cell: float,
    fontsize: float,
    headline: str | None,
    missing: str,
    dpi: int,
) -> bytes:
    from matplotlib.patches import Rectangle

    if len(images) != len(captions):
        raise ValueError(f"{len(images)} images need as many captions, got {len(captions)}")
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    caption_height = 0.1 + 1.35 * lines * fontsize / _POINTS
    figure, axes, columns, top = _canvas(len(images), columns, cell, caption_height, headline)
    inner = cell - 0.08
    for at, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left = 0.07 + (at % columns) * cell
        upper = top + (at // columns) * (cell + caption_height)
        if image is None:
            axes.add_patch(Rectangle((left, upper), inner, inner, fc="#F1F3F5", ec=GREY, ls="--"))
            axes.text(
                left + inner / 2,
                upper + inner / 2,
                missing,
                ha="center",
                va="center",
                fontsize=10,
                color="#59636E",
            )
        else:
            shown = _fitted(image, max(16, int(inner * dpi)))
            scale = inner / max(shown.shape[:2])
            height, width = shown.shape[0] * scale, shown.shape[1] * scale
            x, y = left + (inner - width) / 2, upper + (inner - height) / 2
            axes.imshow(
                shown, extent=(x, x + width, y + height, y), aspect="auto", interpolation="bicubic"
            )
        axes.text(
            left + inner / 2,
            upper + inner + 0.04,
            caption,
            ha="center",
            va="top",
            fontsize=fontsize,
            color=INK,
            linespacing=1.15,
            parse_math=False,
        )
    # imshow moves the limits to the last picture.
    axes.set_xlim(0, figure.get_figwidth())
    axes.set_ylim(figure.get_figheight(), 0)
    return figure_png(figure, dpi)


def sample_photos(
    images: Sequence[NDArray[np.uint8] | None],
    titles: Sequence[str],
    *,
    columns: int = 4,
    dpi: int = 90,
) -> bytes:
    """One photo a class, of any size and shape, in a grid; None leaves a labelled empty cell."""
    return _grid(
        images,
        titles,
        columns=columns,
        cell=2.2,
        fontsize=12,
        headline=None,
        missing="no readable photo",
        dpi=dpi,
    )


def contact_sheet(
    crops: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    captions: Sequence[str],
    columns: int = 10,
    *,
    headline: str | None = None,
    dpi: int = 90,
) -> bytes:
    """Crops (n, h, w, c) in a grid with a caption below each (line breaks are kept)."""
    return _grid(
        list(crops),
        captions,
        columns=columns,
        cell=1.25,
        fontsize=9,
        headline=headline,
        missing="",
        dpi=dpi,
    )


def wrong_gallery(
    crops: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    true: Sequence[str],
    predicted: Sequence[str],
    probability: Sequence[float] | NDArray[np.floating],
    *,
    columns: int = 6,
    dpi: int = 90,
) -> bytes:
    """Faces that were predicted wrongly, in the order given.

    Args:
        crops: uint8 (n, h, w, c).
        true: label of each.
        predicted: predicted class of each.
        probability: predicted probability of that class, 0 to 1.
        columns: faces in a row.
        dpi: dots an inch.
    """
    captions = [
        f"label {label}\nread as {guess}, {share:.0%}"
        for label, guess, share in zip(true, predicted, probability, strict=True)
    ]
    return _grid(
        list(crops),
        captions,
        columns=columns,
        cell=1.6,
        fontsize=9,
        headline="Most confident errors" if len(captions) else "No errors",
        missing="",
        dpi=dpi,
    )


def boxed_photo(
    image: NDArray[np.uint8],
    box: tuple[float, float, float, float] | None,
    caption: str,
    *,
    longest: float = 5.0,
    dpi: int = 100,
) -> bytes:
    """One photo with its face box.

    Args:
        image: the photo.
        box: x, y, width, height in pixels of the photo, or None; it may run out of the frame,
            which then grows to show it whole.
        caption: above the photo.
        longest: longer side of the photo, inches.
        dpi: dots an inch.
    """
    from matplotlib.patches import Rectangle

    height, width = image.shape[:2]
    x, y, box_width, box_height = box or (0.0, 0.0, float(width), float(height))
    left, right = min(0.0, x), max(float(width), x + box_width)
    upper, lower = min(0.0, y), max(float(height), y + box_height)
    scale = longest / max(right - left, lower - upper)
    lines = caption.count("\n") + 1
    figure = new_figure(
        max(3.0, (right - left) * scale + 0.2), (lower - upper) * scale + 0.3 + 0.2 * lines
    )
    axes = figure.subplots()
    axes.set_axis_off()
    shown = _fitted(image, int(longest * dpi * 1.5))
    axes.imshow(shown, extent=(0, width, height, 0), interpolation="bicubic")
    if box is not None:
        # A dark line under the bright one is seen on any background.
        for colour, thickness in (("black", 4.5), (ORANGE, 2.2)):
            axes.add_patch(
                Rectangle((x, y), box_width, box_height, fill=False, ec=colour, lw=thickness)
            )
    margin = 0.01 * max(right - left, lower - upper)
    axes.set_xlim(left - margin, right + margin)
    axes.set_ylim(lower + margin, upper - margin)
    axes.set_title(caption, fontsize=11, color=INK, loc="left", parse_math=False)
    return figure_png(figure, dpi)
