"""The presets: crop size, network and recipe that belong together, as plain values.

What a preset means is done elsewhere: `network.py` builds the network, `augmentation.py` and
`batches.py` make its batches, `train.py` follows the recipe; single values are replaced by name
in `overrides.py`. Nothing here imports more than the standard library, so the command line and
the graph can read a preset without loading a training framework.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Colour = Literal["grey", "rgb"]
ClassWeighting = Literal["none", "sqrt", "inverse"]
Sampling = Literal["natural", "balanced"]
OptimizerName = Literal["adamw", "sgd"]

_SMALL_PICTURE = 64
"""Pictures of faces up to this side, in pixels, hold no more than grey crops of 48 pixels show."""


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
    erasing: float = 0.0
    """Share of the crops of which a random rectangle is painted over."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    `optimizer` is AdamW, or SGD with Nesterov momentum of 0.9; both decay kernels by
    `weight_decay` times the learning rate. `learning_rate` is the peak, reached after the share
    `warmup` of the schedule.
    `target_steps`, `min_epochs` and `max_epochs` fit the length to the size of the data; with
    a time limit `max_epochs` alone bounds the length. `patience` is the number of epochs
    without a better dev macro-F1 after which training ends.

    `ema` is the decay at each step of the moving average of the weights, which is what is
    evaluated and kept; 0 keeps the weights of the last step. `sampling` "balanced" draws every
    class equally often in an epoch. `prior_correction` brings the probabilities from the class
    shares that training saw to those of the dev split. `mixup` is the parameter of the beta
    distribution by which pairs of crops are blended, 0 for none. `flip_at_test` averages the
    model over a crop and its mirror image wherever it is used.
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
    optimizer: OptimizerName = "adamw"
    ema: float = 0.0
    sampling: Sampling = "natural"
    prior_correction: bool = False
    mixup: float = 0.0
    flip_at_test: bool = False


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
_STRONG = Augmentation(
    flip=True,
    rotation=10.0,
    shift=0.1,
    scale=0.2,
    brightness=0.15,
    contrast=0.3,
    erasing=0.25,
)

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="smoke",
            side=48,
            colour="grey",
            # In 600 steps this network learns too little rather than too much: no dropout.
            network=NetworkShape(
                stem_kernel=5, stem_stride=2, widths=(16, 32, 64), blocks=(1, 1, 1), dropout=0.0
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
                max_epochs=300,
                patience=60,
                augmentation=_LIGHT,
                ema=0.998,
                flip_at_test=True,
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
                class_weighting="none",
                target_steps=40_000,
                min_epochs=8,
                max_epochs=100,
                patience=15,
                augmentation=_STRONG,
                ema=0.999,
                sampling="balanced",
                flip_at_test=True,
            ),
        ),
        # Pictures that are small faces already, such as FER2013's: ResNet-18 with a stem that
        # keeps every pixel.
        Preset(
            name="gpu-small",
            side=48,
            colour="grey",
            network=NetworkShape(
                stem_kernel=3,
                stem_stride=1,
                widths=(64, 128, 256, 512),
                blocks=(2, 2, 2, 2),
                dropout=0.3,
            ),
            recipe=Recipe(
                batch_size=128,
                learning_rate=0.1,
                warmup=0.05,
                weight_decay=1e-3,
                label_smoothing=0.1,
                class_weighting="none",
                target_steps=34_000,
                min_epochs=30,
                max_epochs=300,
                patience=60,
                augmentation=_STRONG,
                optimizer="sgd",
                ema=0.999,
                mixup=0.2,
                flip_at_test=True,
            ),
        ),
    )
}
"""The presets by name."""


def preset_for(name: str, picture_side: int | None) -> Preset:
    """The preset that the choice `name` (smoke, cpu or gpu) means for a data set.

    `picture_side` is the height and width in pixels of the data set's pictures where these are
    the faces themselves, None where the faces are cut out of photos. Of pictures of at most 64
    pixels "gpu" takes grey crops of 48 pixels with a network that keeps their resolution.
    """
    small = picture_side is not None and picture_side <= _SMALL_PICTURE
    return PRESETS["gpu-small" if name == "gpu" and small else name]


def preset_of(values: Mapping[str, Any]) -> Preset:
    """The preset that `dataclasses.asdict` turned into these values, as JSON gives them back.

    Raises KeyError, TypeError or ValueError when they are no preset's.
    """
    network, recipe = dict(values["network"]), dict(values["recipe"])
    sequences = {name: tuple(int(one) for one in network[name]) for name in ("widths", "blocks")}
    return Preset(
        name=values["name"],
        side=int(values["side"]),
        colour=values["colour"],
        network=NetworkShape(**network | sequences),
        recipe=Recipe(**recipe | {"augmentation": Augmentation(**recipe["augmentation"])}),
    )
