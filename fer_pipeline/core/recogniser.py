"""Expressions of the faces in a picture: found, cropped as in training, recognised.

One way for the command line, the service, videos and the library. How a face becomes a crop is in
`crop.py`, the network in `inference.py`; faces over the frames of a video in `tracks.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.bounds import Bounds, UnreadableError
from fer_pipeline.core.crop import (
    CropSettings,
    PreparedFace,
    Status,
    crop_face,
    for_photos,
    whole_face,
)
from fer_pipeline.core.decode import Photo, open_photo, photo_of
from fer_pipeline.core.detect import Box, DetectedFace, find_faces
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.inference import ExpressionNetwork
from fer_pipeline.core.model_file import ModelCard
from fer_pipeline.core.read_ahead import local_files
from fer_pipeline.core.starter import STARTER, starter_file
from fer_pipeline.core.storage import expanded

Image = str | Path | bytes | NDArray[np.uint8]
"""A file's path, the bytes of an encoded picture, or pixels."""
Order = Literal["rgb", "bgr"]
"""Order of the colour channels of pixels; OpenCV has bgr, Pillow and matplotlib have rgb."""

_PICTURES = 32
"""Pictures that are held at once while many are read."""
_TINY = 64
"""Pictures up to this side, in pixels, hold one face and little else."""


@dataclass(frozen=True)
class Face:
    """One face of a picture.

    `box` is x, y, width, height in pixels of the upright picture; `landmarks` float32 (5, 2) in
    the order of `detect.DetectedFace` and `score` the detector's, both None where the box was
    given. `probabilities` by class name are calibrated and sum to 1; they and `label`, the most
    probable class, are None unless `status` is ok.
    """

    box: Box
    landmarks: NDArray[np.float32] | None
    score: float | None
    status: Status
    label: str | None
    probabilities: Mapping[str, float] | None


@dataclass(frozen=True)
class Reading:
    """What was seen in one picture: its faces, largest first, or the reason why it can't be read.

    `width` and `height` are those of the upright picture in pixels, None where it has none.
    """

    faces: tuple[Face, ...]
    width: int | None
    height: int | None
    reason: str | None = None


