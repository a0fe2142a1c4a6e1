"""Data and results in an object store, against a real server of the S3 protocol."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import EndpointConnectionError

from fer_pipeline.assets.steps import WRONG_INPUT, step
from fer_pipeline.core.crop_set import read_crop_set
from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.files import publish_bytes
from fer_pipeline.core.storage import as_location, file_stamps, parquet_source, storage_problem
from fer_pipeline.settings import Settings
from fer_pipeline.summary import run_summary
from fer_pipeline_tests import graph, object_store
from fer_pipeline_tests.graph import Ended

STREAM = "three_class"


@pytest.fixture(scope="module")
def store(drawn_release: Path) -> Iterator[str]:
    """The address of a bucket that holds the drawn release under `data`."""
    with object_store.object_store() as address:
        object_store.upload(drawn_release, "data")
        yield address


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def settings(store: str, state: Path) -> Settings:
    """The settings of a home in the store in which everything was made.

    The command and its steps make what needs no training, this process the rest.
    """
    words = graph.run_words(f"{store}/data", f"{store}/home", (STREAM,))
    selected = ("--select", "crop_report", "--minutes", "0.05", "--json")
    ended = graph.fer_pipeline(*words, *selected, FER_STATE=str(state))
    assert ended.code == 0, ended.err
    assert "crop_report" in ended.answer["made"]
    found = graph.remembered(f"{store}/home", state=state)
    made = graph.make_behind(found)
    assert {f"{STREAM}/trained_model", f"{STREAM}/evaluation_report"} <= made
    return found


@pytest.fixture(scope="module")
def figures(settings: Settings) -> dict[str, Any]:
    """What is told of the streams in the end."""
    found = run_summary(settings, list(graph.states(settings).values()))["streams"]
    assert found
    return dict(found)


def _crops(folder: object) -> pa.Table:
    found = read_crop_set(folder)
    return pa.concat_tables(
        pq.read_table(parquet_source(path)).replace_schema_metadata(None) for path in found.paths
    )


def test_run_reads_from_an_address_and_leaves_its_results_at_another(
    figures: dict[str, Any], store: str
) -> None:
    names = object_store.keys("home/")
    for wanted in (
        "home/index/file_list_index.parquet",
        "home/manifest/class_manifest.parquet",
        "home/reports/failed_faces.csv",
        f"home/reports/{STREAM}/report.html",
        f"home/reports/{STREAM}/metrics.json",
    ):
        assert wanted in names
    assert any(name.startswith("home/mlflow/artifacts/models/") for name in names)
    assert figures[STREAM]["report"] == f"{store}/home/reports/{STREAM}/report.html"


@pytest.mark.usefixtures("settings")
def test_state_stands_on_this_machine_and_holds_no_credentials(state: Path) -> None:
    (folder,) = state.iterdir()
    names = {path.name for path in folder.iterdir()}
    assert names == {"dagster", "mlflow", "run.lock", "settings.toml", "home.id"}
    assert {path.name for path in (folder / "mlflow").iterdir()} == {"mlflow.db"}
    text = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert text
    assert object_store.SECRET.encode() not in text


def test_crops_are_those_of_a_local_run_byte_for_byte(
    settings: Settings, drawn_release: Path
) -> None:
    remote = settings.crops_folder
    assert str(remote).startswith("s3://")
    local = _crops(graph.early(drawn_release).crops_folder)
    assert local.num_rows > 0
    assert _crops(remote).equals(local)


def test_second_run_does_nothing(figures: dict[str, Any], store: str, state: Path) -> None:
    before = object_store.keys("")
    again = graph.fer_pipeline("run", "--home", f"{store}/home", "--json", FER_STATE=str(state))
    assert again.code == 0, again.err
    assert again.answer["made"] == []
    assert again.answer["streams"] == figures
    assert object_store.keys("") == before


@pytest.mark.usefixtures("own_environment")
@pytest.mark.parametrize("place", ["root", "home"])
def test_missing_bucket_is_wrong_input(
    place: str,
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    here: Callable[..., Ended],
) -> None:
    root = "s3://no-such-bucket/data" if place == "root" else f"{store}/data"
    home = "s3://no-such-bucket/home" if place == "home" else tmp_path / "home"
    monkeypatch.setenv("FER_STATE", str(tmp_path))
    ended = here(*graph.run_words(root, home, (STREAM,)))
    assert ended.code == 2, ended.err
    assert "s3://no-such-bucket/" in ended.words
    assert "Traceback" not in ended.err
    assert len(ended.err.strip().splitlines()) <= 3


def test_store_out_of_reach_is_one_sentence(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    ended = graph.fer_pipeline(
        *("run", "--dataset", "affectnet", "--root", f"{store}/data", "--home", tmp_path / "home")
    )
    assert ended.code == 2, ended.err
    assert "can't be used" in ended.words
    assert "Traceback" not in ended.err


def test_refused_access_is_told_as_such_and_no_missing_data(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    root = as_location(f"{store}/data")
    root.fs.clear_instance_cache()
    root = as_location(f"{store}/data/")
    with pytest.raises(Exception, match="credentials") as caught:
        open_dataset("affectnet", root)
    assert not isinstance(caught.value, InputError)
    problem = storage_problem(caught.value)
    assert problem is not None
    assert "AWS_ACCESS_KEY_ID" in problem
    root.fs.clear_instance_cache()


def test_object_of_the_same_size_and_second_has_another_stamp(store: str) -> None:
    path = as_location(f"{store}/stamps/file")
    publish_bytes(path, b"one")
    before = file_stamps([path])
    publish_bytes(path, b"two")
    assert file_stamps([path]) != before


def test_store_that_breaks_down_ends_a_step_in_one_sentence() -> None:
    with pytest.raises(dg.Failure, match=r"can't be used .*run again") as caught, step():
        raise EndpointConnectionError(endpoint_url="http://store")
    assert WRONG_INPUT in caught.value.metadata
