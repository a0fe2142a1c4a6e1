"""What the service takes as JSON and what it answers, as OpenAPI describes it.

How an answer is made of a reading stands here too; who makes readings is in `work.py`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from fer_pipeline.core.crop import Status
from fer_pipeline.core.recogniser import Face, Reading
from fer_pipeline.core.tracks import TrackedFace

Number = Annotated[float, Field(allow_inf_nan=False)]
GivenBox = tuple[Number, Number, Number, Number]
Point = tuple[float, float]


class Problem(BaseModel):
    """Why a request was refused, in one sentence."""

    detail: str


class JsonPicture(BaseModel):
    """A picture as JSON."""

    model_config = ConfigDict(extra="forbid")

    image: str = Field(
        description="The bytes of a picture (JPEG, PNG, ...) as base64.",
        json_schema_extra={"contentEncoding": "base64"},
    )
    boxes: list[GivenBox] | None = Field(
        None,
        description="Faces to read, each x, y, width, height in pixels of the upright picture; "
        "without it faces are looked for.",
    )
    whole: bool | None = Field(
        None,
        description="Whether the picture itself is one face; without it, pictures of at most 64 "
        "pixels a side are taken so by a model that was trained on such. Boxes go before it.",
    )
    small: bool = Field(True, description="Look for small faces too.")


class BoxAnswer(BaseModel):
    """A face's box in pixels of the upright picture, from its upper left corner."""

    x: float
    y: float
    width: float
    height: float


class FaceAnswer(BaseModel):
    """One face of a picture."""

    box: BoxAnswer
    landmarks: list[Point] | None = Field(
        description="x and y of the eye at the left, the other eye, the nose tip and the mouth "
        "corners, left first; null where the box was given."
    )
    score: float | None = Field(description="The face detector's; null where the box was given.")
    status: Status = Field(description="ok, or why the face has no label: too_small, bad_box.")
    label: str | None = Field(description="The most probable class; null unless the status is ok.")
    probabilities: dict[str, float] | None = Field(
        description="Calibrated probability by class, 1 in all; null unless the status is ok."
    )

    @classmethod
    def of(cls, face: Face) -> Self:
        """The answer for a face that was read."""
        x, y, width, height = face.box
        return cls(
            box=BoxAnswer(x=x, y=y, width=width, height=height),
            landmarks=None if face.landmarks is None else face.landmarks.tolist(),
            score=face.score,
            status=face.status,
            label=face.label,
            probabilities=None if face.probabilities is None else dict(face.probabilities),
        )


class PictureAnswer(BaseModel):
    """The faces of a picture."""

    width: int = Field(description="Of the upright picture, in pixels.")
    height: int
    faces: list[FaceAnswer] = Field(
        description="Largest first; with boxes given, in their order. May be empty."
    )
    left_out: int = Field(description="Smaller faces that were found beyond the limit.")
    model: str = Field(description="The name of the model, as /model tells it.")

    @classmethod
    def of(cls, reading: Reading, left_out: int, model: str) -> Self:
        """The answer for a picture that was read."""
        return cls(
            width=reading.width or 0,
            height=reading.height or 0,
            faces=[FaceAnswer.of(face) for face in reading.faces],
            left_out=left_out,
            model=model,
        )


class FollowedFace(FaceAnswer):
    """One face of a frame, which is followed from frame to frame."""

    track: int = Field(description="The same number in every frame that the face is followed to.")

    @classmethod
    def followed(cls, face: TrackedFace) -> Self:
        """The answer for a face of a frame."""
        return cls(track=face.track, **dict(FaceAnswer.of(face.face)))


class FrameAnswer(BaseModel):
    """The faces of a camera's frame; their probabilities are smoothed over the last frames."""

    width: int
    height: int
    faces: list[FollowedFace]
    milliseconds: float = Field(description="From the frame's last byte to this answer.")

    @classmethod
    def of(cls, reading: Reading, faces: Sequence[TrackedFace], milliseconds: float) -> Self:
        """The answer for a frame whose faces are followed."""
        return cls(
            width=reading.width or 0,
            height=reading.height or 0,
            faces=[FollowedFace.followed(face) for face in faces],
            milliseconds=milliseconds,
        )


class VideoFacts(BaseModel):
    """What a video is."""

    width: int = Field(description="Of the upright frames, in pixels.")
    height: int
    seconds: float | None = Field(description="How long it says it is; null where it doesn't.")
    every: float = Field(description="Seconds between two readings, at the least.")


class VideoLine(BaseModel):
    """The first line about a video."""

    video: VideoFacts


class MomentLine(BaseModel):
    """The faces of one frame of a video; each frame is read for itself."""

    time: float = Field(description="Seconds from the video's first picture.")
    faces: list[FollowedFace]


class VideoEnd(BaseModel):
    """How the reading of a video ended."""

    readings: int
    reason: str | None = Field(description="Why it ended before the video's end; else null.")


class EndLine(BaseModel):
    """The last line about a video."""

    end: VideoEnd


class ModelAnswer(BaseModel):
    """What the model is and what it isn't meant for."""

    name: str = Field(description="starter, a file's name, or an MLflow address.")
    version: str | None = Field(description="Its registered version, where it has one.")
    stream: str
    classes: list[str] = Field(description="In the order of the model's outputs.")
    label_source: str = Field(
        description="Whose labels it learnt: listed, or votes (FER+); with another rule for ties "
        "votes:first or votes:listed."
    )
    trained_on: dict[str, Any] = Field(description="What its training says of itself.")
    limits: list[str] = Field(description="What it must not be taken for.")
    card: dict[str, list[str]] | None = Field(
        description="The sentences of its model card by heading, with its figures; null where it "
        "has no card."
    )


class HealthAnswer(BaseModel):
    """Whether requests are answered."""

    ready: bool
