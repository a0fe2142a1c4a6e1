from dataclasses import replace

import pytest

from fer_pipeline.app.labelling import Labelling
from fer_pipeline.core.answers import AnswerStore
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.study import order_for
from fer_pipeline_tests.drawn_study import publish_drawn


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return publish_drawn(tmp_path_factory.mktemp("home"), "three_class", per_class=4)


@pytest.fixture
def store(tmp_path):
    opened = AnswerStore(f"sqlite:///{tmp_path / 'answers.db'}")
    yield opened
    opened.close()


def answer(labelling, choice="Happiness", milliseconds=500):
    return labelling.answer(labelling.showing.token, choice, milliseconds)


def stored(study, store, name="Ann"):
    return store.answers(study.key, study.sample, name)


def test_items_are_shown_in_the_annotators_order_until_none_is_left(study, store):
    labelling = Labelling(study, "Ann", store)
    seen = []
    while labelling.showing is not None:
        seen.append(labelling.showing.item)
        assert answer(labelling)
    assert seen == order_for(study, "Ann")
    assert [one.item for one in stored(study, store)] == seen
    assert labelling.answered == labelling.total == len(study)


def test_another_session_goes_on_at_the_first_item_without_an_answer(study, store):
    first = Labelling(study, "Ann", store)
    for _ in range(3):
        answer(first)
    assert Labelling(study, "Ann", store).showing.item == order_for(study, "Ann")[3]
    assert Labelling(study, "Bob", store).showing.item == order_for(study, "Bob")[0]


def test_a_token_is_good_for_one_answer(study, store):
    labelling = Labelling(study, "Ann", store)
    token = labelling.showing.token
    assert labelling.answer(token, "Sadness", 10)
    assert not labelling.answer(token, "Surprise", 10)
    assert not labelling.answer("", "Surprise", 10)
    assert [one.answer for one in stored(study, store)] == ["Sadness"]


def test_an_item_answered_elsewhere_is_passed_over(study, store):
    one, other = (Labelling(study, "Ann", store) for _ in range(2))
    answer(one, "Sadness")
    assert not answer(other, "Surprise")
    assert other.showing.item == one.showing.item
    assert [given.answer for given in stored(study, store)] == ["Sadness"]


def test_the_last_answer_can_be_taken_back_but_not_more_than_there_are(study, store):
    labelling = Labelling(study, "Ann", store)
    answer(labelling)
    shown = labelling.showing
    assert not labelling.undo("another token")
    assert labelling.undo(shown.token)
    assert labelling.showing.item == order_for(study, "Ann")[0]
    assert labelling.showing.token != shown.token
    assert not labelling.undo(labelling.showing.token)
    assert stored(study, store) == []


def test_what_fails_to_be_stored_stays_to_be_answered(study, store, monkeypatch):
    labelling = Labelling(study, "Ann", store)
    shown = labelling.showing

    def fails(_answer):
        raise InputError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(store, "add", fails)
        with pytest.raises(InputError):
            answer(labelling)
    assert labelling.showing == shown
    assert labelling.answered == 0
    assert answer(labelling)


def test_an_answer_that_the_study_does_not_have_is_refused(study, store):
    labelling = Labelling(study, "Ann", store)
    with pytest.raises(ValueError, match="no answer"):
        answer(labelling, "Anger")
    assert stored(study, store) == []


@pytest.mark.parametrize("sent", [None, -5, 10**15])
def test_a_time_that_cannot_be_is_replaced_by_the_servers(study, store, sent):
    now = [50.0]
    labelling = Labelling(study, "Ann", store, now=lambda: now[0])
    now[0] += 1.25
    answer(labelling, milliseconds=sent)
    assert [one.milliseconds for one in stored(study, store)] == [1250]


def test_pace_is_of_the_time_spent_on_the_last_answers(study, store):
    labelling = Labelling(study, "Ann", store)
    assert labelling.pace() is None
    for _ in range(4):
        answer(labelling, milliseconds=3000)
    pace = labelling.pace()
    assert pace.answers_a_minute == pytest.approx(20)
    assert pace.seconds_left == pytest.approx(3 * (len(study) - 4))


def test_answers_from_a_file_without_times_make_nobody_quicker(study, store):
    labelling = Labelling(study, "Ann", store)
    answer(labelling, milliseconds=3000)
    (own,) = stored(study, store)
    items = range(len(study) - 2)
    files = [replace(own, item=item, milliseconds=0, shown_order=99) for item in items]
    store.add_all(files)
    labelling.refresh()
    assert labelling.pace().answers_a_minute == pytest.approx(20)


def test_upcoming_items_are_the_next_ones_without_an_answer(study, store):
    labelling = Labelling(study, "Ann", store)
    assert labelling.upcoming(3) == order_for(study, "Ann")[1:4]
    while labelling.answered < len(study) - 1:
        answer(labelling)
    assert labelling.upcoming(3) == []
    answer(labelling, "unsure")
    assert labelling.upcoming(3) == []
    assert labelling.given()["unsure"] == 1
