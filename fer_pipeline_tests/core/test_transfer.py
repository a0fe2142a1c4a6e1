from dataclasses import replace

import numpy as np
import pytest

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.model_file import ModelCard, save_model
from fer_pipeline.core.network import bare_network, build_network, served_model
from fer_pipeline.core.transfer import open_source, take_weights
from fer_pipeline_tests.core.drawn_shapes import CLASSES, SIDE, tiny_preset

OTHERS = ("Surprise", "Anger", "Happiness", "Neutral")


def _saved(path, model, classes):
    save_model(model, ModelCard("any", classes, CropSettings(side=SIDE), "listed", {}), path)
    return path


def _preset(**network):
    preset = tiny_preset()
    return replace(preset, network=replace(preset.network, **network))


def _layers(model):
    return {layer.name: layer.get_weights() for layer in bare_network(model).layers}


def _biased(model):
    """The same model, no two outputs of which have the same bias."""
    head = bare_network(model).layers[-1]
    kernel, bias = head.get_weights()
    head.set_weights([kernel, bias + 1 + np.arange(len(bias))])
    return model


def test_same_network_and_classes_take_everything(tmp_path):
    source = _biased(build_network(tiny_preset(), 3, seed=1))
    path = _saved(tmp_path / "model.keras", served_model(source, 2.0, flip=True), CLASSES)
    model = build_network(tiny_preset(), 3, seed=2)
    taken = take_weights(model, open_source(path, "model"), CLASSES)
    assert taken.weights == taken.of == model.count_params()
    assert taken.classes == CLASSES
    for one, other in zip(source.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_outputs_are_taken_by_class_name_and_the_others_stay_new(tmp_path):
    source = _biased(build_network(tiny_preset(), 4, seed=1))
    path = _saved(tmp_path / "model.keras", source, OTHERS)
    model = build_network(tiny_preset(), 3, seed=2)
    fresh = build_network(tiny_preset(), 3, seed=2)
    taken = take_weights(model, open_source(path, "model"), CLASSES)
    assert taken.classes == ("Happiness", "Surprise")
    kernel, bias = model.get_layer("logits").get_weights()
    their_kernel, their_bias = source.get_layer("logits").get_weights()
    for name in ("Happiness", "Surprise"):
        here, there = CLASSES.index(name), OTHERS.index(name)
        assert np.array_equal(kernel[:, here], their_kernel[:, there])
        assert bias[here] == their_bias[there]
    new = CLASSES.index("Sadness")
    assert np.array_equal(kernel[:, new], fresh.get_layer("logits").get_weights()[0][:, new])
    assert bias[new] == 0
    assert taken.weights == taken.of - kernel.shape[0] - 1
    assert "outputs of Happiness, Surprise" in str(taken)


def test_of_another_network_the_layers_that_fit_are_taken(tmp_path):
    path = _saved(
        tmp_path / "model.keras",
        build_network(_preset(widths=(16, 32), blocks=(1, 1)), 3, seed=1),
        CLASSES,
    )
    # The same first stage, a second one of another width.
    preset = _preset(widths=(16, 24), blocks=(1, 1))
    model, fresh = (build_network(preset, 3, seed=2) for _ in range(2))
    taken = take_weights(model, open_source(path, "model"), CLASSES)
    assert 0 < taken.weights < taken.of
    assert taken.classes == ()
    assert "a new head" in str(taken)
    source = open_source(path, "model").model
    theirs, ours, new = (list(_layers(each).values()) for each in (source, model, fresh))
    same = [
        all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
        for one, other in zip(theirs, ours, strict=True)
        if one and [w.shape for w in one] == [w.shape for w in other]
    ]
    assert all(same[:6]), "stem and first block: three convolutions, three normalisations"
    for one, other in zip(ours, new, strict=True):
        if one and one[0].shape[-1] == 24:
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    count = sum(
        w.size
        for one, other in zip(ours, new, strict=True)
        for w, v in zip(one, other, strict=True)
        if not np.array_equal(w, v)
    )
    assert count <= taken.weights


def test_a_keras_file_from_elsewhere_gives_its_layers_and_no_outputs(tmp_path):
    import keras

    built = build_network(tiny_preset(), 3, seed=1)
    renamed = keras.models.clone_model(
        built,
        clone_function=lambda layer: type(layer).from_config(
            {**layer.get_config(), "name": f"other_{layer.name}"}
        ),
    )
    renamed.set_weights(built.get_weights())
    path = tmp_path / "foreign.keras"
    renamed.save(path)
    model = build_network(tiny_preset(), 3, seed=2)
    taken = take_weights(model, open_source(path, "foreign"), CLASSES)
    head = model.get_layer("logits").count_params()
    assert (taken.weights, taken.classes) == (taken.of - head, ())


def test_a_model_that_fits_nowhere_is_wrong_input(tmp_path):
    import keras

    foreign = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(2)])
    path = tmp_path / "foreign.keras"
    foreign.save(path)
    model = build_network(tiny_preset(), 3, seed=2)
    before = model.get_weights()
    with pytest.raises(InputError, match=r"No layer of mine\.keras fits .*: train its own network"):
        take_weights(model, open_source(path, "mine.keras"), CLASSES)
    for one, other in zip(before, model.get_weights(), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("data", [None, b"", b"no archive"])
def test_a_file_that_is_no_keras_model_is_wrong_input(tmp_path, data):
    path = tmp_path / "broken.keras"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError, match=r"mine can't be loaded as a Keras model"):
        open_source(path, "mine")
