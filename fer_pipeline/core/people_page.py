"""The page about people: do they agree with the labels, what ceiling, where does the model stand?

One HTML file that needs nothing beside it. Takes reports of `people.py` and `people_votes.py`;
where answers, votes and pictures come from is the caller's business.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fer_pipeline.core import people_figures as charts
from fer_pipeline.core.agreement import ASSUMPTION, Share
from fer_pipeline.core.intervals import Estimate
from fer_pipeline.core.pages import percent, render_page
from fer_pipeline.core.people_model import (
    IN_WORDS,
    TEST,
    DifferingFace,
    ModelAgainstPeople,
)
from fer_pipeline.core.people_results import PeopleReport
from fer_pipeline.core.people_scores import PAUSE_SECONDS
from fer_pipeline.core.people_votes import VotesReport
from fer_pipeline.core.png import image_png, png_as_data_uri
from fer_pipeline.core.study import SMALL_STUDY

GALLERY = 24
"""Faces shown on which people and the model differ."""

_SIDE = 144
_SMALL_P = 0.001
_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class PeoplePage:
    """What the page shows.

    Attributes:
        stream: name of the stream.
        dataset: title of the data set.
        created: when the page was made, as text.
        drawn: the faces are drawings, not photos of people.
        people: report on a study, with answers or without.
        votes: report on the votes that the data set brings, or None.
        pictures: face_id to its encoded picture, for faces of `gallery_faces`.
    """

    stream: str
    dataset: str
    created: str
    drawn: bool
    people: PeopleReport
    votes: VotesReport | None = None
    pictures: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _Bar:
    name: str
    kind: str
    value: float
    low: float
    high: float


def gallery_faces(people: PeopleReport) -> tuple[DifferingFace, ...]:
    """The faces whose pictures a page can show: at most `GALLERY`, test faces first."""
    compared = sorted(people.model, key=lambda one: one.kind != TEST)
    return tuple(face for one in compared for face in one.differing)[:GALLERY]


def pictured(
    faces: Iterable[DifferingFace], pictures: Mapping[str, bytes]
) -> list[Mapping[str, Any]]:
    """What the template `differing.html.j2` shows of those faces that have a picture.

    `pictures` maps face_id to an encoded picture. Raises InputError for one that can't be read.
    """
    return [
        {"uri": png_as_data_uri(image_png(charts.picture_pixels(name, png), _SIDE)), "face": face}
        for face in faces
        if (png := pictures.get(name := face.face_id)) is not None
    ]


def model_verdict(one: ModelAgainstPeople) -> str:
    """One sentence: is the model nearer to the labels than people are, on the same faces?

    It says so only where both the interval of the difference and McNemar's test do: the one knows
    of groups, the other is exact for few faces.
    """
    pair = one.decided
    where = IN_WORDS[one.kind]
    if pair is None:
        return f"People decided on none of the {one.faces:,} {where} that they were shown."
    low, high = 100 * pair.difference.low, 100 * pair.difference.high
    points = f"{abs(100 * pair.difference.value):.1f} points"
    shares = f"the model {percent(pair.second.value)}, {one.who} {percent(pair.first.value)}"
    test = pair.mcnemar
    sure = test.p_value < _SIGNIFICANT
    if sure and low > 0:
        said = f"the model agrees with the labels more often, by {points} ({low:.1f} to {high:.1f})"
    elif sure and high < 0:
        said = (
            f"the model agrees with the labels less often, by {points} ({-high:.1f} to {-low:.1f})"
        )
    else:
        said = (
            "these faces do not show who agrees with the labels more often (model minus people: "
            f"{low:+.1f} to {high:+.1f} points)"
        )
    p_value = f"p < {_SMALL_P}" if test.p_value < _SMALL_P else f"p = {test.p_value:.3f}"
    return (
        f"On the same {pair.first.of:,} {where}: {shares}; {said}. McNemar's test "
        f"({test.method}): {p_value}."
    )


def render_people(page: PeoplePage) -> str:
    """The page as one HTML document: inline style, inline PNGs, no script, no request.

    It follows the reader's light or dark setting and prints. Every text is escaped. Raises
    InputError for a picture that can't be read.
    """
    people, votes = page.people, page.votes
    return render_page(
        "people.html.j2",
        page=page,
        people=people,
        votes=votes,
        head=_headline(people, votes),
        verdicts=[model_verdict(one) for one in people.model],
        vote_verdicts=[model_verdict(one) for one in votes.model] if votes is not None else [],
        differing_count=len({face.face_id for one in people.model for face in one.differing}),
        differing=pictured(gallery_faces(people), page.pictures),
        pictures={name: png_as_data_uri(png) for name, png in page_figures(people, votes).items()},
        assumption=ASSUMPTION,
        pause_seconds=PAUSE_SECONDS,
        small_limit=SMALL_STUDY,
        kinds=IN_WORDS,
    )


def page_figures(people: PeopleReport, votes: VotesReport | None) -> dict[str, bytes]:
    """The page's charts as PNG, by name; only those that have something to show."""
    made = {}
    if people.answers:
        made["confusion"] = charts.answer_heatmap(people.confusion, people.classes, people.choices)
        made["recall"] = charts.recall_chart(people.classes, {"people": people.decided.by_class})
        if len(people.seconds):
            made["times"] = charts.time_histogram(people.seconds)
        for one in people.model:
            made[f"model_{one.kind}"] = _comparison(people.classes, one)
    if votes is not None:
        made["votes_confusion"] = charts.answer_heatmap(
            votes.leave_one_out.confusion,
            votes.classes,
            votes.choices,
            standard="majority of the others",
        )
        made["votes_recall"] = charts.recall_chart(
            votes.classes,
            {
                "one voter against the others": votes.leave_one_out.by_class,
                "one voter against the listed label": votes.single.by_class,
            },
            title="One voter, by class",
        )
        for one in votes.model:
            made[f"votes_model_{one.kind}"] = _comparison(votes.classes, one)
    return made


