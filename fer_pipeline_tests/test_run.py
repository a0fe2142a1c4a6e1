"""The whole graph through the command line, once; then what a second run does, and doesn't."""

import math
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from fer_pipeline.core.index import INDEX_FILE, REJECTED_FILE
from fer_pipeline.core.manifest import read_manifest
from fer_pipeline_tests import graph
from fer_pipeline_tests.graph import Ended, Finished, fer_pipeline

ASSETS = [
    *graph.EARLY_ASSETS,
    *(
        f"{stream}/{name}"
        for stream in graph.STREAMS
        for name in (
            "relabel_sample",
            "trained_model",
            "evaluation_report",
            "human_error_report",
            "champion",
        )
    ),
]
STREAM_FIELDS = {
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "macro_f1",
    "balanced_accuracy",
    "majority_accuracy",
    "n_test",
    "mlflow_run_id",
    "model_uri",
    "report",
}


@pytest.fixture(scope="module")
def done(drawn_release: Path) -> Finished:
    return graph.finished(drawn_release)


@pytest.fixture(scope="module")
def answer(done: Finished) -> dict[str, Any]:
    assert done.ended.code == 0, done.ended.err
    return done.ended.answer


def _materializations(home: Path) -> dict[str, int]:
    with graph.instance_of(home) as instance:
        return {
            name: len(
                instance.fetch_materializations(
                    dg.AssetKey.from_user_string(name), limit=100
                ).records
            )
            for name in ASSETS
        }


def test_run_makes_every_asset_once(done: Finished, answer: dict[str, Any]) -> None:
    assert sorted(answer["made"]) == sorted(ASSETS)
    assert _materializations(done.home) == dict.fromkeys(ASSETS, 1)


def test_rows_read_are_the_rows_indexed_and_rejected(
    done: Finished, answer: dict[str, Any]
) -> None:
    assert answer["rows_indexed"] + answer["rows_rejected"] == answer["rows_read"]
    assert sum(answer["rejected_by_reason"].values()) == answer["rows_rejected"] > 0
    index = done.home / "index"
    assert answer["rows_indexed"] == pq.read_metadata(index / INDEX_FILE).num_rows
    assert answer["rows_rejected"] == pq.read_metadata(index / REJECTED_FILE).num_rows


def test_faces_by_status_are_the_faces_of_the_manifest(
    done: Finished, answer: dict[str, Any]
) -> None:
    rows = read_manifest(done.home / "manifest").num_rows
    assert sum(answer["faces"].values()) == rows
    assert answer["faces"]["ok"] > 0
    assert answer["faces"]["unreadable"] > 0
    assert sum(answer["rows_by_split"].values()) == rows


def test_figures_of_each_stream_are_whole(answer: dict[str, Any]) -> None:
    assert list(answer["streams"]) == list(graph.STREAMS)
    for figures in answer["streams"].values():
        assert set(figures) >= STREAM_FIELDS
        assert 0 <= figures["accuracy_low"] <= figures["accuracy"] <= figures["accuracy_high"] <= 1
        assert all(math.isfinite(v) for v in figures.values() if isinstance(v, float))
        assert figures["n_test"] > 0
        assert Path(figures["report"]).is_file()


def test_majority_is_the_share_of_the_largest_class_of_the_test_split(
    done: Finished, answer: dict[str, Any]
) -> None:
    figures = answer["streams"]["three_class"]
    manifest = read_manifest(done.home / "manifest").to_pandas()
    test = manifest[(manifest["split"] == "test")]["expression"].value_counts()
    # Every test face of the drawn release opens, so the manifest tells the shares.
    assert figures["n_test"] == test.sum()
    assert figures["majority_accuracy"] == pytest.approx(test.max() / test.sum())


def test_run_tells_what_it_makes_and_where_the_report_is(done: Finished) -> None:
    words = done.ended.words
    assert "file_list_index: never made" in words
    assert "made three_class/trained_model" in words
    assert "epoch 1: loss" in words
    assert "rejected: unsafe_path" in words
    assert "three_class report: " in words
    assert "These faces are drawings" in words


def test_stdout_is_the_json_alone(done: Finished) -> None:
    assert len(done.ended.out.strip().splitlines()) == 1


def test_home_holds_what_the_design_says_and_nothing_half_written(done: Finished) -> None:
    names = {path.name for path in done.home.iterdir()}
    assert names == {
        *("dagster", "mlflow", "index", "manifest", "crops", "reports", "studies"),
        *("settings.toml", "run.lock", "home.id"),
    }
    assert [path for path in done.home.rglob("*.part") if "dagster" not in path.parts] == []
    assert (done.home / "mlflow" / "mlflow.db").is_file()


@pytest.fixture(scope="module")
def again(done: Finished) -> tuple[dict[str, int], dict[str, str], Ended]:
    """Materializations and MLflow runs before a second run, and how that ended."""
    before = _materializations(done.home), graph.tracked_runs(done.home)
    return (*before, fer_pipeline("run", "--home", done.home, "--json"))


def test_second_run_makes_nothing_and_says_so(
    done: Finished, again: tuple[dict[str, int], dict[str, str], Ended]
) -> None:
    made, runs, ended = again
    assert ended.code == 0, ended.err
    assert "Nothing to do: everything is up to date" in ended.words
    assert ended.answer["made"] == []
    assert ended.answer["up_to_date"] == len(ASSETS)
    assert _materializations(done.home) == made
    assert graph.tracked_runs(done.home) == runs
    assert len(runs) == len(graph.STREAMS)


def test_second_run_gives_the_same_figures(
    answer: dict[str, Any], again: tuple[dict[str, int], dict[str, str], Ended]
) -> None:
    second = again[2].answer
    for name in ("rows_read", "rows_indexed", "rows_rejected", "faces", "streams"):
        assert second[name] == answer[name]


def test_whole_words_of_the_first_run_make_nothing_either(done: Finished) -> None:
    """The options of the first run, given again, are the settings that are remembered."""
    assert graph.to_be_made(done.settings()) == {}


def test_another_seed_plans_all_that_depends_on_it(done: Finished) -> None:
    states = graph.states(done.settings(seed=1))
    assert [name for name, state in states.items() if state.reason is None] == ["file_list_index"]


def test_selected_asset_is_made_with_what_it_needs_and_nothing_else(
    done: Finished, tmp_path: Path
) -> None:
    home = done.copy(tmp_path / "home").home
    ended = fer_pipeline(
        *("run", "--home", home, "--seed", "1", "--select", "class_manifest", "--json")
    )
    assert ended.code == 0, ended.err
    assert ended.answer["made"] == ["class_manifest"]
    assert ended.answer["up_to_date"] == 1
    assert ended.answer["manifest_hash"] != done.ended.answer["manifest_hash"]


def test_forced_asset_is_made_again_and_what_it_needs_is_not(
    done: Finished, tmp_path: Path
) -> None:
    home = done.copy(tmp_path / "home").home
    ended = fer_pipeline(
        *("run", "--home", home, "--select", "expression_summary", "--force", "--json")
    )
    assert ended.code == 0, ended.err
    assert ended.answer["made"] == ["expression_summary"]
    assert ended.answer["up_to_date"] == 1
    assert "expression_summary: asked for" in ended.words
