"""The benchmarks at a tiny size: each subject measures something and fills its rows."""

from pathlib import Path

import pytest

from benchmarks import batches, harness, page, stage
from benchmarks.__main__ import main
from benchmarks.harness import Figures, Row, Side, limited, run_side
from benchmarks.lists import write_lists
from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.index import build_index
from fer_pipeline_tests import graph

WORK = {
    "index": ["index of AffectNet-like lists, one core", "peak memory of the index"],
    "manifest": ["peak memory of the manifest"],
    "crop": ["crop, photos of about 425 px", "crop, photos of 1800 to 3200 px"],
    "detect": ["crop with detection", "listed faces found"],
    "stage": [
        "crop stage, 2 workers",
        "crop stage as a whole",
        "peak memory of the crop stage, 2 workers, largest process",
    ],
    "batches": ["epoch of batches from shards", "training feed: preset cpu"],
}

FEW = "16"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


IN_THIS_PROCESS = {
    f"batches:{name}": getattr(batches, name) for name in ("training", "fed", "fit", "looped")
}
"""Sides that mostly start a training framework, which runs in this process already."""


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
    options = ["--only", subject, "--repeats", "1", "--photos", FEW, "--rows", "2000"]
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
