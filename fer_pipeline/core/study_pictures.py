"""The pictures of a study: the whole photo with the face framed, and the face alone, as JPEG.

They hold pixels and nothing else: no metadata of the photo, no name, no label.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.datasets.base import DataSet
from fer_pipeline.core.decode import Photo, UnreadableError, open_photo
from fer_pipeline.core.detect import Box
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.sample import sample_square
from fer_pipeline.core.storage import Location, parquet_source

PHOTO_SIDE = 900
"""Pixels of the longer side of a whole photo at most."""
CROP_SIDE = 384
"""Pixels of a crop's side, and of the longer side of a picture that is a face already."""

_QUALITY = 88
_DARK, _LIGHT = (16, 16, 16), (255, 214, 10)
"""Colours of the frame (RGB): one of them is seen on any photo."""
_LINE = 1 / 180
"""Thickness of the frame's light line, as a share of the longer side."""
_BOX = ("box_x", "box_y", "box_width", "box_height")


def usable_faces(shards: Sequence[Location]) -> set[str]:
    """The face_ids that have a crop in these shards."""
    usable: set[str] = set()
    for path in shards:
        table = pq.read_table(parquet_source(path), columns=["face_id", "status"])
        usable.update(table.filter(pc.equal(table["status"], "ok"))["face_id"].to_pylist())
    return usable


def crop_boxes(shards: Sequence[Location], face_ids: Sequence[str]) -> dict[str, Box]:
    """The box that each face was cropped by: x, y, width, height in pixels of the upright photo.

    Raises InputError when a face has no crop in these shards.
    """
    wanted = pa.array(sorted(set(face_ids)), pa.string())
    boxes: dict[str, Box] = {}
    for path in shards:
        table = pq.read_table(parquet_source(path), columns=["face_id", "status", *_BOX])
        chosen = pc.and_(
            pc.is_in(table["face_id"], value_set=wanted), pc.equal(table["status"], "ok")
        )
        table = table.filter(chosen)
        sides = zip(*(table[name].to_pylist() for name in _BOX), strict=True)
        boxes.update(zip(table["face_id"].to_pylist(), sides, strict=True))
    lost = [face for face in wanted.to_pylist() if face not in boxes]
    if lost:
        raise InputError(
            f"face {lost[0]} and {len(lost) - 1} more of the sample have no crop: run "
            "`fer-pipeline run` to make the crops again, then draw the study"
        )
    return boxes


def study_pictures(
    dataset: DataSet,
    items: pa.Table,
    boxes: Mapping[str, Box],
    crop: CropSettings,
    on_photo: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[bytes, bytes]]:
    """The photo and the crop of each item in turn, as JPEG.

    `boxes` are those of `crop_boxes`; of `crop` the margin and the bounds are used. Photos are
    read in the order in which they are stored and kept in a temporary file until their turn;
    `on_photo` is told photos read and photos to read.
    Raises InputError when a photo that had a crop can't be read any more.
    """
    lists, paths = items["list"].to_pylist(), items["image_path"].to_pylist()
    faces = items["face_id"].to_pylist()
    first = {face: at for at, face in reversed(list(enumerate(faces)))}
    # Photos packed in one file carry their row as their path.
    order = sorted(first.values(), key=lambda at: (lists[at], len(paths[at]), paths[at]))
    photos = dataset.read_photos(
        [(lists[at], paths[at]) for at in order], max_bytes=crop.max_file_bytes
    )
    with tempfile.TemporaryFile() as store:
        kept: dict[str, tuple[int, int, int]] = {}
        for done, (at, data) in enumerate(zip(order, photos, strict=True), start=1):
            try:
                if data is None:
                    raise UnreadableError("there is no such photo")
                if isinstance(data, UnreadableError):
                    raise data
                opened = open_photo(data, crop.bounds)
                if dataset.part_of(lists[at]).faces_are_cropped:
                    photo = face = _jpeg(_enlarged_face(opened))
                else:
                    photo, face = _both(opened, boxes[faces[at]], crop)
            except UnreadableError as error:
                raise InputError(
                    f"{paths[at]} ({lists[at]}) had a face crop and can't be read now ({error}): "
                    "bring the photo back, or run `fer-pipeline run` and draw the study again"
                ) from error
            kept[faces[at]] = (store.tell(), len(photo), len(face))
            store.write(photo + face)
            if on_photo:
                on_photo(done, len(order))
        for face_id in faces:
            start, photo_bytes, crop_bytes = kept[face_id]
            store.seek(start)
            yield store.read(photo_bytes), store.read(crop_bytes)


