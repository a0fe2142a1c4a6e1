"""Test photos that were copied into training under other names: what finds which of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fer_pipeline.checks import manifest_checks
from fer_pipeline.core.crop_set import CROPS_LIST
from fer_pipeline.core.drawing import draw_photo
from fer_pipeline.core.manifest import MANIFEST_FILE, read_manifest
from fer_pipeline.core.splits import COPY_OF_TEST
from fer_pipeline.leak_checks import leak_checks
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.core.parquet_faces import FER, write_split
from fer_pipeline_tests.core.small_release import encoded, line, write_list, write_photo

CLASSES = ("Happiness", "Sadness", "Surprise")
CODE = {"Happiness": 1, "Sadness": 2, "Surprise": 3}
FER_NAME = {"Happiness": "happy", "Sadness": "sad", "Surprise": "surprise"}
TEST, TRAINING, EACH = 15, 42, 4
SAME, ANEW, RESIZED = (range(start, start + EACH) for start in (0, EACH, 2 * EACH))
"""Which test photos training gets: the same file, encoded anew, resized."""

Face = tuple[np.ndarray[Any, Any], tuple[float, ...], str]


@pytest.fixture(scope="module")
def faces() -> list[Face]:
    """Drawn photos with their box and expression; the first ones are the test list's."""
    made = []
    for number in range(TEST + TRAINING):
        name = CLASSES[number % 3]
        photo = draw_photo(np.random.default_rng([7, number]), name, size=(200, 220))
        assert photo.box is not None
        made.append((photo.image, tuple(photo.box), name))
    return made


def _resized(image: np.ndarray[Any, Any], factor: float) -> np.ndarray[Any, Any]:
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def _planted(number: int, image: np.ndarray[Any, Any]) -> tuple[bytes, float]:
    """The copy that training gets of a test photo, and by how much it was resized."""
    if number in SAME:
        return encoded(image), 1.0
    if number in ANEW:
        return encoded(image, "JPEG", quality=40), 1.0
    return encoded(_resized(image, 0.9)), 0.9


def _release(root: Path, faces: list[Face]) -> str:
    lists: dict[str, list[str]] = {"manual_val": [], "manual_train": [], "auto": []}

    def add(name: str, path: str, data: bytes, box: tuple[float, ...], expression: str) -> None:
        write_photo(root, path, data)
        lists[name].append(line(path, [round(side) for side in box], CODE[expression]))

    for number, (image, box, expression) in enumerate(faces):
        name = "manual_val" if number < TEST else "manual_train"
        add(name, f"1/{number:03d}.png", encoded(image), box, expression)
        if number < RESIZED.stop:
            data, factor = _planted(number, image)
            moved = tuple(side * factor for side in box)
            add("manual_train", f"2/other-{number:03d}.jpg", data, moved, expression)
    for name, rows in lists.items():
        write_list(root, name, rows)
    return "affectnet"


def _parquet(root: Path, faces: list[Face]) -> str:
    pictures: dict[str, list[bytes]] = {"test": [], "train": [], "planted": []}
    labels: dict[str, list[int | None]] = {"test": [], "train": [], "planted": []}
    for number, (image, box, expression) in enumerate(faces):
        x, y, width, height = (round(side) for side in box)
        picture = cv2.resize(image[y : y + height, x : x + width], (96, 96))
        split = "test" if number < TEST else "train"
        pictures[split].append(encoded(picture))
        labels[split].append(FER.index(FER_NAME[expression]))
        if number < RESIZED.stop:
            pictures["planted"].append(_planted(number, picture)[0])
            labels["planted"].append(FER.index(FER_NAME[expression]))
    write_split(root, "test", labels["test"], images=pictures["test"])
    write_split(
        root,
        "train",
        labels["train"] + labels["planted"],
        images=pictures["train"] + pictures["planted"],
    )
    return "hf-parquet"


