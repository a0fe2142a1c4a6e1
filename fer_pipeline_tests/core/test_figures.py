import io
import threading

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from fer_pipeline.core import figures, photo_figures
from fer_pipeline.core.metrics import evaluate_predictions
from fer_pipeline.core.png import (
    BLUE,
    ORANGE,
    PNG_LIMIT,
    as_rgb,
    figure_png,
    image_png,
    png_as_data_uri,
    png_as_markdown,
    shrink_png,
)

CLASSES = ("Neutral", "Happiness", "Sadness")
HISTORY = [
    {"epoch": at, "loss": 2 / at, "dev_loss": 2.1 / at, "dev_accuracy": 0.3, "dev_macro_f1": score}
    for at, score in ((1, 0.2), (2, 0.35), (3, 0.3))
]


@pytest.fixture
def figure_of(monkeypatch):
    """Runs a figure function and gives back the matplotlib figure it drew."""

    def run(function, *arguments, **options):
        kept = []

        def keep(figure, dpi):
            kept.append(figure)
            return figure_png(figure, dpi)

        for module in (figures, photo_figures):
            monkeypatch.setattr(module, "figure_png", keep)
        assert decoded(function(*arguments, **options)).width > 100
        return kept[0]

    return run


def decoded(png: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(png))
    picture.load()
    assert picture.format == "PNG"
    return picture


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture
def found():
    expression = np.array([0, 0, 0, 1, 1, 1])
    probabilities = np.full((6, 3), 0.1)
    probabilities[np.arange(6), [0, 0, 1, 1, 1, 0]] = 0.8
    return evaluate_predictions(
        expression, probabilities, CLASSES, np.arange(6).astype(str), seed=0, resamples=50
    )


def test_expression_bars_are_sorted_with_the_count_on_every_bar(figure_of):
    figure = figure_of(
        figures.expression_bars, ("Fear", "None", "Anger"), (5, 1200, 30), (0, 0, 4), ("None",)
    )
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Fear", "Anger", "None"]
    assert [text for text in texts(figure) if text.strip()] == ["5", "34", "   30 + 4", "1,200"]


def test_expression_bars_of_no_expression_have_another_colour(figure_of):
    from matplotlib.colors import to_hex

    figure = figure_of(figures.expression_bars, ("Fear", "None"), (5, 9), (0, 0), ("None",))
    colours = [to_hex(bar.get_facecolor()).upper() for bar in figure.axes[0].patches]
    assert colours[0] == BLUE.upper()
    assert colours[2] == ORANGE.upper()


@pytest.mark.parametrize("counts", [(), (0, 0)])
def test_expression_bars_of_empty_lists_are_drawn(counts):
    decoded(figures.expression_bars(CLASSES[: len(counts)], counts, counts))


def test_confusion_heatmap_shows_share_and_count(figure_of):
    confusion = np.array([[3, 1], [0, 0]])
    figure = figure_of(figures.confusion_heatmap, confusion, ("a", "b"))
    assert texts(figure) == ["75%\n(3)", "25%\n(1)", "no face", "no face"]
    figure = figure_of(figures.confusion_heatmap, confusion, ("a", "b"), normalised=False)
    assert texts(figure) == ["3", "1", "0", "0"]


def test_training_curves_mark_the_best_epoch(figure_of):
    figure = figure_of(figures.training_curves, HISTORY)
    ring = figure.axes[1].lines[-1]
    assert (ring.get_xdata().tolist(), ring.get_ydata().tolist()) == ([2], [0.35])
    legend = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert legend == ["accuracy", "macro-F1", "best 0.350, epoch 2"]
    assert_allclose(figure.axes[0].lines[0].get_ydata(), [2, 1, 2 / 3])


def test_training_curves_of_one_epoch_without_dev_scores_are_drawn(figure_of):
    figure = figure_of(figures.training_curves, [{"epoch": 1, "loss": 1.0}])
    legend = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert legend == ["accuracy", "macro-F1"]


def test_reliability_diagram_leaves_empty_bins_out(figure_of, found):
    figure = figure_of(figures.reliability_diagram, found.calibration, found.ece)
    bars = figure.axes[0].patches
    assert len(bars) == 1
    assert_allclose(bars[0].get_height(), 4 / 6)
    assert f"{found.ece:.3f}" in figure.axes[0].get_title(loc="left")


def test_recall_bars_show_intervals_and_name_classes_without_faces(figure_of, found):
    shown = texts(figure_of(figures.recall_bars, found.by_class))
    low, high = found.by_class[0].recall_low, found.by_class[0].recall_high
    assert shown[0] == "no test face"
    assert shown[2] == f"0.67  ({low:.2f} to {high:.2f})   n = 3"


