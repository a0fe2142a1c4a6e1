import subprocess
import sys

import pytest

from fer_pipeline.core.presets import PRESETS, preset_for


def test_presets_have_the_crop_sizes_and_colours_that_crops_are_made_with():
    shapes = {name: preset.image_shape for name, preset in PRESETS.items()}
    assert shapes == {
        "smoke": (48, 48, 1),
        "cpu": (48, 48, 1),
        "gpu": (112, 112, 3),
        "gpu-small": (48, 48, 1),
    }


@pytest.mark.parametrize(
    ("side", "shape"), [(48, (48, 48, 1)), (64, (48, 48, 1)), (65, (112, 112, 3))]
)
def test_gpu_takes_the_crops_that_the_size_of_the_pictures_is_worth(side, shape):
    assert preset_for("gpu", side).image_shape == shape
    assert preset_for("gpu", None).image_shape == (112, 112, 3)
    assert preset_for("cpu", side) is preset_for("cpu", None) is PRESETS["cpu"]


def test_gpu_networks_are_residual_networks_of_eighteen_layers():
    for name in ("gpu", "gpu-small"):
        network = PRESETS[name].network
        assert 1 + 2 * sum(network.blocks) + 1 == 18
        assert network.widths == (64, 128, 256, 512)
    assert (PRESETS["gpu-small"].network.stem_kernel, PRESETS["gpu-small"].network.stem_stride) == (
        3,
        1,
    )


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_stored_under_their_own_name(name):
    assert PRESETS[name].name == name


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_length_follows_the_data_within_its_bounds(preset):
    recipe = preset.recipe
    lengths = [preset.epochs_for(examples) for examples in (1, 3_000, 30_000, 300_000, 10**8)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == recipe.max_epochs
    assert lengths[-1] == recipe.min_epochs
    examples = round(recipe.target_steps * recipe.batch_size / recipe.max_epochs * 1.5)
    steps = preset.epochs_for(examples) * preset.steps_per_epoch(examples)
    assert steps == pytest.approx(recipe.target_steps, rel=0.1)


def test_part_of_a_batch_is_a_step():
    preset = PRESETS["cpu"]
    assert preset.steps_per_epoch(preset.recipe.batch_size) == 1
    assert preset.steps_per_epoch(preset.recipe.batch_size + 1) == 2


def test_presets_load_without_arrays_or_frameworks():
    heavy = "{'numpy', 'pyarrow', 'keras', 'tensorflow', 'cv2'}"
    code = f"import sys, fer_pipeline.core.presets; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
