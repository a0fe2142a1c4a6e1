"""The streams: which classes one model tells apart. A new stream is one line in `STREAMS`.

A stream of your own, without touching the package, is the setting `stream_classes`
(`[stream_classes]` in settings.toml); see `Settings.all_streams`.
"""

from collections.abc import Mapping

STREAMS: Mapping[str, tuple[str, ...]] = {
    "five_class": ("Neutral", "Happiness", "Sadness", "Surprise", "Anger"),
    "three_class": ("Happiness", "Sadness", "Surprise"),
    "seven_class": (
        "Neutral",
        "Happiness",
        "Sadness",
        "Surprise",
        "Anger",
        "Fear",
        "Disgust",
    ),
    "eight_class": (
        "Neutral",
        "Happiness",
        "Sadness",
        "Surprise",
        "Anger",
        "Fear",
        "Disgust",
        "Contempt",
    ),
}
"""Name of the stream to its classes; the order is the order of the model's outputs."""

DEFAULT_STREAMS: tuple[str, ...] = ("five_class", "three_class")
