"""PNG bytes: from matplotlib figures and from pixels, made small, put into Markdown.

Figures are matplotlib `Figure` objects on the Agg canvas; pyplot, which holds global state, is
never used, so figures can be drawn in any thread and leak nothing.
"""

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PNG_LIMIT = 150_000
"""Bytes a picture in the metadata of an asset may have: event logs carry it as base64."""

# Okabe and Ito's palette, told apart with every common kind of colour vision.
BLUE, SKY, ORANGE, YELLOW = "#0072B2", "#8EC9EC", "#D55E00", "#F0B37E"
GREEN, GREY, INK = "#009E73", "#8A8F98", "#1F2933"


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of `width` by `height` inches on the Agg canvas, laid out tightly."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    FigureCanvasAgg(figure)
    return figure


def figure_png(figure: "Figure", dpi: int) -> bytes:
    """The figure as PNG with `dpi` dots an inch, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`image` uint8 (h, w), (h, w, 1) or (h, w, 3) RGB as (h, w, 3) RGB.

    Raises ValueError for any other shape.
    """
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"an image has shape (h, w), (h, w, 1) or (h, w, 3), got {image.shape}")
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def image_png(image: NDArray[np.uint8], side: int | None = None) -> bytes:
    """Pixels as PNG, shrunk (never enlarged) to at most `side` pixels on the longer side.

    `image` is uint8 (h, w), (h, w, 1) or (h, w, 3) RGB; grey stays grey.
    """
    from PIL import Image

    grey = image.ndim == 2 or image.shape[2] == 1
    picture = Image.fromarray(image.reshape(image.shape[:2]) if grey else as_rgb(image))
    if side is not None:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _encoded(picture)


def shrink_png(png: bytes, limit: int = PNG_LIMIT) -> bytes:
    """`png` itself when it has at most `limit` bytes, else re-encoded to stay below.

    First with a palette of 256 colours, then in ever smaller sizes. Transparency is laid on
    white. Raises ValueError when even a picture of 16 pixels is too large.
    """
    from PIL import Image

    if len(png) <= limit:
        return png
    with Image.open(io.BytesIO(png)) as opened:
        layered = opened.convert("RGBA")
    picture = Image.new("RGB", layered.size, "white")
    picture.paste(layered, mask=layered.getchannel("A"))
    size = picture.size
    while min(size) >= 16:
        smaller = picture.resize(size, Image.Resampling.LANCZOS)
        small = _encoded(smaller.quantize(256, dither=Image.Dither.NONE))
        if len(small) <= limit:
            return small
        # Bytes go with the area; the 0.95 makes a second try rare.
        scale = min(0.9, 0.95 * (limit / len(small)) ** 0.5)
        size = (int(size[0] * scale), int(size[1] * scale))
    raise ValueError(f"no PNG of this picture fits in {limit} bytes")


def _encoded(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def png_as_data_uri(png: bytes) -> str:
    """`data:image/png;base64,...`."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def png_as_markdown(png: bytes, alt: str) -> str:
    """Markdown that shows `png` inline; `alt` loses the characters that would end it."""
    plain = " ".join(alt.translate(str.maketrans("[]", "()")).split())
    return f"![{plain}]({png_as_data_uri(png)})"
