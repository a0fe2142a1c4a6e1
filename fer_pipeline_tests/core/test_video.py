"""Videos read frame by frame, with their times; and written, whole or not at all."""

import io
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_pipeline.core.bounds import Bounds, UnreadableError
from fer_pipeline.core.errors import InputError
from fer_pipeline.core.mp4 import mp4_seconds
from fer_pipeline.core.video import Frame, Video, is_video, open_camera, open_video, spaced
from fer_pipeline.core.video_writing import VideoWriter, writing_video
from fer_pipeline_tests.core.films import HEIGHT, RATE, WIDTH, Capture, drawn_frames, write_film


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty frames, two seconds; not to be written to."""
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4")


def _patched(film: Path, kind: bytes, start: int, data: bytes) -> bytes:
    """The film with other bytes in a box, from `start` after the box's name on."""
    stored = bytearray(film.read_bytes())
    place = stored.index(kind) + len(kind) + start
    stored[place : place + len(data)] = data
    return bytes(stored)


def test_frames_come_in_order_with_their_times_and_pixels(film: Path) -> None:
    expected = drawn_frames(50)
    with open_video(film) as video:
        assert (video.width, video.height, video.fps) == (WIDTH, HEIGHT, RATE)
        assert (video.frames, video.seconds) == (50, 2.0)
        frames = list(video)
    assert [frame.number for frame in frames] == list(range(50))
    assert [frame.seconds for frame in frames] == pytest.approx(np.arange(50) / RATE)
    for frame, pixels in zip(frames, expected, strict=True):
        assert frame.pixels.shape == (HEIGHT, WIDTH, 3)
        assert np.abs(frame.pixels.astype(int) - pixels).mean() < 6


def test_video_that_was_filmed_on_its_side_is_turned_upright(film: Path, tmp_path: Path) -> None:
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, HEIGHT << 16, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(_patched(film, b"tkhd", 40, quarter))
    with open_video(tmp_path / "turned.mp4") as video:
        assert (video.width, video.height) == (HEIGHT, WIDTH)
        frame = next(iter(video))
    assert frame.pixels.shape == (WIDTH, HEIGHT, 3)
    assert frame.pixels[5:35, -35:-5].mean(axis=(0, 1)) == pytest.approx((0, 0, 255), abs=20)


def test_video_without_time_stamps_has_times_from_its_rate() -> None:
    class Untimed:
        """Stands for a capture whose container has no time stamps."""

        left = 5

        def get(self, name: int) -> float:
            known = {cv2.CAP_PROP_FRAME_WIDTH: 4, cv2.CAP_PROP_FRAME_HEIGHT: 2}
            return known.get(name, 10.0 if name == cv2.CAP_PROP_FPS else 0.0)

        def read(self) -> tuple[bool, np.ndarray | None]:
            self.left -= 1
            return self.left >= 0, np.zeros((2, 4, 3), np.uint8)

    video = Video("untimed", Untimed(), camera=False, seconds=None)
    assert video.frames is None
    assert [frame.seconds for frame in video] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_frames_that_grow_are_of_one_size_and_end_beyond_the_bound() -> None:
    sizes = [(2, 4), (20, 40), (20, 50)]
    frames = [(at / 10, np.zeros((*size, 3), np.uint8)) for at, size in enumerate(sizes)]
    video = Video("calls", Capture(frames), camera=False, seconds=None)
    video.bounds = Bounds(max_pixels=900)
    read = []
    with pytest.raises(UnreadableError, match="calls goes on with frames of 50x20 pixels, more"):
        read.extend(video)
    assert [frame.pixels.shape for frame in read] == [(2, 4, 3)] * 2


def test_pictures_that_begin_late_are_not_missed_at_the_end() -> None:
    """A container says 7 seconds where 4 seconds of pictures begin at 3."""
    frames = [(at / 10, np.zeros((2, 4, 3), np.uint8)) for at in range(40)]
    late = Video("late", Capture(frames, 70, first=30), camera=False, seconds=None)
    assert late.seconds == 7.0
    assert [frame.seconds for frame in late] == pytest.approx(np.arange(40) / 10)
    # The clock of a broadcast says nothing of when its pictures begin.
    for first in (0, 30_000):
        cut = Video("cut", Capture(frames, 70, first=first), camera=False, seconds=None)
        with pytest.raises(UnreadableError, match=r"cut breaks off after 4\.0 of 7\.0 seconds"):
            list(cut)


def test_video_that_breaks_off_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    whole = write_film(tmp_path / "film.avi", 100).read_bytes()
    (tmp_path / "half.avi").write_bytes(whole[: len(whole) // 2])
    frames = []
    with (
        open_video(tmp_path / "half.avi") as video,
        pytest.raises(UnreadableError, match=r"half\.avi breaks off after [12]\.\d of 4\.0 sec"),
    ):
        frames.extend(video)
    assert 30 < len(frames) < 60


def test_frames_that_an_edit_leaves_out_are_not_missed(film: Path, tmp_path: Path) -> None:
    scale = struct.unpack_from(">I", film.read_bytes(), film.read_bytes().index(b"mvhd") + 16)[0]
    half = struct.pack(">I", scale)
    (tmp_path / "edited.mp4").write_bytes(_patched(film, b"mvhd", 16, half))
    with open_video(tmp_path / "edited.mp4") as video:
        assert (video.seconds, video.frames) == (1.0, 25)
        assert len(list(video)) >= 25


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("empty.mp4", b"", "is empty: give the path of a video"),
        ("text.mp4", b"Not a film.\n", "is a text file"),
        ("list.mp4", b"#EXTM3U\n/etc/hostname\n", "is a text file"),
        ("list.mp4", "#EXTM3U\n# é\n/etc/hostname\n".encode(), "is a text file"),
        ("list.mp4", b"ffconcat version 1.0\n# \x01\nfile film.mp4\n", "is a text file"),
        ("noise.mp4", bytes(range(256)) * 20, "can't be read as a video"),
        ("none.mp4", None, "is no file: give the path of a video"),
    ],
)
def test_file_that_is_no_video_is_one_sentence(
    tmp_path: Path, name: str, data: bytes | None, problem: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=problem) as raised:
        open_video(tmp_path / name)
    assert name in str(raised.value)


