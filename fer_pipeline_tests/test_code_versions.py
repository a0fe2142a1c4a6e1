"""Which settings make which assets be made anew: their code versions."""

from pathlib import Path

import pytest

from fer_pipeline.core.files import text_digest
from fer_pipeline.settings import Settings
from fer_pipeline.versions import code_version


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", *(name.upper() for name in Settings.model_fields)):
        monkeypatch.delenv(f"FER_{name}", raising=False)


STREAM_ASSETS = (
    "relabel_sample",
    "trained_model",
    "evaluation_report",
    "human_error_report",
    "label_issues",
    "champion",
)
ALL = (
    "file_list_index",
    "expression_summary",
    "class_manifest",
    "face_crops",
    "crop_report",
    *STREAM_ASSETS,
)


@pytest.mark.parametrize(
    ("change", "remade"),
    [
        ({"dataset": "hf-parquet"}, {"file_list_index", "face_crops"}),
        ({"root": Path("/elsewhere")}, {"file_list_index"}),
        ({"unknown_labels": "reject"}, {"file_list_index"}),
        ({"streams": ("five_class", "eight_class")}, {"expression_summary", "class_manifest"}),
        ({"streams": ("five_class",)}, set()),
        ({"dev_share": 0.2}, {"class_manifest"}),
        ({"crop_margin": 0.2}, {"face_crops"}),
        ({"min_face": 8}, {"face_crops"}),
        ({"max_pixels": 9}, {"expression_summary", "face_crops"}),
        ({"max_decoded_bytes": 9}, {"expression_summary", "face_crops"}),
        ({"max_file_bytes": 9}, {"expression_summary", "face_crops"}),
        ({"align": True, "detect": "always"}, {"face_crops"}),
        ({"detect": "always"}, {"face_crops"}),
        ({"shard_rows": 100}, {"face_crops"}),
        ({"preset": "smoke"}, {"trained_model", "label_issues"}),
        ({"preset": "gpu"}, {"face_crops", "trained_model", "label_issues"}),
        ({"minutes": 3.0}, {"trained_model", "label_issues"}),
        ({"threads": 1}, {"trained_model", "label_issues"}),
        ({"recipe_overrides": {"ema": "0.9"}}, {"trained_model", "label_issues"}),
        ({"init": "models:/fer-five_class/1"}, {"trained_model"}),
        ({"vote_share": 0.5}, {"trained_model"}),
        ({"resamples": 500}, {"evaluation_report", "human_error_report", "champion"}),
        ({"least_gain": 0.01}, {"champion"}),
        (
            {"label_source": "votes"},
            {
                "class_manifest",
                "trained_model",
                "evaluation_report",
                "human_error_report",
                "label_issues",
                "champion",
            },
        ),
        ({"vote_ties": "first"}, set()),
        ({"dataset_options": {"folders.cropped": "no"}}, {"file_list_index"}),
        ({"seed": 1}, set(ALL) - {"file_list_index", "face_crops", "relabel_sample"}),
        ({"study": "second"}, {"relabel_sample", "evaluation_report", "human_error_report"}),
        ({"relabel_per_class": 10}, set()),
        ({"corrections_on_test": True}, {"class_manifest"}),
        ({"label_issue_folds": 4}, {"label_issues"}),
        ({"suspects": 10}, {"label_issues"}),
        ({"workers": 7}, set()),
        ({"mlflow_ui_url": "http://elsewhere"}, set()),
        ({"home": Path("/another")}, set()),
    ],
)
def test_code_version_changes_with_exactly_the_settings_an_asset_reads(
    tmp_path: Path, change: dict[str, object], remade: set[str]
) -> None:
    before = {"home": tmp_path, "dataset": "affectnet", "root": tmp_path}
    first = Settings.load(**before)
    second = Settings.load(**(before | change))

    def version(name: str, settings: Settings) -> str:
        stream = "five_class" if name in STREAM_ASSETS else None
        return code_version(name, settings, stream)

    changed = {name for name in ALL if version(name, first) != version(name, second)}
    assert changed == remade


def test_bounds_of_a_photo_decide_which_pictures_of_a_mixture_are_compared(tmp_path: Path) -> None:
    two = tuple({"dataset": "folders", "root": tmp_path / name} for name in ("one", "two"))
    given = {"home": tmp_path, "datasets": two}
    usual = code_version("class_manifest", Settings.load(**given))
    for name in ("max_pixels", "max_decoded_bytes", "max_file_bytes"):
        assert code_version("class_manifest", Settings.load(**given, **{name: 9})) != usual
    apart = [Settings.load(**given, copies_across=False, max_pixels=n) for n in (9, 10)]
    assert len({code_version("class_manifest", one) for one in apart}) == 1


def test_rule_for_ties_belongs_to_what_votes_decide(tmp_path: Path) -> None:
    given = {"home": tmp_path, "dataset": "ferplus", "root": tmp_path, "label_source": "votes"}
    plain, same = Settings.load(**given), Settings.load(**given, vote_ties="leave_out")
    first = Settings.load(**given, vote_ties="first")
    assert (plain.label_rule, same.label_rule, first.label_rule) == (
        "votes",
        "votes",
        "votes:first",
    )
    names = ("class_manifest", "champion", "human_error_report", "relabel_sample")
    versions = [
        [
            code_version(name, one, None if name == "class_manifest" else "five_class")
            for name in names
        ]
        for one in (plain, same, first)
    ]
    assert versions[0] == versions[1]
    changed = [one != other for one, other in zip(versions[1], versions[2], strict=True)]
    assert changed == [True, True, True, False]


def test_code_version_of_a_stream_changes_with_its_classes(tmp_path: Path) -> None:
    one = Settings.load(home=tmp_path, stream_classes={"mood": ("Happiness", "Sadness")})
    other = Settings.load(home=tmp_path, stream_classes={"mood": ("Sadness", "Happiness")})
    for name in STREAM_ASSETS:
        assert code_version(name, one, "mood") != code_version(name, other, "mood")


def test_order_in_which_options_are_given_makes_nothing_anew(tmp_path: Path) -> None:
    options = {"csv.label": "mood", "csv.path": "photo"}
    given = [options, dict(reversed(options.items()))]
    one, other = (
        Settings.load(home=tmp_path, dataset="csv", root=tmp_path, dataset_options=each)
        for each in given
    )
    assert list(one.dataset_options) != list(other.dataset_options)
    for name in ALL:
        assert code_version(name, one, "five_class") == code_version(name, other, "five_class")
    # As it was before the order made no difference.
    assert one.digest("dataset_options") == text_digest(f"dataset_options={options}")[:8]