def _both(photo: Photo, box: Box, crop: CropSettings) -> tuple[bytes, bytes]:
    x, y, width, height = box
    extent = max(width, height) * (1 + 2 * crop.margin)
    longer = max(photo.width, photo.height)
    view = photo.view(min(1.0, max(PHOTO_SIDE / longer, CROP_SIDE / extent)))
    centre = (
        view.left + (x + width / 2) * view.scale,
        view.top + (y + height / 2) * view.scale,
    )
    face = sample_square(view.pixels, centre, extent * view.scale, CROP_SIDE)
    pixels = view.pixels
    scale = min(1.0, PHOTO_SIDE / max(pixels.shape[:2]))
    shown = _resized(pixels, scale)
    scale *= view.scale
    left = view.left * shown.shape[1] / pixels.shape[1]
    top = view.top * shown.shape[0] / pixels.shape[0]
    corners = (
        left + x * scale,
        top + y * scale,
        left + (x + width) * scale,
        top + (y + height) * scale,
    )
    return _jpeg(_framed(shown, corners)), _jpeg(face)


def _enlarged_face(photo: Photo) -> npt.NDArray[np.uint8]:
    """A picture that is a face already, at the size of a crop."""
    pixels = photo.view(min(1.0, CROP_SIDE / max(photo.width, photo.height))).pixels
    return _resized(pixels, CROP_SIDE / max(pixels.shape[:2]))


def _resized(pixels: npt.NDArray[np.uint8], scale: float) -> npt.NDArray[np.uint8]:
    import cv2

    if scale == 1.0:
        return pixels
    height, width = pixels.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size, interpolation=how), np.uint8)


def _framed(
    pixels: npt.NDArray[np.uint8], corners: tuple[float, float, float, float]
) -> npt.NDArray[np.uint8]:
    """The picture with a light line between dark ones around the box, kept inside the picture.

    `corners` are left, top, right, bottom in pixels.
    """
    framed = pixels.copy()
    height, width = framed.shape[:2]
    line = max(2, round(max(height, width) * _LINE))
    edge = max(1, line // 2)
    band = line + 2 * edge
    left, right = _within(corners[0], corners[2], band, width)
    top, bottom = _within(corners[1], corners[3], band, height)
    for colour, skip, thick in ((_DARK, 0, band), (_LIGHT, edge, line)):
        outer = left - band + skip, top - band + skip, right + band - skip, bottom + band - skip
        _outline(framed, outer, thick, colour)
    return framed


def _within(start: float, end: float, band: int, size: int) -> tuple[int, int]:
    """The sides of a box, moved so that a band outside them lies in the picture."""
    first = min(max(round(start), band), size - 1)
    last = max(min(round(end), size - band), first + 1)
    return first, last


def _outline(
    pixels: npt.NDArray[np.uint8],
    outer: tuple[int, int, int, int],
    thick: int,
    colour: tuple[int, int, int],
) -> None:
    left, top, right, bottom = (max(0, side) for side in outer)
    pixels[top : top + thick, left:right] = colour
    pixels[max(0, bottom - thick) : bottom, left:right] = colour
    pixels[top:bottom, left : left + thick] = colour
    pixels[top:bottom, max(0, right - thick) : right] = colour


def _jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    import cv2

    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    return data.tobytes()
