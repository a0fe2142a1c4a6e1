"""Crops of drawn faces, for where a model is to be tried and no photo is at hand.

How a face is drawn stands in `drawing.py`, whole releases of them in `synthetic.py`.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.crop import CropSettings, prepare_image
from fer_pipeline.core.drawing import draw_photo
from fer_pipeline.core.labels import NAMES

_SIDE = 240


def drawn_crops(settings: CropSettings, count: int, seed: int) -> NDArray[np.uint8]:
    """Crops of drawn faces of all expressions in turn: uint8 (count, height, width, channels).

    They are cut around the drawn face with the settings' size, colour and margin, however large
    the settings want a face to be.
    """
    crop = replace(settings, detect="missing", align=False, min_face=1)
    crops = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        photo = draw_photo(rng, NAMES[number % 8], size=(_SIDE, _SIDE))
        crops.append(prepare_image(photo.image, photo.box, crop).crop)
    return np.array(crops, np.uint8)
