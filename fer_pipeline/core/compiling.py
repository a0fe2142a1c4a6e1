"""What a network is trained with: loss, optimizer, whether its graph is compiled by XLA; and in how
many digits it computes when it is scored.

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
    # Variables that came with the first step would make TensorFlow trace that step twice.
    optimizer.build(model.trainable_variables)
    return optimizer


def jit() -> bool | str:
    """What `jit_compile` is to be.

    By XLA, TensorFlow's step is 3 to 7 times slower on a CPU; PyTorch would need a C compiler.
    """
    import keras

    return "auto" if keras.backend.backend() == "jax" else False


def full_precision() -> None:
    """Compute in float32 from here on, also where a GPU would round to fewer digits.

    Training gains speed from that; scores are to be the same on every machine.
    """
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(False)
    elif backend == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
    elif backend == "torch":
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
