import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fer_pipeline.core.agreement import Share
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.people import people_report
from fer_pipeline.core.people_figures import answer_heatmap, recall_chart
from fer_pipeline.core.people_model import OUT_OF_FOLD, TEST
from fer_pipeline.core.people_page import (
    GALLERY,
    PeoplePage,
    gallery_faces,
    model_verdict,
    page_figures,
    render_people,
)
from fer_pipeline.core.png import image_png
from fer_pipeline_tests.core.people_answers import (
    EVENLY,
    FIVE,
    answers_to,
    cast,
    noisy_study,
    predictions_of,
    report_on_votes,
    study_of,
)
from fer_pipeline_tests.core.test_report import Page

OPTIONS = {"prevalence": EVENLY, "seed": 0, "resamples": 200}
NOBODY = people_report(study_of(["Neutral"] * 9), [], **OPTIONS)


def picture(level: int = 90) -> bytes:
    return image_png(np.full((60, 50, 3), level, np.uint8))


def page_of(people, votes=None, **changes) -> PeoplePage:
    made = PeoplePage("five_class", "affectnet", "1 May 2025", False, people, votes)
    return replace(made, **changes)


def text_of(page: PeoplePage) -> str:
    return Page(render_people(page)).text


@pytest.fixture(scope="module")
def people():
    study, answers, predicted = noisy_study(40, ["Ada", "Bo"])
    return people_report(study, answers, {TEST: predicted}, **OPTIONS)


@pytest.fixture(scope="module")
def votes():
    rows = [cast(Happiness=8, Sadness=2)] * 40 + [cast(Surprise=6, Unknown=4)] * 10
    return report_on_votes(rows, ["Happiness"] * 40 + ["Surprise"] * 10)


@pytest.fixture(scope="module")
def html(people, votes):
    pictures = {face.face_id: picture() for face in gallery_faces(people)}
    return render_people(page_of(people, votes, pictures=pictures))


def test_page_is_one_file_that_loads_nothing(html):
    page = Page(html)
    assert page.loads
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    assert not re.search(r"https?://|url\(|@import|\son\w+=", html)


def test_every_picture_of_the_page_is_a_whole_png(html):
    loads = Page(html).loads
    # Confusion, recall, times, comparison; two charts of votes; the gallery.
    assert len(loads) == 4 + 2 + GALLERY
    for load in loads:
        Image.open(io.BytesIO(base64.b64decode(load.partition(",")[2], validate=True))).load()


def test_first_section_answers_agreement_ceiling_and_model(html, people):
    text = Page(html).text
    start, end = text.index("People agree with the labels"), text.index("Agreement with the labels")
    first = text[start:end]
    pair = people.model[0].decided
    for figure in (
        f"{people.decided.answers.value:.1%}",
        f"{people.decided.answers.low:.1%} to {people.decided.answers.high:.1%}",
        f"{people.decided.answers.count} of {people.decided.answers.of} answers that name a class",
        f"{people.implied.value:.1%}",
        "each right equally often, independently of one another",
        f"{pair.second.value:.1%}",
        f"people: {pair.first.value:.1%}, on {pair.first.of} faces of the test split",
        "McNemar's test",
    ):
        assert figure in first, figure


def test_page_states_the_figures_of_the_report(html, people, votes):
    text = Page(html).text
    for figure in (
        f"“unsure” ({people.unsure})",
        f"“not a face” ({people.not_a_face})",
        f"{people.everything.answers.value:.1%} ({people.everything.answers.count} of",
        f"{people.decided.class_balanced.value:.1%}",
        f"{people.decided.prevalence_weighted.value:.1%}",
        f"{people.decided.kappa.value:.3f}",
        f"{people.alpha_annotators.value:.3f}",
        f"{people.alpha_with_label.value:.3f}",
        f"{people.self_agreement.value:.1%}",
        f"{people.times.median:.1f} s",
        f"{people.test_share:.1%} from the test split",
        f"{people.pairs[0].kappa.value:.3f}",
        people.sample,
        f"{people.model[0].tied} of the {people.model[0].faces} faces are tied",
        f"{votes.leave_one_out.decided.value:.1%}",
        f"{votes.single.decided.value:.1%}",
    ):
        assert figure in text, figure
    for name, row in zip(people.classes, people.confusion, strict=True):
        assert f"{name} {' '.join(str(count) for count in row)}" in text
    for one in people.by_annotator:
        assert f"{one.name} {one.answers} {one.agreement.value:.1%}" in text


