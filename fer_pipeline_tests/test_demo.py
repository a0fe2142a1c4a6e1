"""The demo's drawings: a small network learns them, and learns nothing where labels are shuffled.

At the size and with the preset of `fer-pipeline demo`, but in this process: the graph around it
is tested elsewhere.
"""

from pathlib import Path

from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.examples import select_examples
from fer_pipeline.core.index import build_index
from fer_pipeline.core.manifest import build_manifest, read_manifest
from fer_pipeline.core.metrics import Evaluation, evaluate_predictions
from fer_pipeline.core.presets import PRESETS
from fer_pipeline.core.shards import write_shard
from fer_pipeline.core.synthetic import write_release
from fer_pipeline.core.train import predict, prepare_process, train
from fer_pipeline.core.worklist import plan_work, read_slice
from fer_pipeline.settings import Settings
from fer_pipeline.streams import STREAMS

CLASSES = STREAMS["five_class"]
SEED = 0


def _evaluated(folder: Path, *, photos: int, shuffle_labels: bool) -> Evaluation:
    """Draw, index, deal, crop, train and score, as the graph does for the demo's five classes."""
    root = write_release(
        folder / "release", photos=photos, seed=SEED, shuffle_labels=shuffle_labels
    ).root
    settings = Settings.fresh(home=folder, dataset="affectnet", root=root, preset="smoke")
    preset = PRESETS["smoke"]
    dataset = open_dataset("affectnet", root)
    build_index(dataset, folder / "index")
    build_manifest(
        dataset,
        folder / "index",
        folder / "manifest",
        CLASSES,
        label_source="listed",
        dev_share=settings.dev_share,
        seed=SEED,
    )
    manifest = read_manifest(folder / "manifest")
    crops, how = folder / "crops", settings.crop_settings
    (whole,) = plan_work(dataset, folder / "manifest", crops, how, manifest.num_rows)
    write_shard(dataset, *read_slice(crops, whole.number), crops, how)
    shard = crops / whole.file_name
    training, dev, test = (
        select_examples([shard], manifest, CLASSES, split, "listed")
        for split in ("train", "dev", "test")
    )
    prepare_process(SEED)
    result = train(training, dev, CLASSES, preset, seed=SEED)
    return evaluate_predictions(
        test.expression, predict(result.model, test), CLASSES, test.group_id, seed=SEED
    )


def test_drawings_of_the_demo_are_told_apart(tmp_path: Path) -> None:
    found = _evaluated(tmp_path, photos=1200, shuffle_labels=False)
    assert found.n > 120
    assert found.accuracy.value >= 0.6
    assert found.accuracy.low > found.majority_accuracy


def test_shuffled_labels_are_at_chance(tmp_path: Path) -> None:
    found = _evaluated(tmp_path, photos=600, shuffle_labels=True)
    assert found.n > 60
    assert found.accuracy.low - 0.05 <= 1 / len(CLASSES) <= found.accuracy.high + 0.05
