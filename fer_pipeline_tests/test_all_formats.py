"""Every format that has a writer of fixtures, in one manifest, through the command line.

What each of them holds is drawn by `core/datasets/drawn_sets.py`. The command makes the manifest;
what follows is made in this process, and the command then finds nothing to do and tells of it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fer_pipeline.core.crop_set import read_crop_set
from fer_pipeline.core.datasets import faces_are_cropped, format_names
from fer_pipeline.core.labels import CODES
from fer_pipeline.core.manifest import read_manifest
from fer_pipeline.core.model_file import read_card
from fer_pipeline.reports import read_metrics, report_file
from fer_pipeline.settings import Settings
from fer_pipeline.summary import run_summary
from fer_pipeline.tracking import model_file
from fer_pipeline_tests import graph
from fer_pipeline_tests.core.datasets.drawn_sets import SETS
from fer_pipeline_tests.graph import Ended

STREAM = "three_class"


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The root of a data set of each format."""
    folder = tmp_path_factory.mktemp("formats")
    for name, write in SETS.items():
        write(folder / name)
    return {name: folder / name for name in SETS}


@pytest.fixture(scope="module")
def words(roots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The words of the mixed run."""
    sources = [word for name, root in roots.items() for word in ("--dataset", name, "--root", root)]
    return [
        *("run", *sources, "--home", tmp_path_factory.mktemp("mixed") / "home"),
        *("--preset", "smoke", "--unknown-labels", "reject"),
        *("--stream", STREAM, "--minutes", "0.1", "--json"),
    ]


@pytest.fixture(scope="module")
def home(words: list[object]) -> Path:
    """A home on which all that a mixed run makes was made."""
    ended = graph.fer_pipeline(*words, "--select", "class_manifest")
    assert ended.code == 0, ended.err
    assert set(ended.answer["made"]) == {"file_list_index", "class_manifest"}
    folder = Path(str(words[words.index("--home") + 1]))
    made = graph.make_behind(graph.remembered(folder))
    assert {"face_crops", f"{STREAM}/trained_model", f"{STREAM}/evaluation_report"} <= made
    return folder


def _told(home: Path) -> dict[str, Any]:
    """What a run tells of the home in the end."""
    settings = graph.remembered(home)
    return run_summary(settings, list(graph.states(settings).values()))


@pytest.mark.usefixtures("own_environment")
def test_a_mixed_run_ends_with_a_model_and_figures_of_each_data_set(
    home: Path, words: list[object], here: Callable[..., Ended]
) -> None:
    ended = here(*words)
    assert ended.code == 0, ended.err
    assert ended.answer["made"] == []
    found = ended.answer
    assert list(found["sources"]) == list(SETS)
    assert found["sources"]["hf-parquet"]["rows_indexed"] == 57
    assert sum(one["rows_indexed"] for one in found["sources"].values()) == found["rows_indexed"]
    for side, faces in found["rows_by_split"].items():
        assert sum(one[side] for one in found["sources"].values()) == faces
    figures = found["streams"][STREAM]
    assert list(figures["sources"]) == list(SETS)
    assert sum(one["faces"] for one in figures["sources"].values()) == figures["n_test"]
    for one in figures["sources"].values():
        assert 0 <= one["accuracy_low"] <= one["accuracy"] <= one["accuracy_high"] <= 1
    whole = sum(one["faces"] * one["accuracy"] for one in figures["sources"].values())
    assert whole / figures["n_test"] == pytest.approx(figures["accuracy"])
    assert " + ".join(SETS) in ended.words
    settings = Settings.load(home=home)
    assert "hf-parquet:validation" in report_file(settings, STREAM).read_text()
    slices = read_metrics(settings, STREAM)["details"]["slices"]
    assert {one["value"] for one in slices if one["subject"] == "Source"} == set(found["sources"])


def test_every_format_is_in_the_mixture() -> None:
    assert list(SETS) == sorted(SETS) == sorted(format_names())


@pytest.mark.usefixtures("own_environment")
@pytest.mark.parametrize("name", SETS)
def test_inspect_knows_each_of_them_by_its_folder(
    roots: dict[str, Path], here: Callable[..., Ended], name: str
) -> None:
    told = here("inspect", roots[name], "--json")
    assert told.code == 0, told.err
    assert told.answer["format"] == name
    assert f"--dataset {name} " in told.answer["command"]


def test_each_data_set_of_a_mixed_run_is_on_every_side_and_cropped_its_own_way(home: Path) -> None:
    settings = Settings.load(home=home)
    manifest = read_manifest(settings.manifest_folder).to_pandas()
    assert set(manifest["expression"]) <= set(CODES.values())
    sides = manifest.groupby(["source", "split"]).size()
    for source in SETS:
        assert all(sides[source, side] for side in ("train", "dev", "test"))
    crop_set = read_crop_set(settings.crops_folder, verify=True)
    assert crop_set.settings.detect == "missing"
    crops = pa.concat_tables([pq.read_table(path) for path in crop_set.paths]).to_pandas()
    source = manifest.set_index("face_id")["source"][crops["face_id"]].to_numpy()
    frame = ["box_x", "box_y", "box_width", "box_height"]
    for name in SETS:
        own = crops[(source == name) & (crops["status"] == "ok")]
        sides = own[["photo_width", "photo_height"]].to_numpy()
        whole = np.hstack([np.zeros_like(sides), sides])
        assert len(own)
        assert (own[frame].to_numpy() == whole).all() == faces_are_cropped(name)


def test_no_picture_of_one_drawn_data_set_is_taken_for_one_of_another(home: Path) -> None:
    assert _told(home)["near_copies_across_sets"] == 0


def test_the_model_of_a_mixed_run_says_what_it_was_trained_on(home: Path) -> None:
    settings = Settings.load(home=home)
    uri = _told(home)["streams"][STREAM]["model_uri"]
    card = read_card(model_file(settings, uri))
    assert card.trained_on["data_set"] == " + ".join(SETS)
    assert card.crop == settings.crop_settings


@pytest.mark.usefixtures("own_environment")
def test_a_second_mixed_run_makes_nothing_and_status_names_every_data_set(
    home: Path, here: Callable[..., Ended]
) -> None:
    again = here("run", "--home", home, "--json")
    assert (again.code, again.answer["made"]) == (0, [])
    status = here("status", "--home", home, "--json")
    assert [one["dataset"] for one in status.answer["settings"]["datasets"]] == list(SETS)
    assert json.dumps(status.answer["sources"]) == json.dumps(_told(home)["sources"])
    for name in SETS:
        assert f"{name} at " in status.words


@pytest.mark.usefixtures("own_environment")
@pytest.mark.parametrize("name", ["affectnet", "hf-parquet"])
def test_the_model_of_a_mixed_run_is_scored_on_either_kind_of_data_set_alone(
    home: Path, roots: dict[str, Path], here: Callable[..., Ended], name: str
) -> None:
    figures = _told(home)["streams"][STREAM]
    scored = here(
        *("evaluate", "--model", figures["model_uri"], "--home", home),
        *("--dataset", name, "--root", roots[name], "--json"),
    )
    assert scored.code == 0, scored.err
    if faces_are_cropped(name):
        # The same faces, cropped the same way as inside the mixture.
        assert scored.answer["n"] == figures["sources"][name]["faces"]
        assert scored.answer["accuracy"] == pytest.approx(figures["sources"][name]["accuracy"])
