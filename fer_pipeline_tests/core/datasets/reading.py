"""What tests of formats ask of any data set: its rows, and crops of its faces."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from fer_pipeline.core.crop import CropSettings
from fer_pipeline.core.datasets import open_dataset
from fer_pipeline.core.datasets.base import DataSet
from fer_pipeline.core.index import REJECTED_FILE, build_index, count_kept_and_rejected
from fer_pipeline.core.labels import NAMES
from fer_pipeline_tests.core.crop_work import Made
from fer_pipeline_tests.core.small_release import index_rows


def rows_of(name: str, root: Path, folder: Path, **options: str) -> tuple[list[dict], list[dict]]:
    """Kept and rejected rows of a data set; every row of its lists is one of them."""
    chosen = {f"{name}.{option}": value for option, value in options.items()}
    return rows_in(open_dataset(name, root, None, chosen), folder)


def rows_in(dataset: DataSet, folder: Path) -> tuple[list[dict], list[dict]]:
    """Kept and rejected rows; every row of the lists is one of them."""
    summary = build_index(dataset, folder)
    kept, rejected = index_rows(folder), pq.read_table(folder / REJECTED_FILE).to_pylist()
    assert summary.rows_by_list == {one: dataset.count_rows(one) for one in dataset.lists()}
    assert summary.rows_read == len(kept) + len(rejected)
    numbered = count_kept_and_rejected(folder, dataset.lists()).values()
    assert all(whole for _, _, whole in numbered)
    assert all(row["reason"] for row in rejected)
    return kept, rejected


def all_rows(dataset: DataSet) -> tuple[list[dict], list[dict]]:
    """Kept and rejected rows as the data set hands them out, counted as in `rows_in`."""
    files = dataset.lists()
    kept, rejected, numbers = [], [], {}
    for name in files:
        batches = list(dataset.batches([name]))
        parts = [[row for batch in batches for row in batch.kept.to_pylist()]]
        parts.append([row for batch in batches for row in batch.rejected.to_pylist()])
        assert {row["list"] for part in parts for row in part} <= {name}
        assert sum(map(len, parts)) == dataset.count_rows(name)
        found = numbers.setdefault(str(files[name]), [])
        found.extend(row["row"] for part in parts for row in part)
        kept += parts[0]
        rejected += parts[1]
    for found in numbers.values():
        assert sorted(found) == list(range(1, len(found) + 1))
    assert all(row["reason"] for row in rejected)
    return kept, rejected


def crop_statuses(dataset: DataSet, folder: Path) -> Counter[str]:
    """How many faces of the eight expressions got which status when they were cropped."""
    made = Made(dataset, folder / "made", NAMES[:8])
    statuses: Counter[str] = Counter()
    for shard in made.write(folder / "crops", CropSettings(side=24)):
        statuses.update(shard.statuses)
    return statuses