def test_markup_in_names_is_shown_as_text(people, votes):
    name = '<img src=x onerror="alert(1)">'
    hostile = replace(
        people,
        study=name,
        by_annotator=tuple(replace(one, name=name) for one in people.by_annotator),
        pairs=tuple(replace(one, first=name, second="{{ 7 * 7 }}") for one in people.pairs),
        created=name,
        label_source=name,
        manifest_hash=name,
    )
    page = Page(
        render_people(
            page_of(hostile, votes, stream=name, dataset="</style><script>", created=name)
        )
    )
    assert "script" not in page.tags
    assert all(load.startswith("data:") for load in page.loads)
    assert page.text.count(name) >= 8
    assert "{{ 7 * 7 }}" in page.text


def test_markup_in_class_names_is_shown_as_text():
    classes = ("<script>a</script>", '"><b>', "$\\frac{")
    study = study_of([classes[at % 3] for at in range(30)], classes=classes)
    said = [classes[at % 2] for at in range(30)]
    report = people_report(
        study,
        answers_to(study, "Ada", said),
        {TEST: predictions_of(study, said[::-1])},
        prevalence=dict.fromkeys(classes, 1.0),
        seed=0,
        resamples=50,
    )
    pictures = {face.face_id: picture() for face in gallery_faces(report)}
    page = Page(render_people(page_of(report, pictures=pictures)))
    assert "script" not in page.tags
    assert page.text.count(classes[0]) > 3


def test_few_answers_are_said_to_be_few_before_any_figure(html):
    study = study_of(["Neutral", "Anger"] * 30)
    few = people_report(study, answers_to(study, "Ada", ["Neutral"] * 42), **OPTIONS)
    text = text_of(page_of(few))
    assert "Only 42 answers, fewer than 100" in text
    assert text.index("Only 42 answers") < text.index("People agree with the labels")
    assert "fewer than 100" not in Page(html).text


def test_study_that_nobody_answered_says_how_to_begin():
    text = text_of(page_of(NOBODY))
    assert "Nobody has answered yet." in text
    assert "fer-pipeline review" in text
    assert "People agree with" not in text


def test_votes_stand_in_while_nobody_has_answered(votes):
    text = text_of(page_of(NOBODY, votes))
    head = text[: text.index("The votes of the data set")]
    assert "Nobody has answered yet." in head
    assert f"{votes.single.decided.value:.1%}" in head
    assert "votes for a class" in head


def test_model_beside_voters_is_on_the_page():
    rows = [cast(Happiness=8, Sadness=2)] * 40 + [cast(Surprise=6, Unknown=4)] * 10
    labels = ["Happiness"] * 40 + ["Surprise"] * 10
    study = study_of(labels, classes=("Happiness", "Sadness", "Surprise"))
    predicted = predictions_of(study, ["Happiness"] * 50)
    predicted.face_id[:] = [f"face{at}" for at in range(50)]
    report = report_on_votes(rows, labels, predictions={TEST: predicted})
    text = text_of(page_of(NOBODY, report))
    assert "the model 80.0%, the majority of people 100.0%" in text
    assert "one person alone: 82.6%" in text
    assert "One voter alone says the label in 82.6%" in text


def test_suspected_labels_are_said_to_be_a_picked_sample():
    study = study_of(["Neutral", "Anger"] * 60, kind="suspects")
    report = people_report(study, answers_to(study, "Ada", ["Neutral"] * 120), **OPTIONS)
    text = text_of(page_of(report))
    assert "picked because their labels are doubted" in text
    assert "Doubted labels imply no ceiling." in text


def test_drawings_carry_a_banner(people, html):
    assert "say nothing about people" in text_of(page_of(people, drawn=True))
    assert "drawings" not in Page(html).text.lower()


def test_one_annotator_without_model_makes_a_whole_page():
    study = study_of([FIVE[at % 5] for at in range(120)])
    said = [FIVE[at % 4] for at in range(120)]
    report = people_report(study, answers_to(study, "Ada", said, [0]), **OPTIONS)
    text = text_of(page_of(report))
    assert "No face was both answered and predicted" in text
    assert "needs faces that two people answered" in text
    assert "not recorded" in text
    assert "no face was answered twice" in text
    assert "Two by two" not in text


