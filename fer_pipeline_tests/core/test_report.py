import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from fer_pipeline.core.metrics import Estimate, evaluate_predictions
from fer_pipeline.core.people import people_report
from fer_pipeline.core.people_model import TEST
from fer_pipeline.core.png import image_png
from fer_pipeline.core.report import ReportData, WrongFaces, render_report, verdict
from fer_pipeline_tests.core.people_answers import EVENLY, answers_to, predictions_of, study_of

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects text, sources and ids, and fails on tags that do not nest."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.words, self.tags, self.loads = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [
            value for name, value in attrs if name in ("src", "href", "data", "srcset", "poster")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def evaluation(n: int = 600, classes=("Neutral", "Happiness", "Sadness")):
    generator = np.random.default_rng(0)
    expression = generator.integers(0, 3, n)
    predicted = np.where(generator.random(n) < 0.7, expression, generator.integers(0, 3, n))
    probabilities = np.full((n, 3), 0.15)
    probabilities[np.arange(n), predicted] = 0.7
    return evaluate_predictions(
        expression, probabilities, classes, np.arange(n).astype(str), seed=0, resamples=200
    )


@pytest.fixture(scope="module")
def data() -> ReportData:
    return ReportData(
        stream="three_class",
        created="1 May 2025",
        evaluation=evaluation(),
        linear=Estimate(0.41, 0.37, 0.45),
        dataset="fer2013",
        test_split="validation list",
        manifest_rows=12_345,
        manifest_hash="0badcafe",
        label_source="listed",
        statuses={"ok": 12_300, "unreadable": 45},
        splits={"train": 11_000, "dev": 745, "test": 600},
        duplicates_excluded=17,
        drawn=False,
        preset="cpu",
        parameters=1_204_611,
        epochs=9,
        seed=3,
        minutes=12.34,
        history=[
            {"epoch": 1, "loss": 1.0, "dev_loss": 1.1, "dev_accuracy": 0.4, "dev_macro_f1": 0.3}
        ],
        wrong=WrongFaces(
            np.full((2, 48, 48, 1), 99, np.uint8), ("Sadness",) * 2, ("Neutral",) * 2, (0.97, 0.91)
        ),
        mlflow_run_id="run-77",
        git_commit="abc123",
    )


@pytest.fixture(scope="module")
def html(data) -> str:
    return render_report(data)


def test_report_is_one_file_that_loads_nothing(html):
    page = Page(html)
    assert page.loads
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"https?://|url\(|@import", html)


def test_every_picture_of_the_report_is_a_whole_png(html):
    loads = Page(html).loads
    assert len(loads) == 4 + 2
    for load in loads:
        Image.open(io.BytesIO(base64.b64decode(load.partition(",")[2], validate=True))).load()


def test_people_stand_beside_the_model_on_the_faces_on_which_they_decided(data):
    study = study_of(["Neutral"] * 6)
    answers = [
        *answers_to(study, "Ada", ["Neutral"] * 4 + ["unsure"] * 2),
        *answers_to(study, "Bo", ["Neutral"] * 5 + ["unsure"]),
        *answers_to(study, "Cy", ["Neutral"] * 4 + ["unsure"] * 2),
    ]
    predicted = predictions_of(study, ["Anger"] + ["Neutral"] * 5)
    (found,) = people_report(
        study, answers, {TEST: predicted}, prevalence=EVENLY, seed=0, resamples=100
    ).model
    face = found.differing[0].face_id
    beside = dataclasses.replace(
        data, people=found, people_pictures={face: image_png(np.full((9, 9, 3), 50, np.uint8))}
    )
    page = Page(render_report(beside))
    assert len(page.loads) == 4 + 2 + 1
    assert "Neutral 4 100.0% 75.0%" in page.text
    assert "Left out are 2 of 6 faces to which people's answer names no class." in page.text
    assert "Label Neutral people Neutral model Anger , 60%" in page.text


