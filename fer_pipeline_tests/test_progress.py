import pytest

from fer_pipeline.progress import CropMeter, CropsPlanned, ShardProgress


@pytest.mark.parametrize(
    "said", [CropsPlanned(1_234_567, 12_000, 152), CropsPlanned(1, 0, 1), CropsPlanned(0, 0, 1)]
)
def test_plan_is_read_back_from_its_line(said):
    assert CropsPlanned.parse(str(said)) == said
    assert ShardProgress.parse(str(said)) is None


@pytest.mark.parametrize(
    "said", [ShardProgress(120, 8_192, 8_192, 1_204), ShardProgress(0, 0, 0, 0)]
)
def test_progress_of_a_shard_is_read_back_from_its_line(said):
    assert ShardProgress.parse(str(said)) == said
    assert CropsPlanned.parse(str(said)) is None


def test_meter_sums_up_what_the_workers_say():
    meter = CropMeter()
    assert not meter.take("1,606 rows read", 1.0)
    assert meter.take("crops: 4,000 faces in 4 shards, 1,000 done before", 10.0)
    assert (meter.faces, meter.done, str(meter)) == (4000, 0, "")
    meter.take(str(ShardProgress(0, 1000, 1000, 0)), 11.0)
    meter.take(str(ShardProgress(1, 200, 1000, 100)), 12.0)
    meter.take(str(ShardProgress(2, 100, 1000, 50)), 12.0)
    meter.take(str(ShardProgress(1, 900, 1000, 100)), 20.0)
    assert meter.done == 2000
    # A hundred a second made, the shard that was there not counted; two thousand are left.
    assert str(meter) == "100 faces/s, 0:20 left"
