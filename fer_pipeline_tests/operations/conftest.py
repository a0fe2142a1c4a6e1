"""Homes that several tests of these commands begin with."""

import contextlib
import shutil
from pathlib import Path

import pytest

from fer_pipeline import tracking
from fer_pipeline.champion import write_champion
from fer_pipeline.core.answers import AnswerStore
from fer_pipeline.registry import Registry
from fer_pipeline.settings import Settings
from fer_pipeline_tests import graph
from fer_pipeline_tests.operations.moves import SECRET, an_answer
from fer_pipeline_tests.operations.registered import STREAM, promote, register


@pytest.fixture
def home(drawn_release: Path, tmp_path: Path) -> Settings:
    """A home with everything but models, free to be changed."""
    settings = graph.early_copy(drawn_release, tmp_path / "home")
    settings.remember()
    return settings


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database with no run in it: making one takes seconds, copying it none."""
    settings = Settings.fresh(home=tmp_path_factory.mktemp("empty"))
    tracking.connect(settings).search_experiments(max_results=1)
    return settings.mlflow_folder / "mlflow.db"


@pytest.fixture(scope="session")
def first_registered(tmp_path_factory: pytest.TempPathFactory, empty_registry: Path) -> Settings:
    """A home with four versions, of which the third is the champion; not to be changed."""
    settings = Settings.fresh(home=tmp_path_factory.mktemp("registered"), streams=(STREAM,))
    settings.dagster_home.mkdir(parents=True)
    settings.mlflow_folder.mkdir()
    shutil.copy(empty_registry, settings.mlflow_folder)
    for at in range(4):
        number = register(settings, crops=f"crops-{at + 1}")
        if at < 3:
            promote(settings, number)
    write_champion(Registry(settings, STREAM))
    return settings


@pytest.fixture
def registered(first_registered: Settings, tmp_path: Path) -> Settings:
    """That home in another place, free to be changed."""
    shutil.copytree(str(first_registered.home), tmp_path / "registered")
    return first_registered.model_copy(update={"home": tmp_path / "registered"})


@pytest.fixture
def full(registered: Settings, tmp_path: Path) -> Settings:
    """A home with four versions, one with a further alias, answers, a study, corrections, and
    settings with a secret.
    """
    home = registered.state_folder
    (home / "settings.toml").write_text(
        f'root = "{tmp_path}/private-photos"\ndataset = "affectnet"\nseed = 7\n'
        f'streams = ["{STREAM}"]\nalert_url = "https://hook.example/{SECRET}"\n'
    )
    (home / "corrections.csv").write_text("face_id,expression\nx,Anger\n")
    study = home / "studies" / STREAM / "people.parquet"
    study.parent.mkdir(parents=True)
    study.write_bytes(bytes(range(256)) * 9)
    (study.parent / ".half.part").write_bytes(b"never finished")
    with contextlib.closing(AnswerStore(registered.answers_address)) as store:
        store.add_all([an_answer(1), an_answer(2, "Anger"), an_answer(1, annotator="Zoë")])
    name = tracking.registered_name(STREAM)
    tracking.connect(registered).set_registered_model_alias(name, "mine", "1")
    return registered