@pytest.fixture(scope="module", params=[_release, _parquet], ids=["photos", "parquet"])
def made(
    request: pytest.FixtureRequest, faces: list[Face], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Settings, dg.ExecuteInProcessResult]:
    """A home after the lists with the planted copies were read and their faces cropped."""
    folder = tmp_path_factory.mktemp("planted")
    write: Callable[[Path, list[Face]], str] = request.param
    dataset = write(folder / "data", faces)
    settings = graph.small_settings(folder / "data", folder / "home", dataset=dataset)
    with graph.instance_of(settings.home) as instance:
        names = ("file_list_index", "class_manifest", "face_crops")
        return settings, graph.materialize(settings, names, instance)


def _check(result: dg.ExecuteInProcessResult, name: str) -> Any:
    (found,) = [one for one in result.get_asset_check_evaluations() if one.check_name == name]
    return found


def test_identical_copies_of_test_photos_are_taken_out_of_training(made) -> None:
    settings, result = made
    manifest = read_manifest(settings.manifest_folder)
    copies = manifest.filter(pc.equal(manifest["reason"], COPY_OF_TEST))
    assert len(copies) == EACH
    assert set(copies["split"].to_pylist()) == {"excluded"}
    test = manifest.filter(pc.equal(manifest["split"], "test"))
    assert len(test) == TEST
    assert set(copies["group_id"].to_pylist()) < set(test["group_id"].to_pylist())
    assert not set(copies["image_path"].to_pylist()) & set(test["image_path"].to_pylist())
    assert _check(result, "no_group_on_two_sides").passed


def test_a_manifest_that_kept_an_identical_copy_is_stopped(made, tmp_path: Path) -> None:
    settings, _ = made
    manifest = read_manifest(settings.manifest_folder)
    copied = pc.equal(manifest["reason"], COPY_OF_TEST).fill_null(False)
    # As if each copy were a photo of its own: another group, and in training.
    names = pa.array([f"own-{row}" for row in range(len(manifest))])
    for column, kept in (("split", pa.scalar("train")), ("group_id", names)):
        place = manifest.schema.get_field_index(column)
        manifest = manifest.set_column(place, column, pc.if_else(copied, kept, manifest[column]))
    folder = settings.model_copy(update={"home": tmp_path}).manifest_folder
    folder.mkdir(parents=True)
    pq.write_table(manifest, folder / MANIFEST_FILE)
    (definition,) = manifest_checks()
    results: Any = definition(settings=settings.model_copy(update={"home": tmp_path}))
    found = {result.check_name: result for result in results}["no_group_on_two_sides"]
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert f"{EACH} photos stand on two sides" in (found.description or "")


def test_copies_encoded_anew_or_resized_are_found_among_the_crops(made) -> None:
    settings, result = made
    assert result.success
    assert (settings.crops_folder / CROPS_LIST).is_file()
    found = _check(result, "no_near_copy_of_a_test_face")
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    figures = {name: value.value for name, value in found.metadata.items()}
    assert figures["near_copies"] == len(ANEW) + len(RESIZED)
    assert figures["test_faces_compared"] == TEST
    # All of training and dev but the identical copies, which are left out already.
    assert figures["training_faces_compared"] == TRAINING + len(ANEW) + len(RESIZED)


@pytest.mark.parametrize("made", [_release], ids=["photos"], indirect=True)
def test_each_near_copy_is_named_beside_its_test_face(made) -> None:
    _, result = made
    pairs = _check(result, "no_near_copy_of_a_test_face").metadata["pairs"].value
    for number in (*ANEW, *RESIZED):
        row = f"| 1/{number:03d}.png (manual_val) | 2/other-{number:03d}.jpg (manual_train) |"
        assert row in pairs


def test_near_copies_are_told_on_the_command_line(made, capfd: pytest.CaptureFixture[str]) -> None:
    settings, _ = made
    (definition,) = leak_checks()
    definition(dg.build_asset_check_context(), settings=settings)
    words = " ".join(capfd.readouterr().err.split())
    count = len(ANEW) + len(RESIZED)
    assert f" WARNING - system - {count} of {TEST} test faces have nearly the same crop in" in words