class Recogniser:
    """Recognises expressions with one model; may be shared by threads."""

    def __init__(self, network: ExpressionNetwork) -> None:
        """Use a network that was loaded; see `load`."""
        self._network = network
        self._crop = for_photos(network.card.crop)

    @classmethod
    def load(cls, model: str | Path = STARTER, *, threads: int | None = None) -> Self:
        """The model of a .keras file of this pipeline, of an .onnx file that `fer-pipeline export`
        wrote, or `starter`, the package's own.

        `threads` compute one batch of faces, None: one for each core. Raises InputError when
        there is no such model.
        """
        path = starter_file() if model == STARTER else expanded(model)
        if not path.is_file():
            raise InputError(
                f"{path} is no file: give a .keras file that a training logged, an exported .onnx "
                f"file, or {STARTER!r}"
            )
        return cls(ExpressionNetwork(path, threads))

    @property
    def card(self) -> ModelCard:
        """What the model is and how its faces are cropped."""
        return self._network.card

    @property
    def bounds(self) -> Bounds:
        """What is refused before it is decoded."""
        return self._crop.bounds

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that it tells apart."""
        return self._network.classes

    def read(
        self,
        image: Image,
        *,
        order: Order | None = None,
        boxes: Sequence[Box] | None = None,
        whole: bool | None = None,
        small: bool = True,
    ) -> list[Face]:
        """The faces of a picture with their expressions, largest first; may be empty.

        `image` is a path, the bytes of a JPEG, PNG or other picture, or pixels: uint8 (height,
        width) grey, or (height, width, 3), for which `order` says rgb or bgr. With `boxes` these
        faces (x, y, width, height in pixels) are read, in their order, and none is looked for.
        With `whole` the picture itself is one face, as those of FER2013 are; where nothing is
        said, pictures of at most 64 pixels a side are taken so by a model that was trained on
        such. Without `small` small faces are not looked for, which is faster.

        Raises InputError for a path where nothing is, UnreadableError for what is no picture,
        ValueError for pixels of another kind.
        """
        prepared = self.prepare(image, order=order, boxes=boxes, whole=whole, small=small)
        return list(self.recognise([prepared])[0].faces)

    def read_many(
        self,
        images: Sequence[Image],
        *,
        order: Order | None = None,
        boxes: Sequence[Sequence[Box] | None] | None = None,
        whole: bool | None = None,
        small: bool = True,
    ) -> Iterator[Reading]:
        """What is seen in each picture, in turn; arguments as those of `read`, boxes by picture.

        The faces of several pictures are recognised together. A picture that can't be read is a
        Reading with the reason and not the end.
        """
        given = [None] * len(images) if boxes is None else boxes
        for start in range(0, len(images), _PICTURES):
            end = start + _PICTURES
            part = [
                self._attempted(image, order, known, whole=whole, small=small)
                for image, known in zip(images[start:end], given[start:end], strict=True)
            ]
            prepared = [one for one in part if isinstance(one, PreparedPicture)]
            readings = iter(self.recognise(prepared))
            for one in part:
                yield next(readings) if isinstance(one, PreparedPicture) else one

    def prepare(
        self,
        image: Image,
        *,
        order: Order | None = None,
        boxes: Sequence[Box] | None = None,
        whole: bool | None = None,
        small: bool = True,
    ) -> "PreparedPicture":
        """The first half of `read`: a picture's faces, found and cropped; arguments and errors are
        those of `read`.
        """
        photo = self._photo(image, order)
        faces = self._faces_in(photo, boxes, whole=whole, small=small)
        return PreparedPicture(photo.width, photo.height, tuple(faces))

    def recognise(self, pictures: Sequence["PreparedPicture"]) -> list[Reading]:
        """The second half: what is seen in each picture, the faces of all recognised together."""
        crops = [one.crop for picture in pictures for one in picture.faces if one.crop is not None]
        shape = (len(crops), *self._crop.shape)
        rows = iter(self._network.probabilities(np.array(crops, np.uint8).reshape(shape)))
        return [
            Reading(
                tuple(self._face(one, rows) for one in picture.faces), picture.width, picture.height
            )
            for picture in pictures
        ]

    def within(self, bounds: Bounds) -> Self:
        """The same model for pictures within other bounds; the network is shared."""
        other = type(self)(self._network)
        other._crop = replace(
            self._crop,
            max_pixels=bounds.max_pixels,
            max_decoded_bytes=bounds.max_decoded_bytes,
            max_file_bytes=bounds.max_file_bytes,
        )
        return other

    def recognise_crops(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities float32 (n, K) of crops uint8 (n, side, side, channels) that are made."""
        return self._network.probabilities(crops)

    def _attempted(
        self,
        image: Image,
        order: Order | None,
        boxes: Sequence[Box] | None,
        *,
        whole: bool | None,
        small: bool,
    ) -> "PreparedPicture | Reading":
        """The faces of a picture, or the reading with the reason why it can't be read."""
        try:
            return self.prepare(image, order=order, boxes=boxes, whole=whole, small=small)
        except (UnreadableError, InputError) as error:
            return Reading((), None, None, str(error))

    def _photo(self, image: Image, order: Order | None) -> Photo:
        if isinstance(image, np.ndarray):
            return photo_of(_rgb(image, order))
        if isinstance(image, bytes):
            return open_photo(image, self._crop.bounds)
        return open_photo(_bytes_of(Path(image), self._crop), self._crop.bounds)

    def _faces_in(
        self, photo: Photo, boxes: Sequence[Box] | None, *, whole: bool | None, small: bool
    ) -> list["CroppedFace"]:
        if boxes is not None:
            # Faces of a size next to each other: a photo may be decoded anew for each size.
            turns = sorted(range(len(boxes)), key=lambda at: max(boxes[at][2:]))
            faces = {
                at: _cropped(boxes[at], crop_face(photo, boxes[at], self._crop)) for at in turns
            }
            return [faces[at] for at in range(len(boxes))]
        if whole is None:
            tiny = max(photo.width, photo.height) <= _TINY
            whole = tiny and self.card.crop.detect == "whole"
        if whole:
            frame = (0.0, 0.0, float(photo.width), float(photo.height))
            return [_cropped(frame, whole_face(photo, self._crop))]
        found = sorted(find_faces(photo, small=small), key=lambda face: -face.box[2] * face.box[3])
        angle = (lambda face: face.eye_line) if self._crop.align else (lambda _: 0.0)
        return [
            _cropped(face.box, crop_face(photo, face.box, self._crop, angle(face)), face)
            for face in found
        ]

    def _face(self, one: "CroppedFace", rows: Iterator[NDArray[np.float32]]) -> Face:
        found = one.found
        row = None if one.crop is None else next(rows)
        return Face(
            box=one.box,
            landmarks=None if found is None else found.landmarks,
            score=None if found is None else found.score,
            status=one.status,
            label=None if row is None else self.classes[int(row.argmax())],
            probabilities=None
            if row is None
            else dict(zip(self.classes, map(float, row), strict=True)),
        )


@dataclass(frozen=True)
class CroppedFace:
    """A face that was cropped: `crop` is uint8 (side, side, channels), None unless `status` is
    ok; `found` is how it was found, None where its box was given.
    """

    box: Box
    status: Status
    crop: NDArray[np.uint8] | None
    found: DetectedFace | None = None


@dataclass(frozen=True)
class PreparedPicture:
    """A picture's faces before they are recognised; sizes in pixels of the upright picture."""

    width: int
    height: int
    faces: tuple[CroppedFace, ...]


def _cropped(box: Box, face: PreparedFace, found: DetectedFace | None = None) -> CroppedFace:
    # The rest of a prepared face isn't kept: many pictures may wait for the network.
    return CroppedFace(box, face.status, face.crop, found)


def _bytes_of(path: Path, settings: CropSettings) -> bytes:
    (found,) = local_files([str(path)], settings.max_file_bytes)
    if found is None:
        raise InputError(f"{path} is no file: give the path of a picture")
    if isinstance(found, UnreadableError):
        raise found
    return found


def _rgb(pixels: NDArray[np.uint8], order: Order | None) -> NDArray[np.uint8]:
    """Pixels as uint8 RGB (height, width, 3); raises ValueError for what can't be understood."""
    if pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(f"pixels are uint8 of 0 to 255, not {pixels.dtype} {pixels.shape}")
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels are (height, width) or (height, width, 3), not {pixels.shape}")
    if order not in ("rgb", "bgr"):
        raise ValueError("say the order of the colour channels: order='rgb', or 'bgr' as OpenCV's")
    return pixels if order == "rgb" else np.ascontiguousarray(pixels[:, :, ::-1])