def _comparison(classes: tuple[str, ...], one: ModelAgainstPeople) -> bytes:
    return charts.recall_chart(
        classes,
        {
            "people": [row.people for row in one.by_class],
            "model": [row.model for row in one.by_class],
        },
        title="The same faces, by class",
    )


def _headline(people: PeopleReport, votes: VotesReport | None) -> dict[str, Any]:
    """The figures of the first screen: from the study, or else from the votes."""
    if people.answers:
        agreement, implied, model = people.decided.answers, people.implied, people.model
        standing = (
            f"{agreement.count:,} of {agreement.of:,} answers that name a class, "
            f"{_many(len(people.by_annotator), 'annotator')}"
        )
    elif votes is not None:
        agreement, implied, model = votes.single.decided, votes.implied, votes.model
        standing = (
            f"{agreement.count:,} of {agreement.of:,} votes for a class, {votes.faces:,} faces"
        )
    else:
        return {"agreement": None, "bars": [], "pair": None}
    bars: list[_Bar] = []
    _add(bars, "People", "people", agreement)
    _add(bars, "Implied ceiling", "ceiling", implied)
    compared = [one for one in model if one.decided is not None]
    pair = compared[0].decided if compared else None
    if pair is not None:
        who = compared[0].who.removeprefix("the ").capitalize()
        _add(bars, f"{who}, {pair.first.of:,} shared faces", "people", pair.first)
        _add(bars, "Model, the same faces", "model", pair.second)
    return {
        "agreement": agreement,
        "implied": implied,
        "standing": standing,
        "bars": bars,
        "pair": pair,
        "compared": compared[0] if compared else None,
        "verdict": model_verdict(compared[0]) if compared else None,
    }


def _add(bars: list[_Bar], name: str, kind: str, of: Share | Estimate | None) -> None:
    if of is not None and of.value is not None:
        bars.append(_Bar(name, kind, of.value, of.low, of.high))


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
