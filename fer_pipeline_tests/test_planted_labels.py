"""The measurement of planted labels at a tiny size, and the parts its figure rests on."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import planted_labels
from benchmarks.planted_labels import (
    CLASSES,
    END,
    START,
    Planted,
    found_first,
    main,
    plant,
    replanted,
)
from fer_pipeline.core.labels import CODES, VOTE_NAMES
from fer_pipeline.core.predictions import Predictions, read_predictions
from fer_pipeline_tests.core.parquet_faces import FER, write_split

ROWS = 400


def _votes(label: int, most: int) -> list[int]:
    votes = [0] * len(VOTE_NAMES)
    votes[label] = most
    votes[(label + 1) % len(CLASSES)] += 10 - most
    return votes


def _manifest() -> pa.Table:
    """Every other row confirmed by eight votes, the others by seven."""
    label = [at // 2 % len(CLASSES) for at in range(ROWS)]
    votes = [_votes(name, 8 - at % 2) for at, name in enumerate(label)]
    return pa.table(
        {
            "face_id": [f"{at:016x}" for at in range(ROWS)],
            "expression": pa.array(label, pa.int8()),
            "votes": pa.array(votes, pa.list_(pa.int8())),
        }
    )


def test_labels_are_planted_among_confirmed_rows_alone_and_are_always_wrong() -> None:
    manifest = _manifest()
    planted = plant(manifest, CLASSES, 0.05, 8, seed=0)
    before, after = manifest["expression"].to_numpy(), planted.manifest["expression"].to_numpy()
    changed = np.flatnonzero(before != after)
    assert len(changed) == round(0.05 * ROWS / 2)
    assert (changed % 2 == 0).all()
    assert planted.planted.tolist() == [f"{at:016x}" for at in changed]
    assert len(planted.agreeing) == ROWS / 2
    assert set(after) <= {CODES[name] for name in CLASSES}


def test_a_planted_label_is_any_other_class_and_the_seed_decides() -> None:
    manifest = _manifest()
    every = plant(manifest, CLASSES, 1.0, 8, seed=0)
    step = every.manifest["expression"].to_numpy() - manifest["expression"].to_numpy()
    counts = np.bincount(step[::2] % len(CLASSES), minlength=len(CLASSES))
    assert counts[0] == 0
    assert (counts[1:] > ROWS / 2 / 6 / 2).all()
    assert plant(manifest, CLASSES, 1.0, 8, seed=0).manifest.equals(every.manifest)
    assert not plant(manifest, CLASSES, 1.0, 8, seed=1).manifest.equals(every.manifest)


def test_another_planting_changes_other_rows_and_restores_the_first_ones() -> None:
    manifest = _manifest()
    planted = plant(manifest, CLASSES, 0.2, 8, seed=0)
    ids = np.array(manifest["face_id"].to_pylist(), dtype=object)
    predictions = Predictions(
        CLASSES,
        ids,
        ids,
        np.full(ROWS, "train", dtype=object),
        planted.manifest["expression"].to_numpy().astype(np.int64),
        np.full((ROWS, len(CLASSES)), 1 / len(CLASSES), np.float32),
    )
    labelled, other = replanted(planted, predictions, seed=1)
    changed = ids[labelled.expression != manifest["expression"].to_numpy()]
    assert changed.tolist() == other.planted.tolist()
    assert len(changed) == round(0.05 * (ROWS / 2 - 40))
    assert not set(changed) & set(planted.planted)


def test_the_figure_counts_planted_labels_in_the_first_tenth() -> None:
    ids = np.array([f"{at:016x}" for at in range(100)], dtype=object)
    predictions = Predictions(
        ("Neutral", "Happiness"),
        ids,
        ids,
        np.full(100, "train", dtype=object),
        np.zeros(100, np.int64),
        np.full((100, 2), 0.5, np.float32),
    )
    planted = Planted(_manifest(), _manifest(), ids[:50], ids[[3, 8, 20, 49]])
    quality = np.arange(100.0)
    every = found_first(predictions, quality, planted)
    assert (every.found, every.planted) == (2, 4)
    among = found_first(predictions, quality, planted, among=planted.agreeing)
    assert (among.found, among.planted) == (1, 4)
    assert str(every).startswith("0.500 (0.150 to 0.850)")


def test_the_command_measures_a_data_set_with_votes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = [at % len(FER) for at in range(210)]
    names = list(FER)
    votes = [[10 if place == label else 0 for place in range(len(names))] for label in labels]
    root, home, page = tmp_path / "data set", tmp_path / "home", tmp_path / "people.md"
    page.write_text(f"# People\n\n{START}\nold figures\n{END}\nafter\n")
    write_split(root, "train", labels, votes=votes, vote_columns=names)
    monkeypatch.setattr(planted_labels, "PLANTED_SHARE", 0.1)
    words = ["--root", str(root), "--home", str(home), "--page", str(page), "--preset", "smoke"]
    assert main([*words, "--epochs", "1", "--folds", "2", "--rows", "140"]) == 0
    table = capsys.readouterr().out
    assert page.read_text() == f"# People\n\n{START}\n{table}{END}\nafter\n"
    assert "14 wrong labels, 10% of the 140 training rows" in table
    assert "| random order (expected) | 0.100 | 0.100 | 0.100 |" in table
    assert len(read_predictions(home / "out_of_fold.parquet")) == 140


def test_a_folder_without_such_a_data_set_is_refused_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(tmp_path), "--home", str(tmp_path / "home")]) == 2
    assert "holds no data/train" in capsys.readouterr().err