def test_folder_and_camera_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        open_video(tmp_path)
    for number in (99, 200, 10**12):
        with pytest.raises(InputError, match=f"there is no camera {number}"):
            open_camera(number)


def test_mp4_without_its_end_is_one_sentence_of_which_opencv_and_ffmpeg_say_nothing(
    film: Path, tmp_path: Path
) -> None:
    (tmp_path / "cut.mp4").write_bytes(film.read_bytes()[:20_000])
    program = "import sys; from fer_pipeline.core.video import open_video; open_video(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "cut.mp4")], capture_output=True, text=True
    )
    assert "InputError" in done.stderr.splitlines()[-1]
    assert "damaged or cut short" in done.stderr.splitlines()[-1]
    assert "moov" not in done.stderr
    assert "WARN" not in done.stderr


def test_videos_are_known_by_their_names() -> None:
    assert all(map(is_video, ("a.mp4", "B.MOV", Path("c/d.webm"), "e.f.avi")))
    assert not any(map(is_video, ("a.jpg", "mp4", "page.ts", "film.mp4.txt")))


@given(st.binary(max_size=200), st.sampled_from([b"", b"moov", b"mvhd"]))
def test_boxes_of_any_bytes_are_read_without_error(data: bytes, kind: bytes) -> None:
    found = mp4_seconds(io.BytesIO(data[:4] + kind + data[4:]))
    assert found is None or found > 0


def test_millions_of_empty_boxes_are_not_all_looked_at() -> None:
    class Counted(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.reads += 1
            return super().read(size)

    opened = Counted(struct.pack(">I4s", 8, b"free") * 50_000)
    assert mp4_seconds(opened) is None
    assert opened.reads <= 10_000


@pytest.mark.parametrize(
    ("every", "times"),
    [
        (1.0, [0.5, 1.0, 3.52, 4.0]),
        (0.2, [0.5, 0.6, 0.8, 1.0, 3.52, 3.6, 4.0]),
        (math.inf, [0.5]),
        (0.0, [0.5, 0.6, 0.8, 0.9999999, 1.0399999, 3.52, 3.56, 3.6, 4.0]),
    ],
)
def test_after_a_gap_frames_are_no_closer_than_before(every: float, times: list[float]) -> None:
    stamps = (0.5, 0.6, 0.8, 0.9999999, 1.0399999, 3.52, 3.56, 3.6, 4.0)
    pixels = np.zeros((1, 1, 3), np.uint8)
    frames = [Frame(number, seconds, pixels) for number, seconds in enumerate(stamps)]
    assert [frame.seconds for frame in spaced(frames, every)] == pytest.approx(times)


def test_written_video_is_as_long_as_what_it_shows(tmp_path: Path) -> None:
    red, blue = np.zeros((2, 64, 96, 3), np.uint8)
    red[..., 2], blue[..., 0] = 255, 255
    with writing_video(tmp_path / "new" / "made.mp4", 10.0) as writer:
        for pixels, seconds in ((red, 5.0), (red, 5.04), (blue, 6.0), (red, 6.5)):
            writer.add(pixels, seconds)
    with open_video(tmp_path / "new" / "made.mp4") as video:
        assert (video.width, video.height, video.fps) == (96, 64, 10.0)
        colours = "".join("B.R"[int(frame.pixels.mean(axis=(0, 1)).argmax())] for frame in video)
    assert colours == "R" * 10 + "B" * 5 + "R"


def test_gap_of_hours_between_two_frames_is_not_filled(tmp_path: Path) -> None:
    frame = np.zeros((48, 64, 3), np.uint8)
    with writing_video(tmp_path / "made.mp4", 10.0) as writer:
        for seconds in (0.0, 7200.0, 7200.1):
            writer.add(frame, seconds)
        assert writer.frames == 102


def _write(place: Path, *frames: np.ndarray, fail: bool = False) -> None:
    with writing_video(place, 25.0) as writer:
        for number, frame in enumerate(frames):
            writer.add(frame, number / 25)
        if fail:
            raise RuntimeError


def test_video_stands_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "made.mp4"
    place.write_bytes(b"before")
    frame = np.zeros((48, 64, 3), np.uint8)
    _write(place)
    with pytest.raises(RuntimeError):
        _write(place, frame, fail=True)

    def full(writer: VideoWriter) -> None:
        writer._writer.release()
        os.truncate(writer._path, writer._path.stat().st_size // 2)

    monkeypatch.setattr(VideoWriter, "close", full)
    with pytest.raises(InputError, match=r"made\.mp4 can't be written whole"):
        _write(place, *[frame] * 20)
    assert place.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [place]


def test_place_where_no_video_can_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    for place, problem in (
        ("made.avi", r"must end in \.mp4"),
        ("folder.mp4", "is a folder"),
        ("file/made.mp4", "can't be written"),
    ):
        with pytest.raises(InputError, match=problem):
            _write(tmp_path / place)
    frames = np.zeros((48, 64, 3), np.uint8), np.zeros((48, 48, 3), np.uint8)
    with pytest.raises(ValueError, match=r"\(48, 48\) pixels in a video of \(64, 48\)"):
        _write(tmp_path / "made.mp4", *frames)
