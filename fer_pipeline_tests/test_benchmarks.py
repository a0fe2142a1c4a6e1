"""The benchmarks at a tiny size: each subject measures something and fills its rows."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import batches, harness, page, recognise, stage
from benchmarks.__main__ import main
from benchmarks.harness import Figures, Row, Side, limited, run_side
from benchmarks.labelled import positions
from benchmarks.lists import write_lists
from benchmarks.peers import square
from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.index import build_index
from fer_pipeline_tests import graph
from fer_pipeline_tests.core.parquet_faces import write_split
from fer_pipeline_tests.core.small_release import encoded

WORK = {
    "index": ["index of AffectNet-like lists, one core", "peak memory of the index"],
    "formats": [
        *("index of affectnet-2021", "index of affectnet-plus", "index of csv", "index of expw"),
        *("index of fer2013", "index of folders", "index of raf-db"),
    ],
    "manifest": ["peak memory of the manifest"],
    "crop": ["crop, photos of about 425 px", "crop, photos of 1800 to 3200 px"],
    "detect": ["crop with detection", "listed faces found"],
    "stage": [
        "crop stage, 2 workers",
        "crop stage as a whole",
        "peak memory of the crop stage, 2 workers, largest process",
    ],
    "batches": ["epoch of batches from shards", "training feed: preset cpu"],
    "recognise": [
        "expression alone, crops of 48 px",
        "start of Python to the first answer",
        "peak memory of recognition, 40 photos",
        "peak memory of recognition, many photos beside some",
        "live: frames of 640x480",
    ],
}
PHOTOS = {"recognise": "4"}


SHADE = 30
RIGHT_FER = f"""
LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

class FER:
    def __init__(self, offsets=(10, 10)):
        self.offsets = offsets

    def detect_emotions(self, image, boxes=None):
        number = 0 if isinstance(image, str) else min(6, round(image.mean() / {SHADE}))
        return [{{"emotions": {{name: float(at == number) for at, name in enumerate(LABELS)}}}}]

    def _classify_emotions(self, faces):
        return faces.mean(axis=(1, 2))
"""
HAPPY_FACEX = """
class PoolManager:
    def __init__(self, pool_size):
        pass

    def get_worker(self, user):
        return self

    def detect_emotion(self, face):
        return {"anger": 0.1, "happy": 0.9}
"""

FEW = "16"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


IN_THIS_PROCESS = {
    f"batches:{name}": getattr(batches, name) for name in ("training", "fed", "fit", "looped")
} | {f"recognise:{name}": getattr(recognise, name) for name in ("network", "photos", "live")}
"""Sides that mostly start a framework or an interpreter, which runs in this process already."""


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sides of one function differ in their sizes only: the first is measured, for all."""
    found: dict[str, Figures] = {}

    def run_once(side: Side) -> Figures:
        if side.function not in found:
            here = IN_THIS_PROCESS.get(side.function)
            found[side.function] = here(**side.arguments) if here else run_side(side)
        return found[side.function]

    monkeypatch.setattr(harness, "run_side", run_once)


