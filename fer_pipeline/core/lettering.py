"""Text as masks of pixels, kept once drawn: a few words come back in every frame of a video.

Where words stand in a picture, and in which colour, is decided in `annotate.py`.
"""

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FOLDER = "mpl-data/fonts/ttf"
_FONTS = {False: "DejaVuSans.ttf", True: "DejaVuSans-Bold.ttf"}


@lru_cache(maxsize=512)
def text_mask(text: str, size: int, *, bold: bool = False) -> NDArray[np.uint8]:
    """How much ink each pixel has: uint8 (line height, width), 0 none to 255 full; not writable.

    `size` is that of the letters, in pixels. All texts of one size have the same height and
    stand on the same line.
    """
    from PIL import Image, ImageDraw

    font = _font(size, bold=bold)
    ascent, descent = font.getmetrics()
    width = max(1, round(font.getlength(text)))
    picture = Image.new("L", (width, ascent + descent))
    ImageDraw.Draw(picture).text((0, 0), text, fill=255, font=font)
    mask = np.array(picture, np.uint8)
    mask.flags.writeable = False
    return mask


@lru_cache(maxsize=64)
def _font(size: int, *, bold: bool) -> Any:
    """DejaVu Sans, which comes with matplotlib; matplotlib itself isn't imported."""
    from PIL import ImageFont

    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package matplotlib, which carries DejaVu Sans, is missing")
    return ImageFont.truetype(Path(spec.origin).parent / _FOLDER / _FONTS[bold], size)