def test_sample_photos_of_any_shape_keep_their_proportions(figure_of):
    photos = [noise(30, 60, 3), None, noise(48, 48), noise(500, 100, 1)]
    figure = figure_of(photo_figures.sample_photos, photos, ["wide", "gone", "grey", "$tall_{"])
    assert texts(figure) == ["wide", "no readable photo", "gone", "grey", "$tall_{"]
    ratios = []
    for shown in figure.axes[0].images:
        left, right, bottom, top = shown.get_extent()
        ratios.append((right - left) / (bottom - top))
    assert_allclose(ratios, [2, 1, 0.2], rtol=0.05)


def test_contact_sheet_has_a_row_for_every_columns_crops():
    four = decoded(photo_figures.contact_sheet(noise(4, 48, 48, 1), list("abcd"), 2))
    two = decoded(photo_figures.contact_sheet(noise(2, 48, 48, 1), list("ab"), 2))
    assert abs(four.height - 2 * two.height) < 15
    assert four.width == two.width


def test_contact_sheet_refuses_captions_that_do_not_fit():
    with pytest.raises(ValueError, match="captions"):
        photo_figures.contact_sheet(noise(3, 48, 48, 1), ["one"])


def test_contact_sheet_of_nothing_is_drawn():
    decoded(photo_figures.contact_sheet(noise(0, 48, 48, 1), []))


def test_wrong_gallery_names_label_prediction_and_probability(figure_of):
    figure = figure_of(
        photo_figures.wrong_gallery, noise(1, 48, 48, 3), ["Anger"], ["Neutral"], [0.934]
    )
    assert texts(figure) == ["Most confident errors", "label Anger\nread as Neutral, 93%"]


def test_box_is_drawn_where_it_is_and_stays_whole_beyond_the_frame(figure_of):
    figure = figure_of(photo_figures.boxed_photo, noise(100, 200, 3), (150, -20, 80, 60), "row 3")
    axes = figure.axes[0]
    assert axes.patches[0].get_bbox().bounds == (150, -20, 80, 60)
    assert axes.get_xlim()[1] >= 230
    assert axes.get_ylim()[1] <= -20
    assert not figure_of(photo_figures.boxed_photo, noise(10, 20), None, "x").axes[0].patches


def test_grey_images_become_three_equal_channels():
    grey = noise(5, 4)
    for image in (grey, grey[..., None]):
        assert (as_rgb(image) == grey[..., None]).all()
    with pytest.raises(ValueError, match="shape"):
        as_rgb(noise(4, 4, 4))


def test_image_png_keeps_pixels_and_shrinks_only_when_asked():
    colour = noise(20, 30, 3)
    assert (np.asarray(decoded(image_png(colour))) == colour).all()
    grey = noise(20, 30, 1)
    assert (np.asarray(decoded(image_png(grey))) == grey[..., 0]).all()
    assert decoded(image_png(colour, 15)).size == (15, 10)
    assert decoded(image_png(colour, 99)).size == (30, 20)


def test_large_png_is_shrunk_under_the_limit_and_a_small_one_is_left_alone():
    small, large = image_png(noise(40, 40, 3)), image_png(noise(200, 300, 3))
    assert len(small) < 30_000 < len(large)
    assert shrink_png(small, 30_000) == small
    shrunk = shrink_png(large, 30_000)
    assert 10_000 < len(shrunk) <= 30_000
    width, height = decoded(shrunk).size
    assert_allclose(width / height, 1.5, rtol=0.02)


def test_png_that_cannot_fit_is_refused():
    with pytest.raises(ValueError, match="100 bytes"):
        shrink_png(image_png(noise(64, 64, 3)), limit=100)


def test_markdown_alt_text_cannot_end_the_picture():
    png = image_png(noise(4, 4))
    assert png_as_markdown(png, "a](x)\n[b") == f"![a)(x) (b]({png_as_data_uri(png)})"


def test_charts_fit_the_limit_and_repeat_byte_for_byte():
    eight = np.arange(64).reshape(8, 8)
    names = [f"class {at}" for at in range(8)]
    png = figures.confusion_heatmap(eight, names)
    assert len(png) < PNG_LIMIT
    assert png == figures.confusion_heatmap(eight, names)


def test_figures_drawn_in_a_thread_leave_pyplot_alone():
    made = []
    thread = threading.Thread(target=lambda: made.append(figures.training_curves(HISTORY)))
    thread.start()
    thread.join()
    from matplotlib import _pylab_helpers

    decoded(made[0])
    assert not _pylab_helpers.Gcf.get_all_fig_managers()