@pytest.fixture
def prepared_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The homes of the crop stage are made in this process; the batches make theirs by a run."""

    def prepare(root: Path, home: Path) -> None:
        settings = graph.small_settings(root, home, dev_share=0.33)
        settings.remember()
        with graph.instance_of(home) as instance:
            made = graph.materialize(settings, ["file_list_index", "class_manifest"], instance)
        assert made.success

    monkeypatch.setattr(stage, "prepare", prepare)


@pytest.mark.usefixtures("once", "prepared_here")
@pytest.mark.parametrize("subject", WORK)
def test_each_subject_writes_its_rows_to_the_page(
    subject: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FER_BENCH_DATA", raising=False)
    target = tmp_path / "performance.md"
    target.write_text(f"before\n{page.START}\nold figures\n{page.END}\nafter\n")
    # Large photos take longest to draw; subjects that need more photos take more.
    options = [
        "--only",
        subject,
        "--repeats",
        "1",
        "--photos",
        PHOTOS.get(subject, FEW),
        "--rows",
        "2000",
    ]
    assert main([*options, "--data", str(data), "--page", str(target)]) == 0
    text = target.read_text()
    assert text.startswith(f"before\n{page.START}\nMeasured on ")
    assert text.endswith(f"{page.END}\nafter\n")
    assert "old figures" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    for work in WORK[subject]:
        (row, *_) = [line for line in lines if line.startswith(f"| {work}")]
        assert float(row.split("|")[4]) > 0
        assert row.rstrip("| ").endswith("1x")


def test_real_photos_are_measured_too_when_their_folder_is_given(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_release: Path
) -> None:
    monkeypatch.setenv("FER_BENCH_DATA", str(drawn_release))
    target = tmp_path / "performance.md"
    options = ["--only", "crop", "--repeats", "1", "--photos", FEW, "--page", str(target)]
    assert main([*options, "--data", str(data)]) == 0
    assert "| crop, the real photos given, one core |" in target.read_text()


@pytest.fixture
def peers(tmp_path: Path) -> str:
    """An interpreter with stand-ins: fer, which is right, and facex, for which all are happy.

    The pictures that fer is right about have the number of their label as their shade.
    """
    for name, module, source in (
        ("fer", "fer.py", RIGHT_FER),
        ("facex", "__init__.py", HAPPY_FACEX),
    ):
        (tmp_path / "site" / name).mkdir(parents=True)
        (tmp_path / "site" / name / module).write_text(source)
        about = tmp_path / "site" / f"{name}-1.2.3.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n")
    python = tmp_path / "python"
    path = f"{tmp_path / 'site'}:$PYTHONPATH"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return str(python)


@pytest.mark.usefixtures("once")
def test_other_packages_stand_beside_ours_where_an_interpreter_has_them(
    peers: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_release: Path
) -> None:
    labels = [0, 1, 2, 3, 4, 5, 6, 3, 3]
    shades = [np.full((48, 48, 3), SHADE * label, np.uint8) for label in labels]
    write_split(tmp_path / "fer2013", "validation", labels, images=[encoded(x) for x in shades])
    monkeypatch.setenv("FER_BENCH_DATA", str(drawn_release))
    monkeypatch.setenv("FER_BENCH_FER2013", str(tmp_path / "fer2013"))
    target = tmp_path / "performance.md"
    options = ["--only", "recognise", "--repeats", "1", "--photos", "4", "--peers", peers]
    assert main([*options, "--data", str(data), "--page", str(target)]) == 0
    lines = [line.split("|")[1:-1] for line in target.read_text().splitlines() if "|" in line]
    cells = [[cell.strip() for cell in line] for line in lines]
    beside = {line[0]: line[2] for line in cells}
    for work in ("drawn photos", "real photos"):
        assert (
            "fer 1.2.3, its own detector: "
            in beside[f"JPEG of 640x480 to expressions, {work}, one core"]
        )
    scores = {(line[0], line[1]): line[2:] for line in cells if len(line) == 6}
    fer2013, release = "FER2013, PublicTest", "AffectNet release, validation list"
    assert scores[fer2013, "fer 1.2.3"][:3] == ["1.000 (1.000 to 1.000)"] * 3
    assert scores[fer2013, "facex 1.2.3"][0].startswith("0.333 (")
    assert scores[fer2013, "starter model"][3:] == ["9"]
    assert {package for name, package in scores if name == release} == {
        "starter model", "fer 1.2.3", "facex 1.2.3",
    }  # fmt: skip


def test_interpreter_that_has_nothing_to_compare_with_is_refused_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for python, problem in (
        (sys.executable, "has none of fer, facex: install them there"),
        (str(tmp_path / "python"), "can't be run as Python"),
    ):
        assert main(["--only", "recognise", "--peers", python, "--data", str(tmp_path)]) == 2
        assert problem in " ".join(capsys.readouterr().err.split())


def test_answers_in_any_words_are_the_same_classes() -> None:
    assert positions(["happy", "surprised", "anger", None]).tolist() == [1, 3, 6, -1]
    with pytest.raises(ValueError, match="'bored' is none of Neutral"):
        positions(["bored"])


def test_squares_for_other_packages_keep_the_centre_of_the_box() -> None:
    assert square((10, 20, 100, 60)) == (10, 0, 100, 100)
    assert square((0.4, 0, 20, 50.2)) == (-15, 0, 50, 50)


def test_unknown_subject_and_folder_that_is_none_are_refused_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--only", "nothing", "--data", str(tmp_path)]) == 2
    assert "no benchmark nothing" in capsys.readouterr().err
    monkeypatch.setenv("FER_BENCH_DATA", str(tmp_path / "gone"))
    assert main(["--only", "crop", "--data", str(tmp_path)]) == 2
    assert "which is no folder" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(ValueError, match="choose from a, b"):
        limited(["a", "b"], ["c"])


def test_a_side_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)crop:ours failed: .*gone\.json"):
        run_side(Side("crop:ours", {"faces": "gone.json"}))


def test_a_target_is_met_on_its_own_side() -> None:
    assert Row("w", "o", "b", 1.8, 1.7, "n").met
    assert not Row("w", "o", "b", 1.6, 1.7, "n").met
    assert Row("w", "o", "b", 1.1, 1.15, "n", at_least=False).met
    assert not Row("w", "o", "b", 1.2, 1.15, "n", at_least=False).met
    assert Row("w", "o", "b", 0.1, None, "n").met


def test_written_lists_are_read_without_loss_and_hold_repeats_and_conflicts(tmp_path: Path) -> None:
    write_lists(tmp_path, 5000)
    dataset = open_dataset("affectnet", tmp_path)
    summary = build_index(dataset, tmp_path / "index")
    assert summary.rows_read == 5000 == sum(dataset.count_rows(name) for name in dataset.lists())
    assert summary.rows_indexed > 4950
    assert min(summary.issues["duplicate"], summary.issues["conflicting_label"]) > 5
