"""The streams: which classes one model tells apart. A new stream is one line in `STREAMS`.

A stream of your own, without touching the package, is the setting `stream_classes`
(`[stream_classes]` in settings.toml); see `Settings.all_streams`.
"""

from collections.abc import Collection, Mapping

from fer_pipeline.core.labels import NAMES, NOT_EXPRESSIONS

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

OWN_STREAM = "own"


def fitting_stream(
    train: Collection[str], dev: Collection[str], test: Collection[str]
) -> tuple[str, tuple[str, ...]] | None:
    """The largest stream whose classes all have faces on each side, with its classes.

    Where none fits, a stream `OWN_STREAM` of the classes that do; None where these aren't two.
    """
    usable = [
        name
        for name in NAMES
        if name not in NOT_EXPRESSIONS and name in train and name in dev and name in test
    ]
    fitting = [name for name, classes in STREAMS.items() if set(classes) <= set(usable)]
    if fitting:
        best = max(fitting, key=lambda name: len(STREAMS[name]))
        return best, STREAMS[best]
    return (OWN_STREAM, tuple(usable)) if len(usable) >= 2 else None
