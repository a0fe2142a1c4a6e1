"""What a network is trained with: loss, optimizer, and whether its graph is compiled by XLA.

The numbers come from the recipe of `presets.py`; the steps are taken in `learner.py`.
"""

from typing import Any

from fer_pipeline.core.presets import Preset

_MOMENTUM = 0.9


def compile_network(model: Any, preset: Preset) -> Any:
    """Give a built network the loss and the optimizer of its preset's recipe; the latter is given.

    AdamW (Loshchilov and Hutter, 2019) or SGD with Nesterov momentum. `train` does it itself:
    call it to compare with a loop of your own.
    """
    import keras

    recipe = preset.recipe
    optimizer: Any
    if recipe.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(recipe.learning_rate, weight_decay=recipe.weight_decay)
    else:
        optimizer = keras.optimizers.SGD(
            recipe.learning_rate, _MOMENTUM, nesterov=True, weight_decay=recipe.weight_decay
        )
    # Decay shrinks kernels; scales, offsets and biases have no size to keep small.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(optimizer, loss="categorical_crossentropy", jit_compile=jit())
    return optimizer


def jit() -> bool | str:
    """What `jit_compile` is to be: by XLA, TensorFlow's step is 3 to 7 times slower on a CPU."""
    import keras

    return False if keras.backend.backend() == "tensorflow" else "auto"
