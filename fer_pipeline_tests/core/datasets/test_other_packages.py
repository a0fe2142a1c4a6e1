"""Formats that other packages bring: the example of docs/add-a-format.md, and broken ones."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fer_pipeline.core.datasets import find_format, format_names, open_dataset, registry
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.index import REJECTED_FILE, build_index, count_kept_and_rejected
from fer_pipeline.core.splits import groups_on_two_sides
from fer_pipeline_tests import graph
from fer_pipeline_tests.core.datasets.distributions import GROUP, install
from fer_pipeline_tests.core.parquet_faces import face, write_split
from fer_pipeline_tests.core.small_release import built, index_rows
from fer_pipeline_tests.graph import Ended

PAGE = Path(__file__).parents[3] / "docs" / "add-a-format.md"
CLASSES = ("Neutral", "Happiness", "Sadness", "Anger")


def _forget() -> None:
    registry._registered.cache_clear()
    registry._loaded.cache_clear()


@pytest.fixture
def on_path(monkeypatch):
    """Makes the distributions of a folder known for this test alone."""

    def add(site: Path) -> None:
        monkeypatch.syspath_prepend(site)
        _forget()

    yield add
    monkeypatch.undo()
    _forget()


@pytest.fixture
def installed(on_path, tmp_path):
    """Installs a distribution for this test alone."""

    def add(package: str, entry_points: dict[str, str], module: str, source: str) -> None:
        on_path(install(tmp_path / "site", package, entry_points, module, source))

    return add


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def _example(site: Path) -> Path:
    """The example of the page, installed as its own pyproject.toml says."""
    (project,), (source,) = _blocks("toml"), _blocks("python")
    told = tomllib.loads(project)["project"]
    points = told["entry-points"][GROUP]
    (module,) = {value.partition(":")[0] for value in points.values()}
    return install(site, told["name"], points, module, source)


def _clips(root: Path, actors: int = 30) -> Path:
    """A folder in the example's format: four pictures of each actor, three rows bad."""
    rows = ["face\tactor\tplayed"]
    for actor in range(actors):
        for take, played in enumerate(("neutral", "joy", "3", "Angry")):
            path = f"S{actor:02d}/{take}.png"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(face(10 * actor + take))
            rows.append(f"{path}\tS{actor:02d}\t{played}")
    rows += ["S00/x.png\tS00\trage", "../x.png\tS01\tjoy", "alone"]
    (root / "clips.tsv").write_bytes(("\ufeff" + "\r\n".join(rows) + "\r\n\r\n").encode())
    return root


def test_the_example_of_the_page_goes_through_index_and_manifest(tmp_path, on_path):
    on_path(_example(tmp_path / "example"))
    root = _clips(tmp_path / "clips")
    assert registry.recognised(root) == {"actors": "it holds clips.tsv"}
    dataset = open_dataset("actors", root)
    summary = build_index(dataset, tmp_path / "index")
    assert (summary.rows_read, summary.rows_rejected) == (123, 3)
    counted = count_kept_and_rejected(tmp_path / "index", dataset.lists())
    for name, (kept, rejected, whole) in counted.items():
        assert whole
        assert kept + rejected == dataset.count_rows(name)
    reasons = pq.read_table(tmp_path / "index" / REJECTED_FILE).to_pydict()
    assert sorted(zip(reasons["reason"], reasons["value"], strict=True)) == [
        ("unknown_label", ""),
        ("unknown_label", "rage"),
        ("unsafe_path", "../x.png"),
    ]
    assert {row["expression"] for row in index_rows(tmp_path / "index")} == {0, 1, 2, 6}
    _, manifest = built(dataset, tmp_path, CLASSES, dev_share=0.3)
    rows = manifest.to_pandas()
    assert set(rows["split"]) == {"train", "dev", "test"}
    actor = rows["image_path"].str.partition("/")[0].to_numpy()
    assert groups_on_two_sides(actor, rows["split"].to_numpy()) == []
    assert rows.groupby("group_id").size().eq(4).all()
    assert np.all(rows["content_hash"].isna() | rows["content_hash"].ne(""))