def test_report_states_the_figures_it_was_given(html, data):
    text = Page(html).text
    found = data.evaluation
    for figure in (
        f"{found.accuracy.value:.1%}",
        f"{found.accuracy.low:.1%} to {found.accuracy.high:.1%}",
        f"{found.macro_f1.value:.3f}",
        f"{found.ece:.3f}",
        f"{found.nll:.3f}",
        f"{found.brier:.3f}",
        f"{found.majority_accuracy:.1%}",
        "41.0%",
        "12,345",
        "1,204,611",
        "12.3 minutes",
        "0badcafe",
        "run-77",
        "abc123",
        "Split dev 745",
        "Crops unreadable 45",
        "Duplicates left out 17",
        "Labels listed",
        "Seed 3 (one seed",
        "Label Sadness read as Neutral , 97%",
    ):
        assert figure in text, figure
    for row, scores in zip(found.confusion, found.by_class, strict=True):
        assert f"{scores.name} {' '.join(str(count) for count in row)}" in text
        assert f"{scores.recall_low:.3f} to {scores.recall_high:.3f}" in text


def test_hostile_names_are_escaped(data):
    name = "<script>alert(1)</script>"
    hostile = dataclasses.replace(
        data,
        evaluation=evaluation(classes=(name, '"><img src=x>', "$\\frac{")),
        stream=name,
        statuses={name: 1},
        wrong=dataclasses.replace(data.wrong, true=(name, name), predicted=('" onload="x',) * 2),
    )
    page = Page(render_report(hostile))
    assert "script" not in page.tags
    assert all(load.startswith("data:") for load in page.loads)
    assert page.text.count(name) >= 5


def test_drawings_carry_a_banner_and_photos_do_not(data, html):
    drawn = render_report(dataclasses.replace(data, drawn=True))
    assert "say nothing about people" in Page(drawn).text
    assert Page(drawn).text.index("drawings") < Page(drawn).text.index("Accuracy on")
    assert "drawings" not in Page(html).text


def test_few_test_faces_are_cautioned_about(data, html):
    few = Page(render_report(dataclasses.replace(data, evaluation=evaluation(n=120)))).text
    assert "With 120 test faces the interval is wide" in few
    assert "fewer than 500" in few
    assert "interval is wide" not in Page(html).text


def test_report_without_linear_history_errors_or_tracking_is_whole(data):
    bare = dataclasses.replace(
        data, linear=None, history=(), wrong=WrongFaces(), mlflow_run_id=None, git_commit=None
    )
    page = Page(render_report(bare))
    assert len(page.loads) == 3
    assert "Linear model" not in page.text
    assert "MLflow run not tracked" in page.text
    assert "none is shown here" in page.text


def test_class_without_test_faces_is_said_to_have_no_recall(data):
    expression = np.array([0, 1] * 10)
    found = evaluate_predictions(
        expression, np.eye(3)[expression], ("a", "b", "c"), np.arange(20).astype(str), seed=0
    )
    text = Page(render_report(dataclasses.replace(data, evaluation=found, wrong=WrongFaces()))).text
    assert "c 0 0 not defined not defined not defined not defined" in text
    assert "No test face was predicted wrongly." in text


def test_limits_say_that_expression_is_not_emotion(html):
    assert "Expression is not emotion." in Page(html).text


@pytest.mark.parametrize(
    ("linear", "expected"),
    [
        (0.40, "The whole interval, 55.0% to 65.0%, lies above the majority class (25.0%) and "
               "the linear model on pixels (40.0%)."),
        (0.58, "The interval, 55.0% to 65.0%, lies above the majority class (25.0%), but does not "
               "clear the linear model on pixels (58.0%)."),
        (0.70, "The interval, 55.0% to 65.0%, lies above the majority class (25.0%), but lies "
               "below the linear model on pixels (70.0%)."),
    ],
)  # fmt: skip
def test_verdict_says_which_baselines_the_interval_clears(linear, expected):
    accuracy = Estimate(0.60, 0.55, 0.65)
    assert verdict(accuracy, 0.25, Estimate(linear, linear - 0.05, linear + 0.05)) == expected


def test_verdict_without_a_linear_model_speaks_of_the_majority_alone():
    sentence = verdict(Estimate(0.30, 0.22, 0.38), 0.25, None)
    assert sentence == ("The interval, 22.0% to 38.0%, does not clear the majority class (25.0%).")
