"""The presets: crop size, network and recipe that belong together, as plain values.

What a preset means is done elsewhere: `network.py` builds the network, `batches.py` augments,
`train.py` follows the recipe. Nothing here imports more than the standard library, so the
command line and the graph can read a preset without loading a training framework.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Colour = Literal["grey", "rgb"]
ClassWeighting = Literal["none", "sqrt", "inverse"]


@dataclass(frozen=True)
class NetworkShape:
    """A residual network: a stem, then stages of two-convolution blocks, then global pooling.

    `widths[i]` channels and `blocks[i]` blocks make stage i; each stage but the first halves
    the height and width.
    """

    stem_kernel: int
    stem_stride: int
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    dropout: float


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes to a training crop; each is drawn evenly from its range."""

    flip: bool
    rotation: float
    """Degrees, to either side."""
    shift: float
    """Share of the crop side, to either side, for each axis."""
    scale: float
    """Share: 0.1 draws a zoom from 0.9 to 1.1."""
    brightness: float
    """Share of the full range (255) that is added or taken away."""
    contrast: float
    """Share: 0.2 multiplies the distance from mid-grey by 0.8 to 1.2."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    `learning_rate` is the peak, reached after the share `warmup` of the schedule.
    `target_steps`, `min_epochs` and `max_epochs` fit the length to the size of the data; with
    a time limit `max_epochs` alone bounds the length. `patience` is the number of epochs
    without a better dev macro-F1 after which training ends.
    """

    batch_size: int
    learning_rate: float
    warmup: float
    weight_decay: float
    label_smoothing: float
    class_weighting: ClassWeighting
    target_steps: int
    min_epochs: int
    max_epochs: int
    patience: int
    augmentation: Augmentation


@dataclass(frozen=True)
class Preset:
    """A crop size with the network and the recipe made for it."""

    name: str
    side: int
    """Height and width of the square crop in pixels."""
    colour: Colour
    network: NetworkShape
    recipe: Recipe

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return 1 if self.colour == "grey" else 3

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a crop."""
        return self.side, self.side, self.channels

    def steps_per_epoch(self, examples: int) -> int:
        """Batches that hold `examples` examples once."""
        return max(1, math.ceil(examples / self.recipe.batch_size))

    def epochs_for(self, examples: int) -> int:
        """Epochs that bring `examples` training examples near `target_steps` steps."""
        wanted = round(self.recipe.target_steps / self.steps_per_epoch(examples))
        return max(self.recipe.min_epochs, min(wanted, self.recipe.max_epochs))


_LIGHT = Augmentation(flip=True, rotation=10.0, shift=0.08, scale=0.1, brightness=0.1, contrast=0.2)

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="smoke",
            side=48,
            colour="grey",
            network=NetworkShape(
                stem_kernel=5, stem_stride=2, widths=(16, 32, 64), blocks=(1, 1, 1), dropout=0.2
            ),
            recipe=Recipe(
                batch_size=32,
                learning_rate=3e-3,
                warmup=0.1,
                weight_decay=1e-3,
                label_smoothing=0.05,
                class_weighting="sqrt",
                target_steps=600,
                min_epochs=4,
                max_epochs=30,
                patience=12,
                augmentation=_LIGHT,
            ),
        ),
        Preset(
            name="cpu",
            side=48,
            colour="grey",
            network=NetworkShape(
                stem_kernel=5,
                stem_stride=2,
                widths=(16, 64, 128, 240),
                blocks=(1, 1, 1, 1),
                dropout=0.3,
            ),
            recipe=Recipe(
                batch_size=64,
                learning_rate=4e-3,
                warmup=0.1,
                weight_decay=5e-2,
                label_smoothing=0.05,
                class_weighting="sqrt",
                target_steps=10_000,
                min_epochs=3,
                max_epochs=80,
                patience=25,
                augmentation=_LIGHT,
            ),
        ),
        Preset(
            name="gpu",
            side=112,
            colour="rgb",
            network=NetworkShape(
                stem_kernel=7,
                stem_stride=2,
                widths=(64, 128, 256, 512),
                blocks=(2, 2, 2, 2),
                dropout=0.3,
            ),
            recipe=Recipe(
                batch_size=128,
                learning_rate=1e-3,
                warmup=0.05,
                weight_decay=5e-2,
                label_smoothing=0.1,
                class_weighting="sqrt",
                target_steps=40_000,
                min_epochs=8,
                max_epochs=100,
                patience=15,
                augmentation=Augmentation(
                    flip=True, rotation=15.0, shift=0.1, scale=0.15, brightness=0.15, contrast=0.3
                ),
            ),
        ),
    )
}
"""The presets by name."""