def test_faces_without_a_picture_are_counted_and_not_shown(people):
    text = text_of(page_of(people))
    faces = len(people.model[0].differing)
    assert f"{faces} faces; none is shown here." in text
    one = gallery_faces(people)[3]
    shown = text_of(page_of(people, pictures={one.face_id: picture()}))
    assert f"1 of {faces} faces" in shown


def test_unreadable_picture_is_named(people):
    face = gallery_faces(people)[0].face_id
    with pytest.raises(InputError, match=rf"face {face} can't be read"):
        render_people(page_of(people, pictures={face: b"no picture"}))


def compared(people_right: int, model_right: int, kind: str = TEST, n: int = 200):
    study = study_of(["Neutral"] * n)
    said = ["Neutral"] * people_right + ["Anger"] * (n - people_right)
    guessed = ["Anger"] * (n - model_right) + ["Neutral"] * model_right
    split = "test" if kind == TEST else "train"
    predicted = predictions_of(study, guessed, split=split)
    return people_report(study, answers_to(study, "Ada", said), {kind: predicted}, **OPTIONS).model[
        0
    ]


def test_verdict_says_who_is_nearer_to_the_labels():
    better, worse, equal = compared(80, 160), compared(160, 80), compared(100, 101)
    assert "the model agrees with the labels more often, by 40.0 points" in model_verdict(better)
    assert "the model agrees with the labels less often, by 40.0 points" in model_verdict(worse)
    assert "do not show who agrees" in model_verdict(equal)
    assert "the model 80.0%, people 40.0%" in model_verdict(better)
    assert "p < 0.001" in model_verdict(better)
    assert "p = " in model_verdict(equal)
    assert "out of fold" in model_verdict(compared(80, 160, OUT_OF_FOLD))


@pytest.mark.parametrize("right", [2, 4])
def test_few_faces_do_not_show_who_is_nearer_to_the_labels(right):
    # Two of ten, both of one class, which bootstrap samples within classes never lack; or four,
    # which samples of all faces hardly ever lack, and a coin shows in a row once in eight times.
    study = study_of(["Neutral"] * 2 + ["Anger"] * 5 + list(FIVE[1:4]))
    labels = study.items["expression"].to_pylist()
    said = ["Sadness"] * right + labels[right:]
    report = people_report(
        study, answers_to(study, "Ada", said), {TEST: predictions_of(study, labels)}, **OPTIONS
    )
    (found,) = report.model
    assert found.decided.difference.value == pytest.approx(right / 10)
    assert found.decided.difference.low < found.decided.difference.high
    assert "do not show who agrees" in model_verdict(found)


def test_majority_of_three_is_not_passed_off_as_one_person():
    study, answers, predicted = noisy_study(30, ["Ada", "Bo", "Cy"])
    report = people_report(study, answers, {TEST: predicted}, **OPTIONS)
    (found,) = report.model
    assert found.decided.first.value > found.one_person.value + 0.05
    text = text_of(page_of(report))
    assert f"the majority of people: {found.decided.first.value:.1%}" in text
    assert f"one person alone: {found.one_person.value:.1%}" in text
    assert f", the majority of people {found.decided.first.value:.1%}" in model_verdict(found)


def test_verdict_without_a_decided_face_says_so():
    study = study_of(["Neutral"] * 5)
    answers = answers_to(study, "Ada", ["unsure"] * 5)
    found = people_report(study, answers, {TEST: predictions_of(study, ["Anger"] * 5)}, **OPTIONS)
    assert "decided on none of the 5" in model_verdict(found.model[0])
    assert "decided on none" in text_of(page_of(found))


def test_charts_are_pngs_of_what_there_is_to_show(people, votes):
    made = page_figures(people, votes)
    assert set(made) == {
        "confusion",
        "recall",
        "times",
        "model_test",
        "votes_confusion",
        "votes_recall",
    }
    assert all(png.startswith(b"\x89PNG") for png in made.values())
    assert page_figures(NOBODY, None) == {}


def test_charts_of_classes_without_answers_are_drawn():
    nothing = Share(0, 0, None, 0.0, 1.0)
    assert recall_chart(("a", "b"), {"people": [nothing] * 2, "model": [nothing] * 2})
    assert answer_heatmap(np.zeros((2, 4), int), ("a", "b"), ("a", "b", "unsure", "not a face"))