def test_the_installed_command_inspects_a_format_of_another_package(tmp_path):
    site = _example(tmp_path / "site")
    install(site, "fer-broken", {"broken": "no_such_module:Format"}, "unused", "")
    root = _clips(tmp_path / "clips")
    paths = f"{site}:{Path(registry.__file__).parents[3]}"
    ended = graph.fer_pipeline("inspect", root, "--json", PYTHONPATH=paths)
    assert ended.code == 0, ended.err
    assert ended.answer["format"] == "actors"
    assert sum(ended.answer["counts"]["Anger"].values()) == 30
    assert "--stream own" in ended.answer["command"]
    # A broken one is told of, and keeps nothing from working.
    assert "skipped: format broken of the package fer-broken can't be loaded" in ended.words


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_module\n", "can't be loaded (ModuleNotFoundError: No module named"),
        ("Format = 1 +\n", "can't be loaded (SyntaxError: "),
        ("raise RuntimeError('no\\nluck')\n", "can't be loaded (RuntimeError: no luck)"),
        ("Other = 1\n", "can't be loaded (AttributeError: "),
        ("class Format:\n    name = 'mine'\n", "is none: it lacks faces_are_cropped, "),
        (
            "from fer_pipeline.core.datasets.affectnet import AffectNet as Format\n",
            "is none: it calls itself 'affectnet'",
        ),
    ],
)
@pytest.mark.usefixtures("own_environment")
def test_a_broken_format_is_one_sentence_and_the_others_go_on(
    tmp_path: Path,
    installed: Callable[..., None],
    here: Callable[..., Ended],
    source: str,
    words: str,
) -> None:
    module = f"mine_{abs(hash(words))}"
    installed("fer-mine", {"mine": f"{module}:Format"}, module, source)
    assert "mine" in format_names()
    with pytest.raises(InputError) as error:
        find_format("mine")
    told = str(error.value)
    assert told.startswith(f"format mine of the package fer-mine {words}")
    assert "\n" not in told
    assert told.endswith("mend or remove that package")
    ended = here("run", "--dataset", "mine", "--root", tmp_path, "--home", tmp_path / "home")
    assert ended.code == 2
    assert words in ended.words
    assert "Traceback" not in ended.err
    ended = here("labels", "--json")
    assert ended.code == 0
    assert f"skipped: {told}" in ended.words
    assert "mine" not in ended.answer["by_name"]
    write_split(tmp_path / "faces", "train", [1, 2])
    assert list(registry.recognised(tmp_path / "faces")) == ["hf-parquet"]


def test_a_format_that_takes_the_name_of_another_is_told(installed):
    source = "from fer_pipeline.core.datasets.affectnet import AffectNet as Format\n"
    installed("fer-mine", {"affectnet": "mine_again:Format"}, "mine_again", source)
    (problem,) = registry.problems()
    assert problem.startswith("the package fer-mine brings a format affectnet, which this package")
    assert find_format("affectnet").__module__ == "fer_pipeline.core.datasets.affectnet"


def test_a_particular_format_comes_before_those_of_other_packages_and_general_ones(
    installed, monkeypatch, tmp_path
):
    source = (
        "from fer_pipeline.core.datasets.hf_parquet import HfParquet\n"
        "class Format(HfParquet):\n    name = 'mine'\n"
    )
    installed("fer-mine", {"mine": "mine_general:Format"}, "mine_general", source)
    write_split(tmp_path / "faces", "train", [1, 2])
    monkeypatch.setattr(registry, "_GENERAL", ("hf-parquet",))
    assert list(registry.recognised(tmp_path / "faces")) == ["mine", "hf-parquet"]
    assert registry.is_general("hf-parquet")
    monkeypatch.setattr(registry, "_GENERAL", ())
    assert list(registry.recognised(tmp_path / "faces")) == ["hf-parquet", "mine"]
